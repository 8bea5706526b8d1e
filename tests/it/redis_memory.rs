//! Memory of the service through outages under full load: it stays what it was after five seconds.

#![allow(
    clippy::disallowed_methods,
    reason = "other processes keep real time, and so must who watches them"
)]

use std::time::{Duration, Instant};

use crate::support::on_redis::metric;
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, built, rk_load};

/// From here on it is flat.
const SETTLED: Duration = Duration::from_secs(5);
/// How far it may go from there, in hundredths.
const TOLERANCE: u64 = 10;
const PAUSE: Duration = Duration::from_millis(200);
const KEYS: &str = "200";
/// A tenth of the keys is denied most of the time, the others hardly ever.
const POLICY: &str = "
domain: load
descriptors:
  - {key: user, rate_limit: {unit: minute, requests_per_unit: 1000000}}
  - {key: user, value: '*7', rate_limit: {unit: second, requests_per_unit: 20}}
";

/// The whole run.
fn lasts() -> Duration {
    let soak = std::env::var_os("RATEKEEPER_SOAK").is_some();
    Duration::from_secs(if soak { 300 } else { 30 })
}

/// A second of the run.
struct Sample {
    after: Duration,
    bytes: u64,
    without_store: u64,
    /// The service's own slowest decision of late.
    slowest: Duration,
}

/// Looks until `until` of the run.
fn watch(service: &Service, begun: Instant, until: Duration, samples: &mut Vec<Sample>) {
    while begun.elapsed() < until {
        samples.push(Sample {
            after: begun.elapsed(),
            bytes: service.resident_bytes(),
            without_store: service.without_store(),
            slowest: Duration::from_secs_f64(metric(service, "ratekeeper_request_duration_max_seconds")),
        });
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn it_stays_flat_through_outages_at_full_load() {
    std::sync::LazyLock::force(&built::SERVICE);
    rk_load::prepare();
    let alone = rk_load::alone();
    let mut redis = Redis::start();
    let dir = support::policies(&[("load.yaml", POLICY)]);
    let service = Service::start_release(dir.path(), &[("REDIS_URL", &redis.address())]);
    service.wait_connected();
    let seconds = format!("{}s", lasts().as_secs());
    let arguments = [
        "--domain",
        "load",
        "--descriptor",
        "user={key}",
        "--keys",
        KEYS,
        "--connections",
        "4",
        "--in-flight",
        "16",
        "--duration",
        &seconds,
    ];
    let load = rk_load::start_holding(alone, &[service.grpc_port()], &arguments);
    let (begun, mut samples) = (Instant::now(), Vec::new());
    // Two outages: it is frozen for a quarter of the time, and gone for another.
    let at = |eighths: u32| lasts() * eighths / 8;
    watch(&service, begun, at(2), &mut samples);
    redis.freeze();
    watch(&service, begun, at(4), &mut samples);
    redis.thaw();
    watch(&service, begun, at(5), &mut samples);
    redis.kill();
    watch(&service, begun, at(7), &mut samples);
    redis.restart();
    watch(&service, begun, at(8), &mut samples);
    let report = load.finish();

    let mut last = None;
    for sample in &samples {
        let second = sample.after.as_secs();
        if last.replace(second) != Some(second) {
            println!(
                "{second:>4} s {:>6} KiB {:>9} without redis, slowest {:?}",
                sample.bytes / 1_024,
                sample.without_store,
                sample.slowest
            );
        }
    }
    report.assert_all_decided();
    let settled = samples
        .iter()
        .find(|sample| sample.after >= SETTLED)
        .expect("it ran longer");
    for sample in samples.iter().filter(|sample| sample.after >= SETTLED) {
        let off = sample.bytes.abs_diff(settled.bytes) * 100;
        assert!(
            off <= settled.bytes * TOLERANCE,
            "{} KiB after {:?}, {} after {:?}\n{}",
            sample.bytes / 1_024,
            sample.after,
            settled.bytes / 1_024,
            settled.after,
            report.summary
        );
    }
    let without = samples.last().map_or(0, |sample| sample.without_store);
    assert!(without > 10_000, "{without}: no outage, or no load");
    assert!(report.total("ok") > without + 10_000, "{}", report.summary);
}
