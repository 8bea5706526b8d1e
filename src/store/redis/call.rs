//! One script call: the charges of some requests packed into few arguments, and its reply unpacked. No I/O here.
//!
//! The reply holds for each charge the units that the script found, and the rest follows from them by the limiter's own
//! functions. `lua/README.md` has the layout of both.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use redis::{Cmd, Value};

use super::lease::ahead_key;
use super::rows::{self, LIMIT_VALUES};
use super::script::{Dialect, Script};
use crate::limiter::{
    Algorithm, Charge, Level, Limit, Micros, Mode, Outcome, Prior, Reading, State, Verdict,
};
use crate::store::Keys;

/// The most charges that requests share a call for: 64 keep Redis busy for less than half a millisecond.
pub const CHARGES_MAX: usize = 64;

/// The most charges of one request, which then has a call of its own. Key and limit numbers are 16 bits wide.
pub const REQUEST_CHARGES_MAX: usize = 10_000;

/// The requests of one script call. Cleared and used again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Call {
    keys: String,
    key_ends: Vec<usize>,
    key_hashes: Vec<u64>,
    /// By key: the charge that consumes on it, while nothing else has it.
    own: Vec<Option<usize>>,
    limits: Vec<Limit>,
    /// Their counters are this call's keys.
    charges: Vec<Charge>,
    requests: Vec<Sent>,
    now_us: Option<Micros>,
    /// The script's arguments.
    request_rows: Vec<u8>,
    charge_rows: Vec<u8>,
    limit_rows: Vec<u8>,
}

/// One request of a call.
#[derive(Clone, Copy, Debug)]
struct Sent {
    charges: usize,
    prior: Prior,
}

/// Why a request is in no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than [`REQUEST_CHARGES_MAX`].
    #[error("{0} charges in one request, more than {REQUEST_CHARGES_MAX}")]
    TooManyCharges(usize),
    /// A limit with `scope: local`, whose counter is never in Redis.
    #[error("a limit of local scope can't be counted in redis")]
    LocalScope,
}

