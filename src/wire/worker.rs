//! A thread that serves gRPC: one current-thread runtime, its own connections, no work stealing.
//!
//! Measured on two cores, this does more than twice what one runtime over both of them does, at a third of the p99.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::DESCRIPTORS;
use super::connection::{Connection, Load, Stream, Ticket};
use super::grpc::{self, ConnectionOptions, Site};
use super::headroom::headroom;
use super::listener::{Accepted, WorkerPort};
use super::service::Service;
use super::tls::{Tls, TlsError};
use crate::telemetry::Telemetry;

/// Connections that wait for a worker; more are refused.
const QUEUE_MAX: usize = 1_024;

/// How a worker serves.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Age at which a connection is asked to go, so that clients spread anew; `None`: never.
    pub connection_age: Option<Duration>,
    /// How long it may take to go then; `None`: for ever.
    pub connection_age_grace: Option<Duration>,
    /// Bytes of a request message.
    pub message_bytes_max: usize,
    /// TLS, if connections have it.
    pub tls: Option<Arc<Tls>>,
}

/// Everything that a worker answers from.
#[derive(Debug)]
pub struct Services<H: Health> {
    /// The rate-limit service.
    pub rate_limit: Service,
    /// Health checks.
    pub health: HealthServer<H>,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
}

/// What a worker's thread does on its runtime before it serves.
pub type OnStart = Box<dyn FnOnce() + Send>;

/// Starts a worker. It ends when `stop` turned true and its connections have ended.
///
/// # Errors
/// A thread or runtime that the system refuses.
pub fn spawn<H: Health>(
    name: String,
    services: Services<H>,
    options: WorkerOptions,
    stop: watch::Receiver<bool>,
    on_start: OnStart,
) -> io::Result<(WorkerPort, JoinHandle<()>)> {
    let (queue, connections) = mpsc::channel(QUEUE_MAX);
    let port = WorkerPort {
        queue,
        load: Load::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let _lid = headroom();
        runtime.block_on(async {
            on_start();
            serve(services, options, connections, stop).await;
        });
    })?;
    Ok((port, thread))
}

async fn serve<H: Health>(
    services: Services<H>,
    options: WorkerOptions,
    mut connections: mpsc::Receiver<(Accepted, Ticket)>,
    stop: watch::Receiver<bool>,
) {
    let Services {
        rate_limit,
        health,
        telemetry,
    } = services;
    let site = Arc::new(Site {
        service: rate_limit,
        routes: routes(health),
        options: ConnectionOptions {
            age: options.connection_age,
            age_grace: options.connection_age_grace,
            message_bytes_max: options.message_bytes_max,
            ..ConnectionOptions::default()
        },
    });
    // Nothing is sent: it closes when the last connection has dropped its end.
    let (open, mut ended) = mpsc::channel::<Infallible>(1);
    let start = |accepted: (Accepted, Ticket)| {
        let (site, tls, telemetry) = (Arc::clone(&site), options.tls.clone(), Arc::clone(&telemetry));
        let (open, stop) = (open.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = connect(accepted, site, tls, &telemetry, stop).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(open);
        });
    };
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            accepted = connections.recv() => match accepted {
                Some(accepted) => start(accepted),
                None => break,
            },
            // An error is a sender that is gone, which is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    // Whoever was accepted is served.
    connections.close();
    while let Some(accepted) = connections.recv().await {
        start(accepted);
    }
    drop(open);
    let _: Option<Infallible> = ended.recv().await;
}

/// What tonic answers.
fn routes<H: Health>(health: HealthServer<H>) -> Routes {
    let mut routes = Routes::new(health);
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "reflection is off"),
    }
    routes.prepare()
}

fn reflection<'b>() -> tonic_reflection::server::Builder<'b> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Binds a connection to this thread's runtime, sees its TLS handshake through and serves it.
async fn connect(
    (accepted, ticket): (Accepted, Ticket),
    site: Arc<Site>,
    tls: Option<Arc<Tls>>,
    telemetry: &Telemetry,
    stop: watch::Receiver<bool>,
) -> Result<(), Lost> {
    let mut stream = bind(accepted)?;
    if let Some(tls) = tls {
        let secured = secure(&tls, stream).await;
        stream = secured.inspect_err(|_| telemetry.process.refused_tls.increment(1))?;
    }
    Ok(grpc::serve(Connection::new(stream, ticket), site, stop).await?)
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("before it was served: {0}")]
    Bind(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Broken(#[from] grpc::Broken),
}

async fn secure(tls: &Tls, stream: Stream) -> Result<Stream, TlsError> {
    Ok(match stream {
        Stream::Tcp(stream) => Stream::Tls(Box::new(tls.accept(stream).await?)),
        Stream::Unix(stream) => Stream::TlsUnix(Box::new(tls.accept(stream).await?)),
        secured => secured,
    })
}

fn bind(accepted: Accepted) -> io::Result<Stream> {
    Ok(match accepted {
        Accepted::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
        Accepted::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
    })
}
