//! What this thread is doing right now: whose window it is in, and as what.
//!
//! One thread-local of plain cells, without a destructor, so that wakers may look at it at any time, even
//! from the destructor of another thread-local (rule W6). A dying scope has no frame (rule W12).

use std::cell::Cell;
use std::ptr;

use super::circle::Asked;
use super::core::Core;
use super::helper::Haul;
use super::in_a_row::{Nested, Row};
pub use super::lends_to::Lending;
use super::outer::Around;
use super::side_by_side::SideBySide;
use crate::task::Header;

/// One window that a thread is in: a node of the thread's chain, which leads from the innermost to the outermost.
///
/// The owner's node lies in the core, a helper's in the frame of the function that works. The chain names a node from
/// [`Frame::enter`] to the drop of the frame, in whatever order frames are dropped: stackful coroutines that suspend
/// inside a window leave them in any.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) core: Cell<*const Core>,
    /// Null: the owner. Otherwise what the helper has gathered.
    pub(super) haul: Cell<*const Haul>,
    /// The task that is polled in this window, null when none is.
    pub(super) task: Cell<*const Header>,
    /// In debug builds: what that task has asked for.
    pub(super) asked: Cell<Asked>,
    /// Changes with each poll of a task in this window.
    pub(super) polls: Cell<u32>,
    /// The scopes that poll has opened one after the other.
    nested: Cell<Nested>,
    /// The window around this one.
    pub(super) before: Cell<*const Node>,
    /// It is in the chain of a thread.
    entered: Cell<bool>,
}

impl Node {
    /// A node that is in no chain yet.
    pub(super) const fn new() -> Self {
        Self {
            core: Cell::new(ptr::null()),
            haul: Cell::new(ptr::null()),
            task: Cell::new(ptr::null()),
            asked: Cell::new(Asked::Nothing),
            polls: Cell::new(0),
            nested: Cell::new(Nested::NOTHING),
            before: Cell::new(ptr::null()),
            entered: Cell::new(false),
        }
    }

    /// For another window, which notes what it needs itself. Polls are counted on, so that none is taken for one of before.
    pub(super) fn renew(&mut self) {
        debug_assert!(!self.entered.get(), "its window was left");
        self.asked = Cell::new(Asked::Nothing);
    }

    /// Notes which task is polled in this window; `null` when none is.
    #[inline]
    pub(super) fn set_task(&self, task: *const Header) {
        self.task.set(task);
        self.polls.set(self.polls.get().wrapping_add(1));
    }
}

/// Whether a scope that is polled for the first time has to let others go first: those who wait in the window around it or,
/// if there is none, beside the task. One that has done so is not asked to again: of some that are polled in turns, always
/// the same might be.
#[inline]
pub(super) fn gives_way_first() -> bool {
    HERE.with(|here| match here.top() {
        Some(node) => Nested::opens(&node.nested, node.polls.get(), |now| {
            Around::at(node).time_for_scopes(now)
        }),
        None => here.row.is_over(),
    })
}

/// A scope has given way in its first poll, and its task is woken. In which round of them that was.
#[cold]
pub(super) fn has_told() -> u32 {
    HERE.with(|here| here.row.has_told())
}

/// Whether this is the same poll of the task, perhaps, in which a scope has given way before.
#[cold]
pub(super) fn gave_way_just_now() -> bool {
    HERE.with(|here| match here.top() {
        Some(node) => Nested::gave_way_in(&node.nested, node.polls.get()),
        None => here.row.gave_way_just_now(),
    })
}

/// A scope that gave way in its first poll is polled again. Whether that tells of a new poll of its task: what is counted in a
/// window goes by the polls of its members.
#[cold]
pub(super) fn has_given_way(round: u32) -> bool {
    HERE.with(|here| here.top().is_none() && here.row.has_given_way(round))
}

/// It is dropped instead.
#[cold]
pub(super) fn is_dropped_instead() {
    HERE.with(|here| match here.top() {
        Some(node) => Nested::is_dropped(&node.nested),
        None => here.row.is_dropped(),
    });
}

/// Whether the first wake of a scope that gives way may be put off, as far as earlier ones on this thread say.
pub(super) fn may_put_off() -> bool {
    HERE.with(|here| here.row.may_put_off())
}

/// What it has put off came, or it did not.
pub(super) fn put_off(came: bool) {
    HERE.with(|here| here.row.put_off(came));
}

