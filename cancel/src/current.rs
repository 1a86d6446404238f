//! The ambient functions: what the running code asks about its own cancellation, with no token
//! in its hands.

use crate::{CancelToken, Cancelled, Checkpoint, WaitCancelled, ambient};

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
