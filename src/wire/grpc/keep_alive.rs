//! Pings that tell a silent peer from a dead one.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

/// Asks a connection's peer for a sign of life once in a while.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// `None` if somebody else sends this connection's pings.
    ping: Option<PingPong>,
    interval: Duration,
    within: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl KeepAlive {
    /// Asks every `interval`; the peer has to answer `within` that time.
    pub fn new(ping: Option<PingPong>, (interval, within): (Duration, Duration)) -> Self {
        Self {
            ping,
            interval,
            within,
            timer: Box::pin(sleep(interval)),
            asked: false,
        }
    }

    /// Ready when the peer did not answer.
    pub fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ping) = &mut self.ping else {
            return Poll::Pending;
        };
        loop {
            if self.asked && matches!(ping.poll_pong(cx), Poll::Ready(Ok(_))) {
                self.asked = false;
                self.timer.set(sleep(self.interval));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.asked {
                return Poll::Ready(());
            }
            // An error is a connection that has ended, which its own poll says.
            self.asked = ping.send_ping(Ping::opaque()).is_ok();
            let wait = if self.asked { self.within } else { self.interval };
            self.timer.set(sleep(wait));
        }
    }
}
