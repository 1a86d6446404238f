//! The cancellation tree: a node, what is asked of it, and who watches it. A node knows its parent;
//! a parent knows only those children that have watchers on or below them.
//!
//! `README.md` in this crate's folder has the protocol and the numbered invariants cited here. How a
//! request travels is in `node/spread.rs`, how a path is linked in `node/link.rs`, deadlines are in
//! `node/limit.rs`, and the count of living `Cancelled`s in `node/live.rs`. Not for the public face of it, which is `token.rs`.

#[cfg(feature = "tokio-util")]
mod kept;
mod limit;
mod link;
mod live;
mod locked;
mod spread;

use std::fmt;
use std::task::Waker;

use crate::slots::{NOWHERE, Watcher};
use crate::sync::{Arc, AtomicU8, AtomicU32, Mutex, MutexGuard, OnceLock, Ordering, lock};
use crate::user::let_go;
use crate::{Cause, Phase};

use limit::Limit;
pub(crate) use live::Mark;
use locked::Locked;
use spread::Rounds;

/// Somebody asked this very node to stop, to be cancelled, to abort. Never taken back.
const STOPPED: u8 = 1;
const CANCELLED: u8 = 1 << 1;
const ABORTED: u8 = 1 << 2;
/// It was cancelled because a node was that it follows. Only beside [`CANCELLED`].
const FOLLOWED: u8 = 1 << 3;

/// The node hides the cancellation, though not the abort, of what is above it. Set at creation, and
/// lowered once at most.
const SHIELDED: u8 = 1;
/// The node has a deadline of its own, or a bound of its shield, to be read under the lock.
const LIMITED: u8 = 1 << 1;

pub(crate) struct Node {
    /// What was asked of this node itself; written under the lock, read by anybody. Apart from the
    /// marks, so that nobody who writes it has to read it first (loom sees the race only then).
    asked: AtomicU8,
    /// The shield and the deadline; written under the lock, read by anybody.
    marks: AtomicU8,
    /// The node stands for "outside everything": it has nothing above it and stays running.
    is_never: bool,
    /// Position in the parent's list, or `NOWHERE`; read and written under the parent's lock.
    slot: AtomicU32,
    /// The parent it was made under: a `OnceLock` would need two exchanges to be made full.
    born_under: Option<Arc<Node>>,
    /// The parent that a root was given later, under its lock.
    attached_to: OnceLock<Arc<Node>>,
    locked: Mutex<Locked>,
}

/// What a node hears from above: a phase, already as it is seen through the shields on the way, and why it
/// is to stop, is cancelled and is aborted, as far as it is.
#[derive(Clone, Debug)]
pub(crate) struct News {
    phase: Phase,
    /// For followers: a node keeps only what was asked of itself.
    stop: Option<Cause>,
    cause: Option<Cause>,
    abort: Option<Cause>,
}

/// What became of an attempt to watch a node.
#[derive(Debug)]
pub(crate) enum Watch {
    /// Watching, from this position.
    At(u32),
    /// The phase has come, and the watcher was not taken.
    Late,
    /// The node is never cancelled; nothing is kept.
    Never,
}

/// The furthest phase that was asked of the node itself.
const fn furthest(asked: u8) -> Phase {
    if asked & ABORTED != 0 {
        Phase::Aborting
    } else if asked & CANCELLED != 0 {
        Phase::Cancelled
    } else if asked & STOPPED != 0 {
        Phase::Stopping
    } else {
        Phase::Running
    }
}

impl Node {
    pub(crate) fn root() -> Arc<Self> {
        Self::with(0, false, None)
    }

    pub(crate) fn never() -> Arc<Self> {
        Self::with(0, true, None)
    }

    /// A child that its parent does not know of: one allocation, one count, no lock.
    pub(crate) fn child_of(parent: &Arc<Self>) -> Arc<Self> {
        Self::with(0, false, Some(Arc::clone(parent)))
    }

