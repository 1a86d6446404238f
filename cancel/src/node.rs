//! The cancellation tree. A node knows its parent; a parent knows only those children that have
//! watchers on or below them, which link themselves when the first watcher comes.
//!
//! `README.md` in this crate's folder has the protocol and the numbered invariants cited here.
//! Not for the public face of it, which is `token.rs`, nor for running what waits (`user.rs`).

use std::fmt;
use std::task::Waker;

use crate::Cause;
use crate::slots::{NOWHERE, Taken, Watcher, Watchers};
use crate::sync::{
    Arc, AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, lock,
};
use crate::user::{Callback, quietly};

/// Nobody has cancelled the node itself; a node above it may be cancelled.
const RUNNING: u8 = 0;
/// The node has a cause, and keeps it (invariant T1).
const CANCELLED: u8 = 1;

pub(crate) struct Node {
    /// Mirrors `cause.is_some()` for readers without the lock; written under it.
    state: AtomicU8,
    /// The node stands for "outside everything": it has nothing above it and stays running.
    is_never: bool,
    /// Set after the path from here to the top was linked (invariant T4).
    reached: AtomicBool,
    /// Position in the parent's list, or `NOWHERE`; read and written under the parent's lock.
    slot: AtomicUsize,
    /// Set at creation or once later, under this node's lock.
    parent: OnceLock<Arc<Node>>,
    locked: Mutex<Locked>,
}

pub(crate) struct Locked {
    cause: Option<Cause>,
    watchers: Watchers,
}

/// What became of an attempt to watch a node.
#[derive(Debug)]
pub(crate) enum Watch {
    /// Watching, from this position.
    At(usize),
    /// The node is cancelled, and the watcher was not taken.
    Late(Cause),
    /// The node is never cancelled; nothing is kept.
    Never,
}

impl Node {
    pub(crate) fn root() -> Arc<Self> {
        Self::with(false, OnceLock::new())
    }

    pub(crate) fn never() -> Arc<Self> {
        Self::with(true, OnceLock::new())
    }

    /// A child that its parent does not know of: one allocation, one count, no lock.
    pub(crate) fn child_of(parent: &Arc<Self>) -> Arc<Self> {
        Self::with(false, OnceLock::from(Arc::clone(parent)))
    }

