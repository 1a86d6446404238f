//! Who polls the scope: the waker to tell when a closed window gets mail.

use std::task::Waker;

use crate::sync::{Mutex, lock};
use crate::task::quietly;

/// The parent's waker. Cloned, woken and dropped outside the lock (rules W4, W15): it is user code.
#[derive(Debug)]
pub(crate) struct Parent(Mutex<Option<Waker>>);

impl Parent {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Notes the waker of the present poll, before the window opens. Panics if its `clone` does; nothing
    /// has happened by then. `true`: it is not known to be the one of the poll before.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        if lock(&self.0)
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            return false;
        }
        let fresh = waker.clone();
        let old = lock(&self.0).replace(fresh);
        quietly(|| drop(old));
        true
    }

    /// Wakes the parent: the caller's last act, since the scope may be gone before it returns.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
    }

    /// As `clear`, by the last holder of the core.
    pub(super) fn clear_owned(&mut self) {
        let slot = self.0.get_mut();
        let waker = slot
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let_go(waker);
    }

    /// The scope is over: nobody is to be woken any more.
    pub(crate) fn clear(&self) {
        let_go(lock(&self.0).take());
    }
}

fn let_go(waker: Option<Waker>) {
    if waker.is_some() {
        quietly(|| drop(waker));
    }
}
