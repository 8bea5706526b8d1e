//! Scenarios: mixes of requests, and how they are driven, from a TOML file.
//!
//! ```toml
//! [[scenario]]
//! name = "four"
//! title = "4 descriptors, one hot and three cold"
//! rate = 2000                       # open loop; without it closed
//! mix = [
//!     { share = 9, descriptors = ["hot=one", "id=user-{key:8}"], keys = 10_000 },
//!     { share = 1, descriptors = ["id=user-{key:6}{n:2}"], repeat = 100, weights = "1-5" },
//! ]
//! ```

mod parse;
mod problem;

use std::fs;
use std::path::Path;

use crate::plan::{Distribution, Kind, Template, Weights};
use crate::wire::Descriptor;

pub use problem::{Problem, Source};

/// How requests are driven.
#[derive(Debug, Clone, PartialEq)]
pub enum Drive {
    /// A fixed number in flight.
    Closed,
    /// So many a second.
    Rate(f64),
    /// This share of what the same server did in the closed loop of another scenario.
    OfMax {
        /// Above 0, at most 1.
        share: f64,
        /// The other scenario's name.
        of: String,
    },
}

/// A part of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// So many of all shares.
    pub share: u32,
    /// The request's descriptors.
    pub descriptors: Vec<Descriptor>,
    /// Keys are numbers below it.
    pub keys: u32,
    /// Which of them.
    pub distribution: Distribution,
    /// How many hits.
    pub weights: Weights,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Short, unique in its file.
    pub name: String,
    /// For people.
    pub title: String,
    /// The requests' domain.
    pub domain: String,
    /// At least one.
    pub parts: Vec<Part>,
    /// How requests are driven.
    pub drive: Drive,
    /// Connections, if not the default.
    pub connections: Option<u16>,
    /// In flight on each connection, if not the default.
    pub in_flight: Option<u32>,
    /// Whether the generator polls between requests of an open loop.
    pub busy_poll: bool,
    /// Threads of the server, and of the generator.
    pub threads: u16,
    /// Server processes that share the load.
    pub instances: u16,
    /// Whether server and load are kept on a core each.
    pub pinned: bool,
    /// The servers it is for; empty: all.
    pub servers: Vec<String>,
    /// Whether the short form of a comparison has it.
    pub quick: bool,
}

impl Scenario {
    /// All scenarios of a file; an error names the file, the line and the value.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        parse::scenarios(&Source::new(&path.display().to_string(), &text))
            .map_err(|problem| problem.to_string())
    }

    /// The scenarios in a text; `file` is its name in errors.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn parse_all(file: &str, text: &str) -> Result<Vec<Self>, Problem> {
        parse::scenarios(&Source::new(file, text))
    }

    /// The scenario of this name, or the only one.
    pub fn read(path: &Path, name: Option<&str>) -> Result<Self, String> {
        let mut all = Self::read_all(path)?;
        let names: Vec<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        let names = names.join(", ");
        match name {
            Some(name) => all.into_iter().find(|scenario| scenario.name == name),
            None if all.len() == 1 => all.pop(),
            None => {
                return Err(format!(
                    "{}: give --scenario-name, one of {names}",
                    path.display()
                ));
            }
        }
        .ok_or_else(|| format!("{}: no such scenario, expected one of {names}", path.display()))
    }

    /// Whether this server takes part.
    pub fn is_for(&self, server: &str) -> bool {
        self.servers.is_empty() || self.servers.iter().any(|name| name == server)
    }

    /// What is sent.
    pub fn kinds(&self) -> Vec<Kind> {
        let kind = |part: &Part| Kind {
            share: part.share,
            template: Template::new(&self.domain, &part.descriptors),
            keys: part.keys,
            distribution: part.distribution,
            weights: part.weights,
        };
        self.parts.iter().map(kind).collect()
    }
}
