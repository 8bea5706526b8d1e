//! All laps of a comparison: for each scenario A B C A B C …

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, process};

use super::child::has_program;
use super::lap::{READY_WITHIN, own_folder};
use super::{Common, Lap, Place, Ports, Sample, Server, ServersArgs, Timing, Values};
use crate::clock::Clock;
use crate::num;
use crate::scenario::{Drive, Scenario};

/// What a comparison found.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of the report.
    pub scenarios: Vec<Scenario>,
    /// Names, in the order of the report.
    pub servers: Vec<String>,
    /// The one that ratios are to.
    pub base: String,
    /// One for each lap that was run to its end.
    pub samples: Vec<Sample>,
    /// Servers left out and laps that failed, in words.
    pub remarks: Vec<String>,
}

/// A folder for the children's files, removed in the end.
#[derive(Debug)]
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    /// A new one among the system's temporary files.
    ///
    /// # Errors
    /// A folder that can't be made.
    pub fn new() -> Result<Self, String> {
        let dir = env::temp_dir().join(format!("rk-compare-{}", process::id()));
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is small, and in the folder for such files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Common {
    /// How long a lap's load takes.
    pub fn timing(&self) -> Timing {
        let (warmup, duration) = if self.quick { (200, 1_000) } else { (500, 2_500) };
        Timing {
            warmup: self.warmup.unwrap_or(Duration::from_millis(warmup)),
            duration: self.duration.unwrap_or(Duration::from_millis(duration)),
        }
    }

    /// Where servers, and load with Redis, run.
    ///
    /// # Errors
    /// Pinning asked for on a machine without the cores or the program for it.
    pub fn places(&self) -> Result<(Place, Place), String> {
        if self.no_pin {
            return Ok((Place::Anywhere, Place::Anywhere));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let highest = self.server_core.max(self.load_core);
        if usize::from(highest) >= cores {
            return Err(format!(
                "no core {highest} among {cores}: choose others, or --no-pin"
            ));
        }
        if !has_program("taskset") {
            return Err("taskset is not installed: install it, or --no-pin".to_owned());
        }
        Ok((Place::Core(self.server_core), Place::Core(self.load_core)))
    }

    /// Whether this one is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Runs every lap; what fails is a remark, and the others go on.
///
/// # Errors
/// Files that can't be read, and a base that does not take part.
pub fn compare(args: &ServersArgs) -> Result<Outcome, String> {
    let common = &args.common;
    let (server_place, load_place) = common.places()?;
    let (scratch, ports, bin) = (Scratch::new()?, Ports::default(), own_folder()?);
    let here = args.servers.parent().unwrap_or(Path::new("."));
    let lap = Lap {
        dir: scratch.path(),
        ratekeeper: &common.ratekeeper,
        bin: &bin,
        here,
        ports: &ports,
        server: server_place,
        load: load_place,
        ready_within: READY_WITHIN,
    };
    let mut remarks = Vec::new();
    let servers = servers(args, &lap, &mut remarks)?;
    let base = args
        .base
        .clone()
        .or_else(|| servers.first().map(|server| server.name.clone()));
    let base = base.filter(|base| servers.iter().any(|server| server.name == *base));
    let base = base.ok_or("--base: no server of that name takes part")?;
    let mut scenarios = Scenario::read_all(&args.scenarios)?;
    scenarios.retain(|scenario| match common.only.is_empty() {
        true => !common.quick || scenario.quick,
        false => common.wants(&scenario.name),
    });
    let mut session = Session {
        args,
        lap: &lap,
        rounds: args.rounds.unwrap_or(if common.quick { 3 } else { 5 }),
        clock: Clock::start(),
        samples: Vec::new(),
        remarks,
        maxima: HashMap::new(),
    };
    for scenario in &scenarios {
        session.scenario(scenario, &servers);
    }
    Ok(Outcome {
        scenarios,
        servers: servers.into_iter().map(|server| server.name).collect(),
        base,
        samples: session.samples,
        remarks: session.remarks,
    })
}

/// The file's and the command line's, as far as they are installed.
fn servers(args: &ServersArgs, lap: &Lap, remarks: &mut Vec<String>) -> Result<Vec<Server>, String> {
    let mut servers = Server::read_all(&args.servers)?;
    servers.retain(|server| !args.without.contains(&server.name));
    servers.extend_from_slice(&args.server);
    let values = Values {
        port: 0,
        http: 0,
        debug: 0,
        redis: 0,
        threads: 1,
        ratekeeper: lap.ratekeeper,
        bin: lap.bin,
        here: lap.here,
    };
    let mut present = Vec::new();
    for server in servers {
        if server.is_installed(&values) {
            present.push(server);
        } else if server.optional {
            remarks.push(format!("{} is not installed and was left out", server.name));
        } else {
            let (_, words) = server.command(&values);
            let program = words.first().cloned().unwrap_or_default();
            return Err(format!("{}: no program {program}", server.name));
        }
    }
    Ok(present)
}

struct Session<'a> {
    args: &'a ServersArgs,
    lap: &'a Lap<'a>,
    rounds: u32,
    clock: Clock,
    samples: Vec<Sample>,
    remarks: Vec<String>,
    /// By scenario, server and round: what was done in closed loop.
    maxima: HashMap<(String, String, u32), f64>,
}

impl Session<'_> {
    fn scenario(&mut self, scenario: &Scenario, servers: &[Server]) {
        for round in 1..=self.rounds {
            for server in servers {
                if !scenario.is_for(&server.name) || server.skip.contains(&scenario.name) {
                    continue;
                }
                match self.one(scenario, server, round) {
                    Ok(sample) => self.keep(sample),
                    Err(error) => {
                        eprintln!("{:<14} {:<16} round {round}: {error}", scenario.name, server.name);
                        self.remarks
                            .push(format!("{}, round {round}: {error}", scenario.name));
                    }
                }
            }
        }
    }

    fn one(&self, scenario: &Scenario, server: &Server, round: u32) -> Result<Sample, String> {
        let rate = match &scenario.drive {
            Drive::Closed => None,
            Drive::Rate(rate) => Some(*rate),
            Drive::OfMax { share, of } => {
                let key = (of.clone(), server.name.clone(), round);
                let max = self.maxima.get(&key).ok_or(format!("{of} was not measured"))?;
                Some(share * max)
            }
        };
        let running = self.lap.start(server, scenario)?;
        let timing = self.args.common.timing();
        let sample = self
            .lap
            .load(&running, &self.args.scenarios, scenario, rate, timing)?;
        Ok(Sample {
            server: server.name.clone(),
            round,
            ..sample
        })
    }

    fn keep(&mut self, sample: Sample) {
        eprintln!(
            "{:>4.0} s {:<14} {:<16} round {}: {:>9.0}/s {:>7.2} µs CPU, p50 {:.0} p99 {:.0} p99.9 {:.0} µs",
            num::seconds(self.clock.now()),
            sample.scenario,
            sample.server,
            sample.round,
            sample.per_s,
            sample.cpu_us,
            sample.p50_us,
            sample.p99_us,
            sample.p99_9_us,
        );
        let key = (sample.scenario.clone(), sample.server.clone(), sample.round);
        self.maxima.insert(key, sample.per_s);
        self.samples.push(sample);
    }
}
