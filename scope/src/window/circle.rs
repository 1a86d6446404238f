//! In debug builds: says so when tasks wait for each other's end in a circle, where only a look at all of them tells
//! why nothing happens.
//!
//! It says nothing that is not so, rather than everything: a task counts as waiting only if it came to rest in a poll
//! in which it asked for one end, that of a child or of a scope it has opened, and nobody but that one holds a waker
//! of it, which is known if there was one waker when it asked, none was cloned since, and there is one in the end. So
//! limits, `select!`, waits that were given up, and whatever else may wake it keep it out. What is noted is named by
//! addresses, which are compared and never followed; a note goes when its task is polled again or ends, so none outlives
//! what it names.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::Location;
use std::sync::PoisonError;
use std::task::Waker;

use super::body::is_body_waker;
use super::core::Core;
use super::here::{self, Node};
use selvedge_cancel::ambient;

use crate::messages::say;
use crate::sync::plain;
use crate::task::{Header, Kind, Task, is_waker_of};

/// Models have enough to do.
pub(super) const ON: bool = cfg!(debug_assertions) && !cfg!(selvedge_loom);

/// What a task has asked for in its present poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// For the end of this.
    One(usize),
    /// For more, or not with its own waker.
    More,
}

/// A task that waits for one end.
#[derive(Debug)]
struct Wait {
    /// The child, or the core of the scope.
    end_of: usize,
    /// The scope it is a member of.
    scope: usize,
    who: Who,
    /// The other members of that scope that are entered, by their addresses; zero is none.
    before: usize,
    after: usize,
    /// The poll in which it asked.
    stamp: u64,
    /// It came to rest after that poll.
    rests: bool,
}

/// A member, by what is there without asking for memory at each rest.
#[derive(Debug)]
struct Who {
    is_body: bool,
    name: Option<Cow<'static, str>>,
    place: &'static Location<'static>,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place;
        match (&self.name, self.is_body) {
            (Some(name), false) => write!(f, "child `{name}` spawned at {place}"),
            (None, false) => write!(f, "the child spawned at {place}"),
            (Some(name), true) => write!(f, "the body of scope `{name}` opened at {place}"),
            (None, true) => write!(f, "the body of the scope opened at {place}"),
        }
    }
}

/// Tables keep their room, so a wait that comes and goes costs no allocation.
type Table<V> = HashMap<usize, V, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug)]
struct Waits {
    /// By the address of the task; a body has that of its core, and so of its scope.
    by: Table<Wait>,
    /// The last child entered of each scope, from which a chain leads to the others.
    members: Table<usize>,
    stamps: u64,
}

/// A wait that was entered; it counts once its task is at rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    task: usize,
    stamp: u64,
}

/// No more are looked at: in debug builds, too, ten thousand in a chain, or in one scope, must not take quadratic time.
const MOST: usize = 256;

static WAITS: plain::Mutex<Waits> = plain::Mutex::new(Waits {
    by: HashMap::with_hasher(BuildHasherDefault::new()),
    members: HashMap::with_hasher(BuildHasherDefault::new()),
    stamps: 0,
});

