//! One call that books hits ahead on one counter. No I/O here; `lua/README.md` has the layout.

use redis::{Cmd, Value};

use super::call::{Malformed, Numbers};
use super::rows::{double, push_limit};
use super::script::{Dialect, Script};
use crate::limiter::{Algorithm, Limit, Micros};
use crate::store::guard::Granted;

/// The script's marks: nothing was done.
const NOT_OURS: i64 = -1;
const TOO_LATE: i64 = -2;

/// What stands behind a counter's key in the name of the key that says until when hits on it are booked ahead.
const AHEAD: &str = ":l";

/// The key that says until when hits on this counter are booked ahead; in the same slot.
#[must_use]
pub fn ahead_key(key: &str) -> String {
    format!("{key}{AHEAD}")
}

/// Hits to be booked on a counter.
#[derive(Clone, Debug)]
pub struct LeaseCall {
    key: String,
    limit: Limit,
    hits: u64,
    parts: u32,
    not_after_us: Micros,
    now_us: Option<Micros>,
}

/// What the script says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// So much was granted.
    Granted(Granted),
    /// It came after its time, and nothing was done.
    TooLate,
    /// The key holds something else, and nothing was done.
    NotOurs,
}

impl LeaseCall {
    /// At most `hits` for a counter, and one of `parts` of its room. After `not_after_us`, in the server's time, it does nothing; 0
    /// is no such time. `None` for a limit that can't be leased.
    #[must_use]
    pub fn new(key: &str, limit: Limit, hits: u64, parts: u32, not_after_us: Micros) -> Option<Self> {
        matches!(
            limit.algorithm(),
            Algorithm::SlidingWindow | Algorithm::FixedWindow
        )
        .then(|| Self {
            key: key.to_owned(),
            limit,
            hits,
            parts: parts.max(1),
            not_after_us,
            now_us: None,
        })
    }

    /// Decides by this time instead of the server's. For tests, where keys must not expire meanwhile: they live an hour longer.
    pub fn set_now(&mut self, now_us: Micros) {
        self.now_us = Some(now_us);
    }

    /// The counter.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Writes the `EVALSHA` of [`Script::lease`], replacing what the command held.
    pub fn write_to(&self, dialect: Dialect, command: &mut Cmd) {
        let mut limit_row = Vec::with_capacity(64);
        push_limit(&mut limit_row, &self.limit);
        let mut wanted = [0; 16];
        wanted[..8].copy_from_slice(&double(self.hits));
        wanted[8..].copy_from_slice(&double(self.parts.into()));
        command.clear();
        command
            .arg("EVALSHA")
            .arg(Script::lease().hash(dialect))
            .arg(2)
            .arg(&self.key)
            .arg(ahead_key(&self.key))
            .arg(&double(self.not_after_us))
            .arg(&wanted)
            .arg(&limit_row);
        if let Some(now) = self.now_us {
            command.arg(now);
        }
    }

    /// Unpacks a reply.
    ///
    /// # Errors
    /// Anything but what the script sends.
    pub fn decode(&self, value: &Value) -> Result<LeaseReply, Malformed> {
        let mut numbers = Numbers::of(value)?;
        let now_us = numbers.natural()?;
        let reply = match numbers.next()? {
            NOT_OURS => LeaseReply::NotOurs,
            TOO_LATE => LeaseReply::TooLate,
            used => {
                let used = u64::try_from(used).map_err(|_| Malformed("an unknown mark"))?;
                let hits = numbers.natural()?;
                if hits > self.hits {
                    return Err(Malformed("more hits than were wanted"));
                }
                LeaseReply::Granted(Granted { now_us, used, hits })
            }
        };
        numbers.end()?;
        Ok(reply)
    }
}
