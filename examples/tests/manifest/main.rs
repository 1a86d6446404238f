//! Whole runs of the `manifest` program on trees made for the purpose: what it prints and where, how
//! it ends, and whether `find` and `sha256sum` agree. Not about its parts: those test themselves.

mod check;
mod common;
#[cfg(target_os = "linux")]
mod stops;
mod sums;
