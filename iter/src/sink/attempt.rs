//! What the fallible terminals share: which of several errors is the result. Also
//! `try_for_each`, which keeps nothing else.

use selvedge_cancel::{CancelSource, ambient, quietly};

use super::{Origin, Sink, SinkShape, Verdict};
use crate::pipe::sealed::Sealed;
use crate::sync::{Mutex, lock};

/// The error that a pipeline will end with: of an ordered one the first in source order,
/// of an unordered one the first in time.
///
/// An ordered pipeline goes on with items before the failed one, so that the choice does not
/// depend on which lane was faster. Items that were asked to stop because another had failed
/// are apt to fail too, and one of them may come before it in the source. What they answer is
/// the failure's echo and must not hide it.
#[derive(Debug)]
pub(crate) struct FirstError<E> {
    ordered: bool,
    first: Mutex<Option<Kept<E>>>,
    /// Whether an error holds a `Cancelled` that is counted at the lanes' token, which is this
    /// thread's current one. A function pointer, so that only the constructor needs bounds on `E`.
    holds: fn(&E) -> bool,
}

#[derive(Debug)]
struct Kept<E> {
    at: u64,
    error: E,
}

impl<E: CancelSource> FirstError<E> {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            first: Mutex::new(None),
            holds: |error| ambient::token().is_some_and(|token| token.has_live_in(error)),
        }
    }
}

impl<E> FirstError<E> {
    pub(crate) fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Keeps `error` if it comes before the one kept so far and is no echo of it.
    ///
    /// The stop is raised after the first error was kept, so an echo always finds that one here.
    /// To the intake an echo is no failure: items between it and the error kept still count.
    pub(crate) fn offer(&self, from: Origin, error: E) -> Verdict {
        let stopped = lock(&self.first).is_some();
        // Not under the lock: this runs the error's `Debug`.
        let echo = stopped && self.is_echo(&from, &error);
        let kept = Kept { at: from.at, error };
        let mut first = lock(&self.first);
        let wins = match &*first {
            Some(other) => self.ordered && !echo && kept.at < other.at,
            None => true,
        };
        let loser = if wins {
            first.replace(kept)
        } else {
            Some(kept)
        };
        // Unlocked first: the loser's destructor is user code.
        drop(first);
        quietly(|| drop(loser));
        if echo { Verdict::More } else { Verdict::Fail }
    }

    /// Whether an error, of an item that ended after the stop, is only the answer to that.
    ///
    /// It is if it holds a `Cancelled` of the lanes' token. It is also if the item met a cancellation and
    /// no `Cancelled` is left of it: then the error was made from one and keeps nothing of it, as a
    /// text or a bare enum does. If one is left that is not in the error, it is kept elsewhere,
    /// and the error is the item's own.
    fn is_echo(&self, from: &Origin, error: &E) -> bool {
        (self.holds)(error) || from.met_cancellation() && from.kept() <= 0
    }

    /// The result's error.
    pub(crate) fn take(&self) -> Option<E> {
        lock(&self.first).take().map(|kept| kept.error)
    }
}

/// The terminal behind [`ParStream::try_for_each`](crate::ParStream::try_for_each).
#[derive(Debug)]
pub struct TryForEach<E> {
    errors: FirstError<E>,
}

impl<E: CancelSource> TryForEach<E> {
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
    fn feed(&self, (): &mut (), from: Origin, item: Result<(), E>) -> Verdict {
        match item {
            Ok(()) => Verdict::More,
            Err(error) => self.errors.offer(from, error),
        }
    }

    fn finish(&self, _: Vec<()>) -> Result<(), E> {
        self.errors.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::FirstError;
    use crate::sink::{Origin, Verdict};

    fn at(at: u64, cut: bool) -> Origin {
        Origin {
            cut,
            ..Origin::now(at, true)
        }
    }

    #[test]
    fn echo_of_a_failure_neither_wins_nor_moves_the_limit() {
        for ordered in [true, false] {
            let errors = FirstError::new(ordered);
            assert_eq!(errors.offer(at(9, false), "first"), Verdict::Fail);
            assert_eq!(errors.offer(at(2, true), "echo"), Verdict::More);
            assert_eq!(errors.offer(at(5, false), "earlier"), Verdict::Fail);
            let want = if ordered { "earlier" } else { "first" };
            assert_eq!(errors.take(), Some(want));
        }
    }

    #[test]
    fn cancellation_before_any_failure_is_the_failure() {
        let errors = FirstError::new(true);
        assert_eq!(errors.offer(at(4, true), "cancelled"), Verdict::Fail);
        assert_eq!(errors.take(), Some("cancelled"));
    }

    #[test]
    fn error_whose_item_has_kept_the_cancellation_elsewhere_is_no_echo() {
        for (kept, won) in [(0, "first"), (1, "own")] {
            let errors = FirstError::new(true);
            assert_eq!(errors.offer(at(9, false), "first"), Verdict::Fail);
            errors.offer(
                Origin {
                    kept,
                    ..at(2, true)
                },
                "own",
            );
            assert_eq!(errors.take(), Some(won));
        }
    }
}
