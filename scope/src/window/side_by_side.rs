//! Several scopes in one task, each of which has a window in each poll of the task: among how many the time of one is divided.
//! For those that a task opens one after the other see [`in_a_row`](super::in_a_row).

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

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
    /// Who had a window that counts, last.
    latest: Cell<Option<Task>>,
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

/// A round of scopes in one task, each polled once: which one it was, and on which thread.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Round {
    /// Zero: none. Otherwise a number that this thread does not share with another one, as a rule: a part of each core.
    thread: u32,
    number: u32,
}

#[derive(Debug)]
struct Known {
    task: Cell<Option<Task>>,
    /// Which poll of the task it was, where that can be told.
    poll: Cell<Option<u32>>,
    /// Otherwise another one begins when a scope is polled that was polled in it already.
    round: Cell<Round>,
    /// It began with a scope that was polled on another thread before, in that round.
    moved_from: Cell<Round>,
    /// How many windows have used up what they had in this round, and in the last.
    spent: Cell<u32>,
    before: Cell<u32>,
    /// How long windows have lasted in this round. Short ones, which each may have in any case, do not count.
    used: Cell<Duration>,
    /// When the last of those in this round was over.
    until: Cell<Option<Instant>>,
}

/// A window that wants to know what it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks<'a> {
    pub(super) task: Task,
    /// Which poll of the task this is, where that can be told.
    pub(super) poll: Option<u32>,
    /// The round in which this scope was last polled, and among how many it shared the time then.
    pub(super) seen: &'a Cell<Round>,
    pub(super) before: u32,
    /// When the window began.
    pub(super) began: Instant,
}

/// What a window has of the time of those beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Among how many that is divided.
    pub(super) among: u32,
    /// How much of it they have used in this round.
    pub(super) used: Duration,
}

impl Share {
    /// There is nobody beside it.
    pub(super) const ALONE: Self = Self {
        among: 1,
        used: Duration::ZERO,
    };
}

/// If there was nothing to do for so long, the task may have been at rest.
const REST: Duration = Duration::from_millis(1);

impl Known {
    const fn nobody() -> Self {
        Self {
            task: Cell::new(None),
            poll: Cell::new(None),
            round: Cell::new(Round::NONE),
            moved_from: Cell::new(Round::NONE),
            spent: Cell::new(0),
            before: Cell::new(0),
            used: Cell::new(Duration::ZERO),
            until: Cell::new(None),
        }
    }

    fn has_rested(&self, now: Instant) -> bool {
        let until = self.until.get();
        until.is_some_and(|until| now.saturating_duration_since(until) >= REST)
    }
}

impl Round {
    const NONE: Self = Self {
        thread: 0,
        number: 0,
    };

    /// Whether there was one.
    #[inline]
    pub(super) fn is_one(self) -> bool {
        self.thread != 0
    }
}

impl SideBySide {
    pub(super) const fn new() -> Self {
        Self {
            tasks: [const { Known::nobody() }; TASKS],
            members: [const { Known::nobody() }; TASKS],
            rounds: Cell::new(0),
            latest: Cell::new(None),
        }
    }

    fn thread(&self) -> u32 {
        (std::ptr::from_ref(self).addr() >> 3) as u32
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
        let age = |known: &&Known| self.rounds.get().wrapping_sub(known.round.get().number);
        places
            .clone()
            .find(|known| known.task.get() == Some(task))
            .or_else(|| places.max_by_key(age))
            .unwrap_or(&all[first])
    }

    /// The same, if it is known.
    fn known(&self, task: Task) -> Option<&Known> {
        // Somebody else's windows inside of this one may be known there by now.
        Some(self.place(task)).filter(|known| known.task.get() == Some(task))
    }

    /// What a window has.
    pub(super) fn share(&self, asks: Asks<'_>) -> Share {
        let known = self.place(asks.task);
        let seen = asks.seen.get();
        let is_other = known.task.replace(Some(asks.task)) != Some(asks.task);
        // Its task has been polled on another thread meanwhile, or that is where it is known from now.
        let moved =
            seen != Round::NONE && seen.thread != self.thread() && seen != known.moved_from.get();
        let is_new = is_other
            || match asks.poll {
                Some(poll) => known.poll.get() != Some(poll),
                None => moved || seen == known.round.get() || known.has_rested(asks.began),
            };
        if is_new {
            self.begin(known);
            known.poll.set(asks.poll);
            if is_other || moved {
                let before = if seen == Round::NONE { 0 } else { asks.before };
                known.before.set(before);
                known.moved_from.set(seen);
            }
        }
        asks.seen.set(known.round.get());
        Share {
            among: known.before.get().max(known.spent.get().saturating_add(1)),
            used: known.used.get(),
        }
    }

    /// Another round begins.
    fn begin(&self, known: &Known) {
        self.rounds.set(self.rounds.get().wrapping_add(1));
        known.round.set(Round {
            thread: self.thread(),
            number: self.rounds.get(),
        });
        known.moved_from.set(Round::NONE);
        known.before.set(known.spent.replace(0));
        known.used.set(Duration::ZERO);
        known.until.set(None);
    }

