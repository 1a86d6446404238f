//! `try_timeout` and `try_timeout_at`: as `timeout`, for futures that yield a `Result`; the time-out becomes an error
//! of the future's own type. How the limit works is in `timeout.rs`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{CancelSource, Instant, SelectSafe, TimedOut, quietly};

use super::Timeout;
use super::timeout::Limit;

/// Waits for a future that is asked to stop after this long, as [`timeout`](crate::timeout) does; if that cut it
/// short, its error becomes a [`TimedOut`] of its own error type.
///
/// A future that knows nothing of our cancellation **is waited for, however long it takes**. Any value will do: only
/// the error is looked into.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::sleep, try_timeout};
/// use std::io;
/// use std::time::Duration;
///
/// async fn fetch(takes: Duration) -> io::Result<&'static str> {
///     sleep(takes).await?;
///     Ok("page")
/// }
///
/// let quick = block_on(try_timeout(Duration::from_secs(60), fetch(Duration::ZERO)));
/// assert_eq!(quick.unwrap(), "page");
///
/// let slow = block_on(try_timeout(Duration::from_millis(1), fetch(Duration::MAX)));
/// assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
/// ```
///
/// # Errors
/// `E::from(TimedOut)`, if the future's error still holds the `Cancelled` of an operation that failed because of
/// this very limit; that error is dropped. It is found by looking into the error, see [`CancelSource`]. Every other
/// error is returned as it is, and so is every value.
///
/// # Cancel safety
/// As [`timeout`](crate::timeout).
#[track_caller]
pub fn try_timeout<T, E, F>(after: Duration, future: F) -> TryTimeout<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<TimedOut> + CancelSource,
{
    TryTimeout {
        inner: Timeout::new(Limit::After(after), TimedOut::new(), future),
    }
}

/// Waits for a future that is asked to stop at this moment, as [`try_timeout`]. A moment that has passed is as a
/// limit of zero.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::{Instant, sleep}, try_timeout_at};
/// use std::io;
/// use std::time::Duration;
///
/// let slept = block_on(try_timeout_at(Instant::now(), async {
///     sleep(Duration::MAX).await?;
///     io::Result::Ok(())
/// }));
/// assert_eq!(slept.unwrap_err().kind(), io::ErrorKind::TimedOut);
/// ```
///
/// # Errors
/// As [`try_timeout`].
///
/// # Cancel safety
/// As [`try_timeout`].
#[track_caller]
pub fn try_timeout_at<T, E, F>(at: Instant, future: F) -> TryTimeout<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<TimedOut> + CancelSource,
{
    TryTimeout {
        inner: Timeout::new(Limit::At(at), TimedOut::new(), future),
    }
}

pin_project! {
    /// A future with a time limit that becomes its error; from [`try_timeout`] and [`try_timeout_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TryTimeout<F> {
        #[pin]
        inner: Timeout<F>,
    }
}

impl<T, E, F> Future for TryTimeout<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<TimedOut> + CancelSource,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut inner = self.project().inner;
        let (result, cancelled) = ready!(inner.as_mut().poll_value(cx));
        Poll::Ready(result.map_err(|error| {
            if !cancelled.is_some_and(|token| token.has_live_own_in(&error)) {
                return error;
            }
            // A destructor that panics does not replace what comes of it.
            quietly(|| drop(error));
            E::from(inner.error().clone())
        }))
    }
}

impl<T, E, F> SelectSafe for TryTimeout<F>
where
    F: SelectSafe<Output = Result<T, E>>,
    E: From<TimedOut> + CancelSource,
{
}

impl<F> fmt::Debug for TryTimeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TryTimeout").field(&self.inner).finish()
    }
}
