//! Sinks that do not care where an item came from: `for_each`, `count`, `sum`. Each lane
//! keeps one small value. What keeps order is in `reduce` and `gather`.

use std::fmt;
use std::iter::Sum;

use super::{Origin, Sink, SinkShape, Verdict};
use crate::pipe::sealed::Sealed;
use crate::sync::{Mutex, lock};

/// The terminal behind [`ParStream::for_each`](crate::ParStream::for_each).
#[derive(Debug)]
pub struct ForEach(pub(crate) ());

/// The terminal behind [`ParStream::count`](crate::ParStream::count).
#[derive(Debug)]
pub struct Count(pub(crate) ());

/// The terminal behind [`ParStream::sum`](crate::ParStream::sum).
pub struct Total<S> {
    /// What lanes that have ended came to.
    ended: Mutex<Option<S>>,
}

impl<S> Total<S> {
    pub(crate) fn new() -> Self {
        Self {
            ended: Mutex::new(None),
        }
    }
}

impl<S> fmt::Debug for Total<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Total").finish_non_exhaustive()
    }
}

impl Sealed for ForEach {}
impl Sealed for Count {}
impl<S> Sealed for Total<S> {}

impl SinkShape for ForEach {
    type Share = ();
}

impl SinkShape for Count {
    type Share = usize;
}

impl<S> SinkShape for Total<S> {
    type Share = Option<S>;
}

impl Sink<()> for ForEach {
    type Out = ();
    const RUNS: bool = false;
    const FAILS: bool = false;

    fn share(&self) {}

    #[inline]
    fn feed(&self, (): &mut (), _: Origin, (): ()) -> Verdict {
        Verdict::More
    }

    fn finish(&self, _: Vec<()>) {}
}

impl<T> Sink<T> for Count {
    type Out = usize;
    const RUNS: bool = false;
    const FAILS: bool = false;

    fn share(&self) -> usize {
        0
    }

    #[inline]
    fn feed(&self, share: &mut usize, _: Origin, item: T) -> Verdict {
        drop(item);
        *share += 1;
        Verdict::More
    }

    fn finish(&self, shares: Vec<usize>) -> usize {
        shares.into_iter().sum()
    }
}

impl<T, S: Sum<T> + Sum<S> + Send> Sink<T> for Total<S> {
    type Out = S;
    const RUNS: bool = false;
    const FAILS: bool = false;

    fn share(&self) -> Option<S> {
        None
    }

    #[inline]
    fn feed(&self, share: &mut Option<S>, _: Origin, item: T) -> Verdict {
        let one = S::sum(std::iter::once(item));
        *share = Some(match share.take() {
            Some(sum) => S::sum([sum, one].into_iter()),
            None => one,
        });
        Verdict::More
    }

    fn end(&self, share: &mut Option<S>, _: u64) -> Option<(Verdict, u64)> {
        let own = share.take()?;
        let mut ended = lock(&self.ended);
        let Some(other) = ended.take() else {
            *ended = Some(own);
            return None;
        };
        drop(ended);
        *share = Some(S::sum([other, own].into_iter()));
        Some((Verdict::More, 0))
    }

    fn finish(&self, shares: Vec<Option<S>>) -> S {
        let ended = lock(&self.ended).take();
        S::sum(shares.into_iter().flatten().chain(ended))
    }
}
