//! One decider behind either way of serving, in this process, with a clock that stands still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use ratekeeper::clock::Clock;
use ratekeeper::decision::Decider;
use ratekeeper::descriptor::{Bounds, KeyEncoder};
use ratekeeper::policy::loader::{Loader, LoaderOptions, SourceFile};
use ratekeeper::policy::schema;
use ratekeeper::store::local::LocalStore;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Batch, Step, Store, WhenFull};
use ratekeeper::telemetry::{Telemetry, TelemetryOptions};
use ratekeeper::wire::listener::{Listener, deal};
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use ratekeeper::wire::service::Service;
use ratekeeper::wire::worker::{self, Services, WorkerOptions};
use tokio::sync::watch;

use super::Way;
use crate::deciding;
use crate::limiter_oracle::NOW;

/// Bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 100_000;

const POLICY: &str = "
domain: interop
descriptors:
  - {key: user, rate_limit: {unit: hour, requests_per_unit: 1000, name: a-name-to-make-answers-longer}}
  - {key: user, value: over, rate_limit: {unit: hour, requests_per_unit: 0}}
";

/// A store in memory; users named `later-MS` are decided after so many milliseconds, the user `never` never.
#[derive(Debug)]
pub struct Slow {
    memory: MemoryStore,
    waiting: AtomicUsize,
}

impl Slow {
    /// Decisions that are waited for.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Slow {
    fn decide<'a>(&'a self, batch: &'a mut Batch) -> Step<'a> {
        let delay = (0..batch.keys.len()).find_map(|key| {
            let key = batch.keys.get(key);
            if key.contains("never") {
                return Some(Duration::from_secs(3_600));
            }
            let digits: String = key
                .split_once("later-")?
                .1
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            Some(Duration::from_millis(digits.parse().ok()?))
        });
        let Some(delay) = delay else {
            return self.memory.decide(batch);
        };
        Step::Wait(Box::pin(async move {
            let _waits = Waits::new(&self.waiting);
            tokio::time::sleep(delay).await;
            assert!(matches!(self.memory.decide(batch), Step::Done));
        }))
    }

    fn describe(&self) -> String {
        "memory, at times slow".to_owned()
    }
}

/// The service, and its store.
pub fn service() -> (Service, Arc<Slow>, Arc<Telemetry>) {
    let mut loader = Loader::new(LoaderOptions {
        defaults: deciding::DEFAULTS,
        merge_domains: false,
        bounds: schema::Bounds::default(),
    });
    let loaded = loader.load(&[SourceFile {
        path: "interop.yaml".into(),
        content: Ok(POLICY.to_owned()),
    }]);
    assert!(loaded.files_in_error.is_empty(), "{:?}", loaded.diagnostics);
    let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
    let store = Arc::new(Slow {
        memory: MemoryStore::new(100_000, WhenFull::Evict),
        waiting: AtomicUsize::new(0),
    });
    let decider = Decider::new(
        Arc::new(ArcSwap::from_pointee(loaded.snapshot)),
        Arc::clone(&store) as Arc<dyn Store>,
        Arc::new(LocalStore::new(1_000, NOW)),
        Clock::manual(NOW),
        KeyEncoder::new("rk:").unwrap(),
        Arc::clone(&telemetry),
        deciding::options(),
    );
    let service = Service::new(Arc::new(decider), Bounds::default());
    (service, store, telemetry)
}

/// A server on a port of its own; dropped, it drains.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it counts.
    pub store: Arc<Slow>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one.
    pub fn start(way: Way) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (service, store, telemetry) = service();
        let (stop, stopping) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            super::run(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                match way {
                    Way::Below => below(listener, service, telemetry, stopping).await,
                    Way::Tonic => tonic(listener, service, stopping).await,
                }
            });
        });
        Self {
            address,
            store,
            stop,
            thread: Some(thread),
        }
    }

    /// Asks its connections to go; whether all have gone within that time.
    pub fn drain(&mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let thread = self.thread.take().unwrap();
        let steps = within.as_millis() / 5;
        for _ in 0..steps {
            if thread.is_finished() {
                thread.join().expect("it does not panic");
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

async fn below(
    listener: tokio::net::TcpListener,
    service: Service,
    telemetry: Arc<Telemetry>,
    stop: watch::Receiver<bool>,
) {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let services = Services {
        rate_limit: service,
        health,
        telemetry: Arc::clone(&telemetry),
    };
    let options = WorkerOptions {
        connection_age: None,
        connection_age_grace: None,
        message_bytes_max: MESSAGE_BYTES_MAX,
        tls: None,
    };
    let (port, thread) = worker::spawn(
        "below".to_owned(),
        services,
        options,
        stop.clone(),
        Box::new(|| {}),
    )
    .unwrap();
    deal(Listener::Tcp(listener), vec![port], 1_000, telemetry, stop).await;
    tokio::task::spawn_blocking(move || thread.join().expect("it does not panic"))
        .await
        .unwrap();
}

async fn tonic(listener: tokio::net::TcpListener, service: Service, mut stop: watch::Receiver<bool>) {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tonic::transport::Server::builder()
        .max_concurrent_streams(4_096)
        .add_service(RateLimitServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(health)
        .serve_with_incoming_shutdown(tokio_stream::wrappers::TcpListenerStream::new(listener), stopped)
        .await
        .unwrap();
}
