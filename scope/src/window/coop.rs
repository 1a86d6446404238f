//! The shared budget of a tokio task: after so many operations in one poll, tokio's channels, sockets and timers answer
//! `Pending` and wake at once, so that a task which finds everything ready lets others run.
//!
//! A scope is polled in one task, so all of its children that the owner polls draw on one budget. Once it is spent,
//! polls of further children come to nothing: the owner gives way, and goes on in the task's next poll with a new one.
//! A helper is in no task of tokio's and would have no budget at all, so that a child with an endless supply would
//! never yield: it works inside a `Handle::block_on`, whose every poll has a fresh one, a packet a poll.
//!
//! Other runtimes have no such budget. Without the feature `tokio` nothing of this is there.

#[cfg(feature = "tokio")]
use std::{future::poll_fn, task::Poll};

/// Whether tokio's operations may still succeed in this poll.
#[inline]
pub(super) fn has_budget() -> bool {
    #[cfg(feature = "tokio")]
    return tokio::task::coop::has_budget_remaining();
    #[cfg(not(feature = "tokio"))]
    true
}

/// The runtime that a window is in, as helpers know it.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    #[cfg(feature = "tokio")]
    tokio: Option<tokio::runtime::Handle>,
}

impl Runtime {
    /// That of this thread.
    pub(super) fn current() -> Self {
        Self {
            #[cfg(feature = "tokio")]
            tokio: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// Runs `turn` inside the runtime until it says `false`, each time under a fresh budget.
    pub(super) fn turns(&self, mut turn: impl FnMut() -> bool) {
        #[cfg(feature = "tokio")]
        if let Some(runtime) = &self.tokio {
            if tokio::runtime::Handle::try_current().is_err() {
                return runtime.block_on(poll_fn(|cx| {
                    if turn() {
                        // The thread does not sleep: this is how to have a poll more.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                }));
            }
            // A thread of somebody's, which is in a runtime already, and may not block on one.
            let inside = runtime.enter();
            while turn() {}
            // A child that has left a runtime of its own entered makes this panic.
            return crate::task::quietly(|| drop(inside));
        }
        while turn() {}
    }
}
