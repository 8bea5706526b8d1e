//! Servers by their command lines.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::child::has_program;
use crate::scenario::Source;

/// A server that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As tables name it.
    pub name: String,
    /// Its words before placeholders are filled in; leading `NAME=VALUE` are variables.
    words: Vec<String>,
    /// A path of its HTTP port that is answered with 200 once it is ready.
    pub ready: Option<String>,
    /// Left out, with a remark, if its program is missing.
    pub optional: bool,
    /// Scenarios that it can't run.
    pub skip: Vec<String>,
}

/// What placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// `{port}`: gRPC.
    pub port: u16,
    /// `{http}`
    pub http: u16,
    /// `{debug}`
    pub debug: u16,
    /// `{redis}`
    pub redis: u16,
    /// `{threads}`
    pub threads: u16,
    /// `{ratekeeper}`: its program.
    pub ratekeeper: &'a Path,
    /// `{bin}`: the folder of this program.
    pub bin: &'a Path,
    /// `{here}`: the folder of the file that lists the servers.
    pub here: &'a Path,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    server: Vec<Raw>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Spanned<String>,
    command: Spanned<String>,
    ready: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    skip: Vec<String>,
}

impl Server {
    /// `NAME=COMMAND`.
    ///
    /// # Errors
    /// A text without a name or a command that does not mention `{port}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .ok_or_else(|| format!("{text}: expected NAME=COMMAND"))?;
        Self::new(name, command)
    }

    /// A server of this name; `command` is split at blanks.
    ///
    /// # Errors
    /// As [`Server::parse`].
    pub fn new(name: &str, command: &str) -> Result<Self, String> {
        if name.is_empty() || name.contains(['/', ' ', ',']) {
            return Err(format!("{name:?}: not a name of a server"));
        }
        if !command.contains("{port}") {
            return Err(format!("{name}: the command does not mention {{port}}"));
        }
        Ok(Self {
            name: name.to_owned(),
            words: command.split_whitespace().map(str::to_owned).collect(),
            ready: None,
            optional: false,
            skip: Vec::new(),
        })
    }

    /// All servers of a file.
    ///
    /// # Errors
    /// The first fault, with file and line.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, String> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
        Self::parse_all(&file, &text)
    }

    /// All servers of a text; `file` is its name in errors.
    ///
    /// # Errors
    /// The first fault, with file and line.
    pub fn parse_all(file: &str, text: &str) -> Result<Vec<Self>, String> {
        let source = Source::new(file, text);
        let document: Document = source.read().map_err(|problem| problem.to_string())?;
        let server = |raw: &Raw| {
            let named = source.check(&raw.command, |command| Self::new(raw.name.get_ref(), command));
            let server = named.map_err(|problem| problem.to_string())?;
            Ok(Self {
                ready: raw.ready.clone(),
                optional: raw.optional,
                skip: raw.skip.clone(),
                ..server
            })
        };
        document.server.iter().map(server).collect()
    }

    /// Whether it wants a Redis of its own.
    pub fn wants_redis(&self) -> bool {
        self.words.iter().any(|word| word.contains("{redis}"))
    }

    /// Whether its program is there.
    pub fn is_installed(&self, values: &Values) -> bool {
        self.command(values)
            .1
            .first()
            .is_some_and(|program| has_program(program))
    }

    /// Its variables and its words.
    pub fn command(&self, values: &Values) -> (Vec<(String, String)>, Vec<String>) {
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            })
        };
        let variables = self.words.iter().take_while(is_variable).count();
        let (env, words) = self.words.split_at(variables);
        let pair = |word: &String| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            (name.to_owned(), filled(value, values))
        };
        (
            env.iter().map(pair).collect(),
            words.iter().map(|word| filled(word, values)).collect(),
        )
    }
}

fn filled(word: &str, values: &Values) -> String {
    let numbers = [
        ("{port}", values.port),
        ("{http}", values.http),
        ("{debug}", values.debug),
        ("{redis}", values.redis),
        ("{threads}", values.threads),
    ];
    let paths = [
        ("{ratekeeper}", values.ratekeeper),
        ("{bin}", values.bin),
        ("{here}", values.here),
    ];
    let word = numbers.iter().fold(word.to_owned(), |word, (name, value)| {
        word.replace(name, &value.to_string())
    });
    paths.iter().fold(word, |word, (name, value)| {
        word.replace(name, &value.display().to_string())
    })
}
