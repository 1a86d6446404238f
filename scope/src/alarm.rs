//! The deadline of a scope: cancels its token when the time has come, and wakes it to find out.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use selvedge_cancel::{CancelToken, Cause, CauseKind, Instant, Ticket, Timer, ambient};

use crate::rt::embedded;

/// A deadline that counts from the first poll, on the timer in force there.
#[derive(Debug)]
pub(crate) struct Alarm {
    after: Duration,
    set: Option<Set>,
}

#[derive(Debug)]
struct Set {
    /// `None` stands for the embedded timer.
    timer: Option<Arc<dyn Timer>>,
    at: Instant,
    ticket: Ticket,
    rung: bool,
}

impl Set {
    fn timer(&self) -> &dyn Timer {
        clock(self.timer.as_ref())
    }
}

/// The timer that was installed, or the embedded one.
fn clock(timer: Option<&Arc<dyn Timer>>) -> &dyn Timer {
    match timer {
        Some(timer) => &**timer,
        None => embedded(),
    }
}

impl Alarm {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, set: None }
    }

    /// The sooner of this and another one.
    pub(crate) fn at_most(&mut self, after: Duration) {
        self.after = self.after.min(after);
    }

    /// At each poll of the scope: sets the timer at the first, and cancels once the time has come.
    pub(crate) fn look(&mut self, token: &CancelToken, waker: impl FnOnce() -> Waker) {
        let set = self.set.get_or_insert_with(|| {
            let timer = ambient::timer();
            let at = clock(timer.as_ref()).now() + self.after;
            let ticket = clock(timer.as_ref()).schedule(at, &waker());
            Set {
                timer,
                at,
                ticket,
                rung: false,
            }
        });
        if !set.rung && set.timer().now() >= set.at {
            set.rung = true;
            token.cancel_with(Cause::new(CauseKind::Deadline));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(set) = self.set.take() {
            set.timer().cancel(set.ticket);
        }
    }
}
