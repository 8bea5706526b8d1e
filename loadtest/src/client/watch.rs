//! A bound on the time to answer without a timer for each request: one task looks at all of them now and then.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

use crate::clock::Nanos;

const IDLE: Nanos = Nanos::MAX;

/// The watch over one caller's request.
#[derive(Debug)]
pub struct Watch {
    /// When the request began; [`IDLE`] between requests.
    since: Cell<Nanos>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Nothing to watch yet.
    pub fn new() -> Self {
        Self {
            since: Cell::new(IDLE),
            expired: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// A request begins.
    pub fn begin(&self, now: Nanos) {
        self.expired.set(false);
        self.since.set(now);
    }

    /// It is over.
    pub fn end(&self) {
        self.since.set(IDLE);
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.since.get() == IDLE
    }

    /// Ends the request if it began more than `patience` ago. (Idle: it begins at the end of time.)
    pub fn look(&self, now: Nanos, patience: Nanos) {
        if now.saturating_sub(self.since.get()) > patience
            && !self.expired.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// The future's output, or `None` once the request has expired; the future is dropped then.
    pub async fn bound<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if self.expired.get() {
                return Poll::Ready(None);
            }
            self.remember(context.waker());
            future.as_mut().poll(context).map(Some)
        })
        .await
    }

    fn remember(&self, waker: &Waker) {
        let mut remembered = self.waker.borrow_mut();
        if !remembered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *remembered = Some(waker.clone());
        }
    }
}
