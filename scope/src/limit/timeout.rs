//! `timeout` and `timeout_at`: a future that is asked to stop when its time is up, and awaited. Not for
//! futures that are to be dropped then; `or_cancel` inside of it does that.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{CancelToken, CauseKind, Instant, SelectSafe, TimedOut, ambient};

use super::{Act, Alarm, Stretch, Target};
use crate::time::Clock;

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
/// Beside [`Scoped::timeout`](crate::Scoped::timeout): that one is a deadline of the scope and leaves its
/// output as it is, so that the body sees `Cancelled`; this one wraps the output, and says `TimedOut`.
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
/// of an operation that failed because of it, and is dropped. A value that made it, however late, is
/// returned. A cancellation from outside goes through as what the future makes of it. With an output of
/// `io::Result`, `.await??` gives an `io::Error` for both.
///
/// # Cancel safety
/// Dropping it drops the future inside where it stands; it is as select-safe as that one.
#[track_caller]
pub fn timeout<F: Future>(after: Duration, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        limit: Limit::After(after),
        error: TimedOut::new(),
        stretch: None,
    }
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
pub fn timeout_at<F: Future>(at: Instant, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        limit: Limit::At(at),
        error: TimedOut::new(),
        stretch: None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    After(Duration),
    At(Instant),
}

impl Limit {
    /// A token of its own for what is polled here, and an alarm that cancels it in time.
    fn begin(self, error: &TimedOut) -> Stretch {
        let clock = Clock::current();
        let at = match self {
            Self::After(after) => clock.now() + after,
            Self::At(at) => at,
        };
        let token = match ambient::member() {
            Some(member) => member.child(),
            None => CancelToken::new(),
        };
        token.set_limit(Some(at), error.place(), clock.installed());
        let alarm = Alarm::new(token.clone(), Act::Cancel, clock);
        alarm.set(Some(Target {
            at,
            place: error.place(),
        }));
        Stretch {
            token,
            alarm: Some(alarm),
        }
    }
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

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut future = this.future;
        let running = future.as_mut().as_pin_mut();
        let running = running.expect("`Timeout` polled after it was ready");
        let stretch = this
            .stretch
            .get_or_insert_with(|| this.limit.begin(this.error));
        let polled = {
            let _inside = stretch.enter();
            let polled = running.poll(cx);
            if polled.is_ready() {
                future.set(None);
            }
            polled
        };
        if polled.is_pending() {
            stretch.attend(cx.waker());
        }
        let value = ready!(polled);
        let token = stretch.token.clone();
        // From here on the alarm is silent.
        *this.stretch = None;
        let by_us = token.own_cause().is_some_and(|cause| {
            cause.kind() == CauseKind::Deadline && cause.place() == Some(this.error.place())
        });
        if by_us && token.has_live_own() {
            drop(value);
            return Poll::Ready(Err(this.error.clone()));
        }
        Poll::Ready(Ok(value))
    }
}

impl<F: SelectSafe> SelectSafe for Timeout<F> {}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .field("place", &format_args!("{}", self.error.place()))
            .finish_non_exhaustive()
    }
}