fn waits() -> std::sync::MutexGuard<'static, Waits> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waits {
    fn enter(&mut self, task: usize, scope: usize, end_of: usize, who: Who) -> Entered {
        self.remove(task);
        self.stamps += 1;
        let stamp = self.stamps;
        let before = match scope == task {
            true => 0,
            false => self.members.insert(scope, task).unwrap_or(0),
        };
        if let Some(other) = self.by.get_mut(&before) {
            other.after = task;
        }
        let wait = Wait {
            end_of,
            scope,
            who,
            before,
            after: 0,
            stamp,
            rests: false,
        };
        self.by.insert(task, wait);
        Entered { task, stamp }
    }

    fn remove(&mut self, task: usize) {
        let Some(wait) = self.by.remove(&task) else {
            return;
        };
        if let Some(other) = self.by.get_mut(&wait.before) {
            other.after = wait.after;
        }
        if let Some(other) = self.by.get_mut(&wait.after) {
            other.before = wait.before;
        } else if wait.scope != task {
            match wait.before {
                0 => drop(self.members.remove(&wait.scope)),
                before => drop(self.members.insert(wait.scope, before)),
            }
        }
    }

    /// The task is at rest, unless it has been polled since. If that closes a circle: who is in it.
    fn settle(&mut self, entered: Entered) -> Option<String> {
        let Entered { task, stamp } = entered;
        let wait = self.by.get_mut(&task).filter(|wait| wait.stamp == stamp)?;
        wait.rests = true;
        let end_of = wait.end_of;
        let mut walk = Walk::new(task);
        if !self.leads(end_of, &mut walk) {
            return None;
        }
        let mut path = walk.path;
        path.push(task);
        let names = path.iter().rev().filter_map(|task| self.by.get(task));
        let names: Vec<_> = names.map(|wait| wait.who.to_string()).collect();
        Some(names.join(", for "))
    }

    /// Whether `at` cannot end before the goal of the walk does.
    fn leads(&self, at: usize, walk: &mut Walk) -> bool {
        if at == walk.goal {
            return true;
        }
        if !walk.may_look() {
            return false;
        }
        let wait = self.by.get(&at).filter(|wait| wait.rests);
        // Mostly it leads nowhere, and nothing has to be remembered of it.
        if wait.is_none() && !self.members.contains_key(&at) {
            return false;
        }
        if !walk.seen.insert(at) {
            return false;
        }
        if let Some(wait) = wait {
            if self.leads(wait.end_of, walk) {
                walk.path.push(at);
                return true;
            }
        }
        // A scope ends when all of its members have.
        let mut member = self.members.get(&at).copied().unwrap_or(0);
        while let Some(wait) = self.by.get(&member).filter(|_| walk.looks < MOST) {
            if self.leads(member, walk) {
                return true;
            }
            member = wait.before;
        }
        false
    }
}

/// A look for a circle.
#[derive(Debug)]
struct Walk {
    goal: usize,
    /// How many were looked at.
    looks: usize,
    seen: HashSet<usize>,
    /// Who waits on the way to the goal, the last one first.
    path: Vec<usize>,
}

impl Walk {
    fn new(goal: usize) -> Self {
        Self {
            goal,
            looks: 0,
            seen: HashSet::new(),
            path: Vec::new(),
        }
    }

    /// Whether one more may be looked at; it is counted.
    fn may_look(&mut self) -> bool {
        let may = self.looks < MOST;
        self.looks += usize::from(may);
        may
    }
}

/// The present task asks with this waker to be told of the end of a child.
pub(crate) fn asks_for_child(child: &Header, waker: &Waker) {
    if ON {
        // In a `try_scope` the wait ends when whoever waits is cancelled.
        let ends = child.vtable.cut_short.is_some()
            && ambient::token().is_some_and(|token| token.is_cancelled());
        asks_for(std::ptr::from_ref(child) as usize, waker, !ends);
    }
}

/// The present task asks with this waker to be told of the end of a scope.
pub(super) fn asks_for_scope(core: &Core, waker: &Waker) {
    if ON {
        asks_for(core.as_ptr() as usize, waker, true);
    }
}

/// The present task is told of a cancellation, which ends its wait.
pub(super) fn asks_for_more() {
    if ON {
        here::with_polled(|_, node, _| node.asked.set(Asked::More));
    }
}

fn asks_for(end_of: usize, waker: &Waker, lasts: bool) {
    here::with_polled(|core, node, task| {
        // SAFETY: a task that is being polled is alive.
        let header = unsafe { &*task };
        let own = match header.vtable.kind {
            Kind::Body => is_body_waker(core, waker),
            Kind::Child => is_waker_of(task, waker),
            Kind::Batch | Kind::Notice => false,
        };
        // The one waker there is has been left where it asked.
        let own = own && header.life.wakers() == 1;
        let before = node.asked.get();
        node.asked.set(match before {
            Asked::Nothing if own && lasts => Asked::One(end_of),
            Asked::One(known) if own && lasts && known == end_of => before,
            _ => Asked::More,
        });
    });
}

/// A waker of this task is cloned. If the task is being polled here, somebody besides whom it has asked may wake it; and
/// should it have given up that wait meanwhile, the clone is the only waker there is.
#[inline]
pub(crate) fn waker_is_cloned(task: *const Header) {
    if ON {
        here::with_polled(|_, node, polled| {
            if std::ptr::eq(polled, task) && node.asked.get() != Asked::Nothing {
                node.asked.set(Asked::More);
            }
        });
    }
}

/// The child was told to stop, which may end its wait.
pub(crate) fn may_wait_no_more(child: &Header) {
    if ON {
        waits().remove(std::ptr::from_ref(child) as usize);
    }
}

