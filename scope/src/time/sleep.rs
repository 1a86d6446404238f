//! `sleep` and `sleep_until`: waits for a moment that fail as soon as the current token is
//! cancelled. Not periodic, and not a limit on other work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_cancel::{CancelToken, Cancelled, SelectSafe, Ticket, Timer, WaitCancelled, ambient};

use super::Instant;
use crate::rt::embedded;

/// Waits for this long, counted from this call.
///
/// If the clock at the first poll is not the one at this call (a future made outside and given to
/// a virtual clock), it counts from the first poll.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::sleep};
/// use std::time::{Duration, Instant};
///
/// let before = Instant::now();
/// block_on(sleep(Duration::from_millis(2))).unwrap();
/// assert!(before.elapsed() >= Duration::from_millis(2));
/// ```
///
/// # Errors
/// [`Cancelled`], as soon as the token that is current at the first poll is cancelled; also if
/// it was before, whatever the time.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn sleep(duration: Duration) -> Sleep {
    let clock = Clock::current();
    let at = clock.now() + duration;
    Sleep::new(clock, at, Some(duration))
}

/// Waits until this moment; not at all if it has passed.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::{Instant, sleep_until}};
///
/// let now = Instant::now();
/// block_on(sleep_until(now)).unwrap();
/// ```
///
/// # Errors
/// As [`sleep`].
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep::new(Clock::current(), at, None)
}

/// Waits for a moment; from [`sleep`] and [`sleep_until`].
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    clock: Clock,
    at: Instant,
    /// What `sleep` was asked for, in case the first poll finds another clock.
    duration: Option<Duration>,
    progress: Progress,
}

enum Progress {
    Fresh,
    Waiting {
        ticket: Ticket,
        cancelled: Option<WaitCancelled>,
    },
    Done,
}

impl Sleep {
    fn new(clock: Clock, at: Instant, duration: Option<Duration>) -> Self {
        Self {
            clock,
            at,
            duration,
            progress: Progress::Fresh,
        }
    }

    /// Takes the entry out of the timer and leaves the token.
    fn settle(&mut self) {
        if let Progress::Waiting { ticket, .. } =
            std::mem::replace(&mut self.progress, Progress::Done)
        {
            self.clock.timer().cancel(ticket);
        }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Progress::Fresh = this.progress {
            if let Err(cancelled) = selvedge_cancel::check() {
                this.progress = Progress::Done;
                return Poll::Ready(Err(cancelled));
            }
            let clock = Clock::current();
            if !clock.is(&this.clock) {
                if let Some(duration) = this.duration {
                    this.at = clock.now() + duration;
                }
                this.clock = clock;
            }
        }
        if let Progress::Done = this.progress {
            return Poll::Ready(Ok(()));
        }
        if this.clock.now() >= this.at {
            this.settle();
            return Poll::Ready(Ok(()));
        }
        let timer = this.clock.timer();
        let cancelled = match &mut this.progress {
            Progress::Waiting { ticket, cancelled } => {
                *ticket = timer.reset(*ticket, this.at, cx.waker());
                cancelled
            }
            progress => {
                let waiting = Progress::Waiting {
                    ticket: timer.schedule(this.at, cx.waker()),
                    cancelled: ambient::token().as_ref().map(CancelToken::cancelled),
                };
                *progress = waiting;
                match progress {
                    Progress::Waiting { cancelled, .. } => cancelled,
                    Progress::Fresh | Progress::Done => return Poll::Pending,
                }
            }
        };
        let Some(cancelled) = cancelled else {
            return Poll::Pending;
        };
        match Pin::new(cancelled).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(cause) => {
                this.settle();
                Poll::Ready(Err(Cancelled::new(cause)))
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.settle();
    }
}

impl SelectSafe for Sleep {}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The timer in force: an installed one, or the embedded one of the process.
struct Clock(Option<Arc<dyn Timer>>);

impl Clock {
    fn current() -> Self {
        Self(ambient::timer())
    }

    fn timer(&self) -> &dyn Timer {
        match &self.0 {
            Some(timer) => &**timer,
            None => embedded(),
        }
    }

    fn now(&self) -> Instant {
        self.timer().now()
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}