    pub(crate) fn shielded_child_of(parent: &Arc<Self>) -> Arc<Self> {
        Self::with(SHIELDED, false, Some(Arc::clone(parent)))
    }

    fn with(marks: u8, is_never: bool, born_under: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicU8::new(0),
            marks: AtomicU8::new(marks),
            is_never,
            slot: AtomicU32::new(NOWHERE),
            born_under,
            attached_to: OnceLock::new(),
            locked: Mutex::new(Locked::new()),
        })
    }

    fn parent(&self) -> Option<&Arc<Self>> {
        match &self.born_under {
            Some(parent) => Some(parent),
            None => self.attached_to.get(),
        }
    }

    fn take_parent(&mut self) -> Option<Arc<Self>> {
        match self.born_under.take() {
            Some(parent) => Some(parent),
            None => self.attached_to.take(),
        }
    }

    /// Puts a root, with all that is below it, under a parent. Only the first call counts; a
    /// parent at or below the node would close a circle, and is ignored.
    pub(crate) fn attach(self: &Arc<Self>, parent: &Arc<Self>) {
        if self.is_never || self.born_under.is_some() {
            return;
        }
        // With one reference, the caller's, nothing is below: the usual case looks no further.
        let circular = Arc::ptr_eq(self, parent)
            || Arc::strong_count(self) > 1
                && std::iter::successors(parent.parent(), |node| node.parent())
                    .any(|node| Arc::ptr_eq(self, node));
        if circular {
            return;
        }
        {
            let locked = self.lock();
            if self.attached_to.set(Arc::clone(parent)).is_err() || !locked.is_watched() {
                return;
            }
        }
        // Whoever adds a watcher from here on sees the parent and links the path (T3).
        Rounds::found().link(self).finish();
    }

    #[inline]
    fn asked(&self) -> u8 {
        // Acquire: pairs with the Release in `take_request`; a reader that sees the flag also sees
        // what the canceller did before it cancelled.
        self.asked.load(Ordering::Acquire)
    }

    fn marks(&self) -> u8 {
        // Acquire: pairs with the writers in `lower_shield` and `set_deadline`.
        self.marks.load(Ordering::Acquire)
    }

    fn is_shielded(&self) -> bool {
        self.marks() & SHIELDED != 0
    }

    /// The node and those above it, each with whether a shield below hides it.
    fn upwards(&self) -> impl Iterator<Item = (&Self, bool)> {
        let mut next = Some((self, false));
        std::iter::from_fn(move || {
            let (node, hidden) = next?;
            next = node
                .parent()
                .map(|parent| (&**parent, hidden || node.is_shielded()));
            Some((node, hidden))
        })
    }

    /// Whether this node or one above it is cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // As in `upwards`; this one is asked at each await.
        let (mut node, mut ends) = (self, CANCELLED | ABORTED);
        loop {
            if node.asked() & ends != 0 {
                return true;
            }
            let Some(parent) = node.parent() else {
                return false;
            };
            if node.is_shielded() {
                ends = ABORTED;
            }
            node = parent;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // A shield hides no wish to stop.
        self.upwards().any(|(node, _)| node.asked() != 0)
    }

    /// The furthest phase of this node and those above it, as the shields between let it through.
    pub(crate) fn phase(&self) -> Phase {
        let mut phase = Phase::Running;
        for (node, hidden) in self.upwards() {
            phase = phase.max(furthest(node.asked()).through(hidden));
            if phase == Phase::Aborting {
                break;
            }
        }
        phase
    }

    /// What the nodes above this one have to tell it, but for why it is to stop: the nearest cause counts. One that was
    /// aborted may not know why it was cancelled, and one further up does.
    fn above(&self) -> News {
        self.above_and(1)
    }

    fn above_and(&self, skipped: usize) -> News {
        let mut news = News {
            phase: Phase::Running,
            stop: None,
            cause: None,
            abort: None,
        };
        for (node, hidden) in self.upwards().skip(skipped) {
            let asked = furthest(node.asked());
            let lacks = news.cause.is_none() || asked == Phase::Aborting && news.abort.is_none();
            if lacks && asked.through(hidden) >= Phase::Cancelled {
                let locked = node.lock();
                let abort = locked.rare().and_then(|rare| rare.abort.as_ref());
                news.abort = news.abort.take().or_else(|| abort.cloned());
                let seen = if hidden { abort } else { locked.cause() };
                news.cause = news.cause.take().or_else(|| seen.cloned());
            }
            news.phase = news.phase.max(asked.through(hidden));
            if news.phase == Phase::Aborting && news.cause.is_some() && news.abort.is_some() {
                break;
            }
        }
        news
    }

    /// The cause of this node, its own or the nearest above. Whatever is answered is its own from
    /// then on (T1), but its watchers are left to the canceller, who is on the way: user code must
    /// not run inside a question.
    pub(crate) fn cause(&self) -> Option<Cause> {
        if !self.is_cancelled() {
            return None;
        }
        if let Some(cause) = self.lock().cause() {
            return Some(cause.clone());
        }
        let cause = self.above().cause?;
        Some(self.lock().cold().cause.get_or_insert(cause).clone())
    }

    /// Fills in the causes that the node's own news lack: without a box it keeps none, and whoever hears the news below a
    /// shield is cancelled by the abort's.
    fn complete(&self, mut news: News) -> News {
        if news.phase >= Phase::Cancelled && news.cause.is_none() {
            news.cause = self.cause();
        }
        if news.phase == Phase::Aborting && news.abort.is_none() {
            news.abort = self.above().abort;
        }
        news.stop = news.stop.or_else(|| self.stop_cause());
        news
    }

    /// The cause, if this very node was cancelled.
    pub(crate) fn own_cause(&self) -> Option<Cause> {
        if self.asked() & CANCELLED == 0 {
            return None;
        }
        self.lock().cause().cloned()
    }

    /// Whether this very node was cancelled, by one that it follows.
    pub(crate) fn has_followed(&self) -> bool {
        self.asked() & FOLLOWED != 0
    }

    /// Why it is to stop, if anybody said so before it was cancelled; the nearest counts.
    pub(crate) fn stop_cause(&self) -> Option<Cause> {
        self.upwards()
            .filter(|(node, _)| node.asked() & STOPPED != 0)
            .find_map(|(node, _)| node.lock().rare()?.stop.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        lock(&self.locked)
    }

    /// Moves the node and everything below it to this phase. The cause counts unless there is one.
    pub(crate) fn raise(self: &Arc<Self>, phase: Phase, cause: Cause) {
        if !self.is_never {
            Rounds::new().raise(self, phase, &cause).finish();
        }
    }

    /// Makes an ordinary child of a shielded one, for good.
    pub(crate) fn lower_shield(self: &Arc<Self>) {
        {
            let locked = self.lock();
            // One that is cancelled has nothing to learn, and keeps the mark of what it was
            // cancelled through.
            if locked.cause().is_some() {
                return;
            }
            // AcqRel: a question that sees the shield down sees what came before; and the look
            // upwards below comes after.
            self.marks.fetch_and(!SHIELDED, Ordering::AcqRel);
        }
        let mut above = self.above();
        if above.phase >= Phase::Cancelled {
            above.stop = self.stop_cause();
            Rounds::new().tell(self, &above).finish();
        }
    }

    /// Adds a watcher and makes sure that a request above will find it.
    pub(crate) fn watch(self: &Arc<Self>, watcher: Watcher, from: Phase) -> Watch {
        if self.is_never {
            let_go(watcher);
            return Watch::Never;
        }
        let entered = {
            let mut locked = self.lock();
            let settled = locked.cause().is_some() && from <= Phase::Cancelled;
            if settled || from <= locked.struck {
                Err(watcher)
            } else {
                Ok((locked.insert(watcher), locked.step()))
            }
        };
        let (at, step) = match entered {
            Ok(entered) => entered,
            Err(refused) => {
                let_go(refused);
                return Watch::Late;
            }
        };
        if !step.reached && self.parent().is_some() {
            Rounds::found().link_from(self, step).finish();
        }
        Watch::At(at)
    }

    /// Repeats each phase of the other node, from now on and those it has reached, until its list is
    /// left at the position that comes back.
    pub(crate) fn follow(self: &Arc<Self>, leader: &Arc<Self>) -> Option<u32> {
        if self.is_never || Arc::ptr_eq(self, leader) {
            return None;
        }
        let follower = Watcher::Follower(Arc::downgrade(self));
        let watch = leader.watch(follower, Phase::Aborting);
        // A phase that came before the entry is ours to repeat, one after it the canceller's.
        Rounds::found().catch_up(self, leader).finish();
        match watch {
            Watch::At(at) => Some(at),
            Watch::Late | Watch::Never => None,
        }
    }

    /// Takes a watcher off again. What comes back is for the caller to drop, without a lock.
    pub(crate) fn unwatch(&self, at: u32) -> Option<Watcher> {
        self.lock().remove(at)
    }

    /// Takes a watcher off and drops it.
    pub(crate) fn let_go(&self, at: u32) {
        let_go(self.unwatch(at));
    }

    /// Exchanges the waker at a position if it would wake another task. `false` if a strike has
    /// taken it.
    pub(crate) fn rewatch(&self, at: u32, waker: &Waker) -> bool {
        {
            let mut locked = self.lock();
            match locked.waker_mut(at) {
                None => return false,
                Some(old) if old.will_wake(waker) => return true,
                Some(_) => {}
            }
        }
        // Cloning and dropping a waker is user code: both happen outside the lock.
        let mut waker = waker.clone();
        let is_there = {
            let mut locked = self.lock();
            let old = locked.waker_mut(at);
            old.map(|old| std::mem::swap(old, &mut waker)).is_some()
        };
        let_go(waker);
        is_there
    }

    /// Drops the watchers that the node still has, and what it keeps, one by one: they are user code.
    fn clear(&mut self) {
        let locked = match self.locked.get_mut() {
            Ok(locked) => locked,
            Err(poisoned) => poisoned.into_inner(),
        };
        if locked.holds_nothing() {
            return;
        }
        let (one, cold) = (locked.one.take(), locked.cold.take());
        let_go(one);
        let Some(mut cold) = cold else { return };
        cold.watchers.strike(Phase::Aborting).for_each(let_go);
        let_go(cold);
    }

    /// A root as it was made, outside every tree. `false`: others have it, or it has seen too much.
    pub(crate) fn renew(this: &mut Arc<Self>) -> bool {
        let Some(node) = Arc::get_mut(this) else {
            return false;
        };
        // Relaxed: exclusive here, so all that others did is seen.
        let order = Ordering::Relaxed;
        let is_plain = node.asked.load(order) == 0
            && node.marks.load(order) == 0
            && !node.is_never
            && node.born_under.is_none();
        let Ok(locked) = node.locked.get_mut() else {
            return false;
        };
        if !is_plain || !locked.holds_nothing() {
            return false;
        }
        *locked = Locked::new();
        if node.attached_to.get().is_some() {
            node.unlink();
            node.slot = AtomicU32::new(NOWHERE);
            drop(node.attached_to.take());
        }
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
        if let Some(parent) = self.parent() {
            let child = parent.lock().remove_child(at);
            drop(child);
        }
    }
}

impl Drop for Node {
    /// Drops the chain of ancestors that only this node kept alive, one after another instead of
    /// each inside the drop of the one below.
    fn drop(&mut self) {
        self.unlink();
        self.clear();
        let mut above = self.take_parent();
        while let Some(mut node) = above.and_then(Arc::into_inner) {
            node.unlink();
            // Without its parent, the node's own drop at the end of this round does nothing.
            above = node.take_parent();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests;
