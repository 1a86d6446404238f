//! The futures that look at a token: `WaitCancelled`, which waits for its cancellation, and
//! `Checkpoint`, which lets others run and then asks whether to go on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::node::Watch;
use crate::slots::{NOWHERE, Watcher};
use crate::{CancelToken, Cancelled, Cause, SelectSafe, ambient};

/// Waits until a token is cancelled; from [`CancelToken::cancelled`] and
/// [`cancelled`](crate::cancelled).
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct WaitCancelled {
    token: CancelToken,
    /// Our position among the watchers, or `NOWHERE`.
    at: usize,
}

impl WaitCancelled {
    pub(crate) const fn new(token: CancelToken) -> Self {
        Self { token, at: NOWHERE }
    }

    pub(crate) const fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Leaves the list; the next poll enters it again.
    fn leave(&mut self) {
        let at = std::mem::replace(&mut self.at, NOWHERE);
        if at != NOWHERE {
            drop(self.token.node().unwatch(at));
        }
    }
}

impl Future for WaitCancelled {
    type Output = Cause;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = &mut *self;
        if let Some(cause) = this.token.cause() {
            this.leave();
            return Poll::Ready(cause);
        }
        if this.at == NOWHERE {
            match this.token.node().watch(Watcher::Waker(cx.waker().clone())) {
                Watch::At(at) => this.at = at,
                Watch::Late(cause) => return Poll::Ready(cause),
                Watch::Never => return Poll::Pending,
            }
        } else if this.token.node().rewatch(this.at, cx.waker()) {
            return Poll::Pending;
        }
        // We entered the list now, or a cancellation has just emptied it: it may have come
        // before our waker was there.
        match this.token.cause() {
            Some(cause) => {
                this.leave();
                Poll::Ready(cause)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for WaitCancelled {
    fn drop(&mut self) {
        self.leave();
    }
}

impl SelectSafe for WaitCancelled {}

/// A point at which a long computation lets others run and may be cancelled; from
/// [`checkpoint`](crate::checkpoint).
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug, Default)]
pub struct Checkpoint {
    yielded: bool,
}

impl Checkpoint {
    pub(crate) const fn new() -> Self {
        Self { yielded: false }
    }
}

impl Future for Checkpoint {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ambient::check() {
            Ok(()) if !self.yielded => {
                self.yielded = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl SelectSafe for Checkpoint {}
