//! How a request travels down the tree: node by node with an explicit stack, one lock at a time, and
//! only at the end, when everything is marked, to those who wait. Recipes Raise, Tell and Strike.

use std::task::Waker;

use super::{ABORTED, CANCELLED, FOLLOWED, Locked, News, Node, STOPPED};
use crate::slots::{Taken, Watcher};
use crate::sync::{Arc, Ordering};
use crate::user::{Callback, quietly};
use crate::{CallbacksElsewhere, Cause, Phase, callbacks};

/// All that one request comes to. User code runs in `finish` only, which is the end of it.
#[must_use]
pub(super) struct Rounds {
    /// Nodes that are to hear something, from which it spreads.
    todo: Vec<(Arc<Node>, Source)>,
    /// Nodes that a strike took out of a list, and that wait for more.
    loose: Vec<Arc<Node>>,
    wakers: Vec<Waker>,
    calls: Vec<(Arc<dyn Callback>, Cause)>,
    /// The functions are called on a thread of their own.
    elsewhere: bool,
}

/// Where a node has its news from.
enum Source {
    Above(News),
    /// Another node, which it follows, has come to this.
    Leader(Phase, Cause),
}

/// What is asked of a node itself.
#[derive(Clone, Copy)]
struct Asked<'a> {
    phase: Phase,
    cause: &'a Cause,
    by_leader: bool,
}

impl<'a> Asked<'a> {
    fn of(phase: Phase, cause: &'a Cause) -> Self {
        Self {
            phase,
            cause,
            by_leader: false,
        }
    }

    /// By a node that it follows.
    fn by_leader(self) -> Self {
        Self {
            by_leader: true,
            ..self
        }
    }
}

/// The former watchers of a node, who have not heard yet.
struct Level {
    news: News,
    taken: Taken,
}

impl Rounds {
    /// For the thread that cancels.
    pub(super) fn new() -> Self {
        Self {
            todo: Vec::new(),
            loose: Vec::new(),
            wakers: Vec::new(),
            calls: Vec::new(),
            elsewhere: callbacks::are_elsewhere(),
        }
    }

    /// For a thread that cancels nothing. It only registers, attaches or follows, finds a cancellation that the
    /// canceller did not bring here, and spreads it. The functions that it reaches may wait for this very thread.
    pub(super) fn found() -> Self {
        Self {
            elsewhere: true,
            ..Self::new()
        }
    }

    /// Asks a phase of a node, with this cause unless there is one.
    pub(super) fn raise(mut self, node: &Arc<Node>, phase: Phase, cause: &Cause) -> Self {
        let first = self.ask(node, Asked::of(phase, cause));
        self.spread(first);
        self
    }

    /// Tells a node, and what is below it, what comes from above.
    pub(super) fn tell(mut self, node: &Arc<Node>, news: &News) -> Self {
        let first = self.strike(node, None, news, false);
        self.spread(first);
        self
    }

    /// Asks of a follower what its leader has come to already.
    pub(super) fn catch_up(mut self, node: &Arc<Node>, leader: &Node) -> Self {
        let mut news = leader.above_and(0);
        if news.phase >= Phase::Cancelled {
            news.cause = leader.cause();
        }
        news.stop = leader.stop_cause();
        self.follow(Arc::clone(node), &news);
        self
    }

    pub(super) fn later(&mut self, node: &Arc<Node>, news: News) {
        self.todo.push((Arc::clone(node), Source::Above(news)));
    }

    /// Wakes and calls, when there is nothing left to mark or to link.
    pub(super) fn finish(mut self) {
        loop {
            if let Some((node, source)) = self.todo.pop() {
                let first = match source {
                    Source::Above(news) => self.strike(&node, None, &news, false),
                    Source::Leader(phase, cause) => {
                        let asked = Asked::of(phase, &cause);
                        self.ask(&node, asked.by_leader())
                    }
                };
                self.spread(first);
            } else if let Some(node) = self.loose.pop() {
                self = self.link(&node);
            } else {
                break;
            }
        }
        // A waker or a token of another kind that repeats what this one heard raises a request of its own, on this thread.
        let _elsewhere = self.elsewhere.then(CallbacksElsewhere::begin);
        for waker in self.wakers {
            quietly(|| waker.wake());
        }
        callbacks::call(self.calls, self.elsewhere);
    }

    fn ask(&mut self, node: &Arc<Node>, asked: Asked<'_>) -> Option<Level> {
        let above = node.above();
        let mut level = self.strike(node, Some(asked), &above, false)?;
        // Only now, when somebody is to hear of it: it may be far above.
        level.news.stop = level.news.stop.or_else(|| node.stop_cause());
        Some(level)
    }

