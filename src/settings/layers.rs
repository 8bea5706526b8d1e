//! The four places where a setting can stand, each read into one source of the crate `config`.
//!
//! A layer checks all of its values itself, also those that a higher layer replaces: only here is it known where a
//! value stands, and a slip that shows up on the day when the other value goes is a bad surprise.

use std::collections::BTreeMap;

use config::{FileFormat, Map, Source, Value, ValueKind};

use super::{
    error::{self, Origin, Problem},
    table::{self, Setting},
};

/// The values of one place, by their field in [`super::Settings`].
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    /// What `config` merges.
    values: Map<String, Value>,
    /// Where each value stands, by the key of its setting.
    pub origins: BTreeMap<&'static str, Origin>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    fn put(&mut self, setting: &'static Setting, origin: Origin, kind: ValueKind) {
        self.values.insert(
            setting.field().to_owned(),
            Value::new(Some(&origin.to_string()), kind),
        );
        self.origins.insert(setting.key, origin);
    }

    /// Reads a text, or says what is wrong with it.
    fn put_text(&mut self, setting: &'static Setting, origin: Origin, text: &str) -> Option<Problem> {
        match setting.kind.parse(text) {
            Some(kind) => {
                self.put(setting, origin, kind);
                None
            }
            None => Some(bad_value(setting, origin, error::quoted(text))),
        }
    }
}

/// The defaults of the table. A default that is no value of its kind is left out and found when the types are filled.
pub(super) fn defaults() -> Layer {
    let mut layer = Layer::default();
    for setting in table::all().filter(|setting| !setting.default.is_empty() || setting.kind.takes_empty()) {
        layer.put_text(setting, Origin::Default, setting.default);
    }
    layer
}

/// The flags that were given.
pub(super) fn flags(args: &clap::ArgMatches, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    for setting in table::all() {
        if let Some(text) = flag(args, setting.key) {
            problems.extend(layer.put_text(setting, Origin::Flag(setting.flag()), text));
        }
    }
    layer
}

/// The text of a flag, if the command has it and it was given.
pub(super) fn flag<'a>(args: &'a clap::ArgMatches, key: &str) -> Option<&'a str> {
    args.try_get_one::<String>(key).ok().flatten().map(String::as_str)
}

/// The variables that are set.
pub(super) fn environment(env: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    for setting in table::all() {
        // Lowest precedence first: the last one that is set stays.
        for name in setting.variables().into_iter().rev() {
            if let Some(text) = env.get(&name) {
                problems.extend(layer.put_text(setting, Origin::Variable(name), text));
            }
        }
    }
    layer
}

/// The settings file.
pub(super) fn file(path: &str, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::default();
    let bad_file = |reason| Problem::File {
        path: path.to_owned(),
        reason,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(bad_file(error.to_string().to_lowercase()));
            return layer;
        }
    };
    match config::File::from_str(&text, FileFormat::Toml).collect() {
        Ok(table) => read_table(path, "", &table, &mut layer, problems),
        Err(error) => problems.push(bad_file(parser_says(&error))),
    }
    layer
}

/// Takes the values of a table and of the tables inside it, as deep as the keys of settings go.
fn read_table(
    path: &str,
    prefix: &str,
    map: &Map<String, Value>,
    layer: &mut Layer,
    problems: &mut Vec<Problem>,
) {
    let sorted: BTreeMap<_, _> = map.iter().collect();
    for (name, value) in sorted {
        let key = format!("{prefix}{name}");
        let origin = Origin::File {
            path: path.to_owned(),
            key: key.clone(),
        };
        let group = format!("{key}.");
        if let Some(setting) = table::all().find(|setting| setting.key == key) {
            match setting.kind.convert(value) {
                Some(kind) => layer.put(setting, origin, kind),
                None => problems.push(bad_value(setting, origin, shown(value))),
            }
        } else if !table::all().any(|setting| setting.key.starts_with(&group)) {
            problems.push(unknown_key(path, prefix, key));
        } else if let ValueKind::Table(inner) = &value.kind {
            read_table(path, &group, inner, layer, problems);
        } else {
            // The value may be a secret that was meant for a key of this table.
            let got = "a single value".to_owned();
            problems.push(Problem::Value {
                origin,
                want: "a table".to_owned(),
                got,
            });
        }
    }
}

fn bad_value(setting: &Setting, origin: Origin, got: String) -> Problem {
    let got = if setting.secret {
        "a value that is not shown".to_owned()
    } else {
        got
    };
    Problem::Value {
        origin,
        want: setting.kind.want(),
        got,
    }
}

fn unknown_key(path: &str, prefix: &str, key: String) -> Problem {
    let mut known: Vec<_> = table::all()
        .filter_map(|setting| setting.key.strip_prefix(prefix))
        .map(|rest| rest.split_once('.').map_or(rest, |(group, _)| group))
        .collect();
    known.sort_unstable();
    known.dedup();
    let place = if prefix.is_empty() {
        "here".to_owned()
    } else {
        format!("of {}", prefix.trim_end_matches('.'))
    };
    Problem::UnknownKey {
        path: path.to_owned(),
        key,
        place,
        known: known.join(", "),
    }
}

/// A TOML value for an error text.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => error::quoted(text),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        other => error::quoted(&other.to_string()).trim_matches('"').to_owned(),
    }
}

/// What the TOML parser found, on one line and without the line of the file that it repeats: that may hold a secret.
fn parser_says(error: &config::ConfigError) -> String {
    let text = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let place = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("TOML parse error at "));
    match (place, text.trim_end().lines().last()) {
        (Some(place), Some(reason)) => format!("{place}: {reason}"),
        _ => format!("not TOML: {}", text.lines().next().unwrap_or_default()),
    }
}
