//! The embedded runtime: an executor for one future and a timer, for programs without a runtime
//! and for tests. Not a place to spawn: what runs at the same time is the scope's business.

mod block_on;
#[cfg(all(test, unix, not(selvedge_loom)))]
mod fork_tests;
#[cfg(all(test, not(selvedge_loom)))]
mod tests;
mod timer;

pub use block_on::block_on;
#[cfg(feature = "tokio")]
pub(crate) use block_on::in_block_on;
pub(crate) use block_on::{calls_of_block_on, may_go_on, poll_of_block_on};
pub(crate) use timer::embedded;
