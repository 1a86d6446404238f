//! What watches a node: a small list with stable positions, so that each watcher can leave in
//! constant time. It holds no lock and calls nobody; `node.rs` and its folder do both.

use std::task::Waker;

use crate::Phase;
use crate::node::Node;
use crate::sync::{Arc, Weak};
use crate::user::Callback;

/// Somebody who wants to hear of a node's phases.
#[derive(Debug)]
pub(crate) enum Watcher {
    /// A task that waits for this phase.
    Waker(Phase, Waker),
    /// A function to call at the cancellation; shared with the guard that can disarm it.
    Callback(Arc<dyn Callback>),
    /// A node below that has watchers itself. Weak: a parent keeps no child alive.
    Child(Weak<Node>),
    /// A node elsewhere in which each phase of this one is repeated.
    Follower(Weak<Node>),
}

impl Watcher {
    /// The phase that takes the watcher off for good.
    fn until(&self) -> Phase {
        match self {
            Self::Waker(from, _) => *from,
            Self::Callback(_) => Phase::Cancelled,
            // Off at any strike; it links itself again if there is more to wait for.
            Self::Child(_) => Phase::Stopping,
            Self::Follower(_) => Phase::Aborting,
        }
    }
}

#[derive(Debug)]
enum Slot {
    /// Free; the number is the next free place, or `NOWHERE`.
    Free(u32),
    Taken(Watcher),
}

/// The place of a waker that the node keeps by itself, because it is the only watcher.
pub(crate) const INLINE: u32 = (NOWHERE >> 2) - 1;

/// No position: the end of the free list, and "not in any list" elsewhere.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The watchers of one node, as many as there are.
///
/// A position is a place times four, plus a phase. For a child it is the phase up to which the node was
/// struck when the child came, and the position is void in every other one; for others it is the phase
/// they wait for, and the position is void from that one on. So a place that has a new holder is never
/// taken for the old one's; the node looks at that before it asks here.
#[derive(Debug)]
pub(crate) struct Watchers {
    slots: Vec<Slot>,
    free: u32,
    len: u32,
    /// How many stay after `Stopping`, and after `Cancelled`.
    staying: [u32; 2],
}

impl Watchers {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NOWHERE,
            len: 0,
            staying: [0; 2],
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a watcher into the list of a node that was struck up to this phase; the answer is its
    /// position.
    pub(crate) fn insert(&mut self, watcher: Watcher, struck: Phase) -> u32 {
        let tag = match &watcher {
            Watcher::Child(_) => struck,
            other => other.until(),
        };
        self.count(&watcher, u32::wrapping_add);
        let place = if self.free == NOWHERE {
            self.slots.push(Slot::Taken(watcher));
            self.slots.len() - 1
        } else {
            let place = self.free as usize;
            if let Slot::Free(next) =
                std::mem::replace(&mut self.slots[place], Slot::Taken(watcher))
            {
                self.free = next;
            }
            place
        };
        let place = u32::try_from(place).unwrap_or(NOWHERE);
        assert!(place < INLINE, "a billion watchers on one node");
        place << 2 | tag as u32
    }

    /// Keeps the counts; `by` adds or subtracts one.
    fn count(&mut self, watcher: &Watcher, by: fn(u32, u32) -> u32) {
        self.len = by(self.len, 1);
        for (staying, phase) in self
            .staying
            .iter_mut()
            .zip([Phase::Stopping, Phase::Cancelled])
        {
            if watcher.until() > phase {
                *staying = by(*staying, 1);
            }
        }
    }

    /// Takes out the watcher at a position that is not void.
    pub(crate) fn take(&mut self, at: u32) -> Option<Watcher> {
        let slot = self.slots.get_mut((at >> 2) as usize)?;
        match std::mem::replace(slot, Slot::Free(self.free)) {
            Slot::Taken(watcher) => {
                self.free = at >> 2;
                self.count(&watcher, u32::wrapping_sub);
                Some(watcher)
            }
            free @ Slot::Free(_) => {
                *slot = free;
                None
            }
        }
    }

    /// The waker at a position that is not void, to be exchanged in place.
    pub(crate) fn waker_mut(&mut self, at: u32) -> Option<&mut Waker> {
        match self.slots.get_mut((at >> 2) as usize) {
            Some(Slot::Taken(Watcher::Waker(_, waker))) => Some(waker),
            _ => None,
        }
    }

    /// Hands out whoever is to hear of a phase later than the ones before.
    pub(crate) fn strike(&mut self, phase: Phase) -> Taken {
        let staying = match phase {
            Phase::Running => self.len,
            Phase::Stopping => self.staying[0],
            Phase::Cancelled => self.staying[1],
            Phase::Aborting => 0,
        };
        if staying == 0 {
            let all = std::mem::replace(self, Self::new());
            return Taken {
                slots: all.slots.into_iter(),
                left: all.len,
            };
        }
        let mut slots = Vec::new();
        for place in 0..self.slots.len() {
            let at = u32::try_from(place << 2).unwrap_or(NOWHERE);
            let watcher = match &self.slots[place] {
                Slot::Free(_) => continue,
                Slot::Taken(Watcher::Follower(node)) => Watcher::Follower(Weak::clone(node)),
                Slot::Taken(watcher) if watcher.until() > phase => continue,
                Slot::Taken(_) => match self.take(at) {
                    Some(watcher) => watcher,
                    None => continue,
                },
            };
            slots.push(Slot::Taken(watcher));
        }
        let left = u32::try_from(slots.len()).unwrap_or(NOWHERE);
        Taken {
            slots: slots.into_iter(),
            left,
        }
    }
}

/// Watchers that a strike has taken, in the order of their places.
#[derive(Debug)]
pub(crate) struct Taken {
    slots: std::vec::IntoIter<Slot>,
    left: u32,
}

impl Taken {
    pub(crate) const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Whether there is nobody among them who needs to be told more than that it is time.
    pub(crate) fn only_wakers(&self) -> bool {
        self.slots
            .as_slice()
            .iter()
            .all(|slot| matches!(slot, Slot::Free(_) | Slot::Taken(Watcher::Waker(..))))
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
