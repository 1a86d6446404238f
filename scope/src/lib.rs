//! See the façade crate `selvedge`.
