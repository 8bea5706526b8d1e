//! One call that gives back charges: what was booked in one part of a request whose other part, in another slot, was denied. No
//! I/O here; `lua/README.md` has the layout.
//!
//! Only for charges whose booking was confirmed: what may not have been booked would be taken from others.

use redis::{Cmd, Value};

use super::call::{Malformed, Numbers};
use super::rows::{LIMIT_VALUES, double, number, push_limit};
use super::script::{Dialect, Script};
use crate::limiter::{Algorithm, Level, Limit, Micros, Reading};

/// The most charges of a call.
pub const GIVE_BACKS_MAX: usize = 64;

/// Bytes of a request row, and of the number of charges at its end.
const REQUEST_BYTES: usize = 10;
const COUNT_BYTES: usize = 2;

/// The reply's marks: nothing was done.
const NOT_OURS: i64 = -1;
const TOO_LATE: i64 = -2;

/// Charges to be given back by one call, all of keys in the same slot.
#[derive(Debug)]
pub struct GiveBack {
    keys: Vec<String>,
    limits: Vec<Limit>,
    /// The limit of each charge.
    charges: Vec<Limit>,
    /// Charges behind the last not-after.
    behind: usize,
    now_us: Option<Micros>,
    /// The script's arguments.
    request_rows: Vec<u8>,
    charge_rows: Vec<u8>,
    limit_rows: Vec<u8>,
}

/// Why a charge is not in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The call has [`GIVE_BACKS_MAX`] charges: this one needs another call.
    #[error("{GIVE_BACKS_MAX} charges are to be given back already")]
    Full,
    /// A limit with `scope: local`, whose counter is never in Redis.
    #[error("a limit of local scope is not counted in redis")]
    LocalScope,
}

impl GiveBack {
    /// An empty call. After `not_after_us`, in the server's time, it does nothing; 0 is no such time.
    #[must_use]
    pub fn new(not_after_us: Micros) -> Self {
        let mut call = Self {
            keys: Vec::new(),
            limits: Vec::new(),
            charges: Vec::new(),
            behind: 0,
            now_us: None,
            request_rows: Vec::new(),
            charge_rows: Vec::new(),
            limit_rows: Vec::new(),
        };
        call.not_after(not_after_us);
        call
    }

    /// Another not-after for the charges that are pushed from now on: those of another request.
    pub fn not_after(&mut self, not_after_us: Micros) {
        if self.behind == 0 && !self.request_rows.is_empty() {
            self.request_rows
                .truncate(self.request_rows.len() - REQUEST_BYTES);
        }
        self.request_rows.extend_from_slice(&double(not_after_us));
        self.request_rows.extend_from_slice(&number(0));
        self.behind = 0;
    }

    /// Decides by this time instead of the server's. For tests, where keys must not expire meanwhile: they live an hour longer.
    pub fn set_now(&mut self, now_us: Micros) {
        self.now_us = Some(now_us);
    }

    /// Adds `hits` that were booked under `limit` on `key`, `at` being what the booking's reply gave as the server's time.
    ///
    /// # Errors
    /// A charge that the call can't hold. The call is as before.
    pub fn push(&mut self, key: &str, limit: &Limit, hits: u64, at: Micros) -> Result<(), NotTaken> {
        if limit.algorithm() == Algorithm::LocalBucket {
            return Err(NotTaken::LocalScope);
        }
        if self.charges.len() >= GIVE_BACKS_MAX {
            return Err(NotTaken::Full);
        }
        let key = place(&mut self.keys, |known| known == key, || key.to_owned());
        let known = self.limits.len();
        let index = place(&mut self.limits, |known| known == limit, || *limit);
        if index == known {
            push_limit(&mut self.limit_rows, limit);
        }
        self.charge_rows.extend_from_slice(&number(key + 1));
        self.charge_rows
            .extend_from_slice(&number(index * LIMIT_VALUES + 1));
        self.charge_rows.extend_from_slice(&double(hits));
        self.charge_rows.extend_from_slice(&double(at));
        self.charges.push(*limit);
        self.behind += 1;
        let count = self.request_rows.len() - COUNT_BYTES;
        self.request_rows[count..].copy_from_slice(&number(self.behind));
        Ok(())
    }

    /// The number of charges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.charges.len()
    }

    /// Whether there is nothing to give back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.charges.is_empty()
    }

    /// The distinct counters, in the script's order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// Writes the `EVALSHA` of [`Script::give_back`], replacing what the command held.
    pub fn write_to(&self, dialect: Dialect, command: &mut Cmd) {
        command.clear();
        command
            .arg("EVALSHA")
            .arg(Script::give_back().hash(dialect))
            .arg(self.keys.len())
            .arg(&self.keys)
            .arg(&self.request_rows)
            .arg(&self.charge_rows)
            .arg(&self.limit_rows);
        if let Some(now) = self.now_us {
            command.arg(now);
        }
    }

    /// Unpacks a reply: for each charge, in order, its counter without the hits; `None` if the call came too late or the key
    /// holds something else, and nothing was done.
    ///
    /// # Errors
    /// Anything but what the script sends.
    pub fn decode(&self, value: &Value) -> Result<Vec<Option<Reading>>, Malformed> {
        let mut numbers = Numbers::of(value)?;
        numbers.natural()?; // the server's time
        let mut readings = Vec::with_capacity(self.charges.len());
        for limit in &self.charges {
            readings.push(reading(limit, &mut numbers)?);
        }
        numbers.end()?;
        Ok(readings)
    }
}

fn reading(limit: &Limit, numbers: &mut Numbers<'_>) -> Result<Option<Reading>, Malformed> {
    let used = match numbers.next()? {
        NOT_OURS | TOO_LATE => return Ok(None),
        units => u64::try_from(units).map_err(|_| Malformed("an unknown mark"))?,
    };
    let level = Level {
        used,
        cost: limit.cost(),
        capacity: limit.capacity(),
    };
    Ok(Some(Reading {
        used: level.used_hits(),
        remaining: level.remaining_hits(),
        wait_us: numbers.natural()?,
    }))
}

/// The place of what is alike, else of a new one at the end.
fn place<T>(all: &mut Vec<T>, alike: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    all.iter().position(alike).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}
