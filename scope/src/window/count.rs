//! How many children a scope has: exactly for the owner, and for whoever asks, whom each spawn and each end changes
//! by one step, so that nobody ever sees half of one.

use super::core::Core;
use crate::sync::{AtomicUsize, Ordering};

/// All counts wrap: only their sums are numbers of children.
#[derive(Debug)]
pub(super) struct Count {
    /// What the owner spawned, less what ended with it.
    here: AtomicUsize,
    /// What was spawned from outside the window's thread, less what ended outside its polls: on helpers, or dropped.
    elsewhere: AtomicUsize,
    /// As much of `elsewhere` as the owner has taken in: registered, or retired. Written by the owner.
    taken_in: AtomicUsize,
}

impl Count {
    pub(super) fn new() -> Self {
        Self {
            here: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            taken_in: AtomicUsize::new(0),
        }
    }
}

impl Core {
    /// Children that have not ended, those not registered yet included.
    pub(crate) fn len(&self) -> usize {
        if self.inbox.is_dead() {
            // It takes no more: what came from elsewhere in time was taken in, and what comes now is being refused.
            return self.live();
        }
        // Acquire: in this order. A snapshot, which another thread's spawns and ends make stale at once; but one of a
        // moment, for the two words were so together when the second was read.
        let mut elsewhere = self.count.elsewhere.load(Ordering::Acquire);
        loop {
            let here = self.count.here.load(Ordering::Acquire);
            let again = self.count.elsewhere.load(Ordering::Acquire);
            if again == elsewhere {
                let len = here.wrapping_add(elsewhere);
                return if len > usize::MAX / 2 { 0 } else { len };
            }
            elsewhere = again;
        }
    }

    /// Children registered and not retired. Exact for the owner; for others once the scope takes no more.
    #[inline]
    pub(crate) fn live(&self) -> usize {
        // Relaxed: the owner reads what it wrote.
        let here = self.count.here.load(Ordering::Relaxed);
        here.wrapping_add(self.taken_in())
    }

    #[inline]
    fn taken_in(&self) -> usize {
        // Relaxed: as above. So are the stores: nobody else writes it.
        self.count.taken_in.load(Ordering::Relaxed)
    }

    /// Owner only.
    #[inline]
    pub(crate) fn set_live(&self, live: usize) {
        // Release: whoever sees this count sees what was counted elsewhere before.
        let here = live.wrapping_sub(self.taken_in());
        self.count.here.store(here, Ordering::Release);
    }

    /// A child is about to end on a helper, or is dropped with its scope.
    pub(super) fn ends_away(&self) {
        // Relaxed, wrapping: who learns of the end, by its release, sees this too.
        self.count.elsewhere.fetch_sub(1, Ordering::Relaxed);
    }

    /// A child is about to be pushed from outside the window's thread.
    pub(crate) fn expect_newborn(&self) {
        // Relaxed: a snapshot for `len`.
        self.count.elsewhere.fetch_add(1, Ordering::Relaxed);
    }

    /// It was refused.
    pub(crate) fn expect_no_newborn(&self) {
        // Relaxed: a snapshot for `len`.
        self.count.elsewhere.fetch_sub(1, Ordering::Relaxed);
    }

    /// The owner registers one that was spawned from outside the window's thread.
    pub(super) fn newborn_came(&self) {
        let taken_in = self.taken_in().wrapping_add(1);
        self.count.taken_in.store(taken_in, Ordering::Relaxed);
        let spawns = &self.owner.spawns;
        spawns.set(spawns.get().wrapping_add(1));
    }

    /// The owner retires one that ended so.
    pub(super) fn came_back(&self) {
        let taken_in = self.taken_in().wrapping_sub(1);
        self.count.taken_in.store(taken_in, Ordering::Relaxed);
    }
}
