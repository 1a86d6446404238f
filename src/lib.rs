//! Structured concurrency for async Rust, with rayon-style parallel streams.
//!
//! A [`scope()`] owns the tasks it starts. They may borrow from the stack around it, run in parallel, and
//! none outlives it: not after an error, a panic, a cancellation, and not if the scope is dropped or
//! forgotten. A scope is a plain `Future`; any executor will do, [`block_on`] among them.
//!
//! | for | see |
//! |---|---|
//! | tasks that borrow and run in parallel | [`scope()`], [`Scope`], [`JoinHandle`] |
//! | tasks that may fail: the first error cancels the rest | [`try_scope`], [`TryScope`] |
//! | a fixed set of futures | [`join`], [`join_all`], [`try_join`], [`try_join_all`] |
//! | streams and collections over all cores | [`ParStreamExt`], [`IntoPar`], [`ParStream`] |
//! | asking work to stop | [`CancelToken`], [`mod@cancel`], [`FutureCancelExt`] |
//! | I/O, streams and sinks that fail when asked to stop | [`IoCancelExt`] |
//! | the first of several events | [`select!`](macro@select), [`select()`], [`SelectSafe`] |
//! | limits in time, and clean-up that a cancellation spares | [`timeout()`], [`cancel::shield`] |
//! | time | [`time`], and `testing::VirtualClock` (feature `testing`) |
//! | which threads help | [`Pool`] |
//!
//! ```
//! use selvedge::{block_on, scope};
//!
//! let mut seen = 0;
//! let words = ["warp", "weft", "selvedge"];
//! let total = block_on(scope(async |s| {
//!     let count = s.spawn(async { words.len() });
//!     let letters = s.spawn(async { words.iter().map(|word| word.len()).sum::<usize>() });
//!     seen += count.await;
//!     letters.await
//! }));
//! assert_eq!((seen, total), (3, 16));
//! ```
//!
//! The [`guide`] has the chapters to read first. How it works, and what it costs, is in the README of the
//! repository and in its `ARCHITECTURE.md`.
#![forbid(unsafe_code)]

pub use selvedge_cancel::{
    AssertSelectSafe, CancelSource, CancelToken, Cancellable, Cancelled, CancelledOr, Cause,
    CauseKind, Checkpoint, DropGuard, FutureCancelExt, IoCancelExt, OnCancel, OrCancel, Phase,
    Select, SelectSafe, SelectTuple, Stopping, TimedOut, TryCancellable, WaitCancelled, select,
    select_safe,
};
pub use selvedge_iter::{
    Drive, IntoPar, ParMutExt, ParRefExt, ParStream, ParStreamExt, Pipe, Step, mark, par_iter,
};
pub use selvedge_scope::{
    CancelAndWait, Join, JoinAll, JoinHandle, JoinTuple, Pool, PoolBuilder, Refused, Scope,
    ScopeErrors, Scoped, TaskError, TaskId, Timeout, TryJoin, TryJoinAll, TryJoinTuple, TryScope,
    TryScoped, TryTimeout, Why, block_on, join, join_all, scope, state, time, timeout, timeout_at,
    try_join, try_join_all, try_scope, try_timeout, try_timeout_at,
};

/// What the running code asks about its own cancellation, with no token in its hands, and shields from it.
pub mod cancel {
    pub use selvedge_cancel::{
        cancelled, check, checkpoint, current, deadline, remaining, stopping,
    };
    pub use selvedge_scope::{Shield, shield, shield_unbounded};
}

/// The types behind parallel streams, for code that has to name one.
pub mod iter {
    pub use selvedge_iter::{sinks, sources, stages};
}

/// What a runtime provides.
pub mod rt {
    pub use selvedge_cancel::{Ticket, Timer};
}

/// What a first program needs: scopes, handles, and the traits that add methods.
pub mod prelude {
    pub use selvedge_cancel::{CancelToken, Cancelled, FutureCancelExt, IoCancelExt};
    pub use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt, par_iter};
    pub use selvedge_scope::{JoinHandle, Pool, Scope, TryScope, block_on, scope, try_scope};
}

pub mod guide;
#[cfg(feature = "testing")]
pub mod testing;
