//! What becomes of the items that reach a terminal: how one lane gathers them, and how the
//! lanes' shares become one result. When lanes run, and on what, is no sink's affair.
//!
//! A *run* is a stretch of neighbouring source positions that one lane works through.
//! Runs cover every position exactly once, so a sink that keeps their order keeps the
//! order of the source.

pub(crate) mod attempt;
pub(crate) mod gather;
pub(crate) mod reduce;
pub(crate) mod tally;

use selvedge_cancel::ambient;

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
    /// Whether an ordered pipeline has to tell this sink where runs begin and end.
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
    /// The run ends before this position; it stems from `from`.
    fn close(&self, share: &mut Self::Share, from: Origin, end: u64) -> Verdict {
        let _ = (share, from, end);
        Verdict::More
    }
    /// Makes the result of all shares, once every lane has ended.
    fn finish(&self, shares: Vec<Self::Share>) -> Self::Out;
}

/// Where something that reaches a sink stems from, and whether a cancellation was in its way.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The position in the source.
    pub(crate) at: u64,
    /// Whether, after the stop, one of its earlier polls met a cancellation.
    pub(crate) cut: bool,
    /// This thread's count of cancellations before the present poll.
    pub(crate) before: u64,
}

impl Origin {
    /// Of what is begun or polled now, for a sink that may fail or not.
    #[inline]
    pub(crate) fn now(at: u64, fails: bool) -> Self {
        Self {
            at,
            cut: false,
            before: if fails { ambient::cancellations() } else { 0 },
        }
    }

    /// Whether a cancellation was met in the present poll or, after the stop, in one before.
    pub(crate) fn met_cancellation(&self) -> bool {
        self.cut || ambient::cancellations() != self.before
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
