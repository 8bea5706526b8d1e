//! Measures points one after the other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::points::{FILL, Point, curves_of};
use crate::clock::{Clock, nanos};
use crate::compare::lap::{Running, own_folder};
use crate::compare::session::Scratch;
use crate::compare::{Common, Lap, Ports, Sample, Server, Timing};
use crate::machine::Usage;
use crate::num;
use crate::scenario::Scenario;

/// Of each instance.
const CONNECTIONS: u64 = 4;
/// A file with a million rules takes its time.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Requests of 100 descriptors that any server should do in a second.
const FILLS_PER_S: u64 = 4_000;
/// For the short form's small files as for a million rules; counters for ten million keys.
const SERVE: &str = "{ratekeeper} serve --policies {here}/bench.yaml --threads {threads} --grpc-host 127.0.0.1 \
                     --grpc-port {port} --http-host 127.0.0.1 --http-port {http} --debug-port {debug} --log-level warn \
                     --policies-max-file-bytes 1073741824 --policies-max-nodes 100000000 --memory-max-keys 12000000";

/// A point and what was found.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The curve's name.
    pub curve: &'static str,
    /// The line it is on.
    pub series: String,
    /// Where on the line.
    pub x: u64,
    /// From the start of the process until it answers.
    pub ready_s: f64,
    /// Growth of the resident memory while all keys were charged, by the number of keys; memory only.
    pub bytes_per_key: Option<f64>,
    /// The figures.
    pub sample: Sample,
}

/// All points and remarks on those that failed.
///
/// # Errors
/// What keeps every point from being measured.
pub fn measure(common: &Common) -> Result<(Vec<Measured>, Vec<String>), String> {
    let (server, load) = common.places()?;
    let (scratch, ports, bin) = (Scratch::new()?, Ports::default(), own_folder()?);
    let lap = Lap {
        dir: scratch.path(),
        ratekeeper: &common.ratekeeper,
        bin: &bin,
        here: scratch.path(),
        ports: &ports,
        server,
        load,
        ready_within: READY_WITHIN,
    };
    let (clock, timing) = (Clock::start(), common.timing());
    let (mut found, mut remarks) = (Vec::new(), Vec::new());
    for point in curves_of(common) {
        let Point { curve, series, x, .. } = &point;
        match one(&lap, &point, timing, clock) {
            Ok(measured) => {
                let Sample {
                    per_s,
                    cpu_us,
                    p99_us,
                    failed,
                    ..
                } = measured.sample;
                let at = num::seconds(clock.now());
                eprintln!(
                    "{at:>4.0} s {curve:<12} {series:<24} {x:>10}: {per_s:>9.0}/s {cpu_us:>7.2} µs CPU, p99 {p99_us:.0} µs, {failed} failed"
                );
                found.push(measured);
            }
            Err(error) => {
                eprintln!("{curve:<12} {series:<24} {x:>10}: {error}");
                remarks.push(format!("{curve}, {series}, {x}: {error}"));
            }
        }
    }
    Ok((found, remarks))
}

fn one(lap: &Lap, point: &Point, timing: Timing, clock: Clock) -> Result<Measured, String> {
    let policies = lap.dir.join("bench.yaml");
    let failed = |error| format!("{}: {error}", policies.display());
    point.policy.write(&policies).map_err(failed)?;
    let file = lap.dir.join("point.toml");
    let text = scenarios(point);
    fs::write(&file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    let scenarios = Scenario::parse_all("point", &text).map_err(|problem| problem.to_string())?;
    let [scenario, rest @ ..] = scenarios.as_slice() else {
        return Err("no scenario".to_owned());
    };
    let line = if point.redis {
        format!("REDIS_OP_TIMEOUT=1s REDIS_URL=127.0.0.1:{{redis}} {SERVE}")
    } else {
        SERVE.to_owned()
    };
    let mut server = Server::new("ratekeeper", &line)?;
    server.ready = Some("/readyz".to_owned());
    let begin = clock.now();
    let running = lap.start(&server, scenario)?;
    let ready_s = num::seconds(clock.now() - begin);
    let bytes_per_key = match (rest, point.fill) {
        ([fill], Some(keys)) => filled(lap, &running, &file, fill, keys)?.filter(|_| !point.redis),
        _ => None,
    };
    let sample = lap.load(&running, &file, scenario, None, timing)?;
    Ok(Measured {
        curve: point.curve,
        series: point.series.clone(),
        x: point.x,
        ready_s,
        bytes_per_key,
        sample,
    })
}

/// The point's scenario and, where there is one, the one that fills the store.
fn scenarios(point: &Point) -> String {
    let Point {
        threads,
        instances,
        pinned,
        mix,
        ..
    } = point;
    let connections = CONNECTIONS * instances;
    let main = format!(
        "[[scenario]]\nname = \"point\"\nconnections = {connections}\nthreads = {threads}\ninstances = {instances}\npinned = {pinned}\nmix = [{mix}]\n"
    );
    let fill = point.fill.map(|keys| {
        let requests = (keys / FILL).max(1);
        format!(
            "[[scenario]]\nname = \"fill\"\nin_flight = 4\nmix = [{{ descriptors = [\"id=user-{{key:6}}{{n:2}}\"], repeat = {FILL}, \
             keys = {requests}, distribution = \"sequence\" }}]\n"
        )
    });
    main + &fill.unwrap_or_default()
}

/// Charges every key at least once; bytes of resident memory a key.
fn filled(
    lap: &Lap,
    running: &Running,
    file: &Path,
    fill: &Scenario,
    keys: u64,
) -> Result<Option<f64>, String> {
    let resident = || -> Result<u64, String> {
        let usage = running.server_ids().into_iter().map(Usage::of);
        let sum = usage
            .map(|usage| usage.map(|usage| usage.rss_kib))
            .sum::<Result<u64, _>>();
        sum.map_err(|error| format!("a server is gone: {error}"))
    };
    let (before, requests) = (resident()?, keys / FILL);
    let millis = (requests * 1_000 / FILLS_PER_S).max(500);
    let timing = Timing {
        warmup: Duration::ZERO,
        duration: Duration::from_millis(millis),
    };
    let sample = lap.load(running, file, fill, None, timing)?;
    if sample.decided < requests {
        let done = sample.decided * FILL;
        return Err(format!(
            "only {done} of {keys} keys were charged in {} s",
            num::seconds(nanos(timing.duration))
        ));
    }
    let grown = resident()?.saturating_sub(before);
    Ok(Some(num::fraction(grown * 1_024) / num::fraction(keys)))
}
