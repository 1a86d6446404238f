//! `sleep` and `sleep_until`: waits for a moment that fail as soon as the running code is cancelled.
//! Not periodic, and not a limit on other work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_cancel::{Cancelled, Cause, SelectSafe, Ticket, Watch, ambient, quietly};

use super::{Clock, Instant};

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
/// A sleep that is over at its first poll, such as one of `Duration::ZERO`, lets others run once: a loop of them starves
/// nobody.
///
/// # Errors
/// [`Cancelled`], as soon as whatever polls it (scope, task, time limit, shield) is cancelled; also if
/// that was so before the first poll, whatever the time. A sleep that is over gives `Ok`, unless a time limit around
/// it was over before: the sooner of the two wins, however late either is noticed. Polled again, it says the same
/// again.
///
/// The timer's thread wakes all sleepers of the program, so the waker that polls it must not block: that of an executor
/// does not.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn sleep(duration: Duration) -> Sleep {
    let clock = Clock::current();
    let at = clock.now() + duration;
    Sleep::new(clock, at, Some(duration))
}

/// Waits until this moment; if it has passed, no longer than to let others run once.
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
    watch: Watch,
}

enum Progress {
    Fresh,
    Waiting(Ticket),
    /// It was over when it was first polled, and has let others run.
    Paused,
    Over,
    /// It was cancelled. The cause alone: a `Cancelled` that is kept would count as one that lives.
    Failed(Cause),
}

impl Sleep {
    fn new(clock: Clock, at: Instant, duration: Option<Duration>) -> Self {
        Self {
            clock,
            at,
            duration,
            progress: Progress::Fresh,
            watch: Watch::new(),
        }
    }

    /// Takes the entry out of the timer and leaves the token; the answer is the last one.
    fn end(&mut self, result: Result<(), Cancelled>) -> Poll<Result<(), Cancelled>> {
        self.leave(match &result {
            Ok(()) => Progress::Over,
            Err(cancelled) => Progress::Failed(cancelled.cause().clone()),
        });
        Poll::Ready(result)
    }

    fn leave(&mut self, progress: Progress) {
        self.watch.clear();
        if let Progress::Waiting(ticket) = std::mem::replace(&mut self.progress, progress) {
            self.clock.timer().cancel(ticket);
        }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &this.progress {
            Progress::Over => return Poll::Ready(Ok(())),
            Progress::Failed(cause) => return Poll::Ready(Err(Cancelled::new(cause.clone()))),
            Progress::Waiting(_) | Progress::Paused => {}
            Progress::Fresh => {
                if let Err(cancelled) = selvedge_cancel::check() {
                    return this.end(Err(cancelled));
                }
                let clock = Clock::current();
                if !clock.is(&this.clock) {
                    if let Some(duration) = this.duration {
                        this.at = clock.now() + duration;
                    }
                    this.clock = clock;
                }
            }
        }
        if this.clock.now() >= this.at {
            // Both may be over by now; what counts is which was first.
            if ambient::is_over_before(this.at, this.clock.installed()) {
                if let Err(cancelled) = selvedge_cancel::check() {
                    return this.end(Err(cancelled));
                }
            }
            if let Progress::Fresh = this.progress {
                this.progress = Progress::Paused;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return this.end(Ok(()));
        }
        let timer = this.clock.timer();
        let ticket = match this.progress {
            Progress::Waiting(ticket) => timer.reset(ticket, this.at, cx.waker()),
            _ => timer.schedule(this.at, cx.waker()),
        };
        this.progress = Progress::Waiting(ticket);
        match this.watch.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(cancelled) => this.end(Err(cancelled)),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // A timer may be user code, and this may be part of an unwinding.
        quietly(|| self.leave(Progress::Over));
        let clock = std::mem::take(&mut self.clock);
        quietly(|| drop(clock));
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
