//! The child of `spawn_select_safe`: a future that is dropped, instead of polled, once it is cancelled.
//! A cancellation polls every child of its scope, so this happens in the next window.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use selvedge_cancel::{Cancelled, FineDrop};

pin_project! {
    /// In a `scope`, whose handle yields the `Result`.
    pub(crate) struct SelectSafeChild<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F> SelectSafeChild<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Some(future),
        }
    }
}

impl<F: Future> Future for SelectSafeChild<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        if let Err(cancelled) = selvedge_cancel::check() {
            let fine = FineDrop::begin();
            future.set(None);
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
    pub(crate) struct TrySelectSafeChild<F> {
        #[pin]
        child: SelectSafeChild<F>,
    }
}

/// What came of it: the output, or that it was dropped.
pub(crate) struct Cut<T>(pub(crate) Result<T, Cancelled>);

impl<F> TrySelectSafeChild<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            child: SelectSafeChild::new(future),
        }
    }
}

impl<F: Future> Future for TrySelectSafeChild<F> {
    type Output = Cut<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().child.poll(cx).map(Cut)
    }
}
