//! Several scopes in one task, each of which has a window in each poll of the task: among how many the time of one is divided.
//! For those that a task opens one after the other see [`in_a_row`](super::in_a_row).

use std::cell::Cell;
use std::num::NonZeroUsize;

use crate::task::Header;

/// Scopes that are polled by turns in each poll of one task, of a `join_all`, say, or a `FuturesUnordered`. Each has windows of
/// its own, and those beside the task wait for all of them: so together they have the time of one.
#[derive(Debug)]
pub(super) struct SideBySide {
    /// Whose windows were last looked at.
    task: Cell<Option<Task>>,
    /// Goes on when a scope is polled that was polled in it already.
    round: Cell<u32>,
    /// How many windows have used up what they had in this round, and in the last.
    spent: Cell<u32>,
    before: Cell<u32>,
}

/// Who polls a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// A member of the window around.
    Member(*const Header),
    /// Our own `block_on`.
    BlockOn,
    /// A task of tokio's, or a `block_on` of its.
    #[cfg(feature = "tokio")]
    Tokio(Option<tokio::task::Id>),
    /// One of another executor's, by its waker.
    Other(NonZeroUsize),
}

impl SideBySide {
    pub(super) const fn new() -> Self {
        Self {
            task: Cell::new(None),
            round: Cell::new(1),
            spent: Cell::new(0),
            before: Cell::new(0),
        }
    }

    /// Among how many windows the time of one is divided. `seen`: the round in which this scope was last polled.
    pub(super) fn share(&self, task: Task, seen: &Cell<u32>) -> u32 {
        let is_other = self.task.replace(Some(task)) != Some(task);
        if is_other || seen.get() == self.round.get() {
            let spent = self.spent.replace(0);
            self.before.set(if is_other { 0 } else { spent });
            self.round.set(self.round.get().wrapping_add(1));
        }
        seen.set(self.round.get());
        self.before.get().max(self.spent.get() + 1)
    }

    /// A window has used up what it had.
    pub(super) fn is_spent(&self) {
        self.spent.set(self.spent.get() + 1);
    }

    pub(super) fn swap(&self, other: &Self) {
        self.task.swap(&other.task);
        self.round.swap(&other.round);
        self.spent.swap(&other.spent);
        self.before.swap(&other.before);
    }
}
