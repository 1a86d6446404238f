//! Several scopes in one task, each of which has a window in each poll of the task: among how many the time of one is divided.
//! For those that a task opens one after the other see [`in_a_row`](super::in_a_row).

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::task::Header;

/// Scopes that are polled by turns in each poll of one task, of a `join_all`, say, or a `FuturesUnordered`. Each has windows of
/// its own, and those beside the task wait for all of them: so together they have the time of one. A thread knows this of
/// some of the tasks that it polls, and may forget one for another; but not for members of the windows in them, of which there
/// may be many.
#[derive(Debug)]
pub(super) struct SideBySide {
    tasks: [Known; TASKS],
    members: [Known; TASKS],
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
    /// How long windows have lasted in this round. Short ones, which each may have in any case, do not count.
    used: Cell<Duration>,
}

/// What a window has of the time of those beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Among how many that is divided.
    pub(super) among: u32,
    /// How much of it they have used in this round.
    pub(super) used: Duration,
}

impl Known {
    const fn nobody() -> Self {
        Self {
            task: Cell::new(None),
            round: Cell::new(0),
            spent: Cell::new(0),
            before: Cell::new(0),
            used: Cell::new(Duration::ZERO),
        }
    }
}

impl SideBySide {
    pub(super) const fn new() -> Self {
        Self {
            tasks: [const { Known::nobody() }; TASKS],
            members: [const { Known::nobody() }; TASKS],
            rounds: Cell::new(0),
        }
    }

    /// Where this task is known or, if it is not, whom it is known instead of: who has been polled least lately.
    fn place(&self, task: Task) -> &Known {
        let all = match task {
            Task::Member(_) => &self.members,
            _ => &self.tasks,
        };
        let mut hasher = DefaultHasher::new();
        task.hash(&mut hasher);
        let first = hasher.finish() as usize % TASKS;
        let places = (0..PLACES).map(|n| &all[(first + n) % TASKS]);
        let age = |known: &&Known| self.rounds.get().wrapping_sub(known.round.get());
        places
            .clone()
            .find(|known| known.task.get() == Some(task))
            .or_else(|| places.max_by_key(age))
            .unwrap_or(&all[first])
    }

    /// What a window has. `seen`: the round in which this scope was last polled.
    pub(super) fn share(&self, task: Task, seen: &Cell<u32>) -> Share {
        let known = self.place(task);
        let is_other = known.task.replace(Some(task)) != Some(task);
        if is_other || seen.get() == known.round.get() {
            let spent = known.spent.replace(0);
            known.before.set(if is_other { 0 } else { spent });
            known.used.set(Duration::ZERO);
            self.rounds.set(self.rounds.get().wrapping_add(1));
            known.round.set(self.rounds.get());
        }
        seen.set(known.round.get());
        Share {
            among: known.before.get().max(known.spent.get().saturating_add(1)),
            used: known.used.get(),
        }
    }

    /// A window of this task has used up what it had.
    pub(super) fn is_spent(&self, task: Task) {
        // Somebody else's windows inside of this one may be known there by now. The same below.
        let known = self.place(task);
        if known.task.get() == Some(task) {
            known.spent.set(known.spent.get().saturating_add(1));
        }
    }

    /// A window of this task is over, and has lasted so long.
    pub(super) fn is_over(&self, task: Task, lasted: Duration) {
        let known = self.place(task);
        if known.task.get() == Some(task) {
            known.used.set(known.used.get().saturating_add(lasted));
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
                        let share = known.share(task, seen).among as usize;
                        let of = if round == 0 { n + 1 } else { SCOPES };
                        assert_eq!(share, of, "round {round}, {task:?}");
                        known.is_spent(task);
                    }
                }
            }
        }
    }
}
