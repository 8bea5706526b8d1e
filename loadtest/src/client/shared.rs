//! What all tasks of one thread use.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::Notify;

use super::watch::Watch;
use crate::audit::{Admission, History};
use crate::clock::{Clock, Nanos};
use crate::measure::{Outcome, Recorder};
use crate::plan::Mix;

/// One request to send.
#[derive(Debug, Clone)]
pub struct Job {
    /// When it was meant to be sent.
    pub intended: Nanos,
    pub key: u32,
    pub hits: Option<u32>,
    pub body: Bytes,
}

/// Where requests come from.
#[derive(Debug)]
pub struct Source {
    pub random: SmallRng,
    pub mix: Mix,
}

impl Source {
    /// The next request.
    pub fn job(&mut self, intended: Nanos) -> Job {
        // A plan has at least one kind of request.
        let (key, hits, body) = self.mix.draw(&mut self.random).unwrap_or_default();
        Job {
            intended,
            key,
            hits,
            body,
        }
    }

    /// Another source of random numbers, e.g. for arrival times.
    pub fn fork(&mut self) -> SmallRng {
        SmallRng::from_rng(&mut self.random)
    }
}

/// One thread's world; tasks share it by `Rc`.
#[derive(Debug)]
pub struct Shared {
    pub clock: Clock,
    /// Nothing is sent from here on.
    pub end: Nanos,
    /// The time to answer.
    pub patience: Nanos,
    pub grpc_timeout: Option<HeaderValue>,
    pub source: RefCell<Source>,
    pub recorder: RefCell<Recorder>,
    /// Admissions, if they are to be audited.
    pub history: RefCell<Option<History>>,
    pub watches: RefCell<Vec<Rc<Watch>>>,
    /// Somebody became free.
    pub freed: Notify,
}

impl Shared {
    /// A watch that the thread's sweeper looks at.
    pub fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new());
        self.watches.borrow_mut().push(Rc::clone(&watch));
        watch
    }

    /// A request ended.
    pub fn ended(&self, job: &Job, outcome: Outcome, sent: Nanos, end: Nanos) {
        self.recorder.borrow_mut().ended(outcome, job.intended, sent, end);
        let mut history = self.history.borrow_mut();
        let Some(history) = history.as_mut() else { return };
        if outcome != Outcome::Ok {
            history.ask(job.key);
        } else {
            history.push(Admission {
                key: job.key,
                hits: job.hits.unwrap_or(1),
                begin: sent,
                end,
            });
        }
    }

    /// Gives up what has run out of time, and hands finished seconds over.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for watch in self.watches.borrow().iter() {
            watch.look(now, self.patience);
        }
        self.recorder.borrow_mut().roll(now);
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.watches.borrow().iter().all(|watch| watch.is_idle())
    }
}
