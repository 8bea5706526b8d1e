//! From TOML to scenarios.

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;

use super::problem::{Problem, Source};
use super::{Drive, Part, Scenario};
use crate::options::{descriptor, rate};
use crate::plan::{Distribution, Weights};
use crate::wire::Descriptor;

/// The most descriptors that `repeat` makes of one.
const REPEAT_MAX: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    scenario: Vec<RawScenario>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: Spanned<String>,
    title: Option<String>,
    #[serde(default = "bench")]
    domain: String,
    mix: Spanned<Vec<RawPart>>,
    rate: Option<Spanned<f64>>,
    rate_of_max: Option<Spanned<f64>>,
    max_of: Option<Spanned<String>>,
    connections: Option<u16>,
    in_flight: Option<u32>,
    #[serde(default)]
    busy_poll: bool,
    #[serde(default = "one")]
    threads: Spanned<u16>,
    #[serde(default = "one")]
    instances: Spanned<u16>,
    #[serde(default = "yes")]
    pinned: bool,
    #[serde(default)]
    servers: Vec<String>,
    #[serde(default)]
    quick: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    share: Option<Spanned<u32>>,
    descriptors: Vec<Spanned<String>>,
    repeat: Option<Spanned<u32>>,
    keys: Option<Spanned<u32>>,
    distribution: Option<Spanned<String>>,
    weights: Option<Spanned<String>>,
}

fn bench() -> String {
    "bench".to_owned()
}

fn one() -> Spanned<u16> {
    Spanned::new(0..0, 1)
}

fn yes() -> bool {
    true
}

/// All scenarios, or the first fault.
pub fn scenarios(source: &Source) -> Result<Vec<Scenario>, Problem> {
    let document: Document = source.read()?;
    // Of those before that are in closed loop: the only ones whose rate is a maximum.
    let mut closed = HashSet::new();
    let mut names = HashSet::new();
    let mut scenarios = Vec::new();
    for raw in &document.scenario {
        source.check(&raw.name, |name| match name.as_str() {
            "" => Err("a scenario without a name".to_owned()),
            name if !names.insert(name.to_owned()) => Err(format!("a second scenario {name}")),
            _ => Ok(()),
        })?;
        let scenario = scenario(source, raw, &closed)?;
        if scenario.drive == Drive::Closed {
            closed.insert(scenario.name.clone());
        }
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

fn scenario(source: &Source, raw: &RawScenario, closed: &HashSet<String>) -> Result<Scenario, Problem> {
    let name = raw.name.get_ref();
    source.check(&raw.mix, |mix| match mix.as_slice() {
        [] => Err(format!("{name}: an empty mix")),
        _ => Ok(()),
    })?;
    let parts = raw.mix.get_ref().iter().map(|raw| part(source, raw));
    let positive = |count: &u16| match count {
        0 => Err("must be at least 1".to_owned()),
        count => Ok(*count),
    };
    Ok(Scenario {
        name: name.clone(),
        title: raw.title.clone().unwrap_or_else(|| name.clone()),
        domain: raw.domain.clone(),
        parts: parts.collect::<Result<_, _>>()?,
        drive: drive(source, raw, closed)?,
        connections: raw.connections,
        in_flight: raw.in_flight,
        busy_poll: raw.busy_poll,
        threads: source.check(&raw.threads, positive)?,
        instances: source.check(&raw.instances, positive)?,
        pinned: raw.pinned,
        servers: raw.servers.clone(),
        quick: raw.quick,
    })
}

fn drive(source: &Source, raw: &RawScenario, closed: &HashSet<String>) -> Result<Drive, Problem> {
    match (&raw.rate, &raw.rate_of_max, &raw.max_of) {
        (None, None, None) => Ok(Drive::Closed),
        (Some(per_s), None, None) => source.check(per_s, |per_s| rate(&per_s.to_string()).map(Drive::Rate)),
        (None, Some(share), Some(of)) => {
            let of = source.check(of, |of| match closed.contains(of) {
                true => Ok(of.clone()),
                false => Err(format!(
                    "max_of: {of} is no scenario in closed loop above this one"
                )),
            })?;
            source.check(share, |share| match share {
                share if *share > 0.0 && *share <= 1.0 => Ok(Drive::OfMax { share: *share, of }),
                share => Err(format!("rate_of_max: {share} is not above 0 and at most 1")),
            })
        }
        _ => Err(source.at(
            &raw.name.span(),
            "expected none of rate, rate_of_max and max_of, or rate, or the other two".to_owned(),
        )),
    }
}

fn part(source: &Source, raw: &RawPart) -> Result<Part, Problem> {
    let count = |value: &Option<Spanned<u32>>, default, max| match value {
        None => Ok(default),
        Some(value) => source.check(value, |value| match value {
            value if (1..=max).contains(value) => Ok(*value),
            value => Err(format!("{value}: expected 1 to {max}")),
        }),
    };
    let repeat = count(&raw.repeat, 1, REPEAT_MAX)?;
    let mut descriptors = Vec::new();
    for text in &raw.descriptors {
        let all: Vec<Descriptor> = source.check(text, |text| {
            (0..repeat).map(|n| descriptor(&numbered(text, n))).collect()
        })?;
        descriptors.extend(all);
    }
    Ok(Part {
        share: count(&raw.share, 1, u32::MAX / 64)?,
        descriptors,
        keys: count(&raw.keys, 10_000, u32::MAX)?,
        distribution: match &raw.distribution {
            None => Distribution::Uniform,
            Some(distribution) => source.check(distribution, |distribution| distribution.parse())?,
        },
        weights: match &raw.weights {
            None => Weights::Unset,
            Some(weights) => source.check(weights, |weights| weights.parse())?,
        },
    })
}

/// The template with the descriptor's number for `{n}` and, with zeros in front, `{n:2}` to `{n:9}`.
fn numbered(text: &str, n: u32) -> String {
    let plain = text.replace("{n}", &n.to_string());
    (2..=9).fold(plain, |text, width| {
        text.replace(&format!("{{n:{width}}}"), &format!("{n:0width$}"))
    })
}
