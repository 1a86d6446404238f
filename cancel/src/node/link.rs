//! How a path is linked, so that a request from above finds whoever waits below. Recipe Link.

use super::spread::Rounds;
use super::{Locked, Node};
use crate::Phase;
use crate::slots::Watcher;
use crate::sync::{Arc, Ordering};

/// What somebody who goes up knows of a node, from when he held its lock.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) reached: bool,
    struck: Phase,
    unlinked: u8,
}

impl Locked {
    pub(super) fn step(&self) -> Step {
        Step {
            reached: self.reached,
            struck: self.struck,
            unlinked: self.unlinked,
        }
    }
}

impl Rounds {
    /// Links the way from this node to the top, if anything waits on it.
    pub(super) fn link(self, node: &Arc<Node>) -> Self {
        let step = {
            let locked = node.lock();
            if !locked.is_watched() {
                return self;
            }
            locked.step()
        };
        self.link_from(node, step)
    }

    /// As `link`, by somebody who has just looked at the node.
    pub(super) fn link_from(mut self, from: &Arc<Node>, step: Step) -> Self {
        let (mut node, mut step) = (from, step);
        let mut passed = Vec::new();
        while !step.reached {
            let Some(parent) = node.parent().filter(|parent| !parent.is_never) else {
                break;
            };
            let (next, news) = {
                let mut locked = parent.lock();
                let struck = locked.struck;
                // Relaxed: the parent's lock orders it.
                let at = node.slot.load(Ordering::Relaxed);
                if struck < Phase::Aborting && !locked.has_child(at) {
                    let child = Watcher::Child(Arc::downgrade(node));
                    // Relaxed: as above.
                    node.slot.store(locked.insert(child), Ordering::Relaxed);
                }
                // The list may have been struck before we came.
                (locked.step(), (struck > step.struck).then(|| locked.news()))
            };
            if let Some(news) = news {
                self.later(node, parent.complete(news));
            }
            // What is right under the top is not worth a mark.
            if next.reached || parent.parent().is_some() {
                passed.push((node, step.unlinked));
            }
            (node, step) = (parent, next);
        }
        for (node, unlinked) in passed {
            let mut locked = node.lock();
            // A strike that came after we passed has taken the link, or will follow it down here.
            if locked.unlinked == unlinked {
                locked.reached = true;
            }
        }
        self
    }
}
