//! Sends one request at a time on its link.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;

use super::exchange::{self, NotProcessed};
use super::link::Link;
use super::shared::{Job, Shared};
use super::watch::Watch;
use crate::clock::Nanos;
use crate::measure::Outcome;

/// A server that refuses a request more often has not answered it.
const RESENT_MAX: u32 = 3;

/// One request in flight, over and over.
#[derive(Debug)]
pub struct Caller {
    shared: Rc<Shared>,
    link: Rc<Link>,
    watch: Rc<Watch>,
    /// A handle of its own to the connection of `epoch`: taking one from the link each time would cost a lock.
    sender: Option<SendRequest<Bytes>>,
    epoch: u64,
}

impl Caller {
    /// A caller on this link.
    pub fn new(shared: &Rc<Shared>, link: &Rc<Link>) -> Self {
        let (shared, link) = (Rc::clone(shared), Rc::clone(link));
        Self {
            watch: shared.watch(),
            shared,
            link,
            sender: None,
            epoch: 0,
        }
    }

    /// Sends the request, waits for its end and records it.
    pub async fn call(&mut self, job: Job) {
        let (watch, shared) = (Rc::clone(&self.watch), Rc::clone(&self.shared));
        watch.begin(shared.clock.now());
        // A request that was never sent can't have failed: it is "unsent".
        let mut sent = None;
        let outcome = watch
            .bound(self.attempts(&job, &mut sent))
            .await
            .unwrap_or(Outcome::TIMEOUT);
        let end = shared.clock.now();
        watch.end();
        let Some(sent) = sent else {
            return shared.recorder.borrow_mut().unsent(job.intended);
        };
        // The sweeper looks only now and then: an answer may come too late and yet before it.
        let late = end - sent > shared.patience;
        shared.ended(&job, if late { Outcome::TIMEOUT } else { outcome }, sent, end);
    }

    async fn attempts(&mut self, job: &Job, sent: &mut Option<Nanos>) -> Outcome {
        for attempt in 0..=RESENT_MAX {
            if attempt > 0 {
                self.shared.recorder.borrow_mut().resent(job.intended);
            }
            if let Ok(outcome) = self.attempt(job, sent).await {
                return outcome;
            }
        }
        Outcome::STREAM_RESET
    }

    async fn attempt(&mut self, job: &Job, sent: &mut Option<Nanos>) -> Result<Outcome, NotProcessed> {
        loop {
            if self.sender.is_none() || self.epoch != self.link.epoch() {
                self.link.up().await;
                self.epoch = self.link.epoch();
                self.sender = self.link.sender();
            }
            let Some(sender) = &mut self.sender else { continue };
            // Pending while the server's bound on concurrent streams is reached.
            if poll_fn(|context| sender.poll_ready(context)).await.is_ok() {
                let now = self.shared.clock.now();
                let timeout = self.shared.grpc_timeout.as_ref();
                if let Ok(response) = exchange::send(sender, self.link.uri(), timeout, job.body.clone()) {
                    *sent = Some(now);
                    return exchange::receive(response).await;
                }
            }
            // The connection takes no more requests: go on with the next one.
            self.link.broke(self.epoch);
            self.sender = None;
        }
    }
}
