//! Which stores there are: the one place that names them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::settings::{self, Settings};
use crate::store::guard::{Guarded, Share};
use crate::store::local::LocalStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::address::Address;
use crate::store::redis::doctor::Report;
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::{Store, WhenFull};
use crate::telemetry::{RedisObserved, Telemetry};

/// Where counters live.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    /// What decides charges of limits that all instances share.
    pub shared: Arc<dyn Store>,
    pub local: Arc<LocalStore>,
    kept: Kept,
}

/// The shared store by its kind.
#[derive(Clone, Debug)]
enum Kept {
    Memory(Arc<MemoryStore>),
    Redis {
        redis: Arc<RedisStore>,
        guarded: Arc<Guarded<RedisStore>>,
    },
}

impl Stores {
    /// # Errors
    /// An address of Redis that is none.
    pub fn new(settings: &Settings, clock: &Clock, threads: usize) -> anyhow::Result<Self> {
        let local = Arc::new(LocalStore::new(settings.local.max_keys, clock.now_us()));
        let Some(url) = &settings.redis.url else {
            let when_full = match settings.memory.when_full {
                settings::WhenFull::Evict => WhenFull::Evict,
                settings::WhenFull::Overflow => WhenFull::Overflow,
            };
            let memory = Arc::new(MemoryStore::new(settings.memory.max_keys, when_full));
            return Ok(Self {
                shared: Arc::clone(&memory) as Arc<dyn Store>,
                local,
                kept: Kept::Memory(memory),
            });
        };
        let redis = &settings.redis;
        let address = Address {
            url: url.expose().to_owned(),
            socket_type: redis.socket_type.clone(),
            auth: redis
                .auth
                .as_ref()
                .map(|auth| auth.expose().to_owned())
                .unwrap_or_default(),
        };
        let options = RedisOptions {
            server: address.parse()?,
            // One more for the thread of the JSON door.
            threads: threads + 1,
            connections: redis.pool_size.div_ceil(threads).max(1),
            op_timeout: redis.op_timeout,
            connect_timeout: redis.timeout,
        };
        let redis = Arc::new(RedisStore::new(options, clock.clone()));
        let share = Share::new(settings.memory.max_keys, settings.instances);
        let op_timeout = settings.redis.op_timeout;
        let guarded = Arc::new(Guarded::new(Arc::clone(&redis), share, clock.clone(), op_timeout));
        Ok(Self {
            shared: Arc::clone(&guarded) as Arc<dyn Store>,
            local,
            kept: Kept::Redis { redis, guarded },
        })
    }

    /// Prepares the current thread, the `thread`th, on its runtime.
    pub fn attach(&self, thread: usize) {
        if let Kept::Redis { redis, .. } = &self.kept
            && let Err(error) = redis.attach(thread)
        {
            tracing::error!(%error, "redis can't be used");
        }
    }

    /// Examines the server, if there is one.
    pub async fn examine(&self, prefix: &str) -> Option<Report> {
        match &self.kept {
            Kept::Memory(_) => None,
            Kept::Redis { redis, .. } => Some(redis.examine(prefix).await),
        }
    }

    /// Forgets a part of what has run out; to be called every second.
    pub fn sweep_part(&self, now: u64) {
        self.local.sweep_part(now);
        match &self.kept {
            Kept::Memory(memory) => memory.sweep_part(now),
            Kept::Redis { guarded, .. } => guarded.sweep_part(now),
        }
    }

    /// Shows how the stores are.
    pub fn show(&self, telemetry: &Telemetry) {
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let local = self.local.stats();
        telemetry.process.store(
            true,
            self.local.len(),
            count(&local.evicted),
            count(&local.overflowed),
        );
        match &self.kept {
            Kept::Memory(memory) => {
                let stats = memory.stats();
                telemetry.process.store(
                    false,
                    memory.len(),
                    count(&stats.evicted),
                    count(&stats.overflowed),
                );
            }
            Kept::Redis { redis, guarded } => {
                let (stats, (open, opened)) = (redis.stats(), guarded.breaker());
                telemetry.redis(&RedisObserved {
                    without: guarded.without_store().collect(),
                    calls: count(&stats.calls),
                    charges: count(&stats.charges),
                    reloads: count(&stats.reloads),
                    connects: count(&stats.connects),
                    disconnects: count(&stats.disconnects),
                    connected: count(&stats.connected),
                    open,
                    opened,
                });
            }
        }
    }
}
