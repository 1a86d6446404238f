//! The count of living `Cancelled`s: while none lives, no error can hold one. Recipe Count. Whether a certain error
//! holds one that lives is asked in `held.rs`.

use super::{ABORTED, CANCELLED, Node};
use crate::sync::Arc;

/// One `Cancelled`, counted on every node from where it was made up to the node whose cancellation
/// it tells of. Dropping it takes it off the same nodes.
#[derive(Debug)]
pub(crate) struct Mark {
    node: Arc<Node>,
    /// How many nodes above the first one are counted on.
    steps: usize,
}

impl Mark {
    /// Counts a `Cancelled` that is made at this node; `None` if the node is not cancelled.
    pub(crate) fn new(node: Arc<Node>) -> Option<Self> {
        let steps = node.origin()?;
        let mark = Self { node, steps };
        mark.count(|count| {
            // Leaked ones could make it wrap to "none" (rule W13 of the scopes).
            if *count == u32::MAX / 2 {
                std::process::abort();
            }
            *count = count.wrapping_add(1);
        });
        Some(mark)
    }

    /// Whether this one is counted on the node at that address; with `own`, as one that tells of the cancellation of
    /// that very node.
    pub(crate) fn is_counted_at(&self, address: usize, own: bool) -> bool {
        for (at, (node, _)) in self.node.upwards().take(self.steps + 1).enumerate() {
            if std::ptr::from_ref(node).addr() == address {
                return !own || at == self.steps;
            }
            let locked = node.lock();
            if locked.cold.as_ref().is_some_and(|cold| cold.forgiven) {
                break;
            }
        }
        false
    }

    fn count(&self, by: fn(&mut u32)) {
        for (at, (node, _)) in self.node.upwards().take(self.steps + 1).enumerate() {
            let mut locked = node.lock();
            let cold = locked.cold();
            by(&mut cold.live);
            if at == self.steps {
                by(&mut cold.live_own);
            }
            if cold.forgiven {
                break;
            }
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.count(|count| *count = count.wrapping_sub(1));
    }
}

impl Node {
    /// What hangs below has failed for a reason of its own: the cancellations that its errors hold are counted no
    /// further than here from now on.
    ///
    /// All that were counted higher tell of one cancellation, since the nearest one above stays the same.
    pub(crate) fn forgive(&self) {
        let counted = {
            let mut locked = self.lock();
            let Some(cold) = locked.cold.as_deref_mut() else {
                return;
            };
            if std::mem::replace(&mut cold.forgiven, true) {
                return;
            }
            cold.live.wrapping_sub(cold.live_own)
        };
        let Some(steps) = self.origin() else { return };
        // One that is being counted at this moment was counted here before, or will end here.
        for (at, (node, _)) in self.upwards().take(steps + 1).enumerate().skip(1) {
            let mut locked = node.lock();
            let cold = locked.cold();
            cold.live = cold.live.wrapping_sub(counted);
            if at == steps {
                cold.live_own = cold.live_own.wrapping_sub(counted);
            }
            if cold.forgiven {
                break;
            }
        }
    }

    /// How far above is the node that was cancelled itself, if this one is cancelled.
    fn origin(&self) -> Option<usize> {
        let mut aborted = None;
        for (at, (node, hidden)) in self.upwards().enumerate() {
            let ends = if hidden { ABORTED } else { CANCELLED };
            let asked = node.asked();
            if asked & ends != 0 {
                return Some(at);
            }
            // One that was aborted after it was cancelled from above has its origin there, unless
            // a shield in between hides it.
            if asked & ABORTED != 0 {
                aborted = aborted.or(Some(at));
            }
        }
        aborted
    }

    /// Whether a counted `Cancelled` lives that was made at or below this node.
    pub(crate) fn has_live(&self) -> bool {
        let locked = self.lock();
        locked.cold.as_ref().is_some_and(|cold| cold.live > 0)
    }

    /// The addresses of the nodes above for whose own cancellation a counted `Cancelled` lives.
    pub(crate) fn live_above(&self) -> Vec<usize> {
        let above = self.upwards().skip(1).map(|(node, _)| node);
        above
            .filter(|node| node.has_live_own())
            .map(|node| std::ptr::from_ref(node).addr())
            .collect()
    }

    /// The same as `has_live`, of those that tell of this very node's cancellation.
    pub(crate) fn has_live_own(&self) -> bool {
        let locked = self.lock();
        locked.cold.as_ref().is_some_and(|cold| cold.live_own > 0)
    }
}
