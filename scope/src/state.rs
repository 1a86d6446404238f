//! What a scope's knobs have made of its output: markers in the types of opened scopes, which nobody writes.

/// A `scope` that yields what its body yields.
#[derive(Debug)]
pub enum Plain {}

/// A `scope` with a grace period: its output is a `Result`.
#[derive(Debug)]
pub enum Graced {}

/// A `try_scope` that fails with its first error.
#[derive(Debug)]
pub enum First {}

/// A `try_scope` that fails with all its errors.
#[derive(Debug)]
pub enum All {}
