//! The members of `try_join` and `try_join_all`: the first that fails is noted and cancels the rest.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use selvedge_cancel::{Cause, CauseKind};

use crate::task::quietly;

/// The output of the member that failed first. The others are dropped one by one: a destructor that panics must not
/// lose the error, nor end the process together with another one's.
pub(crate) fn take_first<O>(mut outputs: Vec<O>, index: usize) -> O {
    let first = outputs.swap_remove(index);
    for output in outputs {
        quietly(|| drop(output));
    }
    first
}

/// Which member failed first.
pub(crate) type First = Arc<FirstFailed>;

/// And where the call is that runs them.
#[derive(Debug)]
pub(crate) struct FirstFailed {
    index: OnceLock<usize>,
    place: &'static Location<'static>,
}

impl FirstFailed {
    #[track_caller]
    pub(crate) fn none() -> First {
        Arc::new(Self {
            index: OnceLock::new(),
            place: Location::caller(),
        })
    }

    pub(crate) fn get(&self) -> Option<usize> {
        self.index.get().copied()
    }
}

/// Wraps futures so that the first failure is noted and cancels the rest.
pub(crate) struct Watch<'a, I, F: Future> {
    futures: &'a mut I,
    first: &'a First,
    failed: fn(&F::Output) -> bool,
    index: usize,
}

impl<'a, F: Future, I: Iterator<Item = F>> Watch<'a, I, F> {
    pub(crate) fn new(
        futures: &'a mut I,
        first: &'a First,
        failed: fn(&F::Output) -> bool,
    ) -> Self {
        Self {
            futures,
            first,
            failed,
            index: 0,
        }
    }
}

impl<F: Future, I: Iterator<Item = F>> Iterator for Watch<'_, I, F> {
    type Item = Watched<F>;

    fn next(&mut self) -> Option<Watched<F>> {
        // Not by `map`: a big future would be moved on the stack by each layer.
        match self.futures.next() {
            None => None,
            Some(future) => {
                self.index += 1;
                Some(Watched {
                    future,
                    index: self.index - 1,
                    first: Arc::clone(self.first),
                    failed: self.failed,
                })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.futures.size_hint()
    }
}

pin_project! {
    /// A member whose failure cancels the others.
    #[doc(hidden)]
    pub struct Watched<F: Future> {
        #[pin]
        future: F,
        index: usize,
        first: First,
        failed: fn(&F::Output) -> bool,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        if (this.failed)(&output) && this.first.index.set(*this.index).is_ok() {
            let cause = Cause::new(CauseKind::SiblingFailed).with_place(this.first.place);
            // The current token is the batch's.
            selvedge_cancel::current().cancel_with(cause);
        }
        Poll::Ready(output)
    }
}

impl<F: Future> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
