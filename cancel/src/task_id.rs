//! The number of a task, which a cause can name. It lives here because causes do; what else there
//! is to know of a task is its engine's.

use std::fmt;
use std::num::NonZeroU64;

use crate::sync::plain;

/// A task's number, unique in the process for as long as it runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    /// A number that no other task has; for engines.
    #[doc(hidden)]
    #[must_use]
    pub fn next() -> Self {
        static NEXT: plain::AtomicU64 = plain::AtomicU64::new(1);
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(1, plain::Ordering::Relaxed);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
