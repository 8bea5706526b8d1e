//! Requests whose counters are in several slots of a real cluster: all or nothing, also while nodes die.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ratekeeper::clock::Clock;
use ratekeeper::limiter::{Algorithm, Charge, Limit, Mode, OnStoreError, Prior};
use ratekeeper::store::guard::{Guarded, Instances, Layers, Share};
use ratekeeper::store::redis::deployment::{Deployment, Kind, Listed};
use ratekeeper::store::redis::{RedisOptions, RedisStore};
use ratekeeper::store::{Batch, Keys, Step, Store as _};

use crate::limiter_oracle::{Random, seeds};
use crate::support::cluster::Cluster;
use crate::support::rk_load;

/// Requests of a run.
fn requests() -> usize {
    if std::env::var_os("RATEKEEPER_SOAK").is_some() {
        100_000
    } else {
        5_000
    }
}

/// One limit and its counter.
#[derive(Clone, Debug)]
struct Counter {
    key: String,
    limit: Limit,
}

/// What of a request was admitted on a counter, and between which moments.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    counter: usize,
    hits: u64,
    sent: Instant,
    received: Instant,
}

/// An instance's store, in this process.
struct Instance {
    redis: Arc<RedisStore>,
    store: Guarded<RedisStore>,
    clock: Clock,
}

impl Instance {
    /// To be called on the runtime that it will run on.
    fn new(cluster: &Cluster, op_timeout: Duration) -> Arc<Self> {
        let mut listed = Listed {
            kind: Kind::Cluster,
            ..Listed::default()
        };
        listed.address.url = cluster.url();
        let options = RedisOptions {
            deployment: Deployment::of(&listed).unwrap(),
            name: "redis",
            prefix: "rk:".to_owned(),
            threads: 1,
            connections: 1,
            op_timeout,
            connect_timeout: Duration::from_secs(1),
        };
        let clock = Clock::system();
        let redis = Arc::new(RedisStore::new(options, clock.clone()));
        redis.attach(0);
        let share = Share::new(10_000, Arc::new(Instances::set_to(1)));
        let store = Guarded::new(Arc::clone(&redis), share, clock.clone(), Layers::ALL);
        Arc::new(Self { redis, store, clock })
    }

