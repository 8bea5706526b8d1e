//! The scripts as Redis gets them: the fragments of `lua/`, joined. No I/O here.

use std::sync::LazyLock;

/// A script and the name that Redis knows it by.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: String,
}

static BATCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("../../../lua/prelude.lua"),
        include_str!("../../../lua/sliding_window.lua"),
        include_str!("../../../lua/fixed_window.lua"),
        include_str!("../../../lua/token_bucket.lua"),
        include_str!("../../../lua/driver.lua"),
    ))
});

static SINGLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../../../lua/single.lua")));

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

    /// All that a connection has to load before its first call.
    #[must_use]
    pub fn all() -> [&'static Self; 2] {
        [&BATCH, &SINGLE]
    }

    fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The source, for `SCRIPT LOAD`.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The SHA-1 of the source in lower-case hexadecimal, for `EVALSHA`.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
