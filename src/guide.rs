//! The guide: chapters on what a program meets first, each with blocks that run as tests.
//!
//! The text is in `docs/guide/`; this module only gives it a place in the documentation.

#[doc = include_str!("../docs/guide/recursion.md")]
pub mod recursion {}

#[doc = include_str!("../docs/guide/inner_scopes.md")]
pub mod inner_scopes {}

#[doc = include_str!("../docs/guide/helpers.md")]
pub mod helpers {}

#[doc = include_str!("../docs/guide/cancellation.md")]
pub mod cancellation {}

#[doc = include_str!("../docs/guide/deadlines.md")]
pub mod deadlines {}

#[doc = include_str!("../docs/guide/select.md")]
pub mod select {}

#[doc = include_str!("../docs/guide/tokio.md")]
pub mod tokio {}

#[doc = include_str!("../docs/guide/patterns.md")]
pub mod patterns {}

/// Runs the blocks of the README as tests; nothing of it is public.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
