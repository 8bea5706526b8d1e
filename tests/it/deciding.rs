//! The whole way of a request without a wire: a decider over memory, with a clock that the test holds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ratekeeper::clock::Clock;
use ratekeeper::decision::{Answer, Decider, NotReady, Options};
use ratekeeper::descriptor::{KeyEncoder, Request};
use ratekeeper::policy::Snapshot;
use ratekeeper::policy::compile::Defaults;
use ratekeeper::policy::loader::{Loaded, Loader, LoaderOptions, SourceFile};
use ratekeeper::policy::schema::{Algorithm, Bounds, ChargeRule};
use ratekeeper::store::local::LocalStore;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Store, WhenFull};
use ratekeeper::telemetry::{Telemetry, TelemetryOptions, Transport};

use crate::limiter_oracle::NOW;

/// What a limit gets that says nothing.
pub const DEFAULTS: Defaults = Defaults {
    on_store_error: ratekeeper::limiter::OnStoreError::Local,
    algorithm: Algorithm::SlidingWindow,
    charge: ChargeRule::Auto,
};

/// Options without extras.
pub fn options() -> Options {
    Options::plain(DEFAULTS)
}

/// A decider with everything that it needs.
pub struct Deciding {
    /// Its time.
    pub clock: Clock,
    /// Its metrics.
    pub telemetry: Arc<Telemetry>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    loader: std::sync::Mutex<Loader>,
    decider: Decider,
}

impl Deciding {
    /// A decider on these policy files.
    pub fn new(files: &[&str]) -> Self {
        Self::with(files, options())
    }

    /// A decider with these options; its policies get the options' defaults.
    pub fn with(files: &[&str], options: Options) -> Self {
        Self::with_store(
            files,
            options,
            Arc::new(MemoryStore::new(100_000, WhenFull::Evict)),
        )
    }

    /// The same with counters elsewhere.
    pub fn with_store(files: &[&str], options: Options, store: Arc<dyn Store>) -> Self {
        let clock = Clock::manual(NOW);
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let loader = Loader::new(LoaderOptions {
            defaults: options.defaults,
            merge_domains: true,
            bounds: Bounds::default(),
        });
        let decider = Decider::new(
            Arc::clone(&snapshot),
            store,
            Arc::new(LocalStore::new(100_000, NOW)),
            clock.clone(),
            KeyEncoder::new("rk:").unwrap(),
            Arc::clone(&telemetry),
            options,
        );
        let deciding = Self {
            clock,
            telemetry,
            snapshot,
            loader: loader.into(),
            decider,
        };
        if !files.is_empty() {
            let loaded = deciding.load(files);
            assert!(loaded.files_in_error.is_empty(), "{:?}", loaded.diagnostics);
        }
        deciding
    }

    /// Loads these files in place of the ones before.
    pub fn load(&self, files: &[&str]) -> Loaded {
        let source = |(index, text): (usize, &&str)| SourceFile {
            path: format!("{index}.yaml").into(),
            content: Ok((*text).to_owned()),
        };
        let files: Vec<_> = files.iter().enumerate().map(source).collect();
        let mut loaded = self.loader.lock().unwrap().load(&files);
        self.snapshot
            .store(Arc::new(std::mem::take(&mut loaded.snapshot)));
        loaded
    }

    /// Decides a request. Memory never waits, so neither does this.
    pub fn decide(&self, request: &Request<'_>, transport: Transport) -> Result<Answer, NotReady> {
        let mut decision = std::pin::pin!(self.decider.decide(request, transport, None));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match decision.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => panic!("the memory store made a request wait"),
        }
    }
}