    fn with(is_never: bool, parent: OnceLock<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(RUNNING),
            is_never,
            reached: AtomicBool::new(false),
            slot: AtomicUsize::new(NOWHERE),
            parent,
            locked: Mutex::new(Locked {
                cause: None,
                watchers: Watchers::new(),
            }),
        })
    }

    /// Puts a root, with all that is below it, under a parent. Only the first call counts; a
    /// parent at or below the node would close a circle, and is ignored.
    pub(crate) fn attach(self: &Arc<Self>, parent: &Arc<Self>) {
        if self.is_never {
            return;
        }
        // With one reference, the caller's, nothing is below: the usual case looks no further.
        let circular = Arc::ptr_eq(self, parent)
            || Arc::strong_count(self) > 1
                && std::iter::successors(parent.parent.get(), |node| node.parent.get())
                    .any(|node| Arc::ptr_eq(self, node));
        if circular {
            return;
        }
        let watched = {
            let locked = lock(&self.locked);
            if self.parent.set(Arc::clone(parent)).is_err() {
                return;
            }
            !locked.watchers.is_empty()
        };
        // Whoever adds a watcher from here on sees the parent and links the path (T3).
        if watched {
            self.link();
        }
    }

    fn own_state(&self) -> u8 {
        // Acquire: pairs with the Release store in `settle`; a reader that sees the flag also
        // sees what the canceller did before it cancelled.
        self.state.load(Ordering::Acquire)
    }

    /// Whether this node or one above it is cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.own_state() == CANCELLED || self.inherit().is_some()
    }

    /// The cause of this node, its own or the nearest above.
    pub(crate) fn cause(&self) -> Option<Cause> {
        if self.own_state() == CANCELLED {
            return self.lock().cause.clone();
        }
        self.inherit()
    }

    /// Looks for the nearest cancelled node above; if there is one, settles on its cause, so that
    /// a later answer is the same and quicker. Leaves the watchers to the canceller (T2), because
    /// user code must not run inside a question.
    fn inherit(&self) -> Option<Cause> {
        let mut above = self.parent.get();
        while let Some(node) = above {
            if node.own_state() == CANCELLED {
                let cause = node.lock().cause.clone()?;
                return self.settle(&mut self.lock(), &cause);
            }
            above = node.parent.get();
        }
        None
    }

    /// Gives the node this cause unless it has one (T1); the answer is the one it has then.
    fn settle(&self, locked: &mut Locked, cause: &Cause) -> Option<Cause> {
        if locked.cause.is_none() {
            locked.cause = Some(cause.clone());
            // Release: publishes what came before the cancellation. Pairs with the Acquire load
            // in `own_state`.
            self.state.store(CANCELLED, Ordering::Release);
        }
        locked.cause.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        lock(&self.locked)
    }

    /// Cancels the node and everything below it. The cause counts unless there is one already.
    pub(crate) fn cancel(&self, cause: Cause) {
        if self.is_never {
            return;
        }
        let cause = self.inherit().unwrap_or(cause);
        self.spread(&cause);
    }

    /// Marks this node and all linked ones below, then wakes and calls. No recursion, and no lock
    /// is held while another is taken or while user code runs (T5).
    fn spread(&self, cause: &Cause) {
        let mut wakers: Vec<Waker> = Vec::new();
        let mut calls: Vec<(Arc<dyn Callback>, Cause)> = Vec::new();
        let first = self.strike(cause);
        if first.1.is_empty() {
            return;
        }
        let mut levels = vec![first];
        while let Some((cause, taken)) = levels.last_mut() {
            let Some(watcher) = taken.next() else {
                levels.pop();
                continue;
            };
            match watcher {
                Watcher::Waker(waker) => wakers.push(waker),
                Watcher::Callback(callback) => calls.push((callback, cause.clone())),
                Watcher::Child(child) => {
                    if let Some(child) = child.upgrade() {
                        let below = child.strike(cause);
                        // A level without rest goes first, so that a chain of any length needs
                        // one level at a time.
                        if taken.is_empty() {
                            levels.pop();
                        }
                        if !below.1.is_empty() {
                            levels.push(below);
                        }
                    }
                }
            }
        }
        for waker in wakers {
            quietly(|| waker.wake());
        }
        for (callback, cause) in calls {
            callback.call(&cause);
        }
    }

    /// Marks one node and takes its watchers, in one step under its lock.
    fn strike(&self, cause: &Cause) -> (Cause, Taken) {
        let mut locked = self.lock();
        let cause = self
            .settle(&mut locked, cause)
            .unwrap_or_else(|| cause.clone());
        (cause, locked.watchers.take_all())
    }

    /// Adds a watcher and makes sure that a cancellation above will find it.
    pub(crate) fn watch(self: &Arc<Self>, watcher: Watcher) -> Watch {
        if self.is_never {
            return Watch::Never;
        }
        let at = {
            let mut locked = self.lock();
            if let Some(cause) = &locked.cause {
                return Watch::Late(cause.clone());
            }
            locked.watchers.insert(watcher)
        };
        self.link();
        Watch::At(at)
    }

    /// Links this node into its parent's list, the parent into its own, and so on up (T3).
    fn link(self: &Arc<Self>) {
        let mut node = self;
        // Acquire: pairs with the Release store below; whoever sees the flag also sees the links.
        while !node.reached.load(Ordering::Acquire) {
            let Some(parent) = node.parent.get().filter(|parent| !parent.is_never) else {
                break;
            };
            let cancelled = {
                let mut above = parent.lock();
                // Relaxed: the parent's lock orders it.
                if above.cause.is_none() && node.slot.load(Ordering::Relaxed) == NOWHERE {
                    let child = Watcher::Child(Arc::downgrade(node));
                    // Relaxed: as above.
                    node.slot
                        .store(above.watchers.insert(child), Ordering::Relaxed);
                }
                above.cause.clone()
            };
            if let Some(cause) = cancelled {
                // The parent's list may have been emptied before we came: serve what hangs here.
                return node.spread(&cause);
            }
            node = parent;
        }
        let top = node;
        let mut node = self;
        while !Arc::ptr_eq(node, top) {
            // Release: publishes the links of the path. Pairs with the Acquire load above.
            node.reached.store(true, Ordering::Release);
            match node.parent.get() {
                Some(parent) => node = parent,
                None => break,
            }
        }
    }

    /// Takes a watcher off again. What comes back is for the caller to drop, without a lock.
    pub(crate) fn unwatch(&self, at: usize) -> Option<Watcher> {
        self.lock().watchers.remove(at)
    }

    /// Exchanges the waker at a position if it would wake another task. `false` if a
    /// cancellation has taken it.
    pub(crate) fn rewatch(&self, at: usize, waker: &Waker) -> bool {
        {
            let mut locked = self.lock();
            match locked.watchers.waker_mut(at) {
                None => return false,
                Some(old) if old.will_wake(waker) => return true,
                Some(_) => {}
            }
        }
        // Cloning and dropping a waker is user code: both happen outside the lock.
        let mut waker = waker.clone();
        let mut locked = self.lock();
        let Some(old) = locked.watchers.waker_mut(at) else {
            return false;
        };
        std::mem::swap(old, &mut waker);
        drop(locked);
        drop(waker);
        true
    }

    /// Takes the node out of its parent's list, if it is there.
    fn unlink(&mut self) {
        // Relaxed: exclusive here; the writer held a counted reference, whose release the last
        // decrement has seen.
        let at = self.slot.load(Ordering::Relaxed);
        if at == NOWHERE {
            return;
        }
        if let Some(parent) = self.parent.get() {
            drop(parent.unwatch(at));
        }
    }
}

