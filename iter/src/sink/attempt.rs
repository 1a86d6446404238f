//! What the fallible terminals share: which of several errors is the result. Also
//! `try_for_each`, which keeps nothing else.

use selvedge_cancel::ambient;

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
}

#[derive(Debug)]
struct Kept<E> {
    at: u64,
    /// Whether its item met a cancellation.
    cancelled: bool,
    error: E,
}

impl<E> FirstError<E> {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            first: Mutex::new(None),
        }
    }

    /// Keeps `error` if it comes before the one kept so far and is no echo of it.
    ///
    /// An echo is an error whose item met a cancellation after the stop. The stop is raised
    /// after the first error was kept, so an echo always finds that one here. To the intake
    /// an echo is no failure: items between it and the error kept still count.
    pub(crate) fn offer(&self, from: Origin, error: E) -> Verdict {
        let kept = Kept {
            at: from.at,
            cancelled: from.met_cancellation(),
            error,
        };
        let mut first = lock(&self.first);
        let (wins, echo) = match &*first {
            Some(other) => (
                self.ordered && !kept.cancelled && kept.at < other.at,
                kept.cancelled,
            ),
            None => (true, false),
        };
        let loser = if wins {
            first.replace(kept)
        } else {
            Some(kept)
        };
        // Unlocked first: the loser's destructor is user code.
        drop(first);
        drop(loser);
        if echo { Verdict::More } else { Verdict::Fail }
    }

    /// The result's error, taken by the thread that polls the terminal.
    ///
    /// If it stems from a cancellation, that counts for this thread too: the pipeline may be
    /// an item of another one, which then asks the same question.
    pub(crate) fn take(&self) -> Option<E> {
        let kept = lock(&self.first).take()?;
        if kept.cancelled {
            ambient::count_cancellation();
        }
        Some(kept.error)
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
    use selvedge_cancel::ambient;

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
    fn cancellation_met_on_another_thread_counts_where_the_result_is_taken() {
        for (cut, counted) in [(true, 1), (false, 0)] {
            let errors = FirstError::new(true);
            std::thread::scope(|s| {
                s.spawn(|| errors.offer(at(4, cut), "error"));
            });
            let before = ambient::cancellations();
            assert_eq!(errors.take(), Some("error"));
            assert_eq!(ambient::cancellations() - before, counted);
        }
    }
}
