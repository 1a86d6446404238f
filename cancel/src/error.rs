//! The two errors of this crate: `Cancelled` (somebody asked this work to stop) and `TimedOut`
//! (its own deadline cut it short), with their way into and out of `std::io::Error`.

use std::error::Error;
use std::panic::Location;
use std::sync::Arc;
use std::{fmt, io};

use crate::node::Mark;
use crate::{CancelToken, Cause, ambient, held};

/// An operation did not happen because the work it belongs to is cancelled.
///
/// It carries the [`Cause`]. Pass it up with `?`: through `io::Error`, a boxed error or an enum
/// of yours; [`Cancelled::find_in`] finds it again.
///
/// # Examples
/// ```
/// use selvedge_cancel::{CancelToken, Cancelled};
/// use std::io;
///
/// let token = CancelToken::new();
/// token.cancel_with("enough");
/// let error = io::Error::from(Cancelled::new(token.cause().unwrap()));
/// let found = Cancelled::find_in(&error).expect("it is inside");
/// assert_eq!(found.cause().text(), Some("enough"));
/// ```
#[derive(Clone)]
pub struct Cancelled(Arc<Shared>);

/// What the clones share.
struct Shared {
    cause: Cause,
    /// The count on the nodes of the task that failed, given back with the last clone.
    mark: Option<Mark>,
    /// Whether it was counted on the thread that made it.
    counted: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.counted {
            ambient::count_gone();
        }
    }
}

impl Cancelled {
    /// The error of an operation that a cancellation with this cause kept from happening.
    ///
    /// For leaf futures of your own; ours make theirs. Make it where the operation fails, in the task that is
    /// cancelled: an error of that task that holds it counts as a cancellation.
    #[must_use]
    pub fn new(cause: impl Into<Cause>) -> Self {
        ambient::count_made();
        let mark = ambient::member().and_then(|token| Mark::new(token.into_node()));
        Self(Arc::new(Shared {
            cause: cause.into(),
            mark,
            counted: true,
        }))
    }

    /// The same, made for somebody else than the running task: it says nothing of what failed here.
    #[doc(hidden)]
    #[must_use]
    pub fn uncounted(cause: impl Into<Cause>) -> Self {
        Self(Arc::new(Shared {
            cause: cause.into(),
            mark: None,
            counted: false,
        }))
    }

    /// The same, but if that token is cancelled, it counts there: for what an engine answers in its stead.
    #[doc(hidden)]
    #[must_use]
    pub fn counted_at(token: &CancelToken, cause: impl Into<Cause>) -> Self {
        Self(Arc::new(Shared {
            cause: cause.into(),
            mark: Mark::new(Arc::clone(token.node())),
            counted: false,
        }))
    }

    /// Who cancelled, and why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Looks for a `Cancelled` in an error, its sources, and the errors that `io::Error`s wrap.
    ///
    /// With `anyhow`, pass `error.as_ref()`.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = through_pointers::<Self>(error) {
                return Some(found);
            }
            // `io::Error::source` skips the error it wraps and gives that one's source.
            let wrapped = through_pointers::<io::Error>(error).and_then(io::Error::get_ref);
            next = match wrapped {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

/// `Box<E>` and `Arc<E>` are errors that forward `source`, and so hide the error they point to.
fn through_pointers<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    if let Some(boxed) = error.downcast_ref::<Box<E>>() {
        return Some(boxed);
    }
    error.downcast_ref::<Arc<E>>().map(|shared| &**shared)
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        held::report(self.0.mark.as_ref());
        f.debug_tuple("Cancelled").field(self.cause()).finish()
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        held::report(self.0.mark.as_ref());
        write!(f, "cancelled: {}", self.cause())
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    /// The kind is `Other`, which no helper of std or tokio takes as a reason to try again.
    fn from(cancelled: Cancelled) -> Self {
        Self::other(cancelled)
    }
}

/// A time limit passed before the work under it had ended.
///
/// Its way into `io::Error` has the kind `TimedOut`, so that `??` works on a time-limited I/O
/// operation.
///
/// # Examples
/// ```
/// use selvedge_cancel::TimedOut;
/// use std::io;
///
/// let error = io::Error::from(TimedOut::new());
/// assert_eq!(error.kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Debug)]
pub struct TimedOut {
    place: &'static Location<'static>,
}

impl TimedOut {
    /// The error of a time limit set by the caller.
    #[must_use]
    #[track_caller]
    #[expect(
        clippy::new_without_default,
        reason = "an error is made where it happens, and `Default` could not name that place"
    )]
    pub fn new() -> Self {
        Self {
            place: Location::caller(),
        }
    }

    /// Where in the source the time limit was set.
    #[must_use]
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out (limit set at {})", self.place)
    }
}

impl Error for TimedOut {}

impl From<TimedOut> for io::Error {
    fn from(error: TimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}
