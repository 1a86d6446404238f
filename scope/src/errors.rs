//! All errors of a `try_scope` that asked for them. How its first error cancels the rest is the scope's own.

use std::error::Error;
use std::fmt;

use selvedge_cancel::{TaskId, is_searching};

/// A member's error, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskError<E> {
    /// What the member returned.
    pub error: E,
    /// The member: a child's [`JoinHandle::id`](crate::JoinHandle::id), or the body's number.
    pub task: TaskId,
}

impl<E> TaskError<E> {
    pub(crate) fn new(error: E, task: TaskId) -> Self {
        Self { error, task }
    }
}

/// Every error of a `try_scope`; from [`TryScoped::all_errors`](crate::TryScoped::all_errors).
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, try_scope};
///
/// let both = block_on(try_scope(async |s| {
///     s.spawn(async { Err::<(), _>("first") });
///     s.spawn(async { Err::<(), _>("second") });
///     Ok(())
/// }).inline().all_errors());
/// let errors = both.unwrap_err();
/// assert_eq!(errors.len(), 2);
/// assert_eq!(errors.into_primary(), "first");
/// ```
#[non_exhaustive]
pub struct ScopeErrors<E> {
    /// The error that the scope would have failed with otherwise.
    pub primary: TaskError<E>,
    /// Those that came later, in order of arrival.
    pub others: Vec<TaskError<E>>,
    /// Errors from members that stopped because they were cancelled: those that hold a `Cancelled`. They are no
    /// failures, and [`len`](Self::len) and [`iter`](Self::iter) leave them out.
    pub cancelled: Vec<TaskError<E>>,
}

impl<E> ScopeErrors<E> {
    /// How many failures there are; at least one.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "there is always at least one error"
    )]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// The failures, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &TaskError<E>> {
        std::iter::once(&self.primary).chain(&self.others)
    }

    /// The first error; the others are dropped.
    #[must_use]
    pub fn into_primary(self) -> E {
        self.primary.error
    }
}

impl<E: fmt::Debug> fmt::Debug for ScopeErrors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("ScopeErrors");
        all.field("primary", &self.primary);
        // It is a cancellation if the primary error is one, whatever the others are.
        if !is_searching() {
            all.field("others", &self.others);
            all.field("cancelled", &self.cancelled);
        }
        all.finish()
    }
}

impl<E: fmt::Display> fmt::Display for ScopeErrors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "task {} failed: {}",
            self.primary.task, self.primary.error
        )?;
        match self.others.len() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl<E: Error + 'static> Error for ScopeErrors<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.primary.error)
    }
}
