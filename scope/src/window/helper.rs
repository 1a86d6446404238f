//! A helper: a pool thread that enters a window, polls packets of its children, and leaves.

use std::cell::Cell;
use std::ptr;
use std::time::Instant;

use selvedge_cancel::ambient::{self, Cancellations};

use super::coop::{self, Runtime};
use super::core::Core;
use super::here::{self, HelperFrame, Node};
use super::monitor::{Monitor, Next, Visit};
use super::policy;
use super::stats;
use super::step::{Side, Stepped, end, step};
use crate::task::{Kind, List, Task, links_of, quietly};

/// What a helper has gathered since its last exchange.
#[derive(Debug)]
pub(crate) struct Haul {
    /// Children that are ready: woken or spawned here.
    pub(crate) again: List,
    /// Children that came through the inbox.
    pub(crate) mail: List,
    pub(crate) done: List,
    newborn: Cell<*const Task>,
    newborn_tail: Cell<*const Task>,
    pub(crate) body: Cell<bool>,
    /// A notice was given, or found, here.
    pub(crate) notice: Cell<bool>,
    /// What this thread had counted at the last exchange.
    counted: Cell<Cancellations>,
}

impl Haul {
    pub(crate) fn new() -> Self {
        Self {
            again: List::new(),
            mail: List::new(),
            done: List::new(),
            newborn: Cell::new(ptr::null()),
            newborn_tail: Cell::new(ptr::null()),
            body: Cell::new(false),
            notice: Cell::new(false),
            counted: Cell::new(ambient::cancellations()),
        }
    }

    /// A child was spawned here; it is queued as well.
    ///
    /// # Safety
    /// `task` is alive, not registered, and in no queue.
    pub(crate) unsafe fn add_newborn(&self, task: *const Task) {
        // SAFETY: an unregistered child is a single cell, whose links are free for this chain.
        unsafe { links_of(task) }.next.set(self.newborn.get());
        if self.newborn.replace(task).is_null() {
            self.newborn_tail.set(task);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.again.is_empty()
            && self.mail.is_empty()
            && self.done.is_empty()
            && self.newborn.get().is_null()
            && !self.body.get()
            && !self.notice.get()
            && self.counted.get() == ambient::cancellations()
    }

    /// The cancellations that were met here since the last exchange.
    pub(crate) fn take_counted(&self) -> Cancellations {
        let now = ambient::cancellations();
        now.since(self.counted.replace(now))
    }

    pub(crate) fn take_newborn(&self) -> (*const Task, *const Task) {
        (
            self.newborn.replace(ptr::null()),
            self.newborn_tail.replace(ptr::null()),
        )
    }

    /// Takes over what lies in the inbox; `false` if nothing did.
    fn empty_inbox(&self, core: &Core) -> bool {
        let mut chain = core.inbox.take();
        if chain.is_empty() {
            return false;
        }
        let fresh = List::new();
        while let Some(node) = chain.pop() {
            // SAFETY: nodes of a taken chain are alive.
            let kind = unsafe { (*node).vtable.kind };
            match kind {
                Kind::Body => {
                    self.body.set(true);
                    continue;
                }
                Kind::Notice => {
                    self.notice.set(true);
                    continue;
                }
                Kind::Child | Kind::Batch => {}
            }
            // SAFETY: the node has left the chain, so its link is free.
            unsafe { fresh.push_front(node) };
            let task = node.cast::<Task>();
            // SAFETY: a child's header opens a task; whoever took it from the inbox owns this mark.
            if kind == Kind::Child && unsafe { (*task).newborn.replace(false) } {
                // SAFETY: newborn children are not registered.
                unsafe { self.add_newborn(task) };
            }
        }
        self.mail.append(&fresh);
        true
    }
}

/// What a helper holds. Should its work unwind, everything goes back to the monitor.
struct Load<'a> {
    inside: &'a Inside<'a>,
    haul: Haul,
    packet: List,
    /// When the helper first saw that it is called back.
    called: Cell<Option<Instant>>,
}

