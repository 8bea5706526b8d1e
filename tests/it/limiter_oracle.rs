//! Naive counters to hold the algorithms against: plain logs and exact rational numbers, slow and obvious, sharing no code
//! with what they check.

mod scenario;

use ratekeeper::limiter::{Algorithm, Charge, Limit, Micros, Mode, Prior};

pub use scenario::{DAY, NOW, Random, SECOND, Scenario, YEAR, seeds};

const MOST: u128 = 1 << 52;

/// A naive counter, in the units of the algorithm.
pub trait Naive: Clone {
    fn used(&self, now: Micros, limit: &Limit) -> u128;
    fn add(&mut self, now: Micros, limit: &Limit, hits: u128);
    fn take(&mut self, now: Micros, limit: &Limit, hits: u128);
    /// Units a hit costs.
    fn cost(limit: &Limit) -> u128;
    /// Until `hits` fit on top of `booked` units of the same request, which never leave early.
    fn wait(&self, now: Micros, limit: &Limit, booked: u128, hits: u128) -> u128;
    fn empty(&self, now: Micros, limit: &Limit, booked: u128) -> u128;
}

/// Every charge with the instant from which it counts.
#[derive(Clone, Default)]
pub struct Log {
    charges: Vec<(Micros, u128)>,
    /// When the newest counted charge that is gone began to count.
    gone: Micros,
}

impl Log {
    fn live<'a>(&'a self, now: Micros, limit: &'a Limit) -> impl Iterator<Item = &'a (Micros, u128)> {
        self.charges.iter().filter(move |c| c.0 + limit.window_us() > now)
    }
}

impl Naive for Log {
    fn used(&self, now: Micros, limit: &Limit) -> u128 {
        self.live(now, limit).map(|c| c.1).sum()
    }

    fn add(&mut self, now: Micros, limit: &Limit, hits: u128) {
        let hits = hits.min(MOST - self.used(now, limit).min(MOST));
        if hits == 0 {
            return;
        }
        let old = self.charges.iter().filter(|c| c.0 + limit.window_us() <= now);
        self.gone = old.map(|c| c.0).max().unwrap_or(self.gone);
        self.charges = self.live(now, limit).copied().collect();
        let tick = if limit.requests() <= 125 {
            1
        } else {
            limit.window_us().div_ceil(125)
        };
        let tick_end = now.div_ceil(tick) * tick;
        let newest = self.charges.last().map(|c| c.0);
        let from = tick_end.max(newest.unwrap_or(self.gone + u64::from(self.gone > 0)));
        let mut instants: Vec<_> = self.charges.iter().map(|c| c.0).collect();
        instants.dedup();
        if instants.len() == 126 {
            // Full: what counts from the newest instant counts from the new one instead.
            self.charges
                .iter_mut()
                .filter(|c| Some(c.0) == newest)
                .for_each(|c| c.0 = from);
        }
        self.charges.push((from, hits));
    }

    fn take(&mut self, now: Micros, limit: &Limit, hits: u128) {
        let mut left = hits;
        for i in (0..self.charges.len()).rev() {
            if self.charges[i].0 + limit.window_us() > now {
                let part = left.min(self.charges[i].1);
                self.charges[i].1 -= part;
                left -= part;
            }
        }
        self.charges.retain(|c| c.1 > 0);
    }

    fn cost(_: &Limit) -> u128 {
        1
    }

    fn wait(&self, now: Micros, limit: &Limit, booked: u128, hits: u128) -> u128 {
        let capacity = u128::from(limit.requests());
        let mut used = self.used(now, limit) + booked + hits;
        if used <= capacity && hits <= capacity {
            return 0;
        }
        for (from, part) in self.live(now, limit) {
            used -= part;
            if hits <= capacity && used <= capacity {
                return u128::from(from + limit.window_us() - now);
            }
        }
        limit.window_us().into()
    }

    fn empty(&self, now: Micros, limit: &Limit, booked: u128) -> u128 {
        let window = u128::from(limit.window_us());
        let last = self
            .live(now, limit)
            .map(|c| u128::from(c.0) + window - u128::from(now))
            .max();
        if booked > 0 {
            window
        } else {
            last.unwrap_or(0).min(window)
        }
    }
}

/// Every charge with the start of the aligned window that it counts in.
#[derive(Clone, Default)]
pub struct Aligned(Vec<(Micros, u128)>);

impl Aligned {
    fn window(&self, now: Micros, limit: &Limit) -> Micros {
        let latest = self.0.iter().map(|c| c.0).max().unwrap_or(0);
        (now / limit.window_us() * limit.window_us()).max(latest)
    }
}

