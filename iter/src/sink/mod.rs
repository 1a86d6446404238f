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
    /// An item arrives; it stems from position `at` of the source.
    fn feed(&self, share: &mut Self::Share, at: u64, item: T) -> Verdict;
    /// The run ends before this position.
    fn close(&self, share: &mut Self::Share, end: u64) -> Verdict {
        let _ = (share, end);
        Verdict::More
    }
    /// Makes the result of all shares, once every lane has ended.
    fn finish(&self, shares: Vec<Self::Share>) -> Self::Out;
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
