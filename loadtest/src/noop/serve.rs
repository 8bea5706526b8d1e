use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::Options;
use super::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use super::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// As the service has it.
const STREAMS_MAX: u32 = 4_096;
/// As the service has it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// When the system refuses a connection, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// OK to everything.
#[derive(Debug, Clone, Copy)]
struct Noop;

#[tonic::async_trait]
impl RateLimitService for Noop {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        // The request was decoded before. No statuses of descriptors: the shortest answer is the hardest measure.
        Ok(Response::new(RateLimitResponse {
            overall_code: Code::Ok.into(),
            ..RateLimitResponse::default()
        }))
    }
}

/// Serves until the process is ended; says where on the standard output.
///
/// # Errors
/// An address that can't be bound, or a thread that the system refuses.
pub fn serve(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    println!("listening on {}", listener.local_addr()?);
    let workers = (0..options.threads).map(worker).collect::<io::Result<Vec<_>>>()?;
    for worker in workers.iter().cycle() {
        let stream = accept(&listener);
        if worker.send(stream).is_err() {
            return Err(io::Error::other("a serving thread has ended"));
        }
    }
    Ok(())
}

/// The next connection.
fn accept(listener: &TcpListener) -> std::net::TcpStream {
    loop {
        let accepted = listener.accept().and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => return stream,
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// A thread that serves the connections sent to it.
fn worker(index: u16) -> io::Result<mpsc::UnboundedSender<std::net::TcpStream>> {
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let (incoming, streams) = mpsc::unbounded_channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let serving = async move {
        tokio::spawn(async move {
            while let Some(stream) = accepted.recv().await {
                // A closed channel is a server that has ended; the acceptor sees that by itself.
                let _ = incoming.send(TcpStream::from_std(stream));
            }
        });
        let router = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .add_service(RateLimitServiceServer::new(Noop));
        if let Err(error) = router
            .serve_with_incoming(UnboundedReceiverStream::new(streams))
            .await
        {
            eprintln!("rk-noop: thread {index}: {error}");
        }
    };
    thread::Builder::new()
        .name(format!("noop-{index}"))
        .spawn(move || runtime.block_on(serving))?;
    Ok(sender)
}
