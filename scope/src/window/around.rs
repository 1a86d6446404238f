//! What is around the scope where it is polled: the task behind the waker, and whether that is one of tokio's.

use std::task::Waker;

use super::core::Core;
use super::{coop, here};

impl Core {
    /// Whether polls of the scope are polls of a runtime of tokio's, with a budget. Owner only; not in a member's poll, where
    /// somebody may have changed that for the time being, unless it [is known](Self::knows_its_host).
    pub(super) fn is_polled_by_tokio(&self) -> bool {
        let owner = &self.owner;
        if owner.runtime.get() == coop::RuntimeId::default() {
            return false;
        }
        owner.by_tokio.get().unwrap_or_else(|| {
            let by_tokio = coop::is_polled_by_tokio();
            owner.by_tokio.set(Some(by_tokio));
            by_tokio
        })
    }

    /// Whether [`is_polled_by_tokio`](Self::is_polled_by_tokio) may be asked from anywhere in this window.
    pub(super) fn knows_its_host(&self) -> bool {
        let owner = &self.owner;
        owner.by_tokio.get().is_some() || owner.runtime.get() == coop::RuntimeId::default()
    }

    /// A poll begins, with this waker. One by another task or executor than the last is looked at anew, and one inside
    /// another window, which may be on any thread.
    #[inline]
    pub(super) fn polled_with(&self, waker: &Waker) {
        let changed = self.parent.register(waker);
        if changed {
            self.silence();
        }
        if changed || here::in_window() {
            self.owner.by_tokio.set(None);
        }
    }
}
