//! What a helper takes over from the owner while it is inside (rule W8): cancel token, timer, tokio's
//! runtime handle, and whether nested scopes lend.
//!
//! It is captured by the owner when a window begins to lend, read by the helper after it has entered, and
//! taken off before it leaves; nothing of it points into the owner's stack.

use selvedge_cancel::{CancelToken, ambient};

#[cfg(feature = "tokio")]
use super::coop;
use super::coop::Runtime;
use super::here::{self, Lending};

#[derive(Clone, Debug)]
pub(crate) struct Carried {
    ambient: ambient::Context,
    lending: Lending,
    runtime: Runtime,
}

/// Puts back what the thread had.
struct Restore {
    /// `None` once it was left.
    before: Option<ambient::Outside>,
    lending: Lending,
}

impl Restore {
    fn install(ours: ambient::Context, lending: Lending) -> Self {
        Self {
            before: Some(ours.enter()),
            lending: here::set_lending(lending),
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        here::set_lending(self.lending);
        if let Some(before) = self.before.take() {
            crate::task::quietly(|| before.leave());
        }
    }
}

impl Carried {
    /// What the thread of the owner has, between two polls or in one that changed nothing of it. The token is
    /// the scope's in any case. `shared`: its pool has other users.
    /// `by_tokio`: see [`Runtime::current`].
    pub(crate) fn capture(token: &CancelToken, shared: bool, by_tokio: bool) -> Self {
        Self {
            ambient: ambient::Context {
                token: Some(token.clone()),
                timer: ambient::timer(),
            },
            lending: here::lending(),
            runtime: Runtime::current(shared, by_tokio),
        }
    }

    /// Runs `work` under it, and hands it the runtime that it has to enter.
    pub(super) fn around(self, work: impl FnOnce(&Runtime)) {
        let _restore = Restore::install(self.ambient, self.lending);
        work(&self.runtime);
    }
}

/// Runs what belongs to no scope: without token and timer, and lending as it likes.
pub(super) fn in_the_open(run: impl FnOnce()) {
    let _restore = Restore::install(ambient::Context::default(), Lending::default());
    crate::task::quietly(run);
}

/// Runs a long wait. On a worker of tokio's multi-thread runtime the worker's other tasks move to another
/// thread first; elsewhere there is nothing to move. It may be over at once.
pub(super) fn long_wait(wait: impl Fn()) {
    #[cfg(feature = "tokio")]
    if coop::is_on_worker() {
        return coop::hand_over(wait);
    }
    wait();
}
