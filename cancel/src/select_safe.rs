//! The marker for futures that may be dropped at any await without loss, and the way to vouch
//! for one. Not for `select!` itself, which builds on it.

use std::future::{self, Future};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::fine_drop::{After, Before};

/// A future that may be dropped at any await, at once, and loses nothing by it that its owner
/// would miss: the opt-in to synchronous cancellation.
///
/// Implement it for leaf futures that register interest and take nothing until they return, such
/// as a sleep or a channel receive. An `async` block is never select-safe by itself; its author
/// can say so with [`select_safe`].
///
/// # Examples
/// ```
/// use selvedge_cancel::{CancelToken, SelectSafe, select_safe};
///
/// fn may_be_dropped(_: impl SelectSafe) {}
///
/// may_be_dropped(CancelToken::new().cancelled());
/// may_be_dropped(select_safe(async { 1 }));
/// ```
///
/// ```compile_fail,E0277
/// # use selvedge_cancel::SelectSafe;
/// fn may_be_dropped(_: impl SelectSafe) {}
///
/// may_be_dropped(async { 1 });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not select-safe: `select!` would drop it half-way",
    label = "dropping this future at an await could lose work",
    note = "spawn it and select on its handle: `let mut h = s.spawn(fut);` … `x = &mut h => …`",
    note = "or, if losing its progress is fine, say so: `select_safe(fut)`"
)]
pub trait SelectSafe: Future {}

impl<F: SelectSafe + Unpin + ?Sized> SelectSafe for &mut F {}
impl<F: SelectSafe + ?Sized> SelectSafe for Pin<&mut F> {}
impl<F: SelectSafe + ?Sized> SelectSafe for Box<F> where Box<F>: Future {}
impl<F: SelectSafe + ?Sized> SelectSafe for Pin<Box<F>> {}
impl<T> SelectSafe for future::Ready<T> {}
impl<T> SelectSafe for future::Pending<T> {}

pin_project! {
    /// A future whose author vouches that it may be dropped at any await; from [`select_safe`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct AssertSelectSafe<F> {
        // Fields are dropped in this order: what the future drops midway is nothing to report.
        before: Before,
        #[pin]
        future: F,
        after: After,
    }
}

/// Vouches that dropping this future at any of its awaits is fine.
///
/// # Examples
/// ```
/// use selvedge_cancel::{SelectSafe, select_safe};
///
/// fn may_be_dropped(_: impl SelectSafe<Output = u8>) {}
///
/// may_be_dropped(select_safe(async { 1 }));
/// ```
///
/// # Cancel safety
/// As the caller says: whatever the future has done up to the await at which it is dropped stays
/// done, the rest does not happen, and its locals are dropped.
pub fn select_safe<F: Future>(future: F) -> AssertSelectSafe<F> {
    AssertSelectSafe {
        before: Before,
        future,
        after: After,
    }
}

impl<F: Future> Future for AssertSelectSafe<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<F: Future> SelectSafe for AssertSelectSafe<F> {}
