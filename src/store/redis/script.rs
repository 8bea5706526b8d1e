//! The scripts as Redis gets them: the fragments of `lua/`, joined, in the dialect that the server understands. No I/O here.

use std::borrow::Cow;
use std::sync::LazyLock;

/// What a server is told of a script besides its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing: for Redis 6.2, and where the server is not known. A server that takes no writes (its memory is full, it is a replica)
    /// refuses a script when that comes to its first write.
    #[default]
    Plain,
    /// `#!lua` as the first line, for Redis from 7.0 on and Valkey: a script which may write and asks for no exception. A server
    /// that takes no writes refuses it before it runs.
    Flags,
}

/// A script and the names that Redis knows it by, one for each dialect.
#[derive(Debug)]
pub struct Script {
    plain: Text,
    flags: Text,
}

#[derive(Debug)]
struct Text {
    text: Cow<'static, str>,
    hash: String,
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../../lua/", $name, ".lua"))
    };
}

macro_rules! joined {
    ($($name:literal),+) => {
        Script::new(concat!($(file!($name)),+))
    };
}

static BATCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        file!("prelude"),
        file!("tables"),
        file!("sliding_window"),
        file!("fixed_window"),
        file!("token_bucket"),
        "local function consume_own(key, algorithm, capacity, cost, W, pace, class, hits, flags, quota_limits, quota_over)\n",
        file!("own_read"),
        "if not used then return nil end\n",
        file!("own_decide"),
        file!("own_book"),
        "return denied, used, wait\nend\n",
        "local function read_own(key, algorithm, W, pace)\n",
        file!("own_read"),
        "return used, at, debt, gone, newest, plain\nend\n",
        "local function book_own(key, algorithm, capacity, W, pace, hits, units, booked, over, used, at, debt, gone, newest, plain)\n",
        file!("own_book"),
        "return wait\nend\n",
        file!("driver")
    ))
});

static SINGLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        file!("prelude"),
        file!("single"),
        file!("own_read"),
        "if not used then return { now, NOT_OURS, 1 } end\n",
        file!("own_decide"),
        file!("own_book"),
        file!("single_reply")
    ))
});

static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    joined!(
        "prelude",
        "tables",
        "sliding_window",
        "fixed_window",
        "token_bucket",
        "give_back"
    )
});

static LEASE: LazyLock<Script> =
    LazyLock::new(|| joined!("prelude", "tables", "sliding_window", "fixed_window", "lease"));

impl Script {
    /// The script for any call.
    #[must_use]
    pub fn batch() -> &'static Self {
        &BATCH
    }

    /// The small script for a call that is one consume. It decides and writes as [`Script::batch`] does.
    #[must_use]
    pub fn single() -> &'static Self {
        &SINGLE
    }

    /// The script that gives back what was charged ([`super::give_back`]).
    #[must_use]
    pub fn give_back() -> &'static Self {
        &GIVE_BACK
    }

    /// The script that books hits ahead ([`super::lease`]).
    #[must_use]
    pub fn lease() -> &'static Self {
        &LEASE
    }

    /// All that a connection has to load before its first call.
    #[must_use]
    pub fn all() -> [&'static Self; 4] {
        [&BATCH, &SINGLE, &GIVE_BACK, &LEASE]
    }

    fn new(text: &'static str) -> Self {
        let of = |text: Cow<'static, str>| Text {
            hash: redis::Script::new(&text).get_hash().to_owned(),
            text,
        };
        Self {
            plain: of(text.into()),
            flags: of(format!("#!lua\n{text}").into()),
        }
    }

    /// The source, for `SCRIPT LOAD`.
    #[must_use]
    pub fn text(&self, dialect: Dialect) -> &str {
        &self.of(dialect).text
    }

    /// The SHA-1 of the source in lower-case hexadecimal, for `EVALSHA`.
    #[must_use]
    pub fn hash(&self, dialect: Dialect) -> &str {
        &self.of(dialect).hash
    }

    fn of(&self, dialect: Dialect) -> &Text {
        match dialect {
            Dialect::Plain => &self.plain,
            Dialect::Flags => &self.flags,
        }
    }
}
