//! The scope engine: see the façade crate `selvedge`.

pub mod batch;
