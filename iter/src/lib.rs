//! See the façade crate `selvedge`.
#![forbid(unsafe_code)]
