//! `timeout` and `timeout_at`: a future that is asked to stop when its time is up, and awaited. Not for
//! futures that are to be dropped then; `or_cancel` inside of it does that. The `try_` forms are in
//! `try_timeout.rs`.

use std::fmt;
use std::future::Future;
use std::mem::needs_drop;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{
    CancelSource, CancelToken, CauseKind, Instant, SelectSafe, TimedOut, quietly,
};

use super::Stretch;
use super::inside::Inside;

/// Waits for a future that is asked to stop after this long; one that knows nothing of our cancellation
/// (a socket of another library, say) **is waited for, however long it takes**.
///
/// Wrap such a future in [`or_cancel`](selvedge_cancel::FutureCancelExt::or_cancel), or its reader in
/// `cancellable()`, and it ends in time.
///
/// The time counts from the first poll. When it is up, awaits inside begin to fail with
/// [`Cancelled`](selvedge_cancel::Cancelled), cause `Deadline`; `?` unwinds, clean-up runs, and then this
/// ends. With a limit of zero the future is begun, and fails at its first cancellable operation.
///
/// The first poll also decides whose cancellation reaches the future: that of the code that polls it then. A future that is
/// polled by hand outside a scope first, and awaited in one later, does not hear that scope.
///
/// Beside [`Scoped::timeout`](crate::Scoped::timeout): that one is a deadline of the scope and leaves its
/// output as it is, so that the body sees `Cancelled`; this one wraps the output, and says `TimedOut`.
/// [`try_timeout`](crate::try_timeout) is for outputs that are `Result`s: it wraps nothing, and asks nothing of
/// the value.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::sleep, timeout};
/// use std::time::Duration;
///
/// let slept = block_on(timeout(Duration::from_millis(1), sleep(Duration::MAX)));
/// assert!(slept.is_err());
///
/// let made = block_on(timeout(Duration::from_secs(60), async { 7 }));
/// assert_eq!(made.unwrap(), 7);
/// ```
///
/// # Errors
/// [`TimedOut`], if this very limit cut the future short: what it ended with still holds the `Cancelled`
/// of an operation that failed because of it, and is dropped. It is found by looking into the output, which is
/// what [`CancelSource`] is for: the output has to implement `Debug`, and print in it what it holds.
///
/// Everything else is returned as `Ok`: a value that made it, however late, and whatever became of the `Cancelled`s
/// that were met on the way; an error that holds none, or hides it. A cancellation from outside goes through as
/// what the future makes of it. With an output of `io::Result`, `.await??` gives an `io::Error` for both.
///
/// # Cancel safety
/// Dropping it drops the future inside where it stands; it is as select-safe as that one.
#[track_caller]
pub fn timeout<F>(after: Duration, future: F) -> Timeout<F>
where
    F: Future,
    F::Output: CancelSource,
{
    Timeout::new(Limit::After(after), TimedOut::new(), future)
}

/// Waits for a future that is asked to stop at this moment; one that knows nothing of our cancellation
/// **is waited for, however long it takes**.
///
/// As [`timeout`]. A moment that has passed is as a limit of zero.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, time::{Instant, sleep}, timeout_at};
/// use std::time::Duration;
///
/// let slept = block_on(timeout_at(Instant::now(), sleep(Duration::ZERO)));
/// assert!(slept.is_err());
/// ```
///
/// # Errors
/// As [`timeout`].
///
/// # Cancel safety
/// As [`timeout`].
#[track_caller]
pub fn timeout_at<F>(at: Instant, future: F) -> Timeout<F>
where
    F: Future,
    F::Output: CancelSource,
{
    Timeout::new(Limit::At(at), TimedOut::new(), future)
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    After(Duration),
    At(Instant),
}

pin_project! {
    /// A future with a time limit; from [`timeout`] and [`timeout_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F> {
        // Gone as soon as it has ended: what it kept to itself is not what it returned.
        #[pin]
        future: Option<F>,
        limit: Limit,
        error: TimedOut,
        stretch: Option<Stretch>,
    }
}

impl<F> Timeout<F> {
    pub(super) fn new(limit: Limit, error: TimedOut, future: F) -> Self {
        Self {
            future: Some(future),
            limit,
            error,
            stretch: None,
        }
    }

    /// What it fails with.
    pub(super) fn error(&self) -> &TimedOut {
        &self.error
    }
}

impl<F: Future> Timeout<F> {
    /// What the future ends with, and the token it ran under if the deadline has cancelled that.
    pub(super) fn poll_value(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<(F::Output, Option<CancelToken>)> {
        let this = self.project();
        let mut future = this.future;
        let running = future.as_mut().as_pin_mut();
        let running = running.expect("`Timeout` polled after it was ready");
        let inside = match this.stretch.take() {
            Some(stretch) => Inside::entered(stretch),
            None => Inside::announced(*this.limit, this.error.place()),
        };
        let polled = running.poll(cx);
        if polled.is_ready() {
            clear(future);
        }
        let Poll::Ready(value) = polled else {
            this.stretch.insert(inside.rest()).attend(cx.waker());
            return Poll::Pending;
        };
        // From here on the alarm is silent. If there is none, nobody has asked for a token.
        let Some(token) = inside.end() else {
            return Poll::Ready((value, None));
        };
        let by_us = token.own_cause().is_some_and(|cause| {
            cause.kind() == CauseKind::Deadline && cause.place() == Some(this.error.place())
        });
        Poll::Ready((value, by_us.then_some(token)))
    }
}

impl<F> Future for Timeout<F>
where
    F: Future,
    F::Output: CancelSource,
{
    type Output = Result<F::Output, TimedOut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (value, cancelled) = ready!(self.as_mut().poll_value(cx));
        // What needs no drop holds nothing that is counted.
        let cut = needs_drop::<F::Output>()
            && cancelled.is_some_and(|token| token.has_live_own_in(&value));
        if cut {
            // A destructor that panics does not replace the error.
            quietly(|| drop(value));
            return Poll::Ready(Err(self.error.clone()));
        }
        Poll::Ready(Ok(value))
    }
}

/// Drops the future in place. Apart from its poll, whose frame would have room for a second one.
fn clear<F>(mut future: Pin<&mut Option<F>>) {
    future.set(None);
}

impl<F> SelectSafe for Timeout<F>
where
    F: SelectSafe,
    F::Output: CancelSource,
{
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .field("place", &format_args!("{}", self.error.place()))
            .finish_non_exhaustive()
    }
}