impl Load<'_> {
    /// Whether to put back what is left of the packet. Not at once: the rest of one that is as short as it should be is
    /// less than what it takes to come again.
    ///
    /// `polled`: the kind of whom was polled just now.
    #[inline]
    fn is_called_back(&self, polled: Option<usize>) -> bool {
        self.inside.monitor.calls_back() && self.has_been_called(polled)
    }

    #[cold]
    fn has_been_called(&self, polled: Option<usize>) -> bool {
        if !self.inside.monitor.calls_all_back() {
            let next = self.packet.keys().next();
            if next.is_some_and(|key| !policy::is_known_short(key)) {
                return true;
            }
        }
        let now = Instant::now();
        match self.called.get() {
            Some(since) => {
                policy::note_lent(polled, since, now);
                now.saturating_duration_since(since) >= policy::CALLED_BACK
            }
            None => {
                self.called.set(Some(now));
                false
            }
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.inside.monitor.hand_in(&self.haul, &self.packet);
    }
}

/// A helper that has entered. It leaves on every way out.
struct Inside<'a> {
    monitor: &'a Monitor,
    visit: Cell<Visit>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.monitor.leave(self.visit.get());
    }
}

/// The job that a window hands to the pool.
///
/// `on_top`: the thread has other work on its stack already.
pub(super) fn help(core: &Core, on_top: bool) {
    // A job that starts on top of another poll just returns (rule L1).
    let busy = here::in_window() || on_top || coop::in_runtime();
    let Some((context, visit)) = core.monitor.enter(busy) else {
        return;
    };
    let inside = Inside {
        monitor: &core.monitor,
        visit: Cell::new(visit),
    };
    stats::count(&stats::ENTRIES);
    quietly(|| context.around(|runtime| work(core, &inside, runtime)));
    core.pool().note_help();
    drop(inside);
}

fn work(core: &Core, inside: &Inside<'_>, runtime: &Runtime) {
    let load = Load {
        inside,
        haul: Haul::new(),
        packet: List::new(),
        called: Cell::new(None),
    };
    let node = Node::new();
    // SAFETY: both were made before the frame, so they outlive it on every way out.
    let frame = unsafe { HelperFrame::enter(core, &raw const node, &raw const load.haul) };
    let most = core.pool().most_helpers();
    let one = runtime.is_inside();
    runtime.turns(|| turn(core, &load, &node, most, one));
    drop(frame);
}

/// One turn: a packet, or one child of it, or the rest of one that was interrupted, unless it is put back. `false`: nothing
/// is left, or the window ends.
fn turn(core: &Core, load: &Load<'_>, node: &Node, most: usize, one: bool) -> bool {
    let Load { haul, packet, .. } = load;
    if !packet.is_empty() && load.is_called_back(None) {
        core.monitor.put_back(packet);
    }
    if packet.is_empty() {
        load.called.set(None);
        // The owner may be busy with one child for long.
        haul.empty_inbox(core);
        match core
            .monitor
            .exchange(&load.inside.visit, haul, packet, most)
        {
            Next::Packet { more } => {
                // Helpers wake helpers: the owner asks for the first only.
                if more {
                    core.ask();
                }
                stats::count(&stats::PACKETS);
            }
            Next::Nothing => return haul.empty_inbox(core),
            Next::Leave => return false,
        }
    }
    while let Some((header, key)) = packet.pop_front_with_key() {
        let from = (policy::estimate(key) == 0).then(Instant::now);
        // SAFETY: the packet came from a queue of this core, inside its window.
        let stepped = unsafe { step(header, Side::Helper(node)) };
        if let Some(from) = from {
            // Helpers may have all polls of a kind.
            policy::learn_stretch(key, 1, from, Instant::now());
        }
        match stepped {
            Stepped::Idle => {}
            // SAFETY: the token is ours, so the task is in no queue.
            Stepped::Again => unsafe { haul.again.push_back(header) },
            Stepped::Ended(ended) => {
                // SAFETY: the scope's reference keeps it alive.
                if unsafe { &*header }.vtable.kind == Kind::Child {
                    core.ends_away();
                }
                // First, so that it is not lost if publishing its end should unwind.
                // SAFETY: its poll has ended, so nobody queues it any more.
                unsafe { haul.done.push_back(header) };
                // SAFETY: the child has just ended here.
                unsafe { end(core, header, ended) };
            }
        }
        // Inside a runtime each child has a budget of its own, as a task has. It would not do to go on until it is spent:
        // a child that blocks in place takes it away from whoever comes after it in the same poll.
        if one || !coop::has_budget() || load.is_called_back(Some(key)) {
            break;
        }
    }
    true
}