    /// Goes through whoever hangs on a struck node.
    fn spread(&mut self, first: Option<Level>) {
        let Some(first) = first else { return };
        let mut levels = vec![first];
        while let Some(Level { news, taken }) = levels.last_mut() {
            let Some(watcher) = taken.next() else {
                levels.pop();
                continue;
            };
            match watcher {
                Watcher::Waker(_, waker) => self.wakers.push(waker),
                Watcher::Callback(callback) => {
                    if let Some(cause) = &news.cause {
                        // Before anybody is woken, who might end and take it back.
                        callback.summon();
                        self.calls.push((callback, cause.clone()));
                    }
                }
                Watcher::Follower(node) => {
                    if let Some(node) = node.upgrade() {
                        self.follow(node, news);
                    }
                }
                Watcher::Child(child) => {
                    if let Some(child) = child.upgrade() {
                        let below = self.strike(&child, None, news, true);
                        // A level without rest goes first, so that a chain of any length needs
                        // one level at a time.
                        if taken.is_empty() {
                            levels.pop();
                        }
                        levels.extend(below);
                    }
                }
            }
        }
    }

    /// Repeats in a follower what its leader came to.
    fn follow(&mut self, node: Arc<Node>, news: &News) {
        let mut push = |phase, cause: &Option<Cause>| {
            let cause = cause.clone().unwrap_or_else(|| Cause::from("followed"));
            self.todo
                .push((Arc::clone(&node), Source::Leader(phase, cause)));
        };
        // The last one in is served first.
        if news.phase == Phase::Aborting {
            push(Phase::Aborting, &news.abort);
        }
        if news.phase >= Phase::Cancelled {
            push(Phase::Cancelled, &news.cause);
        }
        if news.phase == Phase::Stopping || news.stop.is_some() {
            push(Phase::Stopping, &news.stop);
        }
    }

    /// Marks one node, in one step under its lock, and takes off who is to hear of it.
    fn strike(
        &mut self,
        node: &Arc<Node>,
        asked: Option<Asked<'_>>,
        above: &News,
        unlinked: bool,
    ) -> Option<Level> {
        let mut locked = node.lock();
        if unlinked {
            // Whoever is linking a path through here must not call it reached (T4).
            locked.unlinked = locked.unlinked.wrapping_add(1);
            locked.reached = false;
        }
        if asked.is_some() {
            locked.cold();
        }
        let mut phase = node.settle(&mut locked, above);
        if let Some(asked) = asked {
            phase = phase.max(node.take_request(&mut locked, asked));
        }
        let mut taken = None;
        if phase > locked.struck {
            locked.struck = phase;
            if locked.from <= phase {
                self.wakers.extend(locked.one.take());
            }
            if locked.has_list() {
                taken = Some(locked.cold().watchers.strike(phase));
            }
        }
        if unlinked && locked.is_watched() {
            self.loose.push(Arc::clone(node));
        }
        let taken = taken.filter(|taken| !taken.is_empty())?;
        if !taken.only_wakers() {
            let mut news = locked.news();
            news.stop = news.stop.or_else(|| above.stop.clone());
            return Some(Level { news, taken });
        }
        drop(locked);
        self.wakers
            .extend(taken.filter_map(|watcher| match watcher {
                Watcher::Waker(_, waker) => Some(waker),
                _ => None,
            }));
        None
    }
}

impl Node {
    /// Takes over what comes from above; the answer is the phase the node is in by that.
    ///
    /// Where nobody is told the cause now, it is left to whoever asks for it: then a node with one
    /// waker needs no more than itself to be cancelled.
    fn settle(&self, locked: &mut Locked, above: &News) -> Phase {
        // Under the lock, which `lower_shield` takes too: it looks upwards after this, or we see
        // the shield lowered.
        let shielded = self.is_shielded();
        let phase = above.phase.through(shielded);
        if phase < Phase::Cancelled || (locked.cold.is_none() && !shielded) {
            return phase;
        }
        let cold = locked.cold();
        if cold.cause.is_none() {
            let cause = if shielded { &above.abort } else { &above.cause };
            cold.cause = cause.clone();
        }
        if phase == Phase::Aborting && cold.abort().is_none() {
            cold.rare().abort = above.abort.clone();
        }
        phase
    }

    /// Takes over what is asked of the node itself. Whoever comes first is the one who cancelled it.
    fn take_request(&self, locked: &mut Locked, request: Asked<'_>) -> Phase {
        let (wanted, cause) = (request.phase, request.cause);
        let mut asked = 0;
        let is_first = locked.struck < Phase::Cancelled;
        let cold = locked.cold();
        if wanted >= Phase::Cancelled && is_first && cold.cause.is_none() {
            cold.cause = Some(cause.clone());
            asked |= CANCELLED;
            if request.by_leader {
                asked |= FOLLOWED;
            }
        }
        match wanted {
            Phase::Running | Phase::Cancelled => {}
            Phase::Stopping => {
                cold.rare().stop.get_or_insert_with(|| cause.clone());
                asked |= STOPPED;
            }
            Phase::Aborting => {
                cold.rare().abort.get_or_insert_with(|| cause.clone());
                asked |= ABORTED;
            }
        }
        // Release: publishes what came before the request, and the cause. Pairs with the Acquire in
        // `Node::asked`.
        self.asked.fetch_or(asked, Ordering::Release);
        wanted
    }
}
