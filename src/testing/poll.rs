//! Single polls, for tests that walk through a future step by step.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Polls a future once, with a waker that does nothing.
///
/// # Examples
/// ```
/// use selvedge::testing::poll_once;
/// use std::pin::pin;
/// use std::task::Poll;
///
/// assert_eq!(poll_once(pin!(async { 7 })), Poll::Ready(7));
/// assert!(poll_once(pin!(std::future::pending::<()>())).is_pending());
/// ```
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
