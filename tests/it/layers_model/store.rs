//! The store of the model, and the way to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratekeeper::clock::Clock;
use ratekeeper::limiter::{self, Algorithm, Counters, Limit, Micros, Mode, Reading, State};
use ratekeeper::store::guard::{Asked, Decided, Granted, Part, Remote, StoreError, Wait};

use super::{MS, OP_TIMEOUT};
use crate::limiter_oracle::Random;

/// How far the server's clock is from ours at most, but for whole windows.
pub const SKEW_MAX: Micros = 400 * MS;
/// Whole windows of any length that there is.
const BEHIND: Micros = 3 * 10_000 * MS;

/// What can go wrong between an instance and the store.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The longest way of a message.
    pub delay_ms: u64,
    /// One in so many messages is lost; 0: none.
    pub lost_one_in: u64,
    /// The server's clock steps back now and then.
    pub clock_steps: bool,
}

#[derive(Debug)]
struct Inside {
    states: HashMap<String, State>,
    /// Until when hits are booked ahead, by key.
    ahead: HashMap<String, Micros>,
    random: Random,
    skew: Micros,
}

/// One store: it does one thing after the other.
#[derive(Debug)]
pub struct Server {
    inside: Mutex<Inside>,
    steps: bool,
    asked: AtomicU64,
}

impl Server {
    pub fn new(seed: u64, steps: bool) -> Self {
        let mut random = Random::new(seed ^ 0x5E);
        Self {
            inside: Mutex::new(Inside {
                states: HashMap::new(),
                ahead: HashMap::new(),
                skew: SKEW_MAX / 2 + random.below(SKEW_MAX / 2),
                random,
            }),
            steps,
            asked: AtomicU64::new(0),
        }
    }

    /// Calls that it has run.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn with<T>(&self, now: Micros, run: impl FnOnce(&mut Inside, Micros) -> T) -> T {
        let mut inside = self.inside.lock().unwrap();
        if self.steps && inside.random.one_in(2_000) {
            // Only back: a step forward lets hits leave early, in any limiter.
            inside.skew = inside.skew.saturating_sub(inside.random.below(60 * MS));
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let there = now - BEHIND + inside.skew;
        run(&mut inside, there)
    }
}

/// An instance's way to the store.
#[derive(Debug)]
pub struct Line {
    server: Arc<Server>,
    random: Mutex<Random>,
    faults: Faults,
    clock: Clock,
}

impl Line {
    pub fn new(server: Arc<Server>, seed: u64, faults: Faults, clock: Clock) -> Self {
        Self {
            server,
            random: Mutex::new(Random::new(seed)),
            faults,
            clock,
        }
    }

    /// A message's way. False if it is lost.
    async fn way(&self) -> bool {
        let (delay, lost) = {
            let mut random = self.random.lock().unwrap();
            let lost = self.faults.lost_one_in > 0 && random.one_in(self.faults.lost_one_in);
            (random.below(self.faults.delay_ms + 1), lost)
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        !lost
    }

    /// Runs something there, if it comes in time, and brings the answer. What is given up goes on all the same.
    async fn call<T: Send + 'static>(
        &self,
        until: Micros,
        run: impl FnOnce(&mut Inside, Micros) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = Self {
            server: Arc::clone(&self.server),
            random: Mutex::new(Random::new(self.random.lock().unwrap().next())),
            faults: self.faults,
            clock: self.clock.clone(),
        };
        let going = tokio::spawn(async move {
            if !this.way().await {
                return None;
            }
            let now = this.clock.now_us();
            // The not-after.
            let ran = (now <= until).then(|| this.server.with(now, run));
            if this.way().await { ran } else { None }
        });
        let left = Duration::from_micros(until.saturating_sub(self.clock.now_us()));
        match tokio::time::timeout(left, going).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            _ => Err(StoreError::Timeout),
        }
    }
}

