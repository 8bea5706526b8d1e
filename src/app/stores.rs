//! Which stores there are: the one place that names them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock::Clock;
use crate::settings::{self, Settings};
use crate::store::guard::{Guarded, Instances, Share};
use crate::store::local::LocalStore;
use crate::store::memory::MemoryStore;
use crate::store::redis::address::Address;
use crate::store::redis::deployment::{Deployment, Kind, Listed};
use crate::store::redis::doctor::Report;
use crate::store::redis::server::TlsFiles;
use crate::store::redis::{Heart, RedisOptions, RedisStore};
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
        let deployment = Deployment::of(&listed(url, redis))?;
        // Read once here only to refuse a bad file at the start: each connection reads them again.
        deployment.check()?;
        let Deployment::Single(server) = deployment else {
            anyhow::bail!("redis.type: sentinel and cluster are not supported yet");
        };
        anyhow::ensure!(
            redis.per_second.is_none(),
            "redis.per_second is not supported yet"
        );
        let options = RedisOptions {
            server,
            // One more for the thread of the JSON door.
            threads: threads + 1,
            connections: redis.pool_size.div_ceil(threads).max(1),
            op_timeout: redis.op_timeout,
            connect_timeout: redis.timeout,
        };
        let redis = Arc::new(RedisStore::new(options, clock.clone()));
        let prefix = settings.redis.key_prefix.as_deref().unwrap_or_default();
        let counting = Counting {
            key: format!("{prefix}instances"),
            instances: Arc::new(Instances::set_to(settings.instances)),
            heart: OnceLock::new(),
        };
        let share = Share::new(settings.memory.max_keys, Arc::clone(&counting.instances));
        let op_timeout = settings.redis.op_timeout;
        let guarded = Arc::new(Guarded::new(Arc::clone(&redis), share, clock.clone(), op_timeout));
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
        let heart = redis.count_instances(counting.key.clone(), Arc::clone(&counting.instances));
        // It is called once.
        drop(counting.heart.set(heart));
    }

    /// Tells the other instances that this one ends.
    pub async fn leave(&self) {
        if let Kept::Redis { counting, .. } = &self.kept
            && let Some(heart) = counting.heart.get()
        {
            heart.leave().await;
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
            Kept::Redis { redis, guarded, .. } => {
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
                    instances: guarded.instances().count,
                });
            }
        }
    }
}

/// Where Redis is, and where its credentials are.
fn listed(url: &settings::Secret, redis: &settings::Redis) -> Listed {
    Listed {
        kind: kind(redis.kind),
        address: Address {
            url: url.expose().to_owned(),
            socket_type: redis.socket_type.clone(),
            auth: text(redis.auth.as_ref()),
            tls: redis.tls.enabled,
            ..Address::default()
        },
        auth_file: redis.auth_file.clone(),
        sentinel_auth: text(redis.sentinel_auth.as_ref()),
        tls: tls_files(&redis.tls),
    }
}

fn kind(kind: settings::RedisKind) -> Kind {
    match kind {
        settings::RedisKind::Single => Kind::Single,
        settings::RedisKind::Sentinel => Kind::Sentinel,
        settings::RedisKind::Cluster => Kind::Cluster,
    }
}

fn text(secret: Option<&settings::Secret>) -> String {
    secret
        .map(settings::Secret::expose)
        .unwrap_or_default()
        .to_owned()
}

fn tls_files(tls: &settings::RedisTls) -> TlsFiles {
    TlsFiles {
        ca: tls.cacert.clone(),
        client: tls.client_cert.clone().zip(tls.client_key.clone()),
        skip_hostname: tls.skip_hostname_verification,
    }
}