impl Naive for Aligned {
    fn used(&self, now: Micros, limit: &Limit) -> u128 {
        let window = self.window(now, limit);
        self.0.iter().filter(|c| c.0 == window).map(|c| c.1).sum()
    }

    fn add(&mut self, now: Micros, limit: &Limit, hits: u128) {
        let hits = hits.min(MOST - self.used(now, limit));
        if hits > 0 {
            self.0.push((self.window(now, limit), hits));
        }
    }

    fn take(&mut self, now: Micros, limit: &Limit, hits: u128) {
        let left = self.used(now, limit).saturating_sub(hits);
        self.0 = vec![(self.window(now, limit), left)];
    }

    fn cost(_: &Limit) -> u128 {
        1
    }

    fn wait(&self, now: Micros, limit: &Limit, _: u128, _: u128) -> u128 {
        self.empty(now, limit, 0)
    }

    fn empty(&self, now: Micros, limit: &Limit, _: u128) -> u128 {
        let end = self.window(now, limit) + limit.window_us();
        u128::from((end - now).min(limit.window_us()))
    }
}

/// A bucket in exact rational numbers: its content in units times the window, so that nothing is ever rounded.
#[derive(Clone, Default)]
pub struct Exact {
    content: u128,
    at: Micros,
    /// Writes since it was last empty: each may cost the real bucket a part of a unit.
    pub writes: u128,
}

impl Exact {
    /// Units times the window, at `now`.
    pub fn content(&self, now: Micros, limit: &Limit) -> u128 {
        let elapsed = u128::from(now.saturating_sub(self.at));
        self.content.saturating_sub(elapsed * Self::drain(limit))
    }

    /// Units times the window that drain in a microsecond.
    pub fn drain(limit: &Limit) -> u128 {
        u128::from(limit.requests().max(1)) * Self::cost(limit)
    }

    fn set(&mut self, now: Micros, limit: &Limit, content: u128) {
        self.content = content.min(MOST * u128::from(limit.window_us()));
        self.writes = if content == 0 { 0 } else { self.writes + 1 };
        self.at = self.at.max(now);
    }

    fn until(&self, now: Micros, limit: &Limit, booked: u128, room: u128) -> u128 {
        let window = u128::from(limit.window_us());
        let content = if booked == 0 {
            self.content
        } else {
            self.content(now, limit) + booked * window
        };
        let over = content.min(MOST * window).saturating_sub(room * window);
        let from = if booked == 0 { self.at } else { self.at.max(now) };
        if over == 0 {
            return 0;
        }
        (u128::from(from) + over.div_ceil(Self::drain(limit))).saturating_sub(now.into())
    }
}

impl Naive for Exact {
    fn used(&self, now: Micros, limit: &Limit) -> u128 {
        self.content(now, limit).div_ceil(u128::from(limit.window_us()))
    }

    fn add(&mut self, now: Micros, limit: &Limit, hits: u128) {
        if hits > 0 {
            let more = hits * Self::cost(limit) * u128::from(limit.window_us());
            self.set(now, limit, self.content(now, limit) + more);
        }
    }

    fn take(&mut self, now: Micros, limit: &Limit, hits: u128) {
        if hits > 0 {
            let less = (hits * Self::cost(limit)).saturating_mul(limit.window_us().into());
            self.set(now, limit, self.content(now, limit).saturating_sub(less));
        }
    }

    fn cost(limit: &Limit) -> u128 {
        limit.cost().into()
    }

    fn wait(&self, now: Micros, limit: &Limit, booked: u128, hits: u128) -> u128 {
        let capacity = u128::from(limit.burst()) * Self::cost(limit);
        match capacity.checked_sub(hits * Self::cost(limit)) {
            None => limit.window_us().into(),
            Some(room) => self.until(now, limit, booked, room),
        }
    }

    fn empty(&self, now: Micros, limit: &Limit, booked: u128) -> u128 {
        self.until(now, limit, booked, 0).min(limit.window_us().into())
    }
}

/// A leaky bucket in nanoseconds of draining.
#[derive(Clone, Default)]
pub struct Draining {
    content: u128,
    at: Micros,
}

impl Naive for Draining {
    fn used(&self, now: Micros, _: &Limit) -> u128 {
        self.content.saturating_sub(u128::from(now - self.at) * 1_000)
    }

    fn add(&mut self, now: Micros, limit: &Limit, hits: u128) {
        self.content = (self.used(now, limit) + hits * Self::cost(limit)).min(1 << 62);
        self.at = now;
    }

