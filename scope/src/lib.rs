//! The scope engine: see the façade crate `selvedge`.

pub mod batch;
mod rt;
pub mod time;

pub use rt::block_on;
