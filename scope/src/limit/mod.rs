//! Limits in time on work that is asked to stop, not torn down: `timeout`, `shield`, and what a scope
//! keeps of its own. The tree of `selvedge-cancel` holds the state; here is what needs a timer.

mod alarm;
#[cfg(all(test, not(selvedge_loom)))]
mod early_tests;
mod inside;
mod limits;
mod shield;
#[cfg(all(test, not(selvedge_loom)))]
mod tests;
mod timeout;
mod try_timeout;

use std::task::Waker;

use selvedge_cancel::ambient::{self, Outer};
use selvedge_cancel::{CancelToken, quietly};

use alarm::{Act, Alarm, Place, Target};
pub(crate) use limits::Limits;
pub use shield::{Shield, shield, shield_unbounded};
pub use timeout::{Timeout, timeout, timeout_at};
pub use try_timeout::{TryTimeout, try_timeout, try_timeout_at};

/// A stretch of code that runs under a token of its own, and what the timer will do to that.
#[derive(Debug)]
struct Stretch {
    token: CancelToken,
    alarm: Option<Alarm>,
}

impl Stretch {
    /// Puts the token in force on this thread until the answer is dropped.
    fn enter(&self) -> Entered {
        Entered(Some(ambient::enter(Some(self.token.clone()))))
    }

    /// After a poll that left the stretch waiting: see [`Alarm::attend`].
    fn attend(&self, waker: &Waker) {
        if let Some(alarm) = &self.alarm {
            alarm.attend(waker);
        }
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // A timer may be user code, and this may be part of an unwinding.
        if let Some(alarm) = self.alarm.take() {
            quietly(|| alarm.set(None));
            quietly(|| drop(alarm));
        }
    }
}

/// Puts the token that was in force before back, on every way out.
struct Entered(Option<Outer<CancelToken>>);

impl Drop for Entered {
    fn drop(&mut self) {
        drop(self.0.take().and_then(ambient::leave));
    }
}
