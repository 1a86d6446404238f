//! Several scopes in one task, each of which has a window in each poll of the task: among how many the time of one is divided.
//! For those that a task opens one after the other see [`in_a_row`](super::in_a_row).

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use crate::task::Header;

/// Scopes that are polled by turns in each poll of one task, of a `join_all`, say, or a `FuturesUnordered`. Each has windows of
/// its own, and those beside the task wait for all of them: so together they have the time of one. A thread knows this of
/// some of the tasks that it polls, and may forget one for another.
#[derive(Debug)]
pub(super) struct SideBySide {
    tasks: [Known; TASKS],
    /// How many rounds there were, of all tasks.
    rounds: Cell<u32>,
}

const TASKS: usize = 32;

/// Who polls a window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Task {
    /// A member of the window around.
    Member(*const Header),
    /// Our own `block_on`, the innermost of so many.
    BlockOn(u32),
    /// A task of tokio's, or a `block_on` of its.
    #[cfg(feature = "tokio")]
    Tokio(Option<tokio::task::Id>),
    /// One of another executor's, by its waker.
    Other(NonZeroUsize),
}

#[derive(Debug)]
struct Known {
    task: Cell<Option<Task>>,
    /// Another one begins when a scope is polled that was polled in it already.
    round: Cell<u32>,
    /// How many windows have used up what they had in this round, and in the last.
    spent: Cell<u32>,
    before: Cell<u32>,
}

impl Known {
    const fn nobody() -> Self {
        Self {
            task: Cell::new(None),
            round: Cell::new(0),
            spent: Cell::new(0),
            before: Cell::new(0),
        }
    }
}

impl SideBySide {
    pub(super) const fn new() -> Self {
        Self {
            tasks: [const { Known::nobody() }; TASKS],
            rounds: Cell::new(0),
        }
    }

    fn place(&self, task: Task) -> &Known {
        let mut hasher = DefaultHasher::new();
        task.hash(&mut hasher);
        &self.tasks[hasher.finish() as usize % TASKS]
    }

    /// Among how many windows the time of one is divided. `seen`: the round in which this scope was last polled.
    pub(super) fn share(&self, task: Task, seen: &Cell<u32>) -> u32 {
        let known = self.place(task);
        let is_other = known.task.replace(Some(task)) != Some(task);
        if is_other || seen.get() == known.round.get() {
            let spent = known.spent.replace(0);
            known.before.set(if is_other { 0 } else { spent });
            self.rounds.set(self.rounds.get().wrapping_add(1));
            known.round.set(self.rounds.get());
        }
        seen.set(known.round.get());
        known.before.get().max(known.spent.get() + 1)
    }

    /// A window of this task has used up what it had.
    pub(super) fn is_spent(&self, task: Task) {
        let known = self.place(task);
        if known.task.get() == Some(task) {
            known.spent.set(known.spent.get() + 1);
        }
    }
}
