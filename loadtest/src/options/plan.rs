//! The arguments once checked: what every thread is told.

use std::fs;
use std::time::Duration;

use http::HeaderValue;

use super::{Args, values};
use crate::audit::{KeyLimit, Limits};
use crate::client::Target;
use crate::clock::{Nanos, nanos};
use crate::plan::{Kind, Pattern, Template, Weights};
use crate::scenario::{Drive, Scenario};

const CONNECTIONS: usize = 4;
const IN_FLIGHT_CLOSED: u32 = 32;
const IN_FLIGHT_OPEN: u32 = 1_000;
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// Over all connections; each is a small task.
const IN_FLIGHT_MAX: u64 = 1_000_000;

/// How requests are driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// A fixed number on each connection.
    Closed {
        /// That number.
        in_flight: usize,
    },
    /// By a schedule.
    Open {
        /// Requests per second over all threads.
        rate: f64,
        /// How they are spaced.
        pattern: Pattern,
        /// At most so many on each connection.
        in_flight_max: usize,
        /// Whether threads poll between requests instead of sleeping.
        busy_poll: bool,
    },
}

/// What is checked afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPlan {
    /// The promise.
    pub limits: Limits,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One for each connection.
    pub connections: Vec<Target>,
    /// At most as many as connections.
    pub threads: usize,
    /// How requests are driven.
    pub load: Load,
    /// Before the measurement.
    pub warmup: Nanos,
    /// Of the measurement.
    pub duration: Nanos,
    /// What is sent: at least one kind.
    pub kinds: Vec<Kind>,
    /// The header's value.
    pub grpc_timeout: Option<HeaderValue>,
    /// The time to answer.
    pub patience: Nanos,
    /// Of everything random.
    pub seed: u64,
    /// What is checked afterwards.
    pub audit: Option<AuditPlan>,
}

impl Plan {
    /// Checks the arguments together, and reads the file with limits; errors name the option.
    pub fn new(args: &Args) -> Result<Self, String> {
        let scenario = match &args.scenario {
            Some(path) => Some(Scenario::read(path, args.scenario_name.as_deref())?),
            None => None,
        };
        let args = &match &scenario {
            Some(scenario) => driven_by(args, scenario)?,
            None => args.clone(),
        };
        if args.duration.is_zero() {
            return Err("--duration: must be above 0".to_owned());
        }
        let threads = usize::from(args.threads);
        let connections = match args.connections {
            Some(count) => usize::from(count),
            None => CONNECTIONS.max(threads).max(args.target.len()),
        };
        if connections < threads || connections < args.target.len() {
            return Err(format!(
                "--connections: {connections} are less than one a thread and a target"
            ));
        }
        let patience = args.give_up_after.or(args.grpc_timeout).unwrap_or(GIVE_UP_AFTER);
        if patience.is_zero() {
            return Err("--give-up-after and --grpc-timeout: must be above 0".to_owned());
        }
        let timeout = args
            .grpc_timeout
            .map(|timeout| HeaderValue::try_from(values::grpc_timeout(timeout)));
        Ok(Self {
            connections: args.target.iter().cycle().take(connections).cloned().collect(),
            threads,
            load: load(args, connections)?,
            warmup: nanos(args.warmup),
            duration: nanos(args.duration),
            kinds: scenario.map_or_else(|| vec![kind(args)], |scenario| scenario.kinds()),
            grpc_timeout: timeout
                .transpose()
                .map_err(|error| format!("--grpc-timeout: {error}"))?,
            patience: nanos(patience),
            seed: args.seed,
            audit: args.audit.then(|| audit(args)).transpose()?,
        })
    }

    /// How long requests are sent.
    pub fn sending(&self) -> Nanos {
        self.warmup + self.duration
    }

    /// The connections of one thread.
    pub fn targets_of(&self, thread: usize) -> Vec<Target> {
        self.connections
            .iter()
            .skip(thread)
            .step_by(self.threads)
            .cloned()
            .collect()
    }
}

