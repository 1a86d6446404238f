//! What watches a node: a small list with stable positions, so that each watcher can leave in
//! constant time. It holds no lock and calls nobody; `node.rs` does both.

use std::task::Waker;

use crate::node::Node;
use crate::sync::{Arc, Weak};
use crate::user::Callback;

/// Somebody who wants to hear of a node's cancellation.
#[derive(Debug)]
pub(crate) enum Watcher {
    /// A task that waits.
    Waker(Waker),
    /// A function to call; shared with the guard that can disarm it.
    Callback(Arc<dyn Callback>),
    /// A node below that has watchers itself. Weak: a parent keeps no child alive.
    Child(Weak<Node>),
}

#[derive(Debug)]
enum Slot {
    /// Free; the number is the next free position, or `END`.
    Free(usize),
    Taken(Watcher),
}

/// No position: the end of the free list, and "not in any list" elsewhere.
pub(crate) const NOWHERE: usize = usize::MAX;

/// The watchers of one node.
#[derive(Debug)]
pub(crate) struct Watchers {
    slots: Vec<Slot>,
    free: usize,
    len: usize,
}

impl Watchers {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NOWHERE,
            len: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, watcher: Watcher) -> usize {
        self.len += 1;
        if self.free == NOWHERE {
            self.slots.push(Slot::Taken(watcher));
            return self.slots.len() - 1;
        }
        let at = self.free;
        if let Slot::Free(next) = std::mem::replace(&mut self.slots[at], Slot::Taken(watcher)) {
            self.free = next;
        }
        at
    }

    /// Takes out the watcher at this position. `None` if the list was emptied by a cancellation
    /// since: nothing is ever inserted after one, so a position is never taken for another's.
    pub(crate) fn remove(&mut self, at: usize) -> Option<Watcher> {
        let slot = self.slots.get_mut(at)?;
        match std::mem::replace(slot, Slot::Free(self.free)) {
            Slot::Taken(watcher) => {
                self.free = at;
                self.len -= 1;
                Some(watcher)
            }
            free @ Slot::Free(_) => {
                *slot = free;
                None
            }
        }
    }

    /// The waker at this position, to be exchanged in place.
    pub(crate) fn waker_mut(&mut self, at: usize) -> Option<&mut Waker> {
        match self.slots.get_mut(at) {
            Some(Slot::Taken(Watcher::Waker(waker))) => Some(waker),
            _ => None,
        }
    }

    /// Empties the list; for the cancellation that will serve everybody in it.
    pub(crate) fn take_all(&mut self) -> Taken {
        let taken = std::mem::replace(self, Self::new());
        Taken {
            slots: taken.slots.into_iter(),
            left: taken.len,
        }
    }
}

/// The former watchers of a node, in the order of their positions.
#[derive(Debug)]
pub(crate) struct Taken {
    slots: std::vec::IntoIter<Slot>,
    left: usize,
}

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Taken {
    type Item = Watcher;

    fn next(&mut self) -> Option<Watcher> {
        while self.left > 0 {
            if let Slot::Taken(watcher) = self.slots.next()? {
                self.left -= 1;
                return Some(watcher);
            }
        }
        None
    }
}
