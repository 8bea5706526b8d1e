//! The composition root: the only place that names concrete stores, sources and listeners.
//!
//! [`App::build`] puts the parts together without opening a socket; [`App::run`] opens them, serves, and drains on a signal.

mod deployments;
pub mod doctor;
mod options;
mod stores;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;

use self::stores::Stores;
use crate::admin::health::HealthOptions;
use crate::admin::{Admin, Health, Refresh, server};
use crate::clock::Clock;
use crate::decision::Decider;
use crate::descriptor::KeyEncoder;
use crate::policy::Snapshot;
use crate::policy::loader::{Loader, LoaderOptions};
use crate::policy::reload::{ReloadHandle, Reloader};
use crate::policy::schema;
use crate::policy::source::file::FileBounds;
use crate::settings::Settings;
use crate::store::redis::doctor::Subject;
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::wire::HEALTH_SERVICE;
use crate::wire::connection::Load;
use crate::wire::json::JsonCodec;
use crate::wire::listener::{self, Listener, WorkerPort};
use crate::wire::service::Service;
use crate::wire::tls::Tls;
use crate::wire::worker::{self, Services, WorkerOptions};

/// How often stores are swept and metrics folded.
const UPKEEP: Duration = Duration::from_secs(1);
/// How often TLS files are read again.
const TLS_POLL: Duration = Duration::from_secs(10);

/// A process, put together.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    health: Arc<Health>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    stores: Stores,
    subjects: Vec<Subject>,
    service: Service,
    json: JsonCodec,
    tls: Option<Arc<Tls>>,
}

/// Worker threads that serve.
struct Workers {
    ports: Vec<WorkerPort>,
    threads: Vec<JoinHandle<()>>,
}

