//! Open loop: requests leave when they are due, however the ones before them fare.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout_at;

use super::caller::Caller;
use super::link::Link;
use super::pacer::Pacer;
use super::shared::Shared;
use crate::clock::Nanos;
use crate::plan::Arrivals;

/// After so many requests without a pause the connections get their turn.
const BURST_MAX: u32 = 32;

/// How often the links are looked at while all of them are busy or down.
const PAUSE_MAX: Nanos = 5_000_000;

/// A link and its idle callers.
#[derive(Debug)]
struct Pool {
    link: Rc<Link>,
    idle: RefCell<Vec<Caller>>,
    made: Cell<usize>,
    in_flight_max: usize,
}

impl Pool {
    fn take(&self, shared: &Rc<Shared>) -> Option<Caller> {
        if !self.link.is_up() {
            return None;
        }
        let idle = self.idle.borrow_mut().pop();
        if idle.is_none() && self.made.get() < self.in_flight_max {
            self.made.set(self.made.get() + 1);
            return Some(Caller::new(shared, &self.link));
        }
        idle
    }
}

/// Sends by the schedule until the run's end, over all links in turn, at most `in_flight_max` on each. What is due at once
/// leaves together on one link, as from a proxy's thread that has a connection of its own.
///
/// A request that can't leave within the time to answer, or until the end, counts as unsent: its caller would have
/// given up. One that leaves late is measured from its intended moment all the same.
pub async fn run(
    shared: Rc<Shared>,
    links: Vec<Rc<Link>>,
    in_flight_max: usize,
    busy_poll: bool,
    mut arrivals: Arrivals,
) -> io::Result<()> {
    let pool = |link| {
        Rc::new(Pool {
            link,
            idle: RefCell::default(),
            made: Cell::new(0),
            in_flight_max,
        })
    };
    let pools: Vec<_> = links.into_iter().map(pool).collect();
    let mut random = shared.source.borrow_mut().fork();
    let mut pacer = Pacer::new(shared.clock, arrivals.gap(), busy_poll)?;
    let (mut turn, mut burst) = (0, 0);
    loop {
        let intended = arrivals.next(&mut random);
        if intended >= shared.end {
            return Ok(());
        }
        if shared.clock.now() >= shared.end {
            // Far behind the schedule: what is left of it is counted, not walked through.
            let mut recorder = shared.recorder.borrow_mut();
            recorder.unsent(intended);
            let left = arrivals.due(recorder.measured_from(), shared.end);
            recorder.never_sent(left);
            return Ok(());
        }
        if pacer.until(intended).await {
            burst = 0;
            turn += 1;
        }
        burst += 1;
        if burst % BURST_MAX == 0 {
            turn += 1;
            yield_now().await;
        }
        match free(&shared, &pools, &mut turn, intended).await {
            Some((pool, caller)) => launch(&shared, pool, caller, intended),
            None => shared.recorder.borrow_mut().unsent(intended),
        }
    }
}

/// An idle caller of the link whose turn it is, or of the next that has one; waits for one as long as it makes sense.
async fn free(
    shared: &Rc<Shared>,
    pools: &[Rc<Pool>],
    turn: &mut usize,
    intended: Nanos,
) -> Option<(Rc<Pool>, Caller)> {
    let given_up = intended.saturating_add(shared.patience).min(shared.end);
    while shared.clock.now() < given_up {
        for _ in pools {
            *turn %= pools.len();
            let pool = &pools[*turn];
            if let Some(caller) = pool.take(shared) {
                return Some((Rc::clone(pool), caller));
            }
            *turn += 1;
        }
        // Also returns when a link came up: the pause is bounded, and links are down for longer than that.
        let pause = shared.clock.now() + PAUSE_MAX;
        let _ = timeout_at(shared.clock.instant(pause.min(given_up)), shared.freed.notified()).await;
    }
    None
}

fn launch(shared: &Rc<Shared>, pool: Rc<Pool>, mut caller: Caller, intended: Nanos) {
    let job = shared.source.borrow_mut().job(intended);
    let shared = Rc::clone(shared);
    spawn_local(async move {
        caller.call(job).await;
        pool.idle.borrow_mut().push(caller);
        shared.freed.notify_one();
    });
}