    /// What a window may be expected to have that has not asked yet, nor said whose it is: as if it were of the task that had the
    /// last one, if that was just now.
    pub(super) fn guess(&self, began: Instant) -> Share {
        let known = self.latest.get().and_then(|task| self.known(task));
        let known = known.filter(|known| !known.has_rested(began));
        known.map_or(Share::ALONE, |known| Share {
            among: known.before.get().max(1),
            used: known.used.get(),
        })
    }

    /// A window of this task has used up what it had.
    pub(super) fn is_spent(&self, task: Task) {
        if let Some(known) = self.known(task) {
            known.spent.set(known.spent.get().saturating_add(1));
        }
    }

    /// A window of this task is over now, and has lasted so long.
    pub(super) fn is_over(&self, task: Task, began: Instant, now: Instant) {
        if let Some(known) = self.known(task) {
            let lasted = now.saturating_duration_since(began);
            known.used.set(known.used.get().saturating_add(lasted));
            known.until.set(Some(now));
        }
        if !matches!(task, Task::Member(_)) {
            self.latest.set(Some(task));
        }
    }

    /// The task is polled anew, as far as can be told where its polls have no numbers: by a scope that it polled last in that
    /// round, if one is given.
    pub(super) fn is_polled_anew(&self, task: Task, seen: Option<Round>) {
        let Some(known) = self.known(task) else {
            return;
        };
        let is_seen = seen.is_none_or(|seen| known.round.get() == seen);
        if is_seen && known.poll.get().is_none() {
            self.begin(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::num::NonZeroUsize;
    use std::time::{Duration, Instant};

    use super::{Asks, PLACES, Round, SideBySide, Task};

    const SCOPES: usize = 8;
    const LASTS: Duration = Duration::from_micros(250);

    fn task(n: usize) -> Task {
        Task::Other(NonZeroUsize::new(n).unwrap())
    }

    #[derive(Default)]
    struct Scope {
        seen: Cell<Round>,
        share: Cell<u32>,
    }

    impl Scope {
        /// Polled in that task, on the thread that knows this; it uses up what it has. Among how many.
        fn is_polled(&self, known: &SideBySide, task: Task, at: Instant) -> usize {
            let share = known.share(Asks {
                task,
                poll: None,
                seen: &self.seen,
                before: self.share.get(),
                began: at,
            });
            self.share.set(share.among);
            known.is_spent(task);
            known.is_over(task, at, at + LASTS);
            share.among as usize
        }
    }

    // Two that came to one place forgot each other by turns: the first scope of each had half of all time.
    #[test]
    fn few_tasks_do_not_forget_each_other() {
        let at = Instant::now();
        for first in 1..100 {
            let known = SideBySide::new();
            let scopes: [[Scope; SCOPES]; PLACES] = Default::default();
            for round in 0..4 {
                for (of, scopes) in scopes.iter().enumerate() {
                    for (n, scope) in scopes.iter().enumerate() {
                        let share = scope.is_polled(&known, task(first + of), at);
                        let among = if round == 0 { n + 1 } else { SCOPES };
                        assert_eq!(share, among, "round {round}, task {}", first + of);
                    }
                }
            }
        }
    }

    // A scope that came from another thread was taken for one more of an old round.
    #[test]
    fn scopes_of_a_task_that_moves_to_another_thread_are_in_one_poll_there() {
        let at = Instant::now();
        let threads = [SideBySide::new(), SideBySide::new()];
        let scopes: [Scope; SCOPES] = Default::default();
        for thread in [0, 1, 0, 0, 1, 1, 0, 1, 1] {
            let known = &threads[thread];
            for (n, scope) in scopes.iter().enumerate() {
                scope.is_polled(known, task(1), at);
                let used = known.place(task(1)).used.get();
                assert_eq!(used, LASTS * (n as u32 + 1), "scope {n}");
            }
        }
    }

    // What the last ones had used was missing for ever: each was told that nothing is left.
    #[test]
    fn time_that_was_used_is_forgotten_once_the_task_was_polled_anew() {
        let at = Instant::now();
        let known = SideBySide::new();
        let used = |scope: &Scope, at: Instant| {
            let asks = Asks {
                task: task(1),
                poll: None,
                seen: &scope.seen,
                before: 1,
                began: at,
            };
            known.share(asks).used
        };
        let lasts = Duration::from_millis(1);
        let scopes: [Scope; 3] = Default::default();
        assert_eq!(used(&scopes[0], at), Duration::ZERO);
        known.is_over(task(1), at, at + lasts);
        assert_eq!(used(&scopes[1], at + lasts), lasts, "side by side");
        known.is_over(task(1), at + lasts, at + 2 * lasts);
        assert_eq!(used(&scopes[2], at + 3 * lasts), Duration::ZERO, "at rest");
        known.is_over(task(1), at + 3 * lasts, at + 4 * lasts);
        known.is_polled_anew(task(1), Some(scopes[2].seen.get()));
        assert_eq!(used(&Scope::default(), at + 4 * lasts), Duration::ZERO);
    }
}
