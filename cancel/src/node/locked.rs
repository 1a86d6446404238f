//! What a node has behind its lock: the first waker, and a box for all that few nodes need. It locks
//! nothing and calls nobody.

use std::task::Waker;

use super::{Limit, News};
use crate::slots::{INLINE, NOWHERE, Watcher, Watchers};
use crate::{Cause, Instant, Phase};

pub(super) struct Locked {
    /// The phase up to which those who waited here were told.
    pub(super) struck: Phase,
    /// The way from here to the top was linked (invariant T4).
    pub(super) reached: bool,
    /// How often a strike above took the node out of its parent's list: once for each phase at most.
    pub(super) unlinked: u8,
    /// What `one` waits for.
    pub(super) from: Phase,
    /// The first waker, if nobody else watched when it came.
    pub(super) one: Option<Waker>,
    /// Most nodes live and die without it.
    pub(super) cold: Option<Box<Cold>>,
}

/// What only nodes have that have more watchers, were cancelled, or were given a deadline.
pub(super) struct Cold {
    /// Set once (invariant T1).
    pub(super) cause: Option<Cause>,
    pub(super) watchers: Watchers,
    /// How many `Cancelled`s live that were made at or below this node for a cancellation of this
    /// node or one above it.
    pub(super) live: u32,
    /// Those of them for which this very node was cancelled.
    pub(super) live_own: u32,
    pub(super) rare: Option<Box<Rare>>,
}

#[derive(Default)]
pub(super) struct Rare {
    pub(super) stop: Option<Cause>,
    pub(super) abort: Option<Cause>,
    pub(super) deadline: Option<Instant>,
    /// What cancels the node at the deadline.
    pub(super) limit: Option<Limit>,
    /// When the shield is lowered.
    pub(super) bound: Option<(Instant, Limit)>,
    #[cfg(feature = "tokio-util")]
    pub(super) kept: Option<super::kept::Kept>,
}

impl Cold {
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn abort(&self) -> Option<&Cause> {
        self.rare.as_ref()?.abort.as_ref()
    }
}

impl Locked {
    pub(super) const fn new() -> Self {
        Self {
            struck: Phase::Running,
            reached: false,
            unlinked: 0,
            from: Phase::Running,
            one: None,
            cold: None,
        }
    }

    pub(super) fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_with(|| {
            Box::new(Cold {
                cause: None,
                watchers: Watchers::new(),
                live: 0,
                live_own: 0,
                rare: None,
            })
        })
    }

    pub(super) fn cause(&self) -> Option<&Cause> {
        self.cold.as_ref()?.cause.as_ref()
    }

    pub(super) fn rare(&self) -> Option<&Rare> {
        self.cold.as_ref()?.rare.as_deref()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.one.is_some() || self.has_list()
    }

    /// Whether there is neither a watcher nor anything else that may be user code.
    pub(super) fn holds_nothing(&self) -> bool {
        self.one.is_none() && self.cold.is_none()
    }

    pub(super) fn has_list(&self) -> bool {
        self.cold
            .as_ref()
            .is_some_and(|cold| !cold.watchers.is_empty())
    }

    /// What those below are to hear.
    pub(super) fn news(&self) -> News {
        News {
            phase: self.struck,
            stop: self.rare().and_then(|rare| rare.stop.clone()),
            cause: self.cause().cloned(),
            abort: self.rare().and_then(|rare| rare.abort.clone()),
        }
    }

    pub(super) fn insert(&mut self, watcher: Watcher) -> u32 {
        match watcher {
            Watcher::Waker(from, waker) if !self.is_watched() => {
                self.from = from;
                self.one = Some(waker);
                INLINE << 2 | from as u32
            }
            watcher => {
                let struck = self.struck;
                self.cold().watchers.insert(watcher, struck)
            }
        }
    }

    /// Whether a strike has taken whoever had this position.
    pub(super) fn is_void(&self, at: u32) -> bool {
        self.struck >= Phase::from_bits(at)
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Watcher> {
        if self.is_void(at) {
            return None;
        }
        if at >> 2 == INLINE {
            return Some(Watcher::Waker(self.from, self.one.take()?));
        }
        self.cold.as_mut()?.watchers.take(at)
    }

    pub(super) fn waker_mut(&mut self, at: u32) -> Option<&mut Waker> {
        if self.is_void(at) {
            return None;
        }
        if at >> 2 == INLINE {
            return self.one.as_mut();
        }
        self.cold.as_mut()?.watchers.waker_mut(at)
    }

    /// Whether this is the position of a child that is in the list now.
    pub(super) fn has_child(&self, at: u32) -> bool {
        at != NOWHERE && Phase::from_bits(at) == self.struck
    }

    pub(super) fn remove_child(&mut self, at: u32) -> Option<Watcher> {
        if !self.has_child(at) {
            return None;
        }
        self.cold.as_mut()?.watchers.take(at)
    }
}