/// Scopes side by side in tasks that this thread polls.
pub(super) fn side_by_side<R>(f: impl FnOnce(&SideBySide) -> R) -> R {
    HERE.with(|here| f(&here.side_by_side))
}

/// A poll of this core's scope is over, its window closed. `at_once`: it was the scope's first, and its last.
#[inline]
pub(super) fn polled_in_a_row(core: &Core, at_once: bool) {
    if core.owner.came_back.get() | (core.owner.spawns.get() != 0) {
        kept_its_thread(core, at_once);
    }
}

/// Somebody in there came back, or there was a child that worked, so this scope has kept the one around it from coming to rest, or
/// the task.
fn kept_its_thread(core: &Core, at_once: bool) {
    let came_back = core.owner.came_back.get();
    if !came_back && !at_once {
        return;
    }
    HERE.with(|here| match here.top() {
        // What a helper's owner has is not this thread's.
        Some(node) => {
            if let Some(around) = Around::at(node).owned() {
                around.owner.came_back.set(true);
            }
        }
        None if at_once => {
            let budget = core.owner.budget.get();
            let began = budget.and_then(|budget| budget.began_long_ago());
            here.row.is_over_at_once(began, came_back);
        }
        // One that has come to rest: so has its task, as a rule.
        None => {}
    });
}

/// The scopes in a row of what this thread does around a `block_on`, until it is dropped. They have no part in what that
/// polls, nor has anybody beside it.
#[derive(Debug)]
pub(crate) struct RowAside(Row);

impl RowAside {
    pub(crate) fn put() -> Self {
        Self(HERE.with(|here| here.row.take()))
    }
}

impl Drop for RowAside {
    fn drop(&mut self) {
        HERE.with(|here| here.row.swap(&self.0));
    }
}

pub(super) struct Here {
    /// The innermost window.
    pub(super) top: Cell<*const Node>,
    lending: Cell<Lending>,
    windows: Cell<u32>,
    /// Where this thread helps: its outermost window then, since no helper begins in another one.
    pub(super) helps: Cell<*const Node>,
    /// Scopes that no window was around.
    row: Row,
    side_by_side: SideBySide,
}

impl Here {
    /// The innermost window that this thread is in.
    #[inline]
    pub(super) fn top(&self) -> Option<&Node> {
        // SAFETY: a node leaves the chain of its thread before it goes, see `Frame`.
        unsafe { self.top.get().as_ref() }
    }
}

/// What is known of this thread.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(&Here) -> R) -> R {
    HERE.with(f)
}

#[cfg(not(selvedge_loom))]
thread_local! {
    static HERE: Here = const {
        Here {
            top: Cell::new(ptr::null()),
            lending: Cell::new(Lending::Adaptive),
            windows: Cell::new(0),
            helps: Cell::new(ptr::null()),
            row: Row::new(),
            side_by_side: SideBySide::new(),
        }
    };
}

#[cfg(selvedge_loom)]
crate::sync::thread_local! {
    static HERE: Here = Here {
        top: Cell::new(ptr::null()),
        lending: Cell::new(Lending::Adaptive),
        windows: Cell::new(0),
        helps: Cell::new(ptr::null()),
        row: Row::new(),
        side_by_side: SideBySide::new(),
    };
}

/// Puts this thread into a window until it is dropped.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Null: the core's node was in use, and the thread is a stranger in this window.
    node: *const Node,
}

/// A helper's, which is the outermost of its thread as a rule, and named apart so that it is found at once.
#[derive(Debug)]
pub(crate) struct HelperFrame {
    frame: Frame,
    /// Where the thread helped before, in the midst of which it does so here.
    before: *const Node,
}

impl HelperFrame {
    /// # Safety
    /// Node and haul outlive the frame.
    #[inline]
    pub(crate) unsafe fn enter(core: &Core, node: *const Node, haul: *const Haul) -> Self {
        // SAFETY: handed on from the caller.
        let frame = unsafe { Frame::enter(node, core.as_ptr(), haul) };
        let before = HERE.with(|here| here.helps.replace(frame.node));
        Self { frame, before }
    }
}

impl Drop for HelperFrame {
    fn drop(&mut self) {
        debug_assert!(!self.frame.node.is_null(), "its node was in no chain");
        HERE.with(|here| here.helps.set(self.before));
    }
}

impl Frame {
    /// The owner's; the node is the core's, which outlives the window.
    #[inline]
    pub(crate) fn owner(core: &Core) -> Self {
        // SAFETY: the core is alive, and lets go of its node only in `Drop`, below.
        unsafe { Self::enter(&raw const core.owner.node, core.as_ptr(), ptr::null()) }
    }