impl Drop for Node {
    /// Drops the chain of ancestors that only this node kept alive, one after another instead of
    /// each inside the drop of the one below.
    fn drop(&mut self) {
        self.unlink();
        let mut above = self.parent.take();
        while let Some(mut node) = above.and_then(Arc::into_inner) {
            node.unlink();
            // Without its parent, the node's own drop at the end of this round does nothing.
            above = node.parent.take();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::{Node, Watch};
    use crate::slots::Watcher;
    use crate::sync::Arc;
    use std::task::Waker;

    fn watch(node: &Arc<Node>) -> usize {
        match node.watch(Watcher::Waker(Waker::noop().clone())) {
            Watch::At(at) => at,
            other => panic!("not watching: {other:?}"),
        }
    }

    fn is_watched(node: &Node) -> bool {
        !node.lock().watchers.is_empty()
    }

    #[test]
    fn child_without_watchers_is_unknown_to_its_parent() {
        let root = Node::root();
        let child = Node::child_of(&root);
        assert!(!is_watched(&root));
        let at = watch(&Node::child_of(&child));
        assert_eq!(at, 0);
        assert!(!is_watched(&child), "the grandchild is gone");
        assert!(is_watched(&root), "the child stays linked while it lives");
        drop(child);
        assert!(!is_watched(&root));
    }

    #[test]
    fn ten_thousand_watched_children_use_one_place_after_another() {
        let root = Node::root();
        for _ in 0..10_000 {
            let child = Node::child_of(&root);
            watch(&child);
            assert!(is_watched(&root));
        }
        assert!(!is_watched(&root));
        assert_eq!(watch(&root), 0, "the place is free again");
    }

    #[test]
    fn node_that_is_never_cancelled_keeps_no_watchers() {
        let never = Node::never();
        let child = Node::child_of(&never);
        watch(&child);
        assert!(is_watched(&child));
        assert!(!is_watched(&never));
    }
}
