//! The points of all curves.

use super::{Policy, WINDOWS};
use crate::compare::Common;

/// Points of each series in the short form.
const QUICK_POINTS: usize = 2;
/// Descriptors of a request that fills the store.
pub const FILL: u64 = 100;

/// One point: a server, its policies and what it is asked.
#[derive(Debug, Clone)]
pub struct Point {
    /// The curve's name.
    pub curve: &'static str,
    /// The line it is on.
    pub series: String,
    /// Where on the line.
    pub x: u64,
    /// The policy file.
    pub policy: Policy,
    /// Whether counters are in Redis.
    pub redis: bool,
    /// The scenario's mix, as TOML.
    pub mix: String,
    /// Serving threads, and the generator's.
    pub threads: u64,
    /// Processes.
    pub instances: u64,
    /// Whether server and load have a core each.
    pub pinned: bool,
    /// Whether all keys are charged before: so many.
    pub fill: Option<u64>,
}

impl Point {
    fn new(curve: &'static str, series: &str, x: u64) -> Self {
        Self {
            curve,
            series: series.to_owned(),
            x,
            policy: Policy::OPEN,
            redis: false,
            mix: mix("id=user-{key:8}", 10_000),
            threads: 1,
            instances: 1,
            pinned: true,
            fill: None,
        }
    }

    /// The same with other requests.
    fn asks(self, mix: String) -> Self {
        Self { mix, ..self }
    }

    fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    fn on(self, redis: bool) -> Self {
        Self { redis, ..self }
    }
}

fn mix(descriptor: &str, keys: u64) -> String {
    format!("{{ descriptors = [\"{descriptor}\"], keys = {keys} }}")
}

/// All points that are wanted, in order.
pub fn curves_of(common: &Common) -> Vec<Point> {
    let all = [
        rules(),
        wildcards(),
        depth(),
        descriptors(),
        keys(),
        limit(),
        window(),
        threads(),
        instances(),
    ];
    let mut points: Vec<Point> = all.into_iter().flatten().collect();
    points.retain(|point| common.wants(point.curve));
    if common.quick {
        let mut seen: Vec<(&str, String, usize)> = Vec::new();
        points.retain(|point| {
            let same = seen
                .iter_mut()
                .find(|(curve, series, _)| *curve == point.curve && *series == point.series);
            match same {
                Some((_, _, count)) => {
                    *count += 1;
                    *count <= QUICK_POINTS
                }
                None => {
                    seen.push((point.curve, point.series.clone(), 1));
                    true
                }
            }
        });
    }
    points
}

fn rules() -> Vec<Point> {
    let counts = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
    let exact = |count, series, keys| {
        let asked = Point::new("rules", series, count).asks(mix("id=user-{key:8}", keys));
        asked.policy(Policy::Exact(count))
    };
    let few = counts.map(|count| exact(count, "exact, 10 asked", 10));
    let all = counts.map(|count| exact(count, "exact, all asked", count));
    let keys = counts.map(|count| {
        let point = Point::new("rules", "key-only, 10 asked", count).asks(mix("k{key:8}=v", 10));
        point.policy(Policy::KeyOnly(count))
    });
    [few, all, keys].concat()
}

fn wildcards() -> Vec<Point> {
    let counts = [1u64, 10, 100, 1_000];
    let none =
        counts.map(|count| Point::new("wildcards", "none meets", count).policy(Policy::Wildcards(count)));
    let last = counts.map(|count| {
        let descriptor = format!("id=w{:04}-{{key:6}}", count - 1);
        let point = Point::new("wildcards", "the last one meets", count).asks(mix(&descriptor, 10_000));
        point.policy(Policy::Wildcards(count))
    });
    [none, last].concat()
}

fn depth() -> Vec<Point> {
    let point = |depth: u64| {
        let above: Vec<_> = (1..depth).map(|level| format!("d{level}=value")).collect();
        let last = format!("d{depth}=user-{{key:8}}");
        let descriptor = [above, vec![last]].concat().join(",");
        Point::new("depth", "memory", depth)
            .asks(mix(&descriptor, 10_000))
            .policy(Policy::Deep(depth))
    };
    [1, 2, 4, 8, 16].map(point).to_vec()
}

fn descriptors() -> Vec<Point> {
    let point = |count: u64, redis: bool| {
        let mix = format!("{{ descriptors = [\"id=user-{{key:6}}{{n:2}}\"], repeat = {count}, keys = 100 }}");
        Point::new("descriptors", store(redis), count).asks(mix).on(redis)
    };
    let counts = [1, 2, 5, 10, 20, 50, 100];
    [
        counts.map(|count| point(count, false)),
        counts.map(|count| point(count, true)),
    ]
    .concat()
}

fn store(redis: bool) -> &'static str {
    if redis { "Redis" } else { "memory" }
}

fn keys() -> Vec<Point> {
    let point = |series: &str, algorithm: &'static str, redis: bool, count: u64| {
        let policy = Policy::Plain {
            algorithm,
            hits: 1_000_000_000,
            seconds: 3_600,
        };
        let point = Point::new("keys", series, count).asks(mix("id=user-{key:8}", count));
        Point {
            fill: Some(count),
            ..point.policy(policy).on(redis)
        }
    };
    let memory = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    let sliding = memory.map(|count| point("memory, sliding window", "sliding_window", false, count));
    let bucket = memory.map(|count| point("memory, token bucket", "token_bucket", false, count));
    let redis =
        [1_000, 10_000, 100_000].map(|count| point("Redis, sliding window", "sliding_window", true, count));
    [sliding.to_vec(), bucket.to_vec(), redis.to_vec()].concat()
}

fn limit() -> Vec<Point> {
    let point = |algorithm: &'static str, hits: u64| {
        let series = algorithm.replace('_', " ");
        Point::new("limit", &series, hits).policy(Policy::Plain {
            algorithm,
            hits,
            seconds: 3_600,
        })
    };
    let sizes = [10, 100, 1_000, 1_000_000, 1_000_000_000];
    let algorithms = ["sliding_window", "token_bucket"];
    algorithms
        .iter()
        .flat_map(|algorithm| sizes.map(|hits| point(algorithm, hits)))
        .collect()
}

fn window() -> Vec<Point> {
    let point = |series: &str, algorithm: &'static str, redis: bool, seconds: u64| {
        let policy = Policy::Plain {
            algorithm,
            hits: 1_000_000,
            seconds,
        };
        Point::new("window", series, seconds).policy(policy).on(redis)
    };
    let series = [
        ("memory, sliding window", "sliding_window", false),
        ("memory, token bucket", "token_bucket", false),
        ("memory, fixed window", "fixed_window", false),
        ("Redis, sliding window", "sliding_window", true),
    ];
    let all = series
        .map(|(name, algorithm, redis)| WINDOWS.map(|(seconds, _)| point(name, algorithm, redis, seconds)));
    all.concat()
}

fn threads() -> Vec<Point> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let counts = [1, 2, 4, 8, 16, 32].into_iter().filter(|count| *count <= cores);
    let point = |count| Point {
        threads: count,
        pinned: false,
        ..Point::new("threads", "memory", count)
    };
    counts.map(point).collect()
}

fn instances() -> Vec<Point> {
    let mix = "{ descriptors = [\"id=user-{key:8}\"], keys = 10000, distribution = \"zipf:1.0\" }";
    let point = |count| Point {
        instances: count,
        redis: true,
        ..Point::new("instances", "Redis", count).asks(mix.to_owned())
    };
    [1, 2, 4, 8].map(point).to_vec()
}
