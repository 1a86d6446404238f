//! The scope engine of selvedge: scopes whose children borrow, run in parallel, and never outlive them.
//!
//! Use it through the façade crate `selvedge`. The idea, *lent polls*: children live inside the scope's
//! future and are polled only while somebody polls it, by that thread and, when it pays, by threads of a
//! pool that have left again before the poll returns.

#[doc(hidden)]
pub mod batch;
#[cfg(doctest)]
mod compile_fail;
mod errors;
mod join;
mod join_handle;
mod knobs;
mod limit;
mod messages;
#[cfg(all(test, selvedge_loom))]
mod models;
mod pool;
mod pool_builder;
mod pool_queue;
mod refused;
mod rt;
mod scope;
mod select_safe_child;
mod sync;
mod task;
mod try_scope;
mod watched;
mod window;

#[cfg_attr(not(feature = "testing"), doc(hidden))]
pub mod lending;
pub mod state;
pub mod time;

pub use errors::{ScopeErrors, TaskError};
pub use join::{
    Join, JoinAll, JoinTuple, TryJoin, TryJoinAll, TryJoinTuple, join, join_all, try_join,
    try_join_all,
};
pub use join_handle::{CancelAndWait, JoinHandle};
pub use limit::{
    Shield, Timeout, TryTimeout, shield, shield_unbounded, timeout, timeout_at, try_timeout,
    try_timeout_at,
};
pub use pool::Pool;
pub use pool_builder::PoolBuilder;
pub use refused::{Refused, Why};
pub use rt::block_on;
pub use scope::{Scope, Scoped, scope};
pub use selvedge_cancel::TaskId;
pub use try_scope::{TryScope, TryScoped, try_scope};
