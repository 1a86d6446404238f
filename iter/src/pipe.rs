//! What a source and its stages look like to a lane: how an item enters, how it goes on
//! after it had to wait, and what is left to hand out at the end of a run of items.
//! Every method is generic and small, so that a chain of synchronous stages compiles to
//! one loop. How items are fetched is a source's affair, what happens to results a sink's.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::source::Source;

/// The types of what a lane keeps for a pipe.
///
/// Apart from [`Pipe`], and implemented without a bound on closures, for the compiler's sake:
/// whether a `Drive` that a task awaits is `Send` is decided with lifetimes erased, and no
/// closure over borrowed items is "general enough" then. So nothing in a `Drive` may depend
/// on what its closures can be called with; such types are parameters of the stages instead.
#[doc(hidden)]
pub trait Shape {
    /// Items taken and not yet begun, in source order.
    type Chunk;
    /// What stages keep between items: the accumulators of `fold`.
    type State;
    /// An item that has to wait: the future of an asynchronous stage.
    type Flow;
}

/// A source of items and the stages behind it; what a [`ParStream`](crate::ParStream) runs.
///
/// The trait is sealed: it appears in bounds (`P: Pipe<Item = u64>`), but only the sources
/// and stages of this crate implement it. Its hidden methods are no part of the public
/// surface and may change at any time.
pub trait Pipe:
    Shape<Chunk: Iterator<Item: Send> + Default + Send, State: Send, Flow: Send>
    + sealed::Sealed
    + Send
    + Sync
{
    /// What comes out of the last stage.
    type Item: Send;

    /// Where the items come from.
    #[doc(hidden)]
    type Source: Source<Chunk = Self::Chunk, Item = <Self::Chunk as Iterator>::Item>;
    /// Whether a stage may have to wait. Decides how many lanes run.
    #[doc(hidden)]
    const SUSPENDS: bool;
    /// Whether an item may have to wait as soon as it begins, and not only what a stage has gathered, or an error that it
    /// hands on at once. Then a lane takes one at a time.
    #[doc(hidden)]
    const WAITS_AT_ONCE: bool;
    /// Whether a stage gathers items. In an ordered stream those of a run only, whatever the terminal wants.
    #[doc(hidden)]
    const KEEPS: bool;

    /// The source, which all lanes share.
    #[doc(hidden)]
    fn source(&self) -> &Self::Source;
    /// Fresh state for one lane.
    #[doc(hidden)]
    fn state(&self) -> Self::State;
    /// How long stages took to begin what they keep, since this was last asked.
    #[doc(hidden)]
    fn began(&self, state: &mut Self::State) -> Duration;
    /// Sends an item through the stages up to the first one that has to wait. There it goes on in the place, which is
    /// empty before, and otherwise after: a big future is not handed on through all stages behind.
    #[doc(hidden)]
    fn begin(
        &self,
        state: &mut Self::State,
        item: <Self::Source as Source>::Item,
        place: Pin<&mut Option<Self::Flow>>,
    ) -> Begun<Self::Item>;
    /// Moves a waiting item on; `None` says that a stage filtered it out or kept it.
    #[doc(hidden)]
    fn resume(
        &self,
        state: &mut Self::State,
        flow: Pin<&mut Self::Flow>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Self::Item>>;
    /// Hands out what stages kept, one a call; `Dropped` says that nothing is left. With a place as `begin` has it.
    #[doc(hidden)]
    fn flush(
        &self,
        state: &mut Self::State,
        place: Pin<&mut Option<Self::Flow>>,
    ) -> Begun<Self::Item>;
}

/// How far an item got without waiting.
#[doc(hidden)]
#[derive(Debug)]
pub enum Begun<T> {
    /// Through all stages.
    Done(T),
    /// Filtered out, or kept by a `fold`.
    Dropped,
    /// To a stage that has to be polled: it is in its place.
    Waits,
}

/// The flow of a chain that never waits: it has no values, so its code disappears.
#[doc(hidden)]
#[derive(Debug)]
pub enum Never {}

/// Keeps foreign types from implementing the traits that lanes rely on.
pub(crate) mod sealed {
    #[allow(
        unnameable_types,
        reason = "sealing needs a public trait that nobody can name"
    )]
    pub trait Sealed {}
}

impl<S: Source> sealed::Sealed for S {}

impl<S: Source> Pipe for S {
    type Item = S::Item;
    type Source = S;
    const SUSPENDS: bool = false;
    const WAITS_AT_ONCE: bool = false;
    const KEEPS: bool = false;

    #[inline]
    fn source(&self) -> &S {
        self
    }

    fn state(&self) {}

    #[inline]
    fn began(&self, (): &mut ()) -> Duration {
        Duration::ZERO
    }

    #[inline]
    fn begin(&self, (): &mut (), item: S::Item, _: Pin<&mut Option<Never>>) -> Begun<S::Item> {
        Begun::Done(item)
    }

    fn resume(
        &self,
        (): &mut (),
        flow: Pin<&mut Never>,
        _: &mut Context<'_>,
    ) -> Poll<Option<S::Item>> {
        match *flow {}
    }

    #[inline]
    fn flush(&self, (): &mut (), _: Pin<&mut Option<Never>>) -> Begun<S::Item> {
        Begun::Dropped
    }
}
