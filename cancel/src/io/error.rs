//! `CancelledOr`: what a cancellable sink fails with. Not for reads and writes, whose `io::Error`
//! has room for a `Cancelled`.

use std::error::Error;
use std::{fmt, io};

use crate::Cancelled;

/// The error of an operation that either was cancelled or failed by itself, where the error of
/// its own has no room for a [`Cancelled`].
///
/// # Examples
/// ```
/// use selvedge_cancel::{Cancelled, CancelledOr};
/// use std::io;
///
/// fn send(full: bool) -> Result<(), CancelledOr<io::Error>> {
///     match full {
///         true => Err(CancelledOr::Other(io::ErrorKind::StorageFull.into())),
///         false => Err(Cancelled::new("enough").into()),
///     }
/// }
/// assert_eq!(io::Error::from(send(true).unwrap_err()).kind(), io::ErrorKind::StorageFull);
/// assert!(Cancelled::find_in(&send(false).unwrap_err()).is_some());
/// ```
#[derive(Clone, Debug)]
pub enum CancelledOr<E> {
    /// The operation did not happen, because it was cancelled.
    Cancelled(Cancelled),
    /// The operation failed by itself.
    Other(E),
}

impl<E> From<Cancelled> for CancelledOr<E> {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl<E: Into<io::Error>> From<CancelledOr<E>> for io::Error {
    fn from(error: CancelledOr<E>) -> Self {
        match error {
            CancelledOr::Cancelled(cancelled) => cancelled.into(),
            CancelledOr::Other(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CancelledOr<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CancelledOr<E> {
    /// The error inside, not that one's source: an `io::Error` that carries a `Cancelled` would
    /// hide it otherwise.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Other(error) => Some(error),
        }
    }
}
