//! Who polls the scope: the waker to tell when a closed window gets mail.

use std::num::NonZeroUsize;
use std::task::Waker;

use crate::sync::{Mutex, lock};
use crate::task::quietly;

/// The parent's waker. Cloned, woken and dropped outside the lock (rules W4, W15): it is user code.
#[derive(Debug)]
pub(crate) struct Parent(Mutex<Known>);

/// What a poll's waker is to the scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// The one of the poll before, and the scope has not called it.
    Same,
    /// The one of the poll before, as far as can be told. The scope has called it meanwhile.
    Called,
    /// Another one.
    Other,
}

#[derive(Debug)]
struct Known {
    waker: Option<Waker>,
    /// Its data, and that of the waker that it is a clone of, or was. `None` if they are not the same: then nothing that lives
    /// as long as the clone is at the place of the latter, and another task's waker may come to lie there.
    data: Option<NonZeroUsize>,
    /// The address of that one's functions. The clone's may lie elsewhere: a generic runtime's are in the program several
    /// times.
    functions: usize,
}

impl Known {
    const NOBODY: Self = Self {
        waker: None,
        data: None,
        functions: 0,
    };

    fn seen(&self, waker: &Waker) -> Seen {
        let functions = self.functions == functions(waker);
        match &self.waker {
            Some(known) if known.will_wake(waker) => Seen::Same,
            Some(known) if functions && known.data() == waker.data() => Seen::Same,
            None if functions && self.data.is_some() && self.data == data(waker) => Seen::Called,
            _ => Seen::Other,
        }
    }
}

fn data(waker: &Waker) -> Option<NonZeroUsize> {
    NonZeroUsize::new(waker.data().addr())
}

fn functions(waker: &Waker) -> usize {
    std::ptr::from_ref(waker.vtable()).addr()
}

impl Parent {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Known::NOBODY))
    }

    /// Notes the waker of the present poll, before the window opens. Panics if its `clone` does; nothing
    /// has happened by then.
    pub(super) fn register(&self, waker: &Waker) -> Seen {
        let seen = lock(&self.0).seen(waker);
        if seen == Seen::Same {
            return seen;
        }
        let clone = waker.clone();
        let fresh = Known {
            data: data(waker).filter(|_| clone.data() == waker.data()),
            waker: Some(clone),
            functions: functions(waker),
        };
        let old = std::mem::replace(&mut *lock(&self.0), fresh);
        quietly(|| drop(old));
        seen
    }

    /// Tells the task of the present poll from others that there are meanwhile. `None`: it cannot.
    #[cold]
    pub(super) fn address(&self) -> Option<NonZeroUsize> {
        let known = lock(&self.0);
        data(known.waker.as_ref()?)
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
        let waker = lock(&self.0).waker.take();
        let_go(waker);
    }
}

fn let_go(waker: Option<Waker>) {
    if waker.is_some() {
        quietly(|| drop(waker));
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::ptr;
    use std::sync::{Arc, Weak};
    use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

    use super::{Parent, Seen};
    use crate::sync::plain::{AtomicU32, Ordering};

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn waker_that_has_been_called_is_known_again() {
        let parent = Parent::new();
        let waker = Waker::from(Arc::new(Counted));
        assert_eq!(parent.register(&waker), Seen::Other);
        assert_eq!(parent.register(&waker), Seen::Same);
        parent.wake();
        assert_eq!(parent.register(&waker), Seen::Called);
        parent.wake();
        assert_eq!(
            parent.register(&Waker::from(Arc::new(Counted))),
            Seen::Other
        );
    }

    /// Looks at the parent when it is woken and when it is dropped.
    struct Looks(Weak<Parent>, Arc<AtomicU32>);

    impl Looks {
        fn look(&self) {
            let parent = self.0.upgrade().expect("it is dropped by the parent");
            let is_open = parent.0.try_lock().is_ok();
            self.1.fetch_add(u32::from(is_open), Ordering::SeqCst);
        }
    }

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            self.look();
        }
    }

    impl Drop for Looks {
        fn drop(&mut self) {
            self.look();
        }
    }

    // At the end of the scope the destructor ran under the lock, for which somebody on another thread may wait in a wake.
    #[test]
    fn wakers_are_woken_and_dropped_outside_the_lock() {
        let (parent, looks) = (Arc::new(Parent::new()), Arc::new(AtomicU32::new(0)));
        let register = || {
            let looks = Looks(Arc::downgrade(&parent), Arc::clone(&looks));
            parent.register(&Waker::from(Arc::new(looks)));
        };
        register();
        register();
        assert_eq!(looks.load(Ordering::SeqCst), 1, "replaced");
        parent.wake();
        assert_eq!(looks.load(Ordering::SeqCst), 3, "woken and dropped");
        register();
        parent.clear();
        assert_eq!(looks.load(Ordering::SeqCst), 4, "let go of");
    }

    // One that is lent from a combinator's stack, and becomes another one when it is cloned: the next that lies at its place
    // may be another task's. A scope that took it for the same was never polled again.
    #[test]
    fn waker_whose_clone_lies_elsewhere_is_not_known_by_its_place() {
        static LENT: RawWakerVTable = RawWakerVTable::new(
            |_| RawWaker::new(ptr::null(), Waker::noop().vtable()),
            |_| (),
            |_| (),
            |_| (),
        );
        let place = 0_u8;
        // SAFETY: the functions do nothing with the place.
        let lent = unsafe { Waker::new((&raw const place).cast(), &LENT) };
        let parent = Parent::new();
        assert_eq!(parent.register(&lent), Seen::Other);
        parent.wake();
        assert_eq!(parent.register(&lent), Seen::Other);
    }
}
