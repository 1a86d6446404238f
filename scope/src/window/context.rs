//! What a helper takes over from the owner while it is inside (rule W8): cancel token, timer, tokio's
//! runtime handle, and whether nested scopes lend.
//!
//! It is captured by the owner when a window begins to lend, read by the helper after it has entered, and
//! taken off before it leaves; nothing of it points into the owner's stack.

use selvedge_cancel::{CancelToken, ambient};

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
    ours: ambient::Context,
    before: Option<ambient::Context>,
    lending: Lending,
}

impl Restore {
    fn install(ours: ambient::Context, lending: Lending) -> Self {
        Self {
            before: Some(ours.clone().install()),
            ours,
            lending: here::set_lending(lending),
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        here::set_lending(self.lending);
        if let Some(before) = self.before.take() {
            crate::task::quietly(|| self.ours.leave(before));
        }
    }
}

impl Carried {
    /// What the thread of the owner has, between two polls or in one that changed nothing of it. The token is
    /// the scope's in any case. `shared`: its pool has other users.
    pub(crate) fn capture(token: &CancelToken, shared: bool) -> Self {
        Self {
            ambient: ambient::Context {
                token: Some(token.clone()),
                timer: ambient::timer(),
            },
            lending: here::lending(),
            runtime: Runtime::current(shared),
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
/// thread first; current-thread runtimes have no other thread, and elsewhere there is nothing to move.
pub(super) fn long_wait(wait: impl Fn()) {
    #[cfg(feature = "tokio")]
    {
        use tokio::runtime::{Handle, RuntimeFlavor};

        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) && MAY_BLOCK.get() {
            // In a `LocalSet` it panics, although the flavour is right (rule W4).
            let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                tokio::task::block_in_place(&wait);
            }));
            match waited {
                Ok(()) => return,
                Err(payload) => {
                    MAY_BLOCK.set(false);
                    crate::task::drop_payload(payload);
                }
            }
        }
    }
    wait();
}

#[cfg(feature = "tokio")]
std::thread_local! {
    /// Whether `block_in_place` has not failed on this thread yet.
    static MAY_BLOCK: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}
