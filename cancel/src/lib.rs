//! The cancellation tree of selvedge: tokens, causes, the ambient token and the timer trait.
//!
//! Cancellation here is a request. It flows down a tree of [`CancelToken`]s, is never taken
//! back, and carries a [`Cause`]; work that is cancelled notices at its next cancellable
//! operation, which fails with [`Cancelled`]. This crate runs nothing and knows no runtime.
//! Use it through the façade crate `selvedge`.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod ambient;
mod callbacks;
mod cause;
mod current;
mod error;
mod fine_drop;
mod held;
mod io;
#[doc(hidden)]
pub mod late;
mod node;
mod or_cancel;
mod phase;
mod process;
mod select;
mod select_safe;
#[cfg(all(feature = "signal", not(selvedge_loom)))]
mod signal;
mod slots;
mod sync;
mod task_id;
mod time;
mod token;
#[cfg(feature = "tokio-util")]
mod tokio_util;
mod user;
mod wait;
mod watch;

#[doc(hidden)]
pub use callbacks::CallbacksElsewhere;
pub use cause::{Cause, CauseKind};
pub use current::{cancelled, check, checkpoint, current, deadline, remaining, stopping};
pub use error::{Cancelled, TimedOut};
#[doc(hidden)]
pub use fine_drop::FineDrop;
pub use held::CancelSource;
#[doc(hidden)]
pub use held::is_searching;
pub use io::{Cancellable, CancelledOr, IoCancelExt, TryCancellable};
pub use or_cancel::{FutureCancelExt, OrCancel};
pub use phase::Phase;
#[doc(hidden)]
pub use process::PerProcess;
#[doc(hidden)]
pub use select::arms as __select;
pub use select::{Select, SelectTuple, select};
pub use select_safe::{AssertSelectSafe, SelectSafe, select_safe};
pub use task_id::TaskId;
pub use time::{Instant, Ticket, Timer};
pub use token::{CancelToken, DropGuard, OnCancel};
#[doc(hidden)]
pub use token::{Following, Watching};
#[doc(hidden)]
pub use user::quietly;
pub use wait::{Checkpoint, Stopping, WaitCancelled};
#[doc(hidden)]
pub use watch::Watch;
