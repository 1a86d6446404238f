//! A counted reference to a core, and what the last one leaves to drop. What a core holds is not said here.

use std::ptr::NonNull;

use super::core::Core;
use super::spare;
use crate::task::quietly;

/// A counted reference to a core.
#[derive(Debug)]
pub(crate) struct CoreRef(NonNull<Core>);

// SAFETY: a `Core` is `Send` and `Sync`, and counted atomically.
unsafe impl Send for CoreRef {}
// SAFETY: as above.
unsafe impl Sync for CoreRef {}

impl CoreRef {
    /// # Safety
    /// The caller has counted a reference that becomes this one's.
    pub(super) unsafe fn adopt(core: *const Core) -> Self {
        // SAFETY: a core comes from a box, which is not null.
        Self(unsafe { NonNull::new_unchecked(core.cast_mut()) })
    }
}

impl Clone for CoreRef {
    fn clone(&self) -> Self {
        self.acquire();
        Self(self.0)
    }
}

impl Drop for CoreRef {
    fn drop(&mut self) {
        // SAFETY: this reference is counted and ends here.
        unsafe { Core::release(self.0.as_ptr()) };
    }
}

impl std::ops::Deref for CoreRef {
    type Target = Core;

    fn deref(&self) -> &Core {
        // SAFETY: the reference keeps the core alive.
        unsafe { self.0.as_ref() }
    }
}

impl Core {
    /// The last reference is gone, perhaps with a waker that somebody drops under a lock of his own. What may be of
    /// a user's goes first, each caught (rule W4): a payload, a timer, the handlers of a pool, the parent.
    pub(super) fn free(mut self: Box<Self>) {
        self.parent.clear_owned();
        self.panics.clear_owned();
        if let Some(limits) = self.settings.limits.take() {
            quietly(|| drop(limits));
        }
        if let Some(pool) = self.settings.pool.take() {
            quietly(|| drop(pool));
        }
        quietly(|| spare::keep(self));
    }
}
