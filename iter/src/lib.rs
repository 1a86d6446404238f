//! The parallel streams of selvedge: async rayon.
//!
//! A [`ParStream`] is a source (`stream.par()`, `collection.into_par()`, `slice.par()`,
//! [`par_iter`]), stages, and a terminal. The terminal's future, [`Drive`], runs as a few
//! *lanes*: children of one window that take batches of items and send each through all
//! stages. Closures borrow; asynchronous items need no task and no allocation; the order
//! of the source is kept unless you give it up. Not here: the engine that polls lanes in
//! parallel, which is `selvedge-scope`. Use it through the façade crate `selvedge`.
//!
//! How lanes take turns, what bounds them, how order is kept and what happens when an item
//! fails is told in the `README.md` beside the source.
#![forbid(unsafe_code)]

#[cfg(all(test, not(selvedge_loom)))]
mod biting;
mod drive;
mod held;
mod lane;
#[cfg(all(test, selvedge_loom))]
mod models;
mod one_by_one;
mod pace;
mod par;
mod pipe;
mod plan;
mod roster;
mod shared;
mod sink;
mod source;
mod stage;
mod sync;
#[cfg(all(test, not(selvedge_loom)))]
mod tests;

pub use drive::Drive;
pub use par::ParStream;
pub use pipe::Pipe;
pub use source::into::{IntoPar, ParMutExt, ParRefExt, ParStreamExt, par_iter};
pub use stage::each::{Step, mark};

/// The types of the sources, for code that has to name one.
pub mod sources {
    pub use crate::source::iter::FromIter;
    pub use crate::source::owned::{FromOwned, FromVec};
    pub use crate::source::range::FromRange;
    #[doc(hidden)]
    pub use crate::source::range::{Integer, Integers};
    pub use crate::source::slice::{FromSlice, FromSliceMut};
    pub use crate::source::stream::FromStream;
    #[doc(hidden)]
    pub use crate::source::{Ask, Buffer, One, Pulled, Source, Waiting};
}

/// The types of the stages, for code that has to name one.
pub mod stages {
    #[doc(hidden)]
    pub use crate::pipe::{Begun, Never, Shape};
    pub use crate::stage::each::Each;
    #[doc(hidden)]
    pub use crate::stage::each::{Late, Nothing, Stepped};
    #[doc(hidden)]
    pub use crate::stage::fold::Kept;
    pub use crate::stage::fold::{Fold, TryFold};
    pub use crate::stage::map::{Filter, FilterMap, Inspect, Map};
    #[doc(hidden)]
    pub use crate::stage::then::{SiftFlow, Sifted, ThenFlow};
    pub use crate::stage::then::{Then, ThenFilter};
}

/// The types of the terminals, for code that has to name one.
pub mod sinks {
    pub use crate::sink::attempt::TryForEach;
    #[doc(hidden)]
    pub use crate::sink::gather::Heap;
    pub use crate::sink::gather::{Collect, TryCollect};
    pub use crate::sink::reduce::{Fallible, Reduce, WithIdentity, Without};
    #[doc(hidden)]
    pub use crate::sink::reduce::{Join, Joined};
    pub use crate::sink::tally::{Count, ForEach, Total};
    #[doc(hidden)]
    pub use crate::sink::{Origin, Sink, SinkShape, Verdict};
}