impl Call {
    /// An empty call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all requests and keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.key_hashes.clear();
        self.own.clear();
        self.limits.clear();
        self.charges.clear();
        self.requests.clear();
        self.now_us = None;
        self.request_rows.clear();
        self.charge_rows.clear();
        self.limit_rows.clear();
    }

    /// Whether no request is in the call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// The number of charges of all requests.
    #[must_use]
    pub fn charges(&self) -> usize {
        self.charges.len()
    }

    /// The length of all distinct keys together.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.keys.len()
    }

    /// Whether a request of so many charges may join: at most [`CHARGES_MAX`] in all, or alone.
    #[must_use]
    pub fn has_room(&self, charges: usize) -> bool {
        self.is_empty() || self.charges.len() + charges <= CHARGES_MAX
    }

    /// Adds a request. After `not_after_us`, in the server's time, it does nothing; 0 is no such time.
    ///
    /// # Errors
    /// A request that no call can hold. The call is as before.
    pub fn push(
        &mut self,
        keys: &Keys,
        charges: &[Charge],
        prior: Prior,
        not_after_us: Micros,
    ) -> Result<(), Refused> {
        if charges.len() > REQUEST_CHARGES_MAX {
            return Err(Refused::TooManyCharges(charges.len()));
        }
        if charges
            .iter()
            .any(|charge| charge.limit.algorithm() == Algorithm::LocalBucket)
        {
            return Err(Refused::LocalScope);
        }
        rows::push_request(&mut self.request_rows, charges.len(), prior, not_after_us);
        for charge in charges {
            let name = keys.get(charge.counter);
            let key = self.key_number(name);
            let limit = self.limit_number(&charge.limit);
            rows::push_charge(&mut self.charge_rows, key, limit, charge);
            self.used(key, charge.mode == Mode::Consume);
            if charge.mode == Mode::Refund && charge.limit.algorithm() == Algorithm::SlidingWindow {
                // The script looks whether hits are booked ahead, and may look only at keys that it is told of.
                let beside = self.key_number(&ahead_key(name));
                self.used(beside, false);
            }
            let counter = key - 1;
            self.charges.push(Charge { counter, ..*charge });
        }
        self.requests.push(Sent {
            charges: charges.len(),
            prior,
        });
        Ok(())
    }

    /// Decides by this time instead of the server's. For tests, where keys must not expire meanwhile: they live an hour longer.
    pub fn set_now(&mut self, now_us: Micros) {
        self.now_us = Some(now_us);
    }

    /// The distinct keys, in the script's order: the counters, and for refunds the keys beside them.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.key_ends.len()).map(|index| self.key(index))
    }

    /// The script that serves this call at least cost.
    #[must_use]
    pub fn script(&self) -> &'static Script {
        match self.charges.as_slice() {
            [only] if only.mode == Mode::Consume && self.requests.len() == 1 => Script::single(),
            _ => Script::batch(),
        }
    }

    /// Writes the `EVALSHA` of a script with this call's arguments, replacing what the command held.
    pub fn write_to(&self, script: &Script, dialect: Dialect, command: &mut Cmd) {
        command.clear();
        command
            .arg("EVALSHA")
            .arg(script.hash(dialect))
            .arg(self.key_ends.len());
        for key in self.keys() {
            command.arg(key);
        }
        command
            .arg(&self.request_rows)
            .arg(&self.charge_rows)
            .arg(&self.limit_rows);
        if let Some(now) = self.now_us {
            command.arg(now);
        }
    }

    fn key(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.key_ends[index - 1] };
        &self.keys[start..self.key_ends[index]]
    }

    /// The key's place in `KEYS`, from 1.
    fn key_number(&mut self, key: &str) -> usize {
        let hash = FixedState::default().hash_one(key);
        let known = |&index: &usize| self.key_hashes[index] == hash && self.key(index) == key;
        if let Some(index) = (0..self.key_hashes.len()).find(known) {
            return index + 1;
        }
        self.keys.push_str(key);
        self.key_ends.push(self.keys.len());
        self.key_hashes.push(hash);
        self.key_ends.len()
    }

    /// Notes that the charge in the last row uses this key. A consume that is alone with its key can be written at once.
    fn used(&mut self, key: usize, consumes: bool) {
        let charge = self.charges.len();
        match self.own.get_mut(key - 1) {
            None => {
                self.own.push(consumes.then_some(charge));
                if consumes {
                    rows::set_own(&mut self.charge_rows, charge, true);
                }
            }
            Some(other) => {
                if let Some(other) = other.take() {
                    rows::set_own(&mut self.charge_rows, other, false);
                }
            }
        }
    }

    /// The limit's place in the script's flat array, from 1.
    fn limit_number(&mut self, limit: &Limit) -> usize {
        let index = self
            .limits
            .iter()
            .rposition(|known| known == limit)
            .unwrap_or_else(|| {
                self.limits.push(*limit);
                rows::push_limit(&mut self.limit_rows, limit);
                self.limits.len() - 1
            });
        index * LIMIT_VALUES + 1
    }

    /// Unpacks a reply to this call, for either script. `reply` is cleared first.
    ///
    /// # Errors
    /// Anything but what the scripts send; `reply` is then of no use.
    pub fn decode(&self, value: &Value, reply: &mut Reply) -> Result<(), Malformed> {
        let mut numbers = Numbers::of(value)?;
        reply.verdicts.clear();
        reply.parts.clear();
        reply.now_us = numbers.natural()?;
        let mut first = 0;
        for request in &self.requests {
            let charges = &self.charges[first..first + request.charges];
            first += request.charges;
            let part = match numbers.next()? {
                status @ (0 | 1) => {
                    let start = reply.verdicts.len();
                    for charge in charges {
                        let verdict = verdict(charge, status == 1, reply.now_us, &mut numbers)?;
                        reply.verdicts.push(verdict);
                    }
                    let outcome = Outcome::of(charges, &reply.verdicts[start..], request.prior);
                    if outcome.denied != (status == 1) {
                        return Err(Malformed("the script's outcome is not that of its verdicts"));
                    }
                    Part::Decided { start, outcome }
                }
                2 => Part::TooLate,
                3 => {
                    let key = usize::try_from(numbers.natural()?).unwrap_or(usize::MAX);
                    if key == 0 || key > self.key_ends.len() {
                        return Err(Malformed("a key that was not sent"));
                    }
                    Part::NotOurs { key: key - 1 }
                }
                _ => return Err(Malformed("an unknown status")),
            };
            reply.parts.push(part);
        }
        numbers.end()
    }

    /// What a decoded reply says about a request; `None` beyond the last.
    #[must_use]
    pub fn decision<'a>(&'a self, reply: &'a Reply, request: usize) -> Option<Decision<'a>> {
        let charges = self.requests.get(request)?.charges;
        Some(match *reply.parts.get(request)? {
            Part::Decided { start, outcome } => Decision::Decided {
                verdicts: reply.verdicts.get(start..start + charges)?,
                outcome,
            },
            Part::TooLate => Decision::TooLate,
            Part::NotOurs { key } => Decision::NotOurs { key: self.key(key) },
        })
    }

    /// What the server has added to counters by this call, as its decoded reply says: the key, and the consume or record on it.
    pub fn booked<'a>(&'a self, reply: &'a Reply) -> impl Iterator<Item = (&'a str, &'a Charge)> {
        let mut first = 0;
        let requests = self.requests.iter().zip(&reply.parts);
        let decided = requests.flat_map(move |(request, part)| {
            let charges = &self.charges[first..first + request.charges];
            first += request.charges;
            let (verdicts, denied) = match *part {
                Part::Decided { start, outcome } => (reply.verdicts.get(start..), outcome.denied),
                Part::TooLate | Part::NotOurs { .. } => (None, true),
            };
            let judged = charges.iter().zip(verdicts.unwrap_or_default());
            judged.map(move |(charge, verdict)| (charge, verdict.over || denied))
        });
        decided.filter_map(|(charge, refused)| {
            let booked = match charge.mode {
                Mode::Consume => !refused,
                Mode::Record => true,
                Mode::Peek | Mode::Refund => false,
            };
            booked.then(|| (self.key(charge.counter), charge))
        })
    }
}

