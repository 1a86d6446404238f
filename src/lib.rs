//! Structured concurrency for async Rust.
#![forbid(unsafe_code)]
