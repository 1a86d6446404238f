//! `shield` and `shield_unbounded`: a stretch of code that a cancellation from outside does not reach,
//! for a bounded time. Not a way to refuse to stop: the grace of an enclosing scope ends it.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{SelectSafe, ambient};

use super::{Act, Alarm, Place, Stretch, Target};
use crate::time::Clock;

/// Keeps a cancellation from outside away from a future for this long: for clean-up that has to await.
///
/// Inside, awaits work although the scope around is cancelled, also if it was before the shield began.
/// The time counts from the first poll; when it is up, the cancellation comes in, and awaits inside fail
/// with its cause. Before that, the end of the grace of a cancelled scope around it comes in as
/// `GraceExpired`. The next cancellable operation after the shield fails as if there had been none.
///
/// What is cancelled inside the shield stops as ever, and `stopping()` resolves inside as it does outside. "Outside" is the
/// code that polls the shield first. A shield that is moved to another task after that goes on to hear the first one, and not
/// the other; one that is first polled outside every scope shields from nothing.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, scope, shield, time::sleep};
/// use std::time::Duration;
///
/// let (inside, after) = block_on(scope(async |s| {
///     s.cancel();
///     let goodbye = shield(Duration::from_secs(5), async {
///         sleep(Duration::from_millis(1)).await
///     });
///     (goodbye.await, sleep(Duration::ZERO).await)
/// }));
/// assert!(inside.is_ok() && after.is_err());
/// ```
///
/// # Panics
/// If it is polled after it was ready.
///
/// # Cancel safety
/// Dropping it drops the future inside where it stands; it is as select-safe as that one.
///
/// Compares with spawning the clean-up: a shield borrows, and the scope waits for it.
#[track_caller]
pub fn shield<F: Future>(bound: Duration, future: F) -> Shield<F> {
    Shield {
        future: Some(future),
        bound: Some(bound),
        place: Location::caller(),
        progress: Progress::Fresh,
    }
}

/// As [`shield`], without a bound of its own: only the grace of a scope around it, if there is one, cuts
/// it short.
///
/// What waits in here for somebody who is gone waits for ever, and so does everything around it.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, scope, shield_unbounded, time::sleep};
/// use std::time::Duration;
///
/// let inside = block_on(scope(async |s| {
///     s.cancel();
///     shield_unbounded(sleep(Duration::from_millis(1))).await
/// }));
/// assert!(inside.is_ok());
/// ```
///
/// # Cancel safety
/// As [`shield`].
#[track_caller]
pub fn shield_unbounded<F: Future>(future: F) -> Shield<F> {
    Shield {
        future: Some(future),
        bound: None,
        place: Location::caller(),
        progress: Progress::Fresh,
    }
}

/// A token of its own, below that of what runs here but hidden from its cancellation. `None` outside
/// every scope, where nothing comes from outside.
fn begin(bound: Option<Duration>, place: Place) -> Option<Stretch> {
    let token = ambient::member()?.child_shielded();
    let alarm = bound.map(|bound| {
        let clock = Clock::current();
        let at = clock.now() + bound;
        token.set_shield_bound(at, place, clock.installed());
        let alarm = Alarm::new(token.clone(), Act::Lower, clock);
        alarm.set(Some(Target { at, place }));
        alarm
    });
    Some(Stretch { token, alarm })
}

#[derive(Debug)]
enum Progress {
    Fresh,
    Inside(Stretch),
    /// There is nothing to shield from, or no longer anything to shield.
    Open,
}

pin_project! {
    /// A future that is shielded from a cancellation from outside; from [`shield`] and
    /// [`shield_unbounded`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Shield<F> {
        // Gone as soon as it has ended, still inside the shield.
        #[pin]
        future: Option<F>,
        bound: Option<Duration>,
        place: Place,
        progress: Progress,
    }
}

impl<F: Future> Future for Shield<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut future = this.future;
        let running = future.as_mut().as_pin_mut();
        let running = running.expect("`Shield` polled after it was ready");
        if matches!(this.progress, Progress::Fresh) {
            let stretch = begin(*this.bound, this.place);
            *this.progress = stretch.map_or(Progress::Open, Progress::Inside);
        }
        let stretch = match &this.progress {
            Progress::Inside(stretch) => Some(stretch),
            Progress::Fresh | Progress::Open => None,
        };
        let inside = stretch.map(Stretch::enter);
        let polled = running.poll(cx);
        if polled.is_ready() {
            future.set(None);
        }
        drop(inside);
        match polled {
            Poll::Ready(_) => *this.progress = Progress::Open,
            Poll::Pending => {
                if let Some(stretch) = stretch {
                    stretch.attend(cx.waker());
                }
            }
        }
        polled
    }
}

impl<F: SelectSafe> SelectSafe for Shield<F> {}

impl<F> fmt::Debug for Shield<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shield")
            .field("bound", &self.bound)
            .field("place", &format_args!("{}", self.place))
            .finish_non_exhaustive()
    }
}
