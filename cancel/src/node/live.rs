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
        let counted = self.node.upwards().take(self.steps + 1);
        let at = counted
            .map(|(node, _)| std::ptr::from_ref(node).addr())
            .position(|counted| counted == address);
        at.is_some_and(|at| !own || at == self.steps)
    }

    fn count(&self, by: fn(&mut u32)) {
        for (at, (node, _)) in self.node.upwards().take(self.steps + 1).enumerate() {
            let mut locked = node.lock();
            let cold = locked.cold();
            by(&mut cold.live);
            if at == self.steps {
                by(&mut cold.live_own);
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
