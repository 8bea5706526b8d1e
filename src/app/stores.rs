//! Which stores there are: the one place that names them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::deployments;
use crate::clock::Clock;
use crate::settings::{self, Settings};
use crate::store::guard::{BreakerState, Guarded, Instances, Layers, LayersView, Share};
use crate::store::local::LocalStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::deployment::{Deployment, Listed};
use crate::store::redis::{Heart, NodeView, Pair, RedisOptions, RedisStore};
use crate::store::{Store, WhenFull};
use crate::telemetry::{LayersObserved, NodeObserved, RedisObserved, Telemetry};

/// Hits that were booked ahead and have not been spent in time are given back within this time.
const LEASES_KEPT_FOR: Duration = Duration::from_millis(20);

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
        redis: Arc<Pair>,
        guarded: Arc<Guarded<Pair>>,
        counting: Arc<Counting>,
    },
}

/// Counts the instances once it has begun.
#[derive(Debug)]
struct Counting {
    key: String,
    instances: Arc<Instances>,
    heart: OnceLock<Heart>,
}

impl Stores {
    /// # Errors
    /// An address of Redis that is none; a file with its credentials that can't be used.
    pub fn new(settings: &Settings, clock: &Clock, threads: usize) -> anyhow::Result<Self> {
        let local = Arc::new(LocalStore::new(settings.local.max_keys, clock.now_us()));
        let Some(listed) = deployments::main(settings) else {
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
        let uses = Uses {
            name: "redis",
            pool_size: settings.redis.pool_size,
            op_timeout: settings.redis.op_timeout,
            connect_timeout: settings.redis.timeout,
        };
        let redis = Arc::new(Pair {
            main: redis_store(&listed, uses, settings, clock, threads)?,
            per_second: per_second(settings, clock, threads)?,
        });
        let prefix = settings.redis.key_prefix.as_deref().unwrap_or_default();
        let counting = Counting {
            key: format!("{prefix}instances"),
            instances: Arc::new(Instances::set_to(settings.instances)),
            heart: OnceLock::new(),
        };
        let share = Share::new(settings.memory.max_keys, Arc::clone(&counting.instances));
        let layers = Layers {
            deny_cache: settings.redis.deny_cache,
            leases: settings.redis.leases,
        };
        let guarded = Arc::new(Guarded::new(Arc::clone(&redis), share, clock.clone(), layers));
        Ok(Self {
            shared: Arc::clone(&guarded) as Arc<dyn Store>,
            local,
            kept: Kept::Redis {
                redis,
                guarded,
                counting: Arc::new(counting),
            },
        })
    }

    /// Prepares the current thread, the `thread`th, on its runtime.
    pub fn attach(&self, thread: usize) {
        if let Kept::Redis { redis, .. } = &self.kept {
            redis.attach(thread);
        }
    }

    /// Starts to count the instances that share the limits, on the current runtime.
    pub fn count_instances(&self) {
        let Kept::Redis { redis, counting, .. } = &self.kept else {
            return;
        };
        let heart = redis
            .main
            .count_instances(counting.key.clone(), Arc::clone(&counting.instances));
        // It is called once.
        drop(counting.heart.set(heart));
    }

    /// Gives back what was booked ahead and is not needed, again and again; on the current runtime.
    pub async fn keep_leases(&self) {
        let Kept::Redis { guarded, .. } = &self.kept else {
            return;
        };
        loop {
            tokio::time::sleep(LEASES_KEPT_FOR).await;
            guarded.return_leases().await;
        }
    }

    /// Gives back what was booked ahead, and tells the other instances that this one ends.
    pub async fn leave(&self) {
        let Kept::Redis {
            guarded, counting, ..
        } = &self.kept
        else {
            return;
        };
        guarded.end_leases().await;
        if let Some(heart) = counting.heart.get() {
            heart.leave().await;
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
            Kept::Redis { redis, guarded, .. } => {
                let mut observed = RedisObserved {
                    without: guarded.without_store().collect(),
                    instances: guarded.instances().count,
                    layers: layers_of(guarded.layers()),
                    ..RedisObserved::default()
                };
                for store in redis.all() {
                    let stats = store.stats();
                    observed.calls += count(&stats.calls);
                    observed.charges += count(&stats.charges);
                    observed.reloads += count(&stats.reloads);
                    observed.redirections += count(&stats.redirections);
                    observed.given_back += count(&stats.given_back);
                    observed.not_given_back += count(&stats.not_given_back);
                    observed.recoveries += count(&stats.recoveries);
                    observed.connects += count(&stats.connects);
                    observed.disconnects += count(&stats.disconnects);
                    observed.nodes.extend(store.nodes().into_iter().map(observed_of));
                }
                telemetry.redis(&observed);
            }
        }
    }
}

fn layers_of(view: LayersView) -> LayersObserved {
    LayersObserved {
        denials_served: view.denials_served,
        denials_kept: view.denials_kept,
        lease_calls: view.lease_calls,
        lease_hits: [
            ("granted", view.lease_granted),
            ("spent", view.lease_spent),
            ("undone", view.lease_undone),
            ("returned", view.lease_returned),
            ("stranded", view.lease_stranded),
        ],
        lease_held: view.lease_held,
    }
}

fn observed_of(node: NodeView) -> NodeObserved {
    NodeObserved {
        name: node.name,
        connected: node.connected,
        state: match node.breaker {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        },
        opened: node.opened,
        away_s: node.away_us / 1_000_000,
    }
}

/// The lanes to one deployment.
fn redis_store(
    listed: &Listed,
    uses: Uses,
    settings: &Settings,
    clock: &Clock,
    threads: usize,
) -> anyhow::Result<Arc<RedisStore>> {
    let deployment = Deployment::of(listed)?;
    // Read once here only to refuse a bad file at the start: each connection reads them again.
    deployment.check()?;
    let options = RedisOptions {
        deployment,
        name: uses.name,
        prefix: settings.redis.key_prefix.clone().unwrap_or_default(),
        // One more for the thread of the JSON door.
        threads: threads + 1,
        connections: uses.pool_size.div_ceil(threads).max(1),
        op_timeout: uses.op_timeout,
        connect_timeout: uses.connect_timeout,
    };
    Ok(Arc::new(RedisStore::new(options, clock.clone())))
}

/// How a deployment is used.
struct Uses {
    name: &'static str,
    pool_size: usize,
    op_timeout: Duration,
    connect_timeout: Duration,
}

/// The lanes to the Redis of limits of one second, if there is one.
fn per_second(settings: &Settings, clock: &Clock, threads: usize) -> anyhow::Result<Option<Arc<RedisStore>>> {
    let (Some(listed), Some(redis)) = (deployments::per_second(settings), &settings.redis.per_second) else {
        return Ok(None);
    };
    let uses = Uses {
        name: "redis-per-second",
        pool_size: redis.pool_size,
        op_timeout: redis.op_timeout,
        connect_timeout: redis.timeout,
    };
    redis_store(&listed, uses, settings, clock, threads).map(Some)
}
