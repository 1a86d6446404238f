//! What a scope answers when it cannot start a child: why, and the future back.

use std::error::Error;
use std::fmt;

use crate::task::Kept;

/// Why a scope did not take a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// As many children as the scope's limit allows are running.
    Full,
    /// The scope is cancelled.
    Cancelled,
    /// The scope has ended.
    Closed,
}

/// A child that was not started; the future is inside, never polled.
pub struct Refused<Fut> {
    future: Fut,
    why: Why,
}

impl<Fut> Refused<Fut> {
    /// Gives the future back.
    pub fn into_inner(self) -> Fut {
        self.future
    }

    /// Why it was not started.
    pub fn why(&self) -> Why {
        self.why
    }
}

/// The answer of a spawn that was refused. Not in the spawn itself, whose frame has no room for it then.
#[cold]
#[inline(never)]
pub(crate) fn refused<T, Fut>(future: &mut Kept<Fut>, why: Why) -> Result<T, Refused<Fut>> {
    Err(Refused {
        future: future.take(),
        why,
    })
}

impl<Fut> fmt::Debug for Refused<Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<Fut> fmt::Display for Refused<Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::Full => "the scope is full: wait for a child to end, then try again",
            Why::Cancelled => "the scope is cancelled and takes no further children",
            Why::Closed => "the scope has ended and takes no further children",
        })
    }
}

impl<Fut> Error for Refused<Fut> {}