/// A poll of a child begins.
pub(super) fn begin(node: &Node, child: Option<&Task>) {
    node.asked.set(Asked::Nothing);
    end(child);
}

/// A child waits no more.
pub(super) fn end(child: Option<&Task>) {
    if let Some(child) = child.filter(|child| ON && child.waits.replace(false)) {
        waits().remove(std::ptr::from_ref(child) as usize);
    }
}

/// A poll of the body begins.
pub(super) fn begin_body(core: &Core) {
    core.owner.node.asked.set(Asked::Nothing);
    end_body(core);
}

/// The body waits no more.
pub(super) fn end_body(core: &Core) {
    if ON && core.owner.body_waits.replace(false) {
        waits().remove(core.as_ptr() as usize);
    }
}

/// A child is about to come to rest.
pub(super) fn rest(node: &Node, child: Option<&Task>) -> Option<Entered> {
    let child = child.filter(|child| ON && !child.select_safe)?;
    let end_of = asked(node, &child.header)?;
    child.waits.set(true);
    let name = child.record.peek().and_then(|record| record.name());
    let who = Who {
        is_body: false,
        name: name.map(|name| Cow::Owned(name.to_owned())),
        place: child.place,
    };
    let scope = child.header.core as usize;
    Some(waits().enter(std::ptr::from_ref(child) as usize, scope, end_of, who))
}

/// The body is about to come to rest.
pub(super) fn rest_body(core: &Core) -> Option<Entered> {
    if !ON {
        return None;
    }
    let end_of = asked(&core.owner.node, &core.body)?;
    core.owner.body_waits.set(true);
    let scope = core.as_ptr() as usize;
    let who = Who {
        is_body: true,
        name: core.settings.name.get().cloned(),
        place: core.place,
    };
    Some(waits().enter(scope, scope, end_of, who))
}

/// What the task waits for, if it waits for one end only.
fn asked(node: &Node, task: &Header) -> Option<usize> {
    match node.asked.get() {
        Asked::One(end_of) if task.life.wakers() == 1 => Some(end_of),
        _ => None,
    }
}

/// It has come to rest, and is perhaps polled again already.
pub(super) fn settle(entered: Option<Entered>) {
    let Some(circle) = entered.and_then(|entered| waits().settle(entered)) else {
        return;
    };
    say(format!(
        "each of these waits for the end of the next, and the last for that of the first, so none of them ends by \
         itself: {circle}."
    ));
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    fn waits() -> Waits {
        Waits {
            by: HashMap::default(),
            members: HashMap::default(),
            stamps: 0,
        }
    }

    impl Waits {
        fn rest(&mut self, task: usize, scope: usize, end_of: usize) -> Option<String> {
            let place = Location::caller();
            let who = Who {
                is_body: scope == task,
                name: Some(Cow::Owned(task.to_string())),
                place,
            };
            let entered = self.enter(task, scope, end_of, who);
            self.settle(entered)
        }
    }

    #[test]
    fn circle_is_found_whoever_closes_it() {
        // 1 opens the scope 100, whose children 2 and 3 wait for each other, or for 1.
        let mut waits = waits();
        assert!(waits.rest(1, 10, 100).is_none());
        assert!(waits.rest(2, 100, 3).is_none());
        assert!(waits.rest(3, 100, 2).is_some());
        assert!(waits.rest(3, 100, 1).is_some());
        waits.remove(3);
        assert!(waits.rest(1, 10, 100).is_none());
        waits.remove(2);
        assert!(waits.rest(2, 100, 1).is_some());
        assert!(waits.rest(1, 10, 100).is_some());
    }

    #[test]
    fn scope_of_ten_thousand_who_wait_costs_each_a_few_looks() {
        const OPENER: usize = 1;
        const SCOPE: usize = 2;
        for at_rest in [true, false] {
            let mut waits = waits();
            for member in 1_000..11_000 {
                // Each for one that nobody knows of.
                assert!(waits.rest(member, SCOPE, 100_000 + member).is_none());
                waits.by.get_mut(&member).expect("entered").rests = at_rest;
            }
            let mut walk = Walk::new(OPENER);
            assert!(!waits.leads(SCOPE, &mut walk));
            assert!(walk.looks <= MOST, "{}", walk.looks);
        }
    }
}
