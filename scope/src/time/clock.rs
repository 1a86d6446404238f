//! The clock that code of this crate goes by: the timer in force where it runs, kept for later. Not a
//! clock of its own.

use std::sync::Arc;

use selvedge_cancel::{Instant, Timer, ambient};

use crate::rt::embedded;

/// The timer in force at a moment: an installed one, or the embedded one of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Option<Arc<dyn Timer>>);

impl Clock {
    pub(crate) fn current() -> Self {
        Self(ambient::timer())
    }

    pub(crate) fn timer(&self) -> &dyn Timer {
        match &self.0 {
            Some(timer) => &**timer,
            None => embedded(),
        }
    }

    /// The installed timer; `None` stands for the embedded one.
    pub(crate) fn installed(&self) -> Option<&Arc<dyn Timer>> {
        self.0.as_ref()
    }

    pub(crate) fn now(&self) -> Instant {
        self.timer().now()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}