    /// # Safety
    /// The node is alive until the frame has been dropped.
    #[inline]
    unsafe fn enter(node: *const Node, core: *const Core, haul: *const Haul) -> Self {
        // SAFETY: the node is alive, says the caller.
        let this = unsafe { &*node };
        if this.entered.replace(true) {
            // A stack with a window on it was moved to another thread, see `leave`.
            return Self { node: ptr::null() };
        }
        this.core.set(core);
        this.haul.set(haul);
        this.task.set(ptr::null());
        HERE.with(|here| this.before.set(here.top.replace(node)));
        Self { node }
    }

    /// Takes a node that is not the innermost one out of this thread's chain.
    #[cold]
    fn leave(&self, node: &Node) {
        let mut above = HERE.with(|here| here.top.get());
        // SAFETY: nodes of the chain are alive.
        while let Some(other) = unsafe { above.as_ref() } {
            let before = other.before.get();
            if before == self.node {
                other.before.set(node.before.get());
                node.entered.set(false);
                return;
            }
            above = before;
        }
        // Entered on another thread, which still names the node. So it must stay: in the core, which is never freed.
        // A helper's node would go with its stack.
        if !node.haul.get().is_null() {
            std::process::abort();
        }
        // SAFETY: the owner's frame is dropped before its window lets go of the core.
        unsafe { &*node.core.get() }.acquire();
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the node is alive until this is over.
        let Some(node) = (unsafe { self.node.as_ref() }) else {
            return;
        };
        let is_top = HERE.with(|here| {
            let is_top = here.top.get() == self.node;
            if is_top {
                here.top.set(node.before.get());
            }
            is_top
        });
        if is_top {
            node.entered.set(false);
        } else {
            self.leave(node);
        }
    }
}

/// What this thread is to a core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Stranger,
    Owner,
    Helper(*const Haul),
}

#[inline]
pub(crate) fn role_in(core: &Core) -> Role {
    HERE.with(|here| {
        if here.top.get() == &raw const core.owner.node {
            return Role::Owner;
        }
        match here.top() {
            Some(node) if node.core.get() == core.as_ptr() => Role::Helper(node.haul.get()),
            _ => Role::Stranger,
        }
    })
}

/// Whether this thread is the owner in an open window of the core.
#[inline]
pub(crate) fn owned_here(core: &Core) -> bool {
    HERE.with(|here| here.top.get() == &raw const core.owner.node)
}

/// Whether this thread is inside a window of any scope, so that a helper job must not start (rule L1).
pub(crate) fn in_window() -> bool {
    HERE.with(|here| !here.top.get().is_null())
}

/// The core of the innermost window that this thread is in.
pub(super) fn innermost() -> Option<*const Core> {
    HERE.with(|here| Some(here.top()?.core.get()))
}

/// The innermost window that this thread is in and the task that it polls there, if it does.
#[inline]
pub(super) fn polled() -> Option<(*const Core, *const Header)> {
    HERE.with(|here| {
        let node = here.top()?;
        let task = node.task.get();
        (!task.is_null()).then(|| (node.core.get(), task))
    })
}

/// Hands over the innermost window that this thread is in, with the task that it polls there, if it does.
pub(super) fn with_polled(f: impl FnOnce(&Core, &Node, *const Header)) {
    HERE.with(|here| {
        let Some(node) = here.top().filter(|node| !node.task.get().is_null()) else {
            return;
        };
        // SAFETY: a core outlives its windows, of which this is one.
        f(unsafe { &*node.core.get() }, node, node.task.get());
    });
}

/// Whether this thread is polling that very task.
#[inline]
pub(crate) fn is_current_task(task: *const Header) -> bool {
    HERE.with(|here| here.top().is_some_and(|node| node.task.get() == task))
}

/// Counts windows, so that one in a few can be used to take samples.
#[inline]
pub(crate) fn next_window() -> u32 {
    HERE.with(|here| {
        let n = here.windows.get().wrapping_add(1);
        here.windows.set(n);
        n
    })
}

#[inline]
pub(crate) fn lending() -> Lending {
    HERE.with(|here| here.lending.get())
}

/// Sets the mode of this thread; the old one is returned.
pub(crate) fn set_lending(lending: Lending) -> Lending {
    HERE.with(|here| here.lending.replace(lending))
}
