mod measure;
mod points;
mod policy;

pub use measure::{Measured, measure};
pub use points::{Point, curves_of};
pub use policy::Policy;

/// One parameter and what is said of it.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    /// As `--only` takes it.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What is asked, and what the parameter leaves alone.
    pub about: &'static str,
    /// What x is.
    pub x: &'static str,
    /// Whether x is plotted on a logarithmic axis.
    pub log_x: bool,
    /// Values of x that have names.
    pub names: &'static [(u64, &'static str)],
}

/// Windows by their seconds.
pub const WINDOWS: [(u64, &str); 5] = [
    (1, "second"),
    (60, "minute"),
    (3_600, "hour"),
    (86_400, "day"),
    (604_800, "week"),
];

/// In the order of the report.
pub const CURVES: [Curve; 9] = [
    Curve {
        name: "rules",
        title: "Rules in a file",
        about: "Exact rules (key and value) and key-only rules on one level. \"10 asked\": requests are about the first ten of \
                them, so that only the look-up differs; \"all asked\": evenly about all, so that the caches of the machine \
                count too.",
        x: "rules",
        log_x: true,
        names: &[],
    },
    Curve {
        name: "wildcards",
        title: "Rules with a * on one level",
        about: "Requests that meet none of them, and requests that meet the last one.",
        x: "rules with a *",
        log_x: true,
        names: &[],
    },
    Curve {
        name: "depth",
        title: "Depth",
        about: "Entries of the one descriptor; a rule on each level. The request grows with it.",
        x: "entries",
        log_x: false,
        names: &[],
    },
    Curve {
        name: "descriptors",
        title: "Descriptors in a request",
        about: "Each with a limit and a counter of its own, 100 requests' worth of keys.",
        x: "descriptors",
        log_x: false,
        names: &[],
    },
    Curve {
        name: "keys",
        title: "Live keys",
        about: "All keys were charged before, by requests of 100 descriptors; then one key at random a request. Bytes a key: \
                growth of the resident memory from ready to filled.",
        x: "keys",
        log_x: true,
        names: &[],
    },
    Curve {
        name: "limit",
        title: "Size of the limit",
        about: "Hits an hour on each of 10,000 keys. Small limits are soon used up: then most requests are denied.",
        x: "hits an hour",
        log_x: true,
        names: &[],
    },
    Curve {
        name: "window",
        title: "Length of the window",
        about: "A million hits a window on each of 10,000 keys.",
        x: "window",
        log_x: true,
        names: &WINDOWS,
    },
    Curve {
        name: "threads",
        title: "Serving threads",
        about: "Nothing is pinned, and the generator has as many threads: with as many cores as threads both want them. \
                Compare the CPU time of a request.",
        x: "threads",
        log_x: false,
        names: &[],
    },
    Curve {
        name: "instances",
        title: "Instances on one Redis",
        about: "10,000 keys by Zipf's law, all instances on one core, each with 4 connections.",
        x: "instances",
        log_x: false,
        names: &[],
    },
];
