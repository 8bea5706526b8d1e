//! Waits until a moment, to some ten microseconds: tokio's own timers tick in milliseconds.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use crate::clock::{Clock, Nanos, SECOND_NS};

/// The shortest pause; requests due within it leave together.
const PAUSE_MIN: Nanos = 20_000;
/// The same if requests are due more often than this: setting the timer and writing for each would cost more than they do.
const PAUSE_MIN_DENSE: Nanos = 50_000;

/// A timer of the kernel (timerfd) that the runtime waits for like for a socket.
#[derive(Debug)]
pub struct Pacer {
    clock: Clock,
    pause_min: Nanos,
    /// Polls instead of sleeping.
    busy: bool,
    timer: AsyncFd<OwnedFd>,
}

impl Pacer {
    /// For moments that are `gap` apart on average. Must be called inside a runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that can change or close while registered; an `OwnedFd` can't"
    )]
    pub fn new(clock: Clock, gap: Nanos, busy: bool) -> io::Result<Self> {
        let pause_min = if gap < PAUSE_MIN_DENSE {
            PAUSE_MIN_DENSE
        } else {
            PAUSE_MIN
        };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            clock,
            pause_min,
            busy,
            timer: AsyncFd::with_interest(timer, Interest::READABLE)?,
        })
    }

    /// Returns at `moment` or a little later; says whether it had to wait.
    pub async fn until(&mut self, moment: Nanos) -> bool {
        let mut waited = false;
        loop {
            let now = self.clock.now();
            if now >= moment {
                return waited;
            }
            waited = true;
            let pause = (moment - now).max(self.pause_min);
            if self.busy {
                while self.clock.now() < now + pause {
                    // The runtime looks at its sockets and comes back.
                    yield_now().await;
                }
            } else if self.sleep(pause).await.is_err() {
                // The kernel refused its own timer: then to the millisecond.
                tokio::time::sleep_until(self.clock.instant(moment)).await;
            }
        }
    }

    async fn sleep(&mut self, pause: Nanos) -> io::Result<()> {
        let whole = |value| i64::try_from(value).unwrap_or(i64::MAX);
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: whole(pause / SECOND_NS),
                tv_nsec: whole(pause % SECOND_NS),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        // Setting the timer again resets it, so the expiry need not be read.
        self.timer.readable().await?.clear_ready();
        Ok(())
    }
}
