//! Process settings: flags over environment over file over defaults.
//!
//! ```text
//! table ──> add_flags ──> command line ─┐
//!   │                     environment ──┼─> layers ──config──> typed ──check──> Loaded
//!   │                     TOML file ────┤  (each value checked
//!   └────────── defaults ───────────────┘   where it stands)
//! ```
//!
//! One table says what there is; the names of flags and variables, the help, the error texts and the page
//! `docs/settings.md` come from it. The reference server's variables work under their own names, with Go's ways of
//! writing values ([`go`]); those of its variables that mean nothing here yet are in [`mod@reference`].
//!
//! To add a setting: one line in `table`, one field in `typed`. A test says if the two differ.

mod check;
mod error;
mod flags;
pub mod go;
mod kind;
mod layers;
mod markdown;
pub mod reference;
pub mod table;
mod typed;

use std::collections::BTreeMap;

pub use error::{Error, Origin, Problem};
pub use flags::add_flags;
pub use kind::{Choice, Kind};
pub use markdown::reference_markdown;
pub use typed::{
    DefaultAlgorithm, DefaultCharge, DefaultOnStoreError, Defaults, Endpoint, Grpc, Health, Limits, Local,
    Log, LogFormat, LogLevel, Memory, Metrics, Policies, Prometheus, Redis, RedisKind, RedisPerSecond,
    RedisTls, Response, Secret, Settings, Shutdown, Tls, WhenFull,
};

/// The flag, and as `RATEKEEPER_CONFIG` the variable, that names the settings file.
const CONFIG_FILE: &str = "config";

/// Settings, and what the caller has to say about them in its log.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings in force.
    pub settings: Settings,
    /// Variables of the reference server that are set and have no effect in this version, sorted. Names alone: their
    /// values may be secrets.
    pub unsupported: Vec<String>,
    /// Variables that start with `RATEKEEPER_` and belong to no setting, sorted.
    pub unknown: Vec<String>,
}

/// Reads the settings from the flags of [`add_flags`], an environment and the file that either of them names.
///
/// # Errors
///
/// All malformed values, unknown keys and refused combinations at once, each with its place. The caller ends with exit
/// code 2; nothing has been opened but the settings file.
pub fn load(
    args: &clap::ArgMatches,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let env = reference::without_service_links(env.into_iter().collect());
    let mut problems = Vec::new();
    let mut layers = vec![layers::defaults()];
    let variable = env.get(&table::variable_of(CONFIG_FILE)).map(String::as_str);
    if let Some(path) = layers::flag(args, CONFIG_FILE)
        .or(variable)
        .filter(|path| !path.is_empty())
    {
        layers.push(layers::file(path, &mut problems));
    }
    layers.push(layers::environment(&env, &mut problems));
    problems.extend(reference::refused(&env));
    layers.push(layers::flags(args, &mut problems));
    if !problems.is_empty() {
        return Err(Error { problems });
    }

    let mut origins = BTreeMap::new();
    let mut builder = config::Config::builder();
    for layer in layers {
        origins.extend(layer.origins.clone());
        builder = builder.add_source(layer);
    }
    let settings: Settings = builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| Problem::Internal(error.to_string()))?;
    let problems = check::check(&settings, &origins);
    if !problems.is_empty() {
        return Err(Error { problems });
    }
    Ok(Loaded {
        settings,
        unsupported: reference::unsupported(&env),
        unknown: reference::unknown(&env),
    })
}

/// The environment of this process. What is not UTF-8 gets replacement characters, which no setting but a text or a path
/// takes; the standard library's `vars` would panic.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