/// The arguments with what the scenario says where they say nothing.
fn driven_by(args: &Args, scenario: &Scenario) -> Result<Args, String> {
    let mut args = args.clone();
    args.connections = args.connections.or(scenario.connections);
    args.in_flight = args.in_flight.or(scenario.in_flight);
    args.busy_poll |= scenario.busy_poll;
    if args.rate.is_none() {
        args.rate = match &scenario.drive {
            Drive::Closed => None,
            Drive::Rate(rate) => Some(*rate),
            Drive::OfMax { of, .. } => {
                let name = &scenario.name;
                return Err(format!(
                    "--scenario: {name} is a share of {of}'s rate: needs --rate"
                ));
            }
        };
    }
    Ok(args)
}

/// The one kind of request that options can describe.
fn kind(args: &Args) -> Kind {
    Kind {
        share: 1,
        template: Template::new(&args.domain, &args.descriptor),
        keys: args.keys,
        distribution: args.distribution,
        weights: args.weights.unwrap_or(Weights::Unset),
    }
}

fn load(args: &Args, connections: usize) -> Result<Load, String> {
    let default = if args.rate.is_some() {
        IN_FLIGHT_OPEN
    } else {
        IN_FLIGHT_CLOSED
    };
    let in_flight = args.in_flight.unwrap_or(default);
    let all = u64::from(in_flight) * connections as u64;
    if all > IN_FLIGHT_MAX && args.in_flight.is_some() {
        return Err(format!(
            "--in-flight: {all} over all connections are more than {IN_FLIGHT_MAX}"
        ));
    }
    let in_flight = usize::try_from(in_flight).unwrap_or(usize::MAX);
    Ok(match args.rate {
        Some(rate) => Load::Open {
            rate,
            pattern: args.arrivals,
            in_flight_max: in_flight,
            busy_poll: args.busy_poll,
        },
        None => Load::Closed { in_flight },
    })
}

fn audit(args: &Args) -> Result<AuditPlan, String> {
    let mut limits = match (args.limit, args.window) {
        (Some(limit), Some(window)) => Limits::uniform(KeyLimit { limit, window })?,
        _ if args.audit_limits.is_none() => {
            return Err("--audit: needs --limit and --window, or --audit-limits".to_owned());
        }
        _ => Limits::default(),
    };
    if let Some(path) = &args.audit_limits {
        let json = fs::read_to_string(path).map_err(|error| error.to_string());
        let all = json.and_then(|json| limits.with_file(&json));
        limits = all.map_err(|error| format!("--audit-limits {}: {error}", path.display()))?;
    }
    Ok(AuditPlan { limits })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = ["rk-load"].into_iter().chain(line.split_whitespace());
        Args::try_parse_from(words)
            .map_err(|error| error.to_string())
            .and_then(|args| Plan::new(&args))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn connections_are_dealt_to_targets_and_threads() {
        let plan = plan("--threads 2 --connections 5 --target a:1 --target b:2").expect("valid");
        let of = |thread| -> Vec<_> {
            plan.targets_of(thread)
                .into_iter()
                .map(|target| target.authority)
                .collect()
        };
        assert_eq!(of(0), ["a:1", "a:1", "a:1"]);
        assert_eq!(of(1), ["b:2", "b:2"]);
    }

    #[test]
    fn defaults() {
        let closed = plan("").expect("valid");
        assert_eq!((closed.connections.len(), closed.patience), (4, 1_000_000_000));
        assert_eq!(closed.load, Load::Closed { in_flight: 32 });
        let open = plan("--rate 500 --grpc-timeout 20ms").expect("valid");
        assert_eq!(open.patience, 20_000_000);
        assert_eq!(open.grpc_timeout, Some(HeaderValue::from_static("20m")));
        assert!(matches!(
            open.load,
            Load::Open {
                in_flight_max: 1_000,
                ..
            }
        ));
    }

    #[test]
    fn what_is_refused() {
        let bad = [
            "--threads 0",
            "--threads 3 --connections 2",
            "--duration 0s",
            "--give-up-after 0s",
            "--audit",
            "--limit 5 --window 1",
            "--audit --limit 5",
            "--audit --limit 5 --window 0",
            "--audit --audit-limits /nowhere/limits.json",
            "--connections 1000 --in-flight 100000",
            "--keys 0",
            "--descriptor =x",
        ];
        for line in bad {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
