//! Kinds of scopes: what each keeps of its members' errors, and how it distinguishes a cancellation from a failure.
//! What follows from a failure is in [`blame`](super::blame).

use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge_cancel::{CancelToken, TaskId};

use super::core::Core;
use crate::sync::{Mutex, lock};
use crate::task::{Plain, Trying, quietly};

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
    pub(crate) sort: Sort,
}

/// What a member's error says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    Failure,
    /// It holds a cancellation that the whole scope was under.
    Cancelled,
    /// It holds a cancellation of the member alone, or one that another member has handed on.
    CancelledAlone,
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
    list: Mutex<List<E>>,
    classify: Classify<E>,
    /// Whether those are kept that can be no part of a result.
    all: bool,
}

#[derive(Debug)]
struct List<E> {
    failed: Vec<Failed<E>>,
    /// There is one among them that a scope passes on which was cancelled from outside.
    has_cancelled: bool,
}

impl<E> List<E> {
    const fn new() -> Self {
        Self {
            failed: Vec::new(),
            has_cancelled: false,
        }
    }
}

impl<E> Errors<E> {
    pub(crate) fn new(classify: Classify<E>) -> Self {
        Self {
            list: Mutex::new(List::new()),
            classify,
            all: false,
        }
    }

    pub(crate) fn keep_all(&mut self) {
        self.all = true;
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

    /// A member's error. Of cancellations the first one and the body's can be of use, unless all are kept; a scope that lasts
    /// does not gather the others. Drops them, with nothing locked.
    pub(super) fn push(&self, failed: Failed<E>, is_body: bool) {
        let mut list = lock(&self.list);
        let is_wanted = match failed.sort {
            Sort::Failure => true,
            Sort::Cancelled => !std::mem::replace(&mut list.has_cancelled, true),
            Sort::CancelledAlone => false,
        };
        if is_wanted || is_body || self.all {
            list.failed.push(failed);
        } else {
            drop(list);
            quietly(|| drop(failed));
        }
    }

    /// All that have come so far.
    pub(crate) fn take(&self) -> Vec<Failed<E>> {
        std::mem::replace(&mut *lock(&self.list), List::new()).failed
    }
}
