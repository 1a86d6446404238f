//! Structured concurrency for async Rust.
#![forbid(unsafe_code)]

pub use selvedge_cancel::{
    AssertSelectSafe, CancelToken, Cancelled, Cause, CauseKind, Checkpoint, DropGuard,
    FutureCancelExt, OnCancel, OrCancel, SelectSafe, TimedOut, WaitCancelled, select_safe,
};
pub use selvedge_iter::{
    Drive, IntoPar, ParMutExt, ParRefExt, ParStream, ParStreamExt, Pipe, Step, mark, par_iter,
};
pub use selvedge_scope::{block_on, time};

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

/// What a first program needs: the traits that add methods.
pub mod prelude {
    pub use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
}

#[cfg(feature = "testing")]
pub mod testing;
