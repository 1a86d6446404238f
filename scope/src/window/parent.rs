//! Who polls the scope: the waker to tell when a closed window gets mail.

use std::task::Waker;

use crate::sync::{Mutex, lock};
use crate::task::quietly;

/// The parent's waker. Cloned, woken and dropped outside the lock (rules W4, W15): it is user code.
#[derive(Debug)]
pub(crate) struct Parent(Mutex<Known>);

#[derive(Debug)]
struct Known {
    waker: Option<Waker>,
    /// The address of the functions of the waker that it is a clone of. Its own may lie elsewhere: a generic runtime's are
    /// in the program several times.
    functions: usize,
}

impl Known {
    const NOBODY: Self = Self {
        waker: None,
        functions: 0,
    };

    fn is(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|known| {
            known.will_wake(waker)
                || (known.data() == waker.data() && self.functions == functions(waker))
        })
    }
}

fn functions(waker: &Waker) -> usize {
    std::ptr::from_ref(waker.vtable()).addr()
}

impl Parent {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Known::NOBODY))
    }

    /// Notes the waker of the present poll, before the window opens. Panics if its `clone` does; nothing
    /// has happened by then. `true`: it is not known to be the one of the poll before.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        if lock(&self.0).is(waker) {
            return false;
        }
        let fresh = Known {
            waker: Some(waker.clone()),
            functions: functions(waker),
        };
        let old = std::mem::replace(&mut *lock(&self.0), fresh);
        quietly(|| drop(old));
        true
    }

    /// Wakes the parent: the caller's last act, since the scope may be gone before it returns.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).waker.take();
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
    }

    /// As `clear`, by the last holder of the core.
    pub(super) fn clear_owned(&mut self) {
        let slot = self.0.get_mut();
        let waker = slot
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .waker
            .take();
        let_go(waker);
    }

    /// The scope is over: nobody is to be woken any more.
    pub(crate) fn clear(&self) {
        let_go(lock(&self.0).waker.take());
    }
}

fn let_go(waker: Option<Waker>) {
    if waker.is_some() {
        quietly(|| drop(waker));
    }
}