/// A decoded reply. Cleared and used again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Reply {
    /// The server's time, by which all was decided.
    pub now_us: Micros,
    verdicts: Vec<Verdict>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Decided { start: usize, outcome: Outcome },
    TooLate,
    NotOurs { key: usize },
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision<'a> {
    /// Decided, and all that is to be booked is. In the verdict of a consume that was booked, `unbooked` repeats what is shown.
    Decided {
        /// One verdict a charge.
        verdicts: &'a [Verdict],
        /// The whole.
        outcome: Outcome,
    },
    /// It came after its time. Nothing was done.
    TooLate,
    /// A key holds something that is not a counter of its algorithm. Nothing of this request was done.
    NotOurs {
        /// The key.
        key: &'a str,
    },
}

/// A reply that the scripts don't send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed reply of a script: {0}")]
pub struct Malformed(pub(super) &'static str);

/// The reply's numbers, one after the other.
pub(super) struct Numbers<'a>(std::slice::Iter<'a, Value>);

impl<'a> Numbers<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, Malformed> {
        match value {
            Value::Array(values) => Ok(Self(values.iter())),
            _ => Err(Malformed("not an array")),
        }
    }

    pub(super) fn next(&mut self) -> Result<i64, Malformed> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(*number),
            Some(_) => Err(Malformed("not a number")),
            None => Err(Malformed("fewer numbers than charges")),
        }
    }

    pub(super) fn natural(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.next()?).map_err(|_| Malformed("a number below 0"))
    }

    pub(super) fn end(mut self) -> Result<(), Malformed> {
        match self.0.next() {
            Some(_) => Err(Malformed("more numbers than charges")),
            None => Ok(()),
        }
    }
}

