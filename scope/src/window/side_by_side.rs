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
/// A task has one of so many places: with one only, two tasks that came to the same forgot each other in each round.
const PLACES: usize = 4;

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

    /// Where this task is known or, if it is not, whom it is known instead of: who has been polled least lately.
    fn place(&self, task: Task) -> &Known {
        let mut hasher = DefaultHasher::new();
        task.hash(&mut hasher);
        let first = hasher.finish() as usize;
        let places = (0..PLACES).map(|n| &self.tasks[(first + n) % TASKS]);
        let age = |known: &&Known| self.rounds.get().wrapping_sub(known.round.get());
        let is_known = |known: &&Known| known.task.get() == Some(task);
        places
            .clone()
            .find(is_known)
            .or_else(|| places.max_by_key(age))
            .unwrap_or(&self.tasks[0])
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
        // Somebody else's windows inside of this one may have been known instead.
        if known.task.get() == Some(task) {
            known.spent.set(known.spent.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::num::NonZeroUsize;

    use super::{PLACES, SideBySide, Task};

    // Two that came to one place forgot each other by turns: the first scope of each had half of all time.
    #[test]
    fn few_tasks_do_not_forget_each_other() {
        const SCOPES: usize = 8;
        for first in 1..100 {
            let known = SideBySide::new();
            let tasks: Vec<Task> = (first..first + PLACES)
                .map(|n| Task::Other(NonZeroUsize::new(n).unwrap()))
                .collect();
            let seen = [const { [const { Cell::new(0) }; SCOPES] }; PLACES];
            for round in 0..4 {
                for (&task, seen) in tasks.iter().zip(&seen) {
                    for (n, seen) in seen.iter().enumerate() {
                        let share = known.share(task, seen) as usize;
                        let of = if round == 0 { n + 1 } else { SCOPES };
                        assert_eq!(share, of, "round {round}, {task:?}");
                        known.is_spent(task);
                    }
                }
            }
        }
    }
}
