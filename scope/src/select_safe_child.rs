//! The child of `spawn_select_safe`: a future that is dropped, instead of polled, once it is cancelled.
//! A cancellation polls every child of its scope, so this happens in the next window.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use selvedge_cancel::{Cancelled, FineDrop};

use crate::task::Kept;

pin_project! {
    /// In a `scope`, whose handle yields the `Result`. Made in its cell, of a future in a [`Kept`].
    #[repr(transparent)]
    pub(crate) struct SelectSafeChild<F> {
        #[pin]
        future: Kept<F>,
    }
}

impl<F: Future> Future for SelectSafeChild<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        if let Err(cancelled) = selvedge_cancel::check() {
            let fine = FineDrop::begin();
            future.as_mut().clear();
            drop(fine);
            return Poll::Ready(Err(cancelled));
        }
        match future.as_pin_mut() {
            Some(future) => future.poll(cx).map(Ok),
            None => Poll::Pending,
        }
    }
}

pin_project! {
    /// In a `try_scope`, to which an error of the future goes, but not that it was dropped.
    #[repr(transparent)]
    pub(crate) struct TrySelectSafeChild<F> {
        #[pin]
        child: SelectSafeChild<F>,
    }
}

/// What came of it: the output, or that it was dropped.
pub(crate) struct Cut<T>(pub(crate) Result<T, Cancelled>);

impl<F: Future> Future for TrySelectSafeChild<F> {
    type Output = Cut<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().child.poll(cx).map(Cut)
    }
}