/// The verdict of one charge: the units that the script found, and the wait where it does not follow from them.
fn verdict(
    charge: &Charge,
    denied: bool,
    now: Micros,
    numbers: &mut Numbers<'_>,
) -> Result<Verdict, Malformed> {
    let limit = &charge.limit;
    let first = numbers.next()?;
    let (used, wait_us) = match u64::try_from(first) {
        Ok(used) => (used, None),
        Err(_) => (first.unsigned_abs() - 1, Some(numbers.natural()?)),
    };
    let mut level = Level {
        used,
        cost: limit.cost(),
        capacity: limit.capacity(),
    };
    let over = match charge.mode {
        Mode::Consume => !level.fits(charge.hits),
        Mode::Record | Mode::Peek => !level.fits(0),
        Mode::Refund => false,
    };
    let booked = charge.mode == Mode::Consume && !over && !denied;
    if booked {
        level = level.plus(charge.hits.saturating_mul(limit.cost()));
    }
    let reading = Reading {
        used: level.used_hits(),
        remaining: level.remaining_hits(),
        wait_us: match wait_us {
            Some(wait_us) => wait_us,
            // Booked now: the counter is empty when one that holds nothing but this is.
            None if booked => State::new(limit.algorithm()).empty_us(now, limit, level.used),
            None => return Err(Malformed("no wait")),
        },
    };
    Ok(Verdict {
        over,
        limit: limit.burst().into(),
        used: reading.used,
        remaining: reading.remaining,
        wait_us: reading.wait_us,
        unbooked: reading,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modes in the rows of charges.
    fn modes(call: &Call) -> Vec<u8> {
        call.charge_rows.chunks(14).map(|row| row[4]).collect()
    }

    fn push(call: &mut Call, keys: &[&str], mode: Mode) {
        let mut named = Keys::default();
        let limit = Limit::new(Algorithm::SlidingWindow, 5, 1_000_000, None);
        let charge = |key: &&str| Charge {
            counter: named.add(0, |text| text.push_str(key)),
            limit,
            hits: 1,
            mode,
            shadow: false,
            quota: false,
        };
        let charges: Vec<Charge> = keys.iter().map(charge).collect();
        call.push(&named, &charges, Prior::default(), 0).expect("fits");
    }

    #[test]
    fn a_consume_has_its_key_to_itself_until_another_charge_comes() {
        let mut call = Call::new();
        push(&mut call, &["a"], Mode::Consume);
        push(&mut call, &["b"], Mode::Consume);
        push(&mut call, &["c"], Mode::Record);
        push(&mut call, &["d", "e"], Mode::Consume);
        push(&mut call, &["f", "f"], Mode::Consume);
        assert_eq!(modes(&call), [4, 4, 1, 4, 4, 0, 0]);
        // Whoever comes later takes it from those before, and has it not.
        push(&mut call, &["a"], Mode::Consume);
        push(&mut call, &["b"], Mode::Peek);
        push(&mut call, &["g", "e"], Mode::Consume);
        assert_eq!(modes(&call), [0, 0, 1, 4, 0, 0, 0, 0, 2, 4, 0]);
        // What a refund looks at beside its counter is used as well.
        push(&mut call, &["h:l"], Mode::Consume);
        push(&mut call, &["h"], Mode::Refund);
        assert_eq!(modes(&call)[11..], [0, 3]);
        call.clear();
        push(&mut call, &["a"], Mode::Consume);
        assert_eq!(modes(&call), [4]);
    }
}
