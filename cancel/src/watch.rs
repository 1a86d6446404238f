//! What a leaf future keeps to learn that the code that polls it is to stop. Not public: leaf futures of
//! users have `cancelled()` and `or_cancel()`.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::ambient::{self, Look};
use crate::{CancelToken, Cancelled, WaitCancelled};

/// The wait of a leaf future for the cancellation of whatever polls it.
///
/// The token is looked up at each poll, so that a future which moves to another task listens to that one.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Watch {
    waiting: Option<WaitCancelled>,
}

impl Watch {
    /// Not waiting.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: None }
    }

    /// `Ready`: the running code is to stop, and this is the error to fail with. `Pending`: the task behind
    /// the waker is polled again when that comes true.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        match ambient::look(cx.waker()) {
            Look::Carried => {
                self.clear();
                Poll::Pending
            }
            Look::Cancelled => {
                self.clear();
                // Nothing is taken back, so this is the error.
                ambient::check().map_or_else(Poll::Ready, |()| Poll::Pending)
            }
            Look::Alone => match ambient::member() {
                Some(token) => self.wait(token, cx),
                None => Poll::Pending,
            },
        }
    }

    fn wait(&mut self, token: CancelToken, cx: &mut Context<'_>) -> Poll<Cancelled> {
        let waiting = match &mut self.waiting {
            Some(waiting) if waiting.token().is_same(&token) => waiting,
            _ => self.waiting.insert(WaitCancelled::new(token)),
        };
        match Pin::new(waiting).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(cause) => {
                self.clear();
                Poll::Ready(Cancelled::new(cause))
            }
        }
    }

    /// Leaves the list it waits in. Dropping does the same.
    #[inline]
    pub fn clear(&mut self) {
        if self.waiting.is_some() {
            self.waiting = None;
        }
    }
}
