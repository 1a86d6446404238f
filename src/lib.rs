//! Structured concurrency for async Rust.
#![forbid(unsafe_code)]

pub use selvedge_cancel::{
    AssertSelectSafe, CancelToken, Cancelled, Cause, CauseKind, Checkpoint, DropGuard,
    FutureCancelExt, OnCancel, OrCancel, SelectSafe, TimedOut, WaitCancelled, select_safe,
};
pub use selvedge_iter::{
    Drive, IntoPar, ParMutExt, ParRefExt, ParStream, ParStreamExt, Pipe, Step, mark, par_iter,
};
pub use selvedge_scope::{
    Join, JoinAll, JoinHandle, JoinTuple, Pool, PoolBuilder, Refused, Scope, Scoped, TaskId,
    TryJoin, TryJoinAll, TryJoinTuple, TryScope, TryScoped, Why, block_on, join, join_all, scope,
    time, try_join, try_join_all, try_scope,
};

/// What the running code asks about its own cancellation, with no token in its hands.
pub mod cancel {
    pub use selvedge_cancel::{cancelled, check, checkpoint, current};
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
    pub use selvedge_cancel::{CancelToken, Cancelled, FutureCancelExt};
    pub use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
    pub use selvedge_scope::{JoinHandle, Pool, Scope, TryScope, block_on, scope, try_scope};
}

pub mod guide;
#[cfg(feature = "testing")]
pub mod testing;
