//! Which lanes are up. A pipeline with asynchronous stages has as many lanes as items may
//! be under way, but starts few of them: the others sleep here until so many are suspended
//! in their items that somebody else has to fetch the next one. Items that never wait are
//! then served by few lanes, which is cheaper.
//!
//! The count and the list cannot miss each other: a lane that suspends counts itself out
//! *before* it locks the list, a lane that is about to sleep looks at the count *under*
//! that lock.

use std::task::Waker;

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// The lanes of one pipeline that are up, and the wakers of those that sleep.
#[derive(Debug)]
pub(crate) struct Roster {
    /// How many lanes are to be up and not suspended, if there are so many.
    want: usize,
    active: AtomicUsize,
    /// Lanes that were never up. At 0 there is nobody to wake and counting ends.
    unused: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug)]
struct List {
    closed: bool,
    asleep: Vec<(usize, Waker)>,
}

impl Roster {
    /// The first `want` of `lanes` are up from the start.
    pub(crate) fn new(lanes: usize, want: usize) -> Self {
        let want = want.min(lanes);
        Self {
            want,
            active: AtomicUsize::new(want),
            unused: AtomicUsize::new(lanes - want),
            list: Mutex::new(List {
                closed: false,
                asleep: Vec::new(),
            }),
        }
    }

    /// Whether `lane` may go to work; if not, its waker will be woken. `listed` says whether
    /// it was told to sleep before.
    pub(crate) fn enter(&self, lane: usize, listed: bool, waker: &Waker) -> bool {
        if lane < self.want {
            return true;
        }
        let mut list = lock(&self.list);
        if list.closed {
            return true;
        }
        if listed {
            // Not in the list any more: it was called, and counted then.
            let Some(at) = list.asleep.iter().position(|(id, _)| *id == lane) else {
                return true;
            };
            list.asleep[at].1.clone_from(waker);
            return false;
        }
        // Relaxed: the lock orders this after every suspension whose look at the list came
        // before ours.
        if self.active.load(Ordering::Relaxed) < self.want {
            self.count_up();
            return true;
        }
        list.asleep.push((lane, waker.clone()));
        false
    }

    /// A lane waits for its item. May wake another in its place.
    #[inline]
    pub(crate) fn suspended(&self) {
        // Relaxed: falls only, and nothing is read on the strength of it.
        if self.unused.load(Ordering::Relaxed) > 0 {
            self.replace();
        }
    }

    #[cold]
    fn replace(&self) {
        // Relaxed, here and in `resumed`: see `enter`; the list's lock orders what matters.
        if self.active.fetch_sub(1, Ordering::Relaxed) > self.want {
            return;
        }
        let mut list = lock(&self.list);
        let called = list.asleep.pop();
        if called.is_some() {
            self.count_up();
        }
        drop(list);
        if let Some((_, waker)) = called {
            waker.wake();
        }
    }

    /// A lane that had waited for its item goes on.
    #[inline]
    pub(crate) fn resumed(&self) {
        if self.unused.load(Ordering::Relaxed) > 0 {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Relaxed: called with the list locked, which orders the counts for all who decide.
    fn count_up(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.unused.fetch_sub(1, Ordering::Relaxed);
    }

    /// There is nothing left to begin: wakes all, so that they can end.
    pub(crate) fn close(&self) {
        let mut list = lock(&self.list);
        list.closed = true;
        let all = std::mem::take(&mut list.asleep);
        drop(list);
        for (_, waker) in all {
            waker.wake();
        }
    }
}