    fn take(&mut self, now: Micros, limit: &Limit, hits: u128) {
        self.content = self.used(now, limit).saturating_sub(hits * Self::cost(limit));
        self.at = now;
    }

    fn cost(limit: &Limit) -> u128 {
        (u128::from(limit.window_us()) * 1_000).div_ceil(limit.requests().max(1).into())
    }

    fn wait(&self, now: Micros, limit: &Limit, booked: u128, hits: u128) -> u128 {
        let capacity = u128::from(limit.burst()) * Self::cost(limit);
        match capacity.checked_sub(hits * Self::cost(limit)) {
            None => limit.window_us().into(),
            Some(room) => (self.used(now, limit) + booked)
                .saturating_sub(room)
                .div_ceil(1_000),
        }
    }

    fn empty(&self, now: Micros, limit: &Limit, booked: u128) -> u128 {
        let used = self.used(now, limit) + booked;
        used.div_ceil(1_000).min(limit.window_us().into())
    }
}

/// (over, used, remaining, wait) of each charge, and whether the request is denied.
pub type Answer = (Vec<(bool, u128, u128, u128)>, bool);

/// The rules of a request by really booking each fitting charge on a copy, and throwing the copy away.
pub fn answer<N: Naive + Default>(
    now: Micros,
    charges: &[Charge],
    counters: &mut [N],
    prior: Prior,
) -> Answer {
    let mut copy = vec![0_u128; counters.len()];
    let (mut rows, mut rows_unbooked) = (vec![], vec![]);
    for c in charges {
        let (l, n) = (&c.limit, &counters[c.counter]);
        let (cost, capacity) = (N::cost(l), u128::from(l.burst()) * N::cost(l));
        let most = if l.algorithm() == Algorithm::LocalBucket {
            1 << 62
        } else {
            MOST
        };
        let (before, hits) = (copy[c.counter], u128::from(c.hits));
        let used = n.used(now, l) + before;
        let fits = match c.mode {
            Mode::Consume => used + hits * cost <= capacity,
            Mode::Record => {
                copy[c.counter] += (hits.min(1 << 32) * cost).min(most - used.min(most));
                n.used(now, l) + copy[c.counter] <= capacity
            }
            Mode::Peek => used <= capacity,
            Mode::Refund => true,
        };
        if c.mode == Mode::Consume && fits {
            copy[c.counter] += hits * cost;
        }
        let row = |booked: u128| {
            let used = n.used(now, l) + booked;
            let asked = if c.mode == Mode::Peek { 0 } else { hits };
            let wait = if fits {
                n.empty(now, l, booked)
            } else {
                n.wait(now, l, booked, asked)
            };
            (
                !fits,
                used.div_ceil(cost),
                capacity.saturating_sub(used) / cost,
                wait,
            )
        };
        rows.push(row(copy[c.counter]));
        rows_unbooked.push(row(before));
    }
    let count =
        |of: &dyn Fn(usize, &Charge) -> bool| charges.iter().enumerate().filter(|(i, c)| of(*i, c)).count();
    let enforced = count(&|i, c| rows[i].0 && !c.shadow && !c.quota) > 0;
    let quotas = count(&|_, c| c.quota) + prior.quota_limits as usize;
    let quotas_over = count(&|i, c| c.quota && rows[i].0 && !c.shadow) + prior.quota_over as usize;
    let denied = !prior.never_deny && (prior.denied || enforced || (quotas > 0 && quotas == quotas_over));
    for (i, c) in charges.iter().enumerate() {
        let (l, n) = (&c.limit, &mut counters[c.counter]);
        let hits = u128::from(c.hits);
        match c.mode {
            Mode::Consume if denied && !rows[i].0 => rows[i] = rows_unbooked[i],
            Mode::Consume if !rows[i].0 => n.add(now, l, hits),
            Mode::Record => n.add(now, l, hits.min(1 << 32)),
            Mode::Refund => {
                if hits > 0 && n.used(now, l) > 0 {
                    n.take(now, l, hits);
                    if n.used(now, l) == 0 {
                        *n = N::default(); // an emptied counter is forgotten
                    }
                }
                let cost = N::cost(l);
                let (used, capacity) = (n.used(now, l), u128::from(l.burst()) * cost);
                rows[i] = (
                    false,
                    used.div_ceil(cost),
                    capacity.saturating_sub(used) / cost,
                    n.empty(now, l, 0),
                );
            }
            Mode::Consume | Mode::Peek => {}
        }
    }
    (rows, denied)
}