impl App {
    /// Puts the parts together. Opens no socket and reads no policy.
    ///
    /// # Errors
    /// Settings that can't be used together, TLS files that can't be read.
    pub fn build(settings: Settings) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions {
            series_max: settings.metrics.max_series,
            near_limit_ratio: settings.near_limit_ratio,
            extra_labels: settings.extra_tags.clone(),
        }));
        let health = Arc::new(Health::new(HealthOptions {
            ready_without_policies: settings.health.force_start_without_initial_config,
            needs_a_domain: settings.health.healthy_with_at_least_one_config_loaded,
        }));
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let stores = Stores::new(&settings, &clock, options::threads(&settings))?;
        let subjects = doctor::subjects(&settings)?;
        let decider = Decider::new(
            Arc::clone(&snapshot),
            Arc::clone(&stores.shared),
            Arc::clone(&stores.local),
            clock.clone(),
            KeyEncoder::new(settings.redis.key_prefix.as_deref().unwrap_or_default())
                .map_err(anyhow::Error::msg)?,
            Arc::clone(&telemetry),
            options::decision_options(&settings),
        );
        let service = Service::new(Arc::new(decider), options::request_bounds(&settings));
        let json = JsonCodec::new()?;
        let tls = options::tls(&settings.grpc.tls)?.map(Arc::new);
        Ok(Self {
            settings,
            clock,
            telemetry,
            health,
            snapshot,
            stores,
            subjects,
            service,
            json,
            tls,
        })
    }

    /// Serves until a signal says to end, then drains.
    ///
    /// # Errors
    /// Ports that can't be opened, threads that the system refuses.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let result = runtime.block_on(self.serve());
        // Whatever still blocks, a look-up of a name for example, must not keep the process.
        runtime.shutdown_background();
        result
    }

    async fn serve(self) -> anyhow::Result<()> {
        // Before anything else: a signal that comes early must not end the process the hard way.
        let mut signals = Signals::new()?;
        let (stop_sender, stop) = watch::channel(false);
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        report_serving(&reporter, *self.health.serving().borrow()).await;

        let listener = self.bind_grpc().await?;
        let workers = self.start_workers(&grpc_health, &stop)?;
        let mut http = self.serve_http(&workers, &stop).await?;
        let (reload, reloader) = self.start_reloader()?;
        http.spawn(listener::deal(
            listener,
            workers.ports,
            self.settings.grpc.max_connections,
            Arc::clone(&self.telemetry),
            stop.clone(),
        ));
        tokio::spawn(follow_health(self.health.serving(), reporter));
        tokio::spawn(upkeep(
            self.clock.clone(),
            self.stores.clone(),
            Arc::clone(&self.telemetry),
        ));
        let stores = self.stores.clone();
        tokio::spawn(async move { stores.keep_leases().await });
        tokio::spawn(doctor::keep_examining(
            self.subjects.clone(),
            self.clock.clone(),
            Arc::clone(&self.health),
        ));
        if let Some(tls) = &self.tls {
            tokio::spawn(reload_tls(Arc::clone(tls)));
        }

        signals.wait_for_end(&reload).await;
        self.drain(&stop_sender, workers.threads).await;
        self.stores.leave().await;
        reload.stop();
        // It ends by itself after the load it is at; nothing waits for that.
        drop(reloader);
        http.shutdown().await;
        tracing::info!("ended");
        Ok(())
    }

    fn start_workers<H: tonic_health::pb::health_server::Health>(
        &self,
        health: &HealthServer<H>,
        stop: &watch::Receiver<bool>,
    ) -> anyhow::Result<Workers> {
        let mut workers = Workers {
            ports: Vec::new(),
            threads: Vec::new(),
        };
        let threads = options::threads(&self.settings);
        // This thread serves the JSON door.
        self.stores.attach(threads);
        self.stores.count_instances();
        for index in 0..threads {
            let services = Services {
                rate_limit: self.service.clone(),
                health: health.clone(),
                telemetry: Arc::clone(&self.telemetry),
            };
            let stores = self.stores.clone();
            let attach = Box::new(move || stores.attach(index));
            let name = format!("grpc-{index}");
            let (port, thread) = worker::spawn(name, services, self.worker_options(), stop.clone(), attach)?;
            workers.ports.push(port);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    async fn bind_grpc(&self) -> anyhow::Result<Listener> {
        let grpc = &self.settings.grpc;
        if let Some(path) = &grpc.uds {
            let listener = Listener::unix(path)?;
            tracing::info!(path = %path.display(), "grpc listens");
            return Ok(listener);
        }
        let (listener, address) = server::bind(&grpc.endpoint().to_string()).await?;
        tracing::info!(%address, tls = self.tls.is_some(), "grpc listens");
        Ok(Listener::Tcp(listener))
    }

    async fn serve_http(
        &self,
        workers: &Workers,
        stop: &watch::Receiver<bool>,
    ) -> anyhow::Result<tokio::task::JoinSet<()>> {
        let loads: Vec<Load> = workers.ports.iter().map(|port| port.load.clone()).collect();
        let (stores, telemetry) = (self.stores.clone(), Arc::clone(&self.telemetry));
        let refresh = Refresh(Arc::new(move || {
            stores.show(&telemetry);
            telemetry.process.connections(loads.iter().map(Load::get).sum());
        }));
        let admin = Admin {
            health: Arc::clone(&self.health),
            telemetry: Arc::clone(&self.telemetry),
            refresh,
            service: self.service.clone(),
            json: self.json.clone(),
            store: Arc::clone(&self.stores.shared),
            snapshot: Arc::clone(&self.snapshot),
            message_bytes_max: self.settings.grpc.max_message_bytes,
        };
        let mut tasks = tokio::task::JoinSet::new();
        let mut routers = vec![
            (
                "http",
                self.settings.http.to_string(),
                admin.clone().main_router(),
            ),
            (
                "debug",
                self.settings.debug.to_string(),
                admin.clone().debug_router(),
            ),
        ];
        if let Some(address) = &self.settings.prometheus.addr {
            let router = admin.metrics_router(&self.settings.prometheus.path);
            routers.push(("metrics", address.to_string(), router));
        }
        for (name, address, router) in routers {
            let (listener, address) = server::bind(&address).await?;
            tracing::info!(%address, "{name} listens");
            tasks.spawn(server::serve(listener, router, stop.clone()));
        }
        Ok(tasks)
    }

    fn start_reloader(&self) -> anyhow::Result<(ReloadHandle, JoinHandle<()>)> {
        let policies = &self.settings.policies;
        let loader = Loader::new(LoaderOptions {
            defaults: options::defaults(self.settings.default),
            merge_domains: policies.merge_domain_config,
            bounds: schema::Bounds {
                nodes_max: policies.max_nodes,
                ..schema::Bounds::default()
            },
        });
        let bounds = FileBounds {
            bytes_max: policies.max_file_bytes,
            files_max: policies.max_files,
        };
        let reloader = Reloader::new(
            policies.policies_dir(),
            bounds,
            loader,
            Arc::clone(&self.snapshot),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let handle = reloader.handle(Arc::clone(&stop));
        let (health, telemetry) = (Arc::clone(&self.health), Arc::clone(&self.telemetry));
        let poll = policies.poll_interval;
        let thread = std::thread::Builder::new()
            .name("policies".to_owned())
            .spawn(move || {
                reloader.run(poll, &stop, |status, ok| {
                    telemetry
                        .process
                        .loaded(ok, status.domains, status.rules, status.errors.len());
                    health.set_policies(status.clone());
                });
            });
        Ok((handle, thread.context("can't start the policy thread")?))
    }

    fn worker_options(&self) -> WorkerOptions {
        let grpc = &self.settings.grpc;
        WorkerOptions {
            connection_age: grpc.max_connection_age,
            connection_age_grace: grpc.max_connection_age_grace,
            message_bytes_max: grpc.max_message_bytes,
            tls: self.tls.clone(),
        }
    }

    /// Says that it is about to end, serves on until the callers know, then asks connections to go and waits for them.
    async fn drain(&self, stop: &watch::Sender<bool>, workers: Vec<JoinHandle<()>>) {
        self.health.drain();
        let shutdown = self.settings.shutdown;
        tracing::info!(delay = ?shutdown.drain_delay, grace = ?shutdown.grace, "draining");
        tokio::time::sleep(shutdown.drain_delay).await;
        stop.send_replace(true);
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            for worker in workers {
                if worker.join().is_err() {
                    tracing::error!("a worker thread had panicked");
                }
            }
            // Nobody waits any more if the grace time is over.
            let _ = done.send(());
        });
        if tokio::time::timeout(shutdown.grace, wait).await.is_err() {
            tracing::warn!("connections that did not end in time are cut");
        }
    }
}

/// The signals that the process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP loads the policies meanwhile.
    async fn wait_for_end(&mut self, reload: &ReloadHandle) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload.reload(),
            }
        }
    }
}

async fn report_serving(reporter: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    reporter.set_service_status("", status).await;
    reporter.set_service_status(HEALTH_SERVICE, status).await;
}

async fn follow_health(mut serving: watch::Receiver<bool>, reporter: HealthReporter) {
    loop {
        let now = *serving.borrow_and_update();
        report_serving(&reporter, now).await;
        if serving.changed().await.is_err() {
            return;
        }
    }
}

async fn upkeep(clock: Clock, stores: Stores, telemetry: Arc<Telemetry>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        let now_us = clock.now_us();
        stores.sweep_part(now_us);
        telemetry.upkeep(now_us);
    }
}

async fn reload_tls(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(TLS_POLL).await;
        match tls.reload() {
            Ok(false) => {}
            Ok(true) => tracing::info!("tls files changed, new connections get the new ones"),
            Err(error) => {
                tracing::error!(%error, "tls files can't be read, the last good ones stay in force")
            }
        }
    }
}
