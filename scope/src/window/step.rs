//! One step of one child: a poll, and at its end the handshake with the handle. The same on owner and helper.

use std::task::{Context, Waker};

use selvedge_cancel::{CancelToken, ambient};

use super::circle;
use super::core::Core;
use super::here::{Node, Role};
use crate::task::{Ended, Header, Heir, Kind, Polled, Rest, Task, quietly, with_waker};

/// What the poller does with the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Stepped {
    Idle,
    /// It was woken during the poll: queue it behind everything else.
    Again,
    /// It ended: the future is gone, and the output written if there is a value. What is left is to
    /// publish the end and to retire the child.
    Ended(Ended),
}

/// On which side of the window a child is polled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'a> {
    Owner,
    /// With the node of the helper's frame.
    Helper(&'a Node),
}

/// Polls a child.
///
/// # Safety
/// 1. The caller took `header`, a child or slot, from a queue of its core; 2. a window of that core is open
///    and this thread is inside it, on this side.
#[inline]
pub(super) unsafe fn step(header: *const Header, side: Side<'_>) -> Stepped {
    // SAFETY: 1.; the scope's reference keeps it alive.
    let vtable = unsafe { &*header }.vtable;
    // SAFETY: as above.
    let task = unsafe { Header::task(header) };
    if let Some(own) = task.and_then(Task::own_if_any) {
        // SAFETY: handed on from the caller; the poll is the cell's own.
        return under(own.clone(), || unsafe {
            step_by(header, vtable.poll, side)
        });
    }
    // SAFETY: handed on from the caller; the poll is the cell's own.
    unsafe { step_by(header, vtable.poll, side) }
}

/// Polls a child that has a token of its own under that. The token is counted here: a child that has come to rest may
/// be polled elsewhere at once, end, and be freed with its record and all that is in it.
#[cold]
fn under(own: CancelToken, step: impl FnOnce() -> Stepped) -> Stepped {
    let outer = ambient::enter(Some(own));
    // Nothing unwinds through a step (rule W4).
    let stepped = step();
    #[cfg(all(test, not(selvedge_loom)))]
    super::put_aside::here();
    drop(ambient::leave(outer));
    stepped
}

/// As [`step`], for a caller that knows the cell's type.
///
/// # Safety
/// As for `step`, and `poll` is the cell's own.
#[inline]
pub(super) unsafe fn step_by(
    header: *const Header,
    poll: unsafe fn(*const Header, &mut Context<'_>) -> Polled,
    side: Side<'_>,
) -> Stepped {
    // SAFETY: the scope's reference keeps it alive.
    let head = unsafe { &*header };
    let node = match side {
        Side::Owner => {
            head.word.start();
            // The node of this window and not the thread's innermost: a window on another stack may lie above it.
            // SAFETY: the cell keeps its core alive.
            &unsafe { Header::core_of(header) }.owner.node
        }
        Side::Helper(node) => {
            head.word.start_shared();
            node
        }
    };
    node.set_task(header);
    if circle::ON {
        // SAFETY: as above.
        circle::begin(node, unsafe { Header::task(header) });
    }
    let poll = |waker: &Waker| {
        // SAFETY: `poll` asks that 1. the future lives: a queued task is not DONE; 2. nobody else polls:
        // we hold RUNNING, by `start`; 3. a window is open, says the caller.
        unsafe { poll(header, &mut Context::from_waker(waker)) }
    };
    // SAFETY: the cell outlives the call: the scope lets go of it only when it has ended.
    let polled = unsafe { with_waker(header, poll) };
    // What is run from here on, a waker of somebody else perhaps, is not the task's doing; and the cell may go.
    node.set_task(std::ptr::null());
    match polled {
        Polled::Pending => {
            // SAFETY: as above.
            let wait = circle::rest(node, unsafe { Header::task(header) });
            match head.word.rest() {
                Rest::Idle => {
                    circle::settle(wait);
                    Stepped::Idle
                }
                Rest::Again => Stepped::Again,
            }
        }
        Polled::Value => Stepped::Ended(Ended::Value),
        Polled::Panicked => Stepped::Ended(Ended::Panicked),
    }
}

/// Publishes the end of a child and settles who owns its output (rule W11).
///
/// # Safety
/// The child's future is gone; its output is written if it ended with a value.
#[inline]
pub(super) unsafe fn end(core: &Core, header: *const Header, ended: Ended) {
    // SAFETY: the scope's reference keeps it alive.
    let head = unsafe { &*header };
    head.word.finish(ended);
    if head.vtable.kind != Kind::Child {
        return;
    }
    // SAFETY: handed on from the caller.
    unsafe { settle(core, header, ended) };
}

/// Settles who owns the output of a child that has ended, and wakes whoever waits for it.
///
/// # Safety
/// As for `end`, which has stored the end in the task word.
pub(super) unsafe fn settle(core: &Core, header: *const Header, ended: Ended) {
    // SAFETY: the scope's reference keeps it alive.
    let head = unsafe { &*header };
    // SAFETY: a child's header opens a task.
    let task = unsafe { &*header.cast::<Task>() };
    // A task that listens has a waker, and so always comes by here.
    if let Some(record) = task.record.peek() {
        record.end_listening();
    }
    match head.life.finish() {
        Heir::Handle { wake, waited } => {
            // Taken first: the cell is the handle's from here on, and stays while the scope refers to it.
            // SAFETY: `finish` made a filled slot ours.
            let joiner = wake.then(|| unsafe { task.joiner.take() });
            let waiters = waited.then(|| task.record.get().waiters.close());
            for waker in joiner.into_iter().chain(waiters.into_iter().flatten()) {
                quietly(|| waker.wake());
            }
        }
        Heir::Finisher => {
            if ended == Ended::Value {
                // SAFETY: the output was written, and the handle is gone.
                if let Some(payload) = unsafe { Header::drop_output(header) } {
                    core.panicked(header, payload);
                }
            }
        }
    }
}

impl Core {
    /// Lets go of the children that ended on helpers. They stay in the scope until it is their turn, so that
    /// whatever unwinds here leaves the others where the scope's `Drop` finds them. Owner only; every newborn is
    /// registered (rule L4).
    pub(super) fn retire_done(&self) {
        while let Some(header) = self.owner.done.pop_front() {
            // SAFETY: it ended on a helper, and every newborn is registered by now.
            unsafe { self.retire(header) };
        }
    }
}

/// A waker fired: puts its task where the next free poller of its scope finds it.
///
/// # Safety
/// The caller holds the task's `QUEUED` token and a reference to its cell.
pub(crate) unsafe fn enqueue(header: *const Header) {
    // SAFETY: the caller's reference keeps the cell, which keeps the core.
    let core = unsafe { Header::core_of(header) };
    match core.role() {
        Role::Owner => {
            core.owner.came_back.set(true);
            // SAFETY: the token says that the task is in no queue.
            unsafe { core.owner.local.push_back(header) };
        }
        Role::Helper(haul) => {
            // SAFETY: the haul lives as long as the helper's frame.
            let haul = unsafe { &*haul };
            // SAFETY: as above.
            unsafe { haul.again.push_back(header) };
        }
        Role::Stranger => {
            // SAFETY: as above; a dead scope has no use for it.
            let _ = unsafe { core.push(header) };
        }
    }
}
