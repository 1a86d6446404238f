//! The windows around the one that a thread is in, as far as that has to know of them.

use super::core::Core;
use super::here::{self, Node};
use super::side_by_side::Task;

/// The window around the one of this core, which is the innermost.
pub(super) struct Around<'a> {
    node: &'a Node,
}

/// A poll of a task in some window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PollId {
    node: usize,
    polls: u32,
}

impl<'a> Around<'a> {
    pub(super) fn at(node: &'a Node) -> Self {
        Self { node }
    }

    #[inline]
    pub(super) fn of(core: &'a Core) -> Option<Self> {
        here::with(|here| {
            let top = here.top().filter(|top| top.core.get() == core.as_ptr())?;
            // SAFETY: nodes of the chain are alive, and the one around stays there while the caller's window is open.
            let node = unsafe { top.before.get().as_ref() }?;
            Some(Self { node })
        })
    }

    /// The poll there that this one is a part of.
    #[inline]
    pub(super) fn poll(&self) -> PollId {
        PollId {
            node: std::ptr::from_ref(self.node).addr(),
            polls: self.node.polls.get(),
        }
    }

    /// Of which the poll is, among those of this thread's in there.
    pub(super) fn number(&self) -> u32 {
        self.node.polls.get()
    }

    /// The window around that one.
    pub(super) fn next(&self) -> Option<Self> {
        // SAFETY: as in `of`: all that are around stay while the innermost one is open.
        let node = unsafe { self.node.before.get().as_ref() }?;
        Some(Self { node })
    }

    /// The task that is polled there.
    pub(super) fn task(&self) -> Task {
        Task::Member(self.node.task.get())
    }

    /// How many are shared there and ready.
    #[cold]
    pub(super) fn left(&self) -> usize {
        self.core().monitor.count_left()
    }

    /// The core there, if this thread is its owner.
    pub(super) fn owned(&self) -> Option<&'a Core> {
        self.node.haul.get().is_null().then(|| self.core())
    }

    fn core(&self) -> &'a Core {
        // SAFETY: a core outlives its windows, of which this is one, around the one that the caller is in.
        unsafe { &*self.node.core.get() }
    }
}

/// Whether somebody waits for this thread to come back from where it helps, in a window around this one.
pub(super) fn calls_back() -> bool {
    here::with(|here| {
        // SAFETY: the node is named while its frame is there, and its core outlives that.
        let node = unsafe { here.helps.get().as_ref() };
        node.is_some_and(|node| Around { node }.core().monitor.calls_back())
    })
}

/// Whether somebody in a window around the innermost one waits for this thread. As far as can be seen without a lock: a
/// helper does not know what its owner has.
#[cold]
pub(super) fn others_wait() -> bool {
    here::with(|here| {
        let mut around = here.top().and_then(|node| Around { node }.next());
        while let Some(window) = around {
            let Some(core) = window.owned() else {
                return true;
            };
            let owner = &core.owner;
            let lent = owner.lent.get() && owner.ahead() > 0;
            if lent || owner.has_work() || core.inbox.has_mail() {
                return true;
            }
            around = window.next();
        }
        false
    })
}
