//! Which lanes are up. A pipeline with asynchronous stages has as many lanes as items may
//! be under way, but starts few of them: the others sleep here until so many are suspended
//! in their items that somebody else has to fetch the next one. Items that never wait are
//! then served by few lanes, which is cheaper.
//!
//! The count and the list cannot miss each other: a lane that suspends counts itself out
//! *before* it locks the list, a lane that is about to sleep looks at the count *under*
//! that lock.

use std::task::Waker;

use selvedge_cancel::quietly;

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
    /// Entered and left at the end only, so a lane that sleeps stays where it is.
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

    /// Whether `lane` may go to work; if not, its waker will be woken. `listed` is its place in
    /// the list once it was told to sleep.
    pub(crate) fn enter(&self, lane: usize, listed: &mut Option<usize>, waker: &Waker) -> bool {
        if lane < self.want {
            return true;
        }
        // A waker is user code: it is cloned before the lock is taken, and what it took the
        // place of is dropped after.
        let mut spare = Some(waker.clone());
        let up = self.decide(lane, listed, &mut spare);
        quietly(|| drop(spare));
        up
    }

    /// `enter`, under the lock. What is left in `waker` is for the caller to drop.
    fn decide(&self, lane: usize, listed: &mut Option<usize>, waker: &mut Option<Waker>) -> bool {
        let mut list = lock(&self.list);
        if list.closed {
            return true;
        }
        if let Some(at) = *listed {
            let place = list.asleep.get_mut(at).filter(|(id, _)| *id == lane);
            // Not in the list any more: it was called, and counted then.
            let Some((_, old)) = place else { return true };
            if let Some(waker) = waker {
                std::mem::swap(old, waker);
            }
            return false;
        }
        // Relaxed: the lock orders this after every suspension whose look at the list came
        // before ours.
        if self.active.load(Ordering::Relaxed) < self.want {
            self.count_up();
            return true;
        }
        *listed = Some(list.asleep.len());
        list.asleep.extend(waker.take().map(|waker| (lane, waker)));
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
            quietly(|| waker.wake());
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
            quietly(|| waker.wake());
        }
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::Roster;
    use crate::biting::{Biting, guarded};

    #[test]
    fn waker_whose_destructor_closes_the_roster_does_not_deadlock() {
        guarded(|| {
            let roster = Arc::new(Roster::new(3, 1));
            let (closing, bites) = Biting::on_drop({
                let roster = Arc::clone(&roster);
                move || roster.close()
            });
            let listed = &mut None;
            assert!(!roster.enter(1, listed, &closing));
            drop(closing);
            assert_eq!(bites.get(), 0, "the roster keeps it");
            // Another waker takes its place, and stays listed until the roster is closed.
            assert!(!roster.enter(1, listed, Waker::noop()));
            assert_eq!(bites.get(), 1);
            assert!(roster.enter(1, listed, Waker::noop()), "it was closed");
        });
    }

    #[test]
    fn lane_that_was_called_is_up_whoever_has_its_place_by_then() {
        let roster = Roster::new(5, 1);
        let mut listed = [None; 5];
        let mut enter = |lane: usize| roster.enter(lane, &mut listed[lane], Waker::noop());
        assert!(!enter(1) && !enter(2));
        roster.suspended();
        // The first is at work again, before the one that was called has come.
        roster.resumed();
        assert!(!enter(3), "in the place that was the second's");
        assert!(enter(2));
        assert!(!enter(1) && !enter(3), "these were not called");
        assert_eq!(
            (listed[1], listed[2], listed[3]),
            (Some(0), Some(1), Some(1))
        );
    }

    #[test]
    fn lane_whose_waker_panics_keeps_the_call_from_no_other() {
        guarded(|| {
            for (in_wake, in_drop) in [(true, false), (false, true)] {
                let roster = Roster::new(4, 1);
                let (evil, bites) = Biting::panics(in_wake, in_drop);
                let (good, calls) = Biting::panics(false, false);
                assert!(!roster.enter(1, &mut None, &evil));
                assert!(!roster.enter(2, &mut None, &good));
                assert!(!roster.enter(3, &mut None, &evil));
                // The last that came is called for the lane that waits.
                roster.suspended();
                drop(evil);
                roster.close();
                drop(good);
                assert_eq!(calls.get(), 2, "woken and dropped");
                assert!(bites.get() > 0);
            }
        });
    }
}
