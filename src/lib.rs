//! Structured concurrency for async Rust.
#![forbid(unsafe_code)]

pub use selvedge_cancel::{
    AssertSelectSafe, CancelToken, Cancelled, Cause, CauseKind, Checkpoint, DropGuard,
    FutureCancelExt, OnCancel, OrCancel, SelectSafe, TimedOut, WaitCancelled, select_safe,
};
pub use selvedge_scope::{block_on, time};

/// What the running code asks about its own cancellation, with no token in its hands.
pub mod cancel {
    pub use selvedge_cancel::{cancelled, check, checkpoint, current};
}

/// What a runtime provides.
pub mod rt {
    pub use selvedge_cancel::{Ticket, Timer};
}

#[cfg(feature = "testing")]
pub mod testing;