    /// Decides these charges as one request, which is denied rather than decided without the store.
    async fn decide(&self, counters: &[Counter], charges: &[(usize, Mode, u64)]) -> Batch {
        let mut keys = Keys::default();
        let charge = |(at, mode, hits): &(usize, Mode, u64)| Charge {
            counter: keys.add(*at as u64, |text| text.push_str(&counters[*at].key)),
            limit: counters[*at].limit,
            hits: *hits,
            mode: *mode,
            shadow: false,
            quota: false,
        };
        let charges: Vec<Charge> = charges.iter().map(charge).collect();
        let mut batch = Batch {
            now: self.clock.now_us(),
            keys,
            on_store_error: charges.iter().map(|_| OnStoreError::Deny).collect(),
            charges,
            prior: Prior::default(),
            ..Batch::default()
        };
        match self.store.decide(&mut batch) {
            Step::Done => {}
            Step::Wait(decided) => decided.await,
        }
        batch
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Counters that are spread over the slots.
fn counters(
    random: &mut Random,
    algorithms: &[Algorithm],
    windows_us: &[u64],
    limits: &[u32],
) -> Vec<Counter> {
    (0..24)
        .map(|number| {
            let (algorithm, window) = (random.pick(algorithms), random.pick(windows_us));
            Counter {
                key: format!("rk:{{d|key={number}}}:x:{window}"),
                limit: Limit::new(algorithm, random.pick(limits), window, None),
            }
        })
        .collect()
}

/// One to four charges on any counters, now and then on the same one.
fn request(random: &mut Random, counters: usize, modes: &[Mode]) -> Vec<(usize, Mode, u64)> {
    (0..1 + random.below(4))
        .map(|_| {
            let counter = random.below(counters as u64) as usize;
            (counter, random.pick(modes), 1 + random.below(3))
        })
        .collect()
}

#[test]
fn what_a_denied_request_took_is_given_back_exactly() {
    const CENTURY_US: u64 = 100 * 365 * 86_400 * 1_000_000;
    let seed = seeds(1).next().unwrap();
    println!("seed {seed}");
    let (cluster, mut random) = (Cluster::start(), Random::new(seed));
    let algorithms = [
        Algorithm::SlidingWindow,
        Algorithm::SlidingWindow,
        Algorithm::FixedWindow,
        Algorithm::TokenBucket,
    ];
    // Nothing leaves by itself while the test runs. Some limits are never reached: what is charged there is what others give back.
    let counters = counters(
        &mut random,
        &algorithms,
        &[CENTURY_US],
        &[5, 60, 125, 126, 700, 1_000_000],
    );
    let _alone = rk_load::alone();
    runtime().block_on(async {
        let instance = Instance::new(&cluster, Duration::from_secs(2));
        let mut expected = vec![0_u64; counters.len()];
        let (mut denied, mut left) = (0, requests());
        while left > 0 {
            let some = left.min(16);
            left -= some;
            let modes = [
                Mode::Consume,
                Mode::Consume,
                Mode::Consume,
                Mode::Consume,
                Mode::Record,
                Mode::Peek,
            ];
            let asked: Vec<_> = (0..some)
                .map(|_| request(&mut random, counters.len(), &modes))
                .collect();
            let answers = asked.iter().map(|charges| instance.decide(&counters, charges));
            let answers = futures_util::future::join_all(answers).await;
            for (charges, answer) in asked.iter().zip(&answers) {
                denied += u32::from(answer.outcome.denied);
                for (counter, mode, hits) in charges {
                    let booked = match mode {
                        Mode::Record => true,
                        Mode::Consume => !answer.outcome.denied,
                        Mode::Peek | Mode::Refund => false,
                    };
                    expected[*counter] += if booked { *hits } else { 0 };
                }
            }
        }
        // What is booked ahead is used as well; calls for it may still be under way.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            instance.store.end_leases().await;
        }
        let mut used = Vec::new();
        for counter in 0..counters.len() {
            let peek = instance.decide(&counters, &[(counter, Mode::Peek, 0)]).await;
            used.push(peek.verdicts[0].used);
        }
        // A counter stops at 2^52 units, which for a bucket of 5 are 1,280 hits: only what is recorded gets there.
        for (counter, expected) in counters.iter().zip(&mut expected) {
            *expected = (*expected).min(counter.limit.units_max() / counter.limit.cost());
        }
        assert_eq!(used, expected, "{counters:?}");
        let stats = instance.redis.stats();
        let given_back = stats.given_back.load(Ordering::Relaxed);
        println!("{denied} of {} denied, {given_back} parts given back", requests());
        assert_eq!(stats.not_given_back.load(Ordering::Relaxed), 0);
        assert_eq!(
            instance
                .store
                .without_store()
                .map(|(_, count)| count)
                .sum::<u64>(),
            0
        );
        assert!(
            given_back > (requests() as u64 / 500).min(100) && denied > 100,
            "{given_back} given back"
        );
    });
}

/// The most hits that fell, beyond doubt, into one rolling window.
fn most_in_any_window(admitted: &[Admitted], window: Duration) -> u64 {
    let mut by_sent = admitted.to_vec();
    by_sent.sort_by_key(|it| it.sent);
    let from = |first: usize| {
        let end = by_sent[first].sent + window;
        let later = by_sent[first..].iter().take_while(|it| it.sent < end);
        later.filter(|it| it.received < end).map(|it| it.hits).sum()
    };
    (0..by_sent.len()).map(from).max().unwrap_or(0)
}

#[test]
fn no_limit_is_broken_while_nodes_die_and_what_is_left_behind_leaves() {
    let seed = seeds(1).next().unwrap();
    println!("seed {seed}");
    let (mut cluster, mut random) = (Cluster::start(), Random::new(seed));
    let seconds = [1_000_000, 2_000_000, 3_000_000];
    let counters = counters(
        &mut random,
        &[Algorithm::SlidingWindow],
        &seconds,
        &[1, 3, 20, 125, 300],
    );
    let _alone = rk_load::alone();
    let admitted = runtime().block_on(async {
        let instance = Instance::new(&cluster, Duration::from_millis(100));
        let mut admitted = Vec::new();
        let (mut done, mut killed, begun) = (0, None, Instant::now());
        let mut next_kill = begun + Duration::from_secs(2);
        let mut deaths = 0;
        while done < requests() {
            let asked: Vec<_> = (0..8)
                .map(|_| request(&mut random, counters.len(), &[Mode::Consume]))
                .collect();
            done += asked.len();
            let sent = Instant::now();
            let answers = asked.iter().map(|charges| instance.decide(&counters, charges));
            let answers = futures_util::future::join_all(answers).await;
            let received = Instant::now();
            for (charges, answer) in asked.iter().zip(&answers) {
                let all = charges.iter().filter(|_| !answer.outcome.denied);
                admitted.extend(all.map(|(counter, _, hits)| Admitted {
                    counter: *counter,
                    hits: *hits,
                    sent,
                    received,
                }));
            }
            // 16 ms for 8: 5,000 in 10 s.
            tokio::time::sleep(Duration::from_millis(14)).await;
            if Instant::now() >= next_kill {
                next_kill = Instant::now() + Duration::from_secs(4);
                match killed.take() {
                    None => {
                        let key = &counters[random.below(24) as usize].key;
                        let node = cluster.primary_of(key);
                        cluster.nodes[node].kill();
                        deaths += 1;
                        killed = Some(node);
                    }
                    Some(node) => cluster.nodes[node].restart(),
                }
            }
        }
        assert!(deaths > 0, "nobody died");
        if let Some(node) = killed {
            cluster.nodes[node].restart();
        }
        admitted
    });
    for (at, counter) in counters.iter().enumerate() {
        let mine: Vec<_> = admitted.iter().filter(|it| it.counter == at).copied().collect();
        let window = Duration::from_micros(counter.limit.window_us());
        let most = most_in_any_window(&mine, window);
        let limit = u64::from(counter.limit.requests());
        assert!(
            most <= limit,
            "{most} in a window of {window:?} at a limit of {limit}"
        );
    }
    cluster.wait_agreed();
    std::thread::sleep(Duration::from_micros(*seconds.iter().max().unwrap()) + Duration::from_millis(200));
    runtime().block_on(async {
        let instance = Instance::new(&cluster, Duration::from_secs(2));
        for (at, counter) in counters.iter().enumerate() {
            let all = instance
                .decide(&counters, &[(at, Mode::Consume, counter.limit.requests().into())])
                .await;
            assert!(!all.outcome.denied, "{counter:?}: {:?}", all.verdicts);
        }
        assert_eq!(
            instance
                .store
                .without_store()
                .map(|(_, count)| count)
                .sum::<u64>(),
            0
        );
    });
}
