//! What the fallible terminals share: which of several errors is the result. Also
//! `try_for_each`, which keeps nothing else.

use super::{Sink, SinkShape, Verdict};
use crate::pipe::sealed::Sealed;
use crate::sync::{Mutex, lock};

/// The error that a pipeline will end with: of an ordered one the first in source order,
/// of an unordered one the first in time.
///
/// An ordered pipeline goes on with items before the failed one, so that the choice does not
/// depend on which lane was faster.
#[derive(Debug)]
pub(crate) struct FirstError<E> {
    ordered: bool,
    first: Mutex<Option<(u64, E)>>,
}

impl<E> FirstError<E> {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            first: Mutex::new(None),
        }
    }

    /// Keeps `error` if it comes before the one kept so far.
    pub(crate) fn offer(&self, at: u64, error: E) -> Verdict {
        let mut first = lock(&self.first);
        let wins = match &*first {
            Some((other, _)) => self.ordered && at < *other,
            None => true,
        };
        let loser = if wins {
            first.replace((at, error)).map(|(_, e)| e)
        } else {
            Some(error)
        };
        // Unlocked first: the loser's destructor is user code.
        drop(first);
        drop(loser);
        Verdict::Fail
    }

    pub(crate) fn take(&self) -> Option<E> {
        lock(&self.first).take().map(|(_, error)| error)
    }
}

/// The terminal behind [`ParStream::try_for_each`](crate::ParStream::try_for_each).
#[derive(Debug)]
pub struct TryForEach<E> {
    errors: FirstError<E>,
}

impl<E> TryForEach<E> {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            errors: FirstError::new(ordered),
        }
    }
}

impl<E> Sealed for TryForEach<E> {}

impl<E> SinkShape for TryForEach<E> {
    type Share = ();
}

impl<E: Send> Sink<Result<(), E>> for TryForEach<E> {
    type Out = Result<(), E>;
    const RUNS: bool = false;
    const FAILS: bool = true;

    fn share(&self) {}

    #[inline]
    fn feed(&self, (): &mut (), at: u64, item: Result<(), E>) -> Verdict {
        match item {
            Ok(()) => Verdict::More,
            Err(error) => self.errors.offer(at, error),
        }
    }

    fn finish(&self, _: Vec<()>) -> Result<(), E> {
        self.errors.take().map_or(Ok(()), Err)
    }
}
