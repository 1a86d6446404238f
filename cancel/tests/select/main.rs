//! `select!` and `select`, piece by piece. Not about scopes: those meet `select!` in the tests of the façade.
#![cfg(not(selvedge_loom))]

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use selvedge_cancel::SelectSafe;

mod arms;
mod order;

/// Writes its name into a log when it is dropped.
pub(crate) struct Noted<'a>(
    pub(crate) &'a RefCell<Vec<&'static str>>,
    pub(crate) &'static str,
);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

/// A future that is ready after so many polls, and tells the log of its end.
pub(crate) struct After<'a> {
    left: u32,
    _noted: Noted<'a>,
}

impl<'a> After<'a> {
    pub(crate) fn new(left: u32, log: &'a RefCell<Vec<&'static str>>, name: &'static str) -> Self {
        let _noted = Noted(log, name);
        Self { left, _noted }
    }
}

impl Future for After<'_> {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        if self.left == 0 {
            return Poll::Ready(7);
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl SelectSafe for After<'_> {}

pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
