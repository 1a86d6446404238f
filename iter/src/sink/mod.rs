//! What becomes of the items that reach a terminal: how one lane gathers them, and how the
//! lanes' shares become one result. When lanes run, and on what, is no sink's affair.
//!
//! A *run* is a stretch of neighbouring source positions that one lane works through.
//! Runs cover every position exactly once, so a sink that keeps their order keeps the
//! order of the source. After a failure they cover no position that was not begun.

pub(crate) mod attempt;
pub(crate) mod gather;
pub(crate) mod join;
pub(crate) mod reduce;
pub(crate) mod tally;

use selvedge_cancel::ambient::{self, Cancellations};

/// The type of one lane's part of a result. Apart from [`Sink`] for the same reason as
/// `Shape` from `Pipe`.
#[doc(hidden)]
pub trait SinkShape {
    /// One lane's share.
    type Share;
}

/// The end of a pipeline.
///
/// Hidden: it is public only because [`Drive`](crate::Drive) is bounded by it.
#[doc(hidden)]
pub trait Sink<T>: SinkShape<Share: Send> + Send + Sync + crate::pipe::sealed::Sealed {
    /// The result.
    type Out;
    /// Whether an ordered pipeline has to tell this sink where runs begin and end. Others it may tell.
    const RUNS: bool;
    /// Whether an item can end the intake.
    const FAILS: bool;

    /// An empty share.
    fn share(&self) -> Self::Share;
    /// A run begins, at this position of the source.
    fn open(&self, share: &mut Self::Share, first: u64) {
        let _ = (share, first);
    }
    /// An item arrives.
    fn feed(&self, share: &mut Self::Share, from: Origin, item: T) -> Verdict;
    /// The run ends before this position. Not called for a run that lies behind a failure.
    fn close(&self, share: &mut Self::Share, end: u64) -> Verdict {
        let _ = (share, end);
        Verdict::More
    }
    /// A lane has ended: one step of what can be done with its share before the others end, beside them, as far as it
    /// begins before `limit`, and where a failure of it counts. `None`: there is nothing left to do.
    fn end(&self, share: &mut Self::Share, limit: u64) -> Option<(Verdict, u64)> {
        let _ = (share, limit);
        None
    }
    /// Makes the result of all shares, once every lane has ended.
    fn finish(&self, shares: Vec<Self::Share>) -> Self::Out;
}

/// Where something that reaches a sink stems from, and whether a cancellation was in its way.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin {
    /// The position in the source.
    pub(crate) at: u64,
    /// Whether, after the stop, one of its earlier polls met a cancellation.
    pub(crate) cut: bool,
    /// How many more `Cancelled`s were made than dropped in its earlier polls.
    pub(crate) kept: i64,
    /// What this thread had counted before the present poll.
    pub(crate) before: Cancellations,
}

impl Origin {
    /// Of what is begun now, for a sink that may fail or not.
    #[inline]
    pub(crate) fn now(at: u64, fails: bool) -> Self {
        Self {
            at,
            ..Self::default()
        }
        .again(fails)
    }

    /// Of the same, when it is polled again.
    #[inline]
    pub(crate) fn again(mut self, fails: bool) -> Self {
        if fails {
            self.before = ambient::cancellations();
        }
        self
    }

    /// Of the same, which has to wait after the present poll.
    #[inline]
    pub(crate) fn paused(self, cut: bool, fails: bool) -> Self {
        let kept = if fails { self.kept() } else { 0 };
        Self { cut, kept, ..self }
    }

    /// Whether a cancellation was met in the present poll or, after the stop, in one before.
    pub(crate) fn met_cancellation(&self) -> bool {
        self.cut || ambient::cancellations().made != self.before.made
    }

    /// How many of the `Cancelled`s that were met are kept somewhere, if no others were dropped meanwhile.
    pub(crate) fn kept(&self) -> i64 {
        self.kept + ambient::cancellations().kept_since(self.before)
    }
}

/// Whether to go on after an item.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    More,
    /// This item failed: begin nothing that cannot change the result any more.
    Fail,
}
