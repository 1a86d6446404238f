//! The ambient functions: what the running code asks about its own cancellation, with no token
//! in its hands.

use std::time::Duration;

use crate::{CancelToken, Cancelled, Checkpoint, Instant, Stopping, WaitCancelled, ambient};

/// The token of the scope or child that runs here.
///
/// Outside every scope it is a root that is never cancelled: cancelling it has no effect.
///
/// # Examples
/// ```
/// use selvedge_cancel as cancel;
///
/// let outside = cancel::current();
/// outside.cancel();
/// assert!(!outside.is_cancelled());
/// ```
#[must_use]
pub fn current() -> CancelToken {
    ambient::shown().unwrap_or_else(CancelToken::never)
}

/// Whether the running code is to stop: for computations and loops without an await.
///
/// # Examples
/// ```
/// use selvedge_cancel::{self as cancel, Cancelled};
///
/// fn sum(numbers: &[u64]) -> Result<u64, Cancelled> {
///     let mut sum = 0;
///     for chunk in numbers.chunks(1024) {
///         cancel::check()?;
///         sum += chunk.iter().sum::<u64>();
///     }
///     Ok(sum)
/// }
/// assert_eq!(sum(&[1, 2, 3]).unwrap(), 6);
/// ```
///
/// # Errors
/// [`Cancelled`], with the cause, once the current token is cancelled. Pass it up with `?`.
pub fn check() -> Result<(), Cancelled> {
    ambient::check()
}

/// Lets others run once, then goes on unless the running code is to stop.
///
/// # Errors
/// [`Cancelled`], with the cause, if the current token is cancelled before or after the pause.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn checkpoint() -> Checkpoint {
    Checkpoint::new()
}

/// Waits until the running code is to stop, and gives the cause. Outside every scope, forever.
///
/// The token is the one that is current at the call.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn cancelled() -> WaitCancelled {
    WaitCancelled::new(current())
}

/// Waits until the running code is wanted to come to an end, gracefully or not: for loops that
/// accept new work. Outside every scope, forever.
///
/// The token is the one that is current at the call.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
pub fn stopping() -> Stopping {
    Stopping::new(current())
}

/// When the time of the running code is up: the earliest deadline of everything around it, up to the
/// nearest shield. `None` if there is none. Once cancelled, a moment that has passed.
///
/// # Examples
/// ```
/// use selvedge_cancel as cancel;
///
/// assert_eq!(cancel::deadline(), None);
/// ```
#[must_use]
pub fn deadline() -> Option<Instant> {
    let token = ambient::token()?;
    let deadline = token.deadline();
    if ambient::cause().is_none() {
        return deadline;
    }
    let now = Instant::now();
    Some(deadline.map_or(now, |deadline| deadline.min(now)))
}

/// How much time the running code has left: zero once its [`deadline`] has passed or it is cancelled,
/// and `None` if there is no deadline.
///
/// # Examples
/// ```
/// use selvedge_cancel::{self as cancel, CancelToken, ambient};
/// use std::time::Duration;
///
/// let token = CancelToken::new();
/// ambient::replace(Some(token.clone()));
/// assert_eq!(cancel::remaining(), None);
/// token.cancel();
/// assert_eq!(cancel::remaining(), Some(Duration::ZERO));
/// ```
#[must_use]
pub fn remaining() -> Option<Duration> {
    Some(deadline()? - Instant::now())
}
