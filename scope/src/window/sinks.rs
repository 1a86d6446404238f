//! Kinds of scopes: what each keeps of its members' errors, and how it distinguishes a cancellation from a failure.
//! What follows from a failure is in [`blame`](super::blame).

use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge_cancel::{CancelToken, TaskId};

use super::core::Core;
use crate::sync::{Mutex, lock};
use crate::task::{Plain, Trying};

/// A kind of scope: what it keeps of its members' errors.
pub(crate) trait Sinks {
    type Sink;

    /// The scope is dropped early: drops what its sink holds, one by one, and hands panics to the scope.
    fn drain(sink: &Self::Sink, core: &Core);
}

/// What a kind of scope does with its body's output.
pub(crate) trait Family<O>: Sinks {
    /// # Safety
    /// A window of `core` is open, whose scope is of this family.
    unsafe fn body_ended(core: &Core, output: O) -> Option<O>;
}

impl Sinks for Plain {
    type Sink = ();

    fn drain((): &(), _: &Core) {}
}

impl<O> Family<O> for Plain {
    unsafe fn body_ended(_: &Core, output: O) -> Option<O> {
        Some(output)
    }
}

impl<E> Sinks for Trying<E> {
    type Sink = Errors<E>;

    fn drain(sink: &Errors<E>, core: &Core) {
        for failed in sink.take() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(failed.error))) {
                core.panicked(&raw const core.body, payload);
            }
        }
    }
}

impl<T, E> Family<Result<T, E>> for Trying<E> {
    unsafe fn body_ended(core: &Core, output: Result<T, E>) -> Option<Result<T, E>> {
        match output {
            Ok(value) => Some(Ok(value)),
            Err(error) => {
                // SAFETY: handed on from the caller: errors of this scope are of type `E`.
                drop(unsafe { core.failed(&raw const core.body, error) });
                None
            }
        }
    }
}

/// A member's error.
#[derive(Debug)]
pub(crate) struct Failed<E> {
    pub(crate) error: E,
    pub(crate) task: TaskId,
    /// It holds a cancellation that the member or the scope was under, and is no failure.
    pub(crate) cancelled: bool,
}

/// How a `try_scope` distinguishes the error of a cancelled member from a failure. Function pointers, so that only
/// the constructor needs bounds on `E`.
#[derive(Debug)]
pub(crate) enum Classify<E> {
    /// By looking for a `Cancelled` in it that one of these tokens explains: the member's own, if it has one, and the
    /// scope's.
    Search(fn(&E, Option<&CancelToken>, &CancelToken) -> bool),
    /// By what the user says, for members that are cancelled.
    User(fn(&E) -> bool),
}

/// The errors of a `try_scope`, in order of arrival.
#[derive(Debug)]
pub(crate) struct Errors<E> {
    list: Mutex<Vec<Failed<E>>>,
    classify: Classify<E>,
}

impl<E> Errors<E> {
    pub(crate) fn new(classify: Classify<E>) -> Self {
        Self {
            list: Mutex::new(Vec::new()),
            classify,
        }
    }

    pub(crate) fn set_classify(&mut self, classify: Classify<E>) {
        self.classify = classify;
    }

    /// Whether an error holds a cancellation of the member that it is from, or of the scope. Runs user code, which may panic.
    pub(super) fn is_cancellation(
        &self,
        error: &E,
        own: Option<&CancelToken>,
        scope: &CancelToken,
    ) -> bool {
        match self.classify {
            Classify::Search(search) => search(error, own, scope),
            Classify::User(says) => own.unwrap_or(scope).is_cancelled() && says(error),
        }
    }

    pub(super) fn push(&self, error: E, task: TaskId, cancelled: bool) {
        lock(&self.list).push(Failed {
            error,
            task,
            cancelled,
        });
    }

    /// All that have come so far.
    pub(crate) fn take(&self) -> Vec<Failed<E>> {
        std::mem::take(&mut *lock(&self.list))
    }
}
