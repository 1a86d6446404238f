//! The deadline of a scope: cancels its token when the time has come, on the timer's thread, so that it is
//! felt during a long poll too.

use std::panic::Location;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use selvedge_cancel::{CancelToken, Cause, CauseKind, Instant, Ticket, Timer, ambient};

use crate::rt::embedded;

/// A deadline that counts from the first poll, on the timer in force there.
#[derive(Debug)]
pub(crate) struct Alarm {
    after: Duration,
    /// Where the program asked for it.
    place: &'static Location<'static>,
    set: Option<(Arc<Bell>, Ticket)>,
}

/// What the timer rings.
#[derive(Debug)]
struct Bell {
    token: CancelToken,
    place: &'static Location<'static>,
    /// `None` stands for the embedded timer.
    timer: Option<Arc<dyn Timer>>,
    at: Instant,
}

impl Bell {
    fn timer(&self) -> &dyn Timer {
        match &self.timer {
            Some(timer) => &**timer,
            None => embedded(),
        }
    }

    /// Cancels if the time has come; a timer may ring too often, never too seldom.
    fn look(&self) {
        if self.timer().now() >= self.at {
            self.token
                .cancel_with(Cause::new(CauseKind::Deadline).with_place(self.place));
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.look();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.look();
    }
}

impl Alarm {
    pub(crate) fn new(after: Duration, place: &'static Location<'static>) -> Self {
        Self {
            after,
            place,
            set: None,
        }
    }

    /// The sooner of this and another one.
    pub(crate) fn at_most(&mut self, after: Duration) {
        self.after = self.after.min(after);
    }

    /// At each poll of the scope: sets the timer at the first.
    pub(crate) fn look(&mut self, token: &CancelToken) {
        if self.set.is_some() {
            return;
        }
        let mut bell = Bell {
            token: token.clone(),
            place: self.place,
            timer: ambient::timer(),
            at: Instant::now(),
        };
        bell.at = bell.timer().now() + self.after;
        let bell = Arc::new(bell);
        // A deadline that has passed holds from the start, whatever the timer does.
        bell.look();
        let ticket = bell
            .timer()
            .schedule(bell.at, &Waker::from(Arc::clone(&bell)));
        self.set = Some((bell, ticket));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((bell, ticket)) = self.set.take() {
            bell.timer().cancel(ticket);
        }
    }
}