/// The counters of one request.
struct Of<'a> {
    names: Vec<String>,
    states: &'a mut HashMap<String, State>,
}

impl Counters for Of<'_> {
    fn get(&self, counter: usize) -> Option<&State> {
        self.states.get(&self.names[counter])
    }

    fn get_mut_or_new(&mut self, counter: usize, limit: &Limit) -> &mut State {
        self.states
            .entry(self.names[counter].clone())
            .or_insert_with(|| State::new(limit.algorithm()))
    }

    fn remove(&mut self, counter: usize) {
        self.states.remove(&self.names[counter]);
    }
}

fn name(asked: &Asked, counter: usize) -> String {
    asked.keys.get(counter).to_owned()
}

impl Remote for Line {
    fn only_part(&self) -> Option<Part> {
        Some(Part(0))
    }

    fn part(&self, _: &str, _: &Limit) -> Part {
        Part(0)
    }

    fn admits(&self, _: Part) -> bool {
        true
    }

    fn emptied_at(&self, _: Part) -> Option<Micros> {
        None
    }

    fn longest_wait(&self, _: Part) -> Micros {
        OP_TIMEOUT
    }

    async fn ask(&self, _: Part, asked: Arc<Asked>, wait: Wait) -> Result<Decided, StoreError> {
        self.call(wait.until, move |inside, now| {
            // A refund beside hits that are booked ahead, which the script sees by a key of its own.
            if let [charge] = asked.charges.as_slice()
                && charge.mode == Mode::Refund
                && inside
                    .ahead
                    .get(&name(&asked, charge.counter))
                    .is_some_and(|till| *till > now)
            {
                let state = inside.states.get_mut(&name(&asked, charge.counter));
                if let Some(state) = state {
                    state.refund_beside_leases(now, &charge.limit, charge.hits);
                }
                return Decided {
                    now_us: now,
                    verdicts: vec![limiter::Verdict::default()],
                    outcome: limiter::Outcome::default(),
                };
            }
            let mut counters = Of {
                names: (0..asked.keys.len()).map(|at| name(&asked, at)).collect(),
                states: &mut inside.states,
            };
            let mut verdicts = Vec::new();
            let outcome = limiter::decide(now, &asked.charges, &mut counters, asked.prior, &mut verdicts);
            Decided {
                now_us: now,
                verdicts,
                outcome,
            }
        })
        .await
    }

    async fn lease(&self, _: Part, asked: Arc<Asked>, parts: u32, wait: Wait) -> Result<Granted, StoreError> {
        self.call(wait.until, move |inside, now| {
            let charge = &asked.charges[0];
            let state = inside
                .states
                .entry(name(&asked, 0))
                .or_insert_with(|| State::new(charge.limit.algorithm()));
            let used = state.level(now, &charge.limit).used;
            let hits = state.lease(now, &charge.limit, charge.hits, parts.into());
            if hits > 0 && charge.limit.algorithm() == Algorithm::SlidingWindow {
                let tick = charge.limit.tick_us();
                let till = inside.ahead.entry(name(&asked, 0)).or_default();
                *till = (*till).max(now.div_ceil(tick) * tick);
            }
            Granted {
                now_us: now,
                used,
                hits,
            }
        })
        .await
    }

    async fn give_back(
        &self,
        _: Part,
        asked: Arc<Asked>,
        which: Vec<usize>,
        at: Micros,
        wait_until: Micros,
    ) -> Option<Vec<Option<Reading>>> {
        self.call(wait_until, move |inside, now| {
            which
                .iter()
                .map(|index| {
                    let charge = &asked.charges[*index];
                    let state = inside.states.get_mut(&name(&asked, charge.counter))?;
                    if state.level(now, &charge.limit).used > 0 {
                        state.give_back(now, &charge.limit, charge.hits, at);
                    }
                    Some(Reading::default())
                })
                .collect()
        })
        .await
        .ok()
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn is_away(&self) -> bool {
        false
    }
}
