//! One lap: start the server, load it, measure, end it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Child, Place, Ports, Sample, Server, Values, spool};
use crate::scenario::Scenario;

/// For a server with small policies.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// To connect, to wait for the last answers, and to write the report.
const LOAD_EXTRA: Duration = Duration::from_secs(20);
/// Someone else may take a free port before the server does.
const ATTEMPTS: usize = 3;

/// How long a lap's load takes.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before the measurement.
    pub warmup: Duration,
    /// Of the measurement.
    pub duration: Duration,
}

/// Where and how laps run.
#[derive(Debug)]
pub struct Lap<'a> {
    /// A folder for logs and reports of this process.
    pub dir: &'a Path,
    /// Ratekeeper's program.
    pub ratekeeper: &'a Path,
    /// The folder of this program and its siblings.
    pub bin: &'a Path,
    /// The folder that `{here}` stands for.
    pub here: &'a Path,
    /// Ports for children.
    pub ports: &'a Ports,
    /// Core of the servers, where they are pinned.
    pub server: Place,
    /// Core of load and Redis, where they are pinned.
    pub load: Place,
    /// How long a server may take to be ready.
    pub ready_within: Duration,
}

/// What runs in a lap; all of it ends when this is dropped, the servers first.
#[derive(Debug)]
pub struct Running {
    /// Server processes and their gRPC ports.
    servers: Vec<(Child, u16)>,
    redis: Option<Child>,
}

impl Lap<'_> {
    /// Starts as many processes of the server as the scenario wants, and the Redis that they share.
    ///
    /// # Errors
    /// A child that does not become ready; with the end of what it printed.
    pub fn start(&self, server: &Server, scenario: &Scenario) -> Result<Running, String> {
        let place = |place| if scenario.pinned { place } else { Place::Anywhere };
        let (redis, redis_port) = if server.wants_redis() {
            let (child, port) = self.attempt(|| self.redis(place(self.load)))?;
            (Some(child), port)
        } else {
            (None, 0)
        };
        let mut running = Running {
            servers: Vec::new(),
            redis,
        };
        for index in 0..scenario.instances {
            let process = || self.process(server, scenario, place(self.server), redis_port, index);
            running.servers.push(self.attempt(process)?);
        }
        Ok(running)
    }

    /// Loads what runs by `rk-load` with this scenario of this file.
    ///
    /// # Errors
    /// A generator that found no result.
    pub fn load(
        &self,
        running: &Running,
        file: &Path,
        scenario: &Scenario,
        rate: Option<f64>,
        timing: Timing,
    ) -> Result<Sample, String> {
        let json = self.dir.join("lap.json");
        let words = self.load_words(running, file, scenario, rate, timing, &json);
        let place = if scenario.pinned {
            self.load
        } else {
            Place::Anywhere
        };
        let mut load = Child::spawn("rk-load", self.dir, place, &words, &[])?;
        let status = load.wait(timing.warmup + timing.duration + LOAD_EXTRA)?;
        if !status.success() {
            return Err(format!("rk-load ended with {status}: {}", load.last_words()));
        }
        let sample = spool(&json, running.redis.as_ref().map(Child::id))?;
        Ok(Sample {
            scenario: scenario.name.clone(),
            asked_per_s: rate,
            ..sample
        })
    }

    fn load_words(
        &self,
        running: &Running,
        file: &Path,
        scenario: &Scenario,
        rate: Option<f64>,
        timing: Timing,
        json: &Path,
    ) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let micros = |time: Duration| format!("{}us", time.as_micros());
        let mut words = vec![text(&self.bin.join("rk-load"))];
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--scenario", text(file));
        add("--scenario-name", scenario.name.clone());
        add("--threads", scenario.threads.to_string());
        add("--warmup", micros(timing.warmup));
        add("--duration", micros(timing.duration));
        add("--json", text(json));
        if let Some(rate) = rate {
            add("--rate", format!("{rate:.1}"));
        }
        for (child, port) in &running.servers {
            add("--target", format!("127.0.0.1:{port}"));
            add("--server-pid", child.id().to_string());
        }
        if let Some(redis) = &running.redis {
            add("--server-pid", redis.id().to_string());
        }
        words
    }

    fn attempt<T>(&self, start: impl Fn() -> Result<T, String>) -> Result<T, String> {
        let mut result = start();
        for _ in 1..ATTEMPTS {
            if result.is_ok() {
                break;
            }
            result = start();
        }
        result
    }

    fn redis(&self, place: Place) -> Result<(Child, u16), String> {
        let port = self.ports.free()?;
        let line =
            format!("redis-server --bind 127.0.0.1 --port {port} --appendonly no --daemonize no --dir");
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words.extend([self.dir.display().to_string(), "--save".to_owned(), String::new()]);
        let mut child = Child::spawn("redis", self.dir, place, &words, &[])?;
        child.wait_ready(port, None, READY_WITHIN)?;
        Ok((child, port))
    }

    fn process(
        &self,
        server: &Server,
        scenario: &Scenario,
        place: Place,
        redis: u16,
        index: u16,
    ) -> Result<(Child, u16), String> {
        let values = Values {
            port: self.ports.free()?,
            http: self.ports.free()?,
            debug: self.ports.free()?,
            redis,
            threads: scenario.threads,
            ratekeeper: self.ratekeeper,
            bin: self.bin,
            here: self.here,
        };
        let (env, words) = server.command(&values);
        let name = format!("{}-{index}", server.name);
        let mut child = Child::spawn(&name, self.dir, place, &words, &env)?;
        let page = server.ready.as_deref().map(|path| (values.http, path));
        child.wait_ready(values.port, page, self.ready_within)?;
        Ok((child, values.port))
    }
}

impl Running {
    /// Process ids of the servers.
    pub fn server_ids(&self) -> Vec<u32> {
        self.servers.iter().map(|(child, _)| child.id()).collect()
    }
}

/// The folder of this program: its siblings `rk-load` and `rk-noop` are there.
///
/// # Errors
/// A system that does not say.
pub fn own_folder() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    Ok(program.parent().map(Path::to_path_buf).unwrap_or_default())
}
