//! The deadline of a scope: cancels its token when the time has come. It stands on whatever [`Timer`] is in
//! force; it does not poll the scope, since a cancelled token wakes whom it concerns.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use selvedge_cancel::{CancelToken, Cause, CauseKind, Instant, Ticket, Timer, ambient};

use crate::rt::embedded;
use crate::sync::{Mutex, lock};

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
    bell: Arc<Bell>,
}

/// What the timer wakes: it cancels the token by itself. Waking the scope's body instead would not do: a
/// body that is about to be polled, or has ended, takes no wake.
#[derive(Debug)]
struct Bell(Mutex<Option<CancelToken>>);

impl Bell {
    fn ring(&self) {
        // Taken out first: cancelling runs user code (rule W15).
        let token = self.hush();
        if let Some(token) = token {
            token.cancel_with(Cause::new(CauseKind::Deadline));
        }
    }

    /// Rings no more.
    fn hush(&self) -> Option<CancelToken> {
        lock(&self.0).take()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
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

    /// At each poll of the scope: sets the timer at the first, and cancels once the time has come even if
    /// the timer is late.
    pub(crate) fn look(&mut self, token: &CancelToken) {
        let set = self.set.get_or_insert_with(|| {
            let timer = ambient::timer();
            let at = clock(timer.as_ref()).now() + self.after;
            let bell = Arc::new(Bell(Mutex::new(Some(token.clone()))));
            let ticket = clock(timer.as_ref()).schedule(at, &Waker::from(bell.clone()));
            Set {
                timer,
                at,
                ticket,
                bell,
            }
        });
        if set.timer().now() >= set.at {
            set.bell.ring();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(set) = self.set.take() {
            // A scope that ended before its deadline is never cancelled by it.
            drop(set.bell.hush());
            set.timer().cancel(set.ticket);
        }
    }
}
