//! Time as a trait: `Instant`, which a virtual clock can make, and `Timer`, which tells the time
//! and wakes tasks later. Implementations live elsewhere.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::task::Waker;
use std::time::Duration;

use crate::ambient;

/// A moment on the clock of the current timer.
///
/// A newtype over [`std::time::Instant`], so that a virtual clock can hand out moments of its
/// own. Arithmetic saturates: adding `Duration::MAX` gives the last moment there is.
///
/// # Examples
/// ```
/// use selvedge_cancel::Instant;
/// use std::time::Duration;
///
/// let now = Instant::now();
/// let later = now + Duration::from_secs(3);
/// assert_eq!(later - now, Duration::from_secs(3));
/// assert_eq!(now - later, Duration::ZERO);
/// assert!(now + Duration::MAX > later);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// The present moment: the current timer's, or the system's if none is installed.
    #[must_use]
    pub fn now() -> Self {
        match ambient::timer() {
            Some(timer) => timer.now(),
            None => Self(std::time::Instant::now()),
        }
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// How long ago this was; zero if it is yet to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().duration_since(self)
    }

    /// The same moment, as taken from std.
    #[must_use]
    pub const fn from_std(instant: std::time::Instant) -> Self {
        Self(instant)
    }

    /// The same moment, for std.
    #[must_use]
    pub const fn into_std(self) -> std::time::Instant {
        self.0
    }
}

/// Goes as far as the platform's instants reach, in halving steps, when the whole way is too far.
fn as_far_as_possible(
    from: std::time::Instant,
    way: Duration,
    go: impl Fn(std::time::Instant, Duration) -> Option<std::time::Instant>,
) -> Instant {
    if let Some(there) = go(from, way) {
        return Instant(there);
    }
    let (mut at, mut step) = (from, way);
    loop {
        while let Some(there) = go(at, step) {
            at = there;
        }
        if step <= Duration::from_nanos(1) {
            break;
        }
        step /= 2;
    }
    Instant(at)
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, way: Duration) -> Self {
        as_far_as_possible(self.0, way, |from, step| from.checked_add(step))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, way: Duration) {
        *self = *self + way;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, way: Duration) -> Self {
        as_far_as_possible(self.0, way, |from, step| from.checked_sub(step))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, way: Duration) {
        *self = *self - way;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells the time and wakes tasks at a moment: what a runtime or a virtual clock provides.
///
/// A waker that is given to a timer must not block, and must not compute for long: one thread wakes all. The embedded
/// timer says so once, on standard error in a debug build, when a waker has taken longer than 200 ms.
///
/// # Obligations of an implementation
/// - `now` never goes back, and is the clock that [`schedule`](Timer::schedule) goes by.
/// - A scheduled waker is woken once, at or after its moment, by any thread, unless its ticket
///   is cancelled or reset first. A moment that has passed counts as due at once. The waker may be
///   called from inside `schedule` or `reset`; a spurious wake later on does no harm.
/// - No lock is held while a waker is called, cloned or dropped: it may call back into the timer.
/// - The waker of a limit cancels. The functions of [`on_cancel`](crate::CancelToken::on_cancel) that this reaches are
///   called on other threads, so that they delay no timer; other wakers are woken by the thread that wakes the limit's.
/// - A cancelled or reset entry is gone at once, so that ten thousand resets leave one entry.
/// - Far moments, up to the last one there is, are as good as others.
pub trait Timer: fmt::Debug + Send + Sync {
    /// The present moment of this clock.
    fn now(&self) -> Instant;

    /// Arranges for the waker to be woken at a moment.
    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket;

    /// Replaces moment and waker of an entry, whether or not it has been woken; the old ticket
    /// is spent.
    fn reset(&self, ticket: Ticket, at: Instant, waker: &Waker) -> Ticket {
        self.cancel(ticket);
        self.schedule(at, waker)
    }

    /// Removes an entry; nothing happens if it has been woken or cancelled before.
    fn cancel(&self, ticket: Ticket);
}

/// The claim to an entry of a [`Timer`]; only the timer that gave it can take it back.
///
/// It carries what a timer needs to find the entry in an ordered map: moment and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    at: Instant,
    id: u64,
}

impl Ticket {
    /// A ticket for this moment; the number tells it from others of the same moment.
    #[must_use]
    pub const fn new(at: Instant, id: u64) -> Self {
        Self { at, id }
    }

    /// The moment at which the entry is due.
    #[must_use]
    pub const fn at(self) -> Instant {
        self.at
    }

    /// The number of the entry.
    #[must_use]
    pub const fn id(self) -> u64 {
        self.id
    }
}
