//! The list of those who wait for a task's end besides its handle: wakers at places that do not move, so that each
//! enters, changes its waker and leaves in constant time. When the end takes the list, the life word says.
//!
//! A waker is user code. It is cloned and dropped outside the lock, and its destructor's panic is caught (rules W4,
//! W15); to compare two of them is to compare two pairs of pointers.

use std::task::Waker;

use super::quietly;
use crate::sync::{Mutex, lock};

/// No place: the end of the chain of free ones.
const NOWHERE: u32 = u32::MAX;
/// An empty list with more places than this gives them back.
const KEPT: usize = 16;

#[derive(Debug)]
pub(crate) struct Waiters(Mutex<Places>);

#[derive(Debug)]
struct Places {
    slots: Vec<Slot>,
    free: u32,
    len: usize,
    /// The end has taken the list, and nobody enters it any more. So no place has a second holder afterwards.
    closed: bool,
}

#[derive(Debug)]
enum Slot {
    /// The number is that of the next free place.
    Free(u32),
    Taken(Waker),
}

impl Places {
    fn insert(&mut self, waker: Waker) -> u32 {
        self.len += 1;
        let place = self.free;
        if let Some(slot) = self.slots.get_mut(place as usize) {
            if let Slot::Free(next) = std::mem::replace(slot, Slot::Taken(waker)) {
                self.free = next;
            }
            return place;
        }
        self.slots.push(Slot::Taken(waker));
        let place = u32::try_from(self.slots.len() - 1).unwrap_or(NOWHERE);
        assert!(place < NOWHERE, "four billion waits for one task");
        place
    }

    fn at(&mut self, place: u32) -> Option<&mut Waker> {
        match self.slots.get_mut(place as usize)? {
            Slot::Taken(waker) => Some(waker),
            Slot::Free(_) => None,
        }
    }

    /// Takes the waker out. The memory of a list that has become empty comes along, to be freed outside the lock.
    fn remove(&mut self, place: u32) -> (Option<Waker>, Vec<Slot>) {
        let free = Slot::Free(self.free);
        let Some(slot) = self.slots.get_mut(place as usize) else {
            return (None, Vec::new());
        };
        match std::mem::replace(slot, free) {
            Slot::Taken(waker) => {
                self.free = place;
                self.len -= 1;
                let spare = self.len == 0 && self.slots.len() > KEPT;
                let slots = if spare {
                    self.free = NOWHERE;
                    std::mem::take(&mut self.slots)
                } else {
                    Vec::new()
                };
                (Some(waker), slots)
            }
            kept @ Slot::Free(_) => {
                *slot = kept;
                (None, Vec::new())
            }
        }
    }
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Places {
            slots: Vec::new(),
            free: NOWHERE,
            len: 0,
            closed: false,
        }))
    }

    /// Enters the list, or puts this waker at the place that the caller has there. The answer is the place;
    /// `None`: the end has taken the list, and with it the caller's waker.
    pub(crate) fn enter(&self, place: Option<u32>, waker: &Waker) -> Option<u32> {
        {
            let mut places = lock(&self.0);
            if places.closed {
                return None;
            }
            let known = place.and_then(|place| places.at(place));
            if known.is_some_and(|known| known.will_wake(waker)) {
                return place;
            }
        }
        let fresh = waker.clone();
        let (place, old) = {
            let mut places = lock(&self.0);
            if places.closed {
                (None, Some(fresh))
            } else if let Some(known) = place.and_then(|place| places.at(place)) {
                (place, Some(std::mem::replace(known, fresh)))
            } else {
                (Some(places.insert(fresh)), None)
            }
        };
        quietly(|| drop(old));
        place
    }

    /// Leaves the list. Nothing happens if the end has taken it.
    pub(crate) fn leave(&self, place: u32) {
        let (waker, slots) = lock(&self.0).remove(place);
        drop(slots);
        quietly(|| drop(waker));
    }

    /// The task has ended: takes all who wait, and lets nobody enter from here on.
    pub(crate) fn close(&self) -> impl Iterator<Item = Waker> + use<> {
        let slots = {
            let mut places = lock(&self.0);
            places.closed = true;
            places.len = 0;
            places.free = NOWHERE;
            std::mem::take(&mut places.slots)
        };
        slots.into_iter().filter_map(|slot| match slot {
            Slot::Taken(waker) => Some(waker),
            Slot::Free(_) => None,
        })
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use super::Waiters;
    use crate::sync::lock;

    struct Plain;

    impl Wake for Plain {
        fn wake(self: Arc<Self>) {}
    }

    fn places(waiters: &Waiters) -> usize {
        lock(&waiters.0).slots.len()
    }

    #[test]
    fn places_are_used_again_and_given_back_when_the_list_is_empty() {
        let waiters = Waiters::new();
        let plain = Arc::new(Plain);
        let waker = Waker::from(Arc::clone(&plain));
        for _ in 0..60_000 {
            let at = waiters.enter(None, &waker).expect("it is open");
            assert_eq!(at, 0);
            waiters.leave(at);
        }
        assert_eq!(places(&waiters), 1);
        let all: Vec<_> = (0..60_000)
            .map(|_| waiters.enter(None, &waker).expect("it is open"))
            .collect();
        assert_eq!(
            (places(&waiters), Arc::strong_count(&plain)),
            (60_000, 60_002)
        );
        // Every other one, then as many come again: none needs a new place.
        for at in all.iter().copied().step_by(2) {
            waiters.leave(at);
        }
        assert_eq!(Arc::strong_count(&plain), 30_002);
        for _ in 0..30_000 {
            assert!(waiters.enter(None, &waker).is_some());
        }
        assert_eq!(
            (places(&waiters), Arc::strong_count(&plain)),
            (60_000, 60_002)
        );
        all.into_iter().for_each(|at| waiters.leave(at));
        assert_eq!((places(&waiters), Arc::strong_count(&plain)), (0, 2));
    }

    #[test]
    fn closed_list_takes_nobody_in_and_a_late_leave_takes_nobody_out() {
        let waiters = Waiters::new();
        let (one, two) = (Arc::new(Plain), Arc::new(Plain));
        let at = waiters.enter(None, &Waker::from(Arc::clone(&one)));
        assert_eq!(at, Some(0));
        assert_eq!(waiters.enter(at, &Waker::from(Arc::clone(&two))), at);
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (1, 2));
        assert_eq!(waiters.close().count(), 1);
        assert_eq!(waiters.enter(at, &Waker::from(Arc::clone(&two))), None);
        assert_eq!(waiters.enter(None, &Waker::from(Arc::clone(&two))), None);
        waiters.leave(0);
        assert_eq!(waiters.close().count(), 0);
        assert_eq!(Arc::strong_count(&two), 1);
    }
}
