//! What is around the scope where it is polled: the task behind the waker, and whether that is one of tokio's.

use std::task::Waker;

use super::core::Core;
use super::{coop, here};

impl Core {
    /// Whether polls of the scope are polls of a runtime of tokio's, with a budget; as far as can be told. Owner only; not
    /// in a member's poll, where somebody may have changed that for the time being, unless it
    /// [is known](Self::knows_its_host).
    pub(super) fn is_polled_by_tokio(&self) -> bool {
        self.host(false) == Some(true)
    }

    /// As [`is_polled_by_tokio`](Self::is_polled_by_tokio), for a window that is about to lend. `false`: it cannot be told in
    /// this window, which has to end soon, and in the next one it can.
    pub(super) fn is_sure_of_its_host(&self) -> bool {
        let is_sure = self.host(true).is_some();
        self.owner.ends_early.set(!is_sure);
        is_sure
    }

    /// `None`: there is no budget, but there may have been one when the poll began. A member that blocks in place where
    /// that is not a worker's poll takes it away for the rest of it. With `again`, each window from the next one on asks
    /// before it polls anybody; of nested ones the outermost does.
    fn host(&self, again: bool) -> Option<bool> {
        let owner = &self.owner;
        if owner.runtime.get() == coop::RuntimeId::default() {
            return Some(false);
        }
        if let Some(known) = owner.by_tokio.get() {
            return Some(known);
        }
        let around = here::around(self).map(|core| core.host(again));
        let known = if around == Some(Some(true)) || coop::is_polled_by_tokio() {
            Some(true)
        } else if let Some(around) = around {
            around
        } else if self.is_untouched() {
            Some(false)
        } else {
            owner.asks_early.set(owner.asks_early.get() || again);
            None
        };
        owner.by_tokio.set(known);
        known
    }

    /// Nobody was polled in this window so far.
    fn is_untouched(&self) -> bool {
        self.owner.turns.taken() == self.owner.opened_at.get()
    }

    /// Whether [`is_polled_by_tokio`](Self::is_polled_by_tokio) may be asked from anywhere in this window.
    pub(super) fn knows_its_host(&self) -> bool {
        let owner = &self.owner;
        owner.by_tokio.get().is_some() || owner.runtime.get() == coop::RuntimeId::default()
    }

    /// A window begins, in which nobody was polled yet.
    #[inline]
    pub(super) fn look_around(&self) {
        let owner = &self.owner;
        owner.runtime.set(coop::RuntimeId::current());
        owner.opened_at.set(owner.turns.taken());
        owner.ends_early.set(false);
        if owner.by_tokio.get() == Some(false) {
            owner.by_tokio.set(None);
        }
        if owner.asks_early.get() {
            let _ = self.host(true);
        }
        if owner.was_put_off.get() {
            self.look_at_put_off();
        }
    }

    /// A wake was put off when the last window gave way.
    #[cold]
    fn look_at_put_off(&self) {
        let owner = &self.owner;
        let Some(put_off) = owner.put_off.take() else {
            return owner.was_put_off.set(false);
        };
        let still = put_off.is_open();
        if !still {
            owner.lates.set(0);
        } else if put_off.is_late() {
            // Once may be the system's doing. If it goes on, somebody keeps the worker from looking at what it has put off:
            // after some time it is tried again.
            let lates = owner.lates.get() + 1;
            owner.lates.set(lates);
            if lates > 1 {
                owner.at_once.set(8 << lates.min(9));
            }
        }
        owner.put_off.replace(still.then_some(put_off));
        owner.was_put_off.set(still);
    }

    /// Whether the wake of a window that gives way is put off. Owner only.
    pub(super) fn puts_off(&self) -> bool {
        if !coop::may_put_off(self.is_polled_by_tokio()) {
            return false;
        }
        let at_once = self.owner.at_once.get();
        self.owner.at_once.set(at_once.saturating_sub(1));
        at_once == 0
    }

    /// The window has given way, and its thread is a worker of tokio's. A wake that is put off already will come.
    pub(super) fn wake_after_others(&self, waker: &Waker) {
        let owner = &self.owner;
        let open = owner.put_off.take();
        let open = open.filter(|open| open.is_open() && open.is_for(waker));
        let put_off = open.unwrap_or_else(|| coop::PutOff::begin(waker));
        owner.put_off.replace(Some(put_off));
        owner.was_put_off.set(true);
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
