//! Scopes that a task opens one after the other, in a loop, say, and that never have to wait: who yields in there is
//! polled again in there. Each window has a budget of its own, but those beside the task wait for all of them.

use std::cell::Cell;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::policy;

/// Windows that were opened in one poll of a task in a window around.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nested {
    poll: u32,
    windows: u32,
    /// When it is enough, from the second one on.
    until: Option<Instant>,
}

impl Nested {
    pub(super) const NOTHING: Self = Self::of(0);

    const fn of(poll: u32) -> Self {
        Self {
            poll,
            windows: 0,
            until: None,
        }
    }

    /// One more, in this poll. `true`: they have used up a budget. The next one has a new one, since somebody may drive it in
    /// this very poll.
    #[cold]
    pub(super) fn opens(this: &Cell<Self>, poll: u32) -> bool {
        let mut nested = this.get();
        if nested.poll != poll {
            nested = Self::of(poll);
        }
        nested.windows += 1;
        let mut is_over = false;
        if nested.windows > 1 {
            let now = Instant::now();
            is_over = now >= *nested.until.get_or_insert(now + policy::BUDGET_TIME);
        }
        this.set(if is_over { Self::of(poll) } else { nested });
        is_over
    }
}

/// What a first poll of a scope, with no window around, came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First {
    /// Nobody in it had to come back.
    Ended,
    /// Somebody had come to rest, and was polled again.
    EndedLater,
    Rests,
}

/// Scopes in a thread's polls that no window is around. Whether two of them are in one poll of a task is known to nobody, so
/// it is counted for how long they have kept the thread. Once they have for the time of a budget, one of them gives way: a
/// task that has been polled anew in between, or another one, has a turn too many for it.
#[derive(Debug)]
pub(super) struct Row {
    /// So many scopes are timed from here on. Most have none that come back, and need no clock.
    timed: Cell<u32>,
    used: Cell<Duration>,
    /// The end of the last scope, or the beginning of the present one.
    at: Cell<Option<Instant>>,
    /// Whose the last scope was: the addresses of data and functions.
    task: Cell<(usize, usize)>,
}

/// Whoever yields in a scope has so many timed after it.
const TIMED: u32 = 16;
/// What a task does between two scopes counts up to here: for longer it may have been at rest.
const BETWEEN: Duration = Duration::from_micros(200);

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            timed: Cell::new(0),
            used: Cell::new(Duration::ZERO),
            at: Cell::new(None),
            task: Cell::new((0, 0)),
        }
    }

    /// A scope is polled for the first time. `true`: it has to give way first.
    #[inline]
    pub(super) fn begins(&self, waker: &Waker) -> bool {
        self.timed.get() != 0 && self.begins_timed(waker)
    }

    #[cold]
    fn begins_timed(&self, waker: &Waker) -> bool {
        let now = Instant::now();
        let before = self.at.replace(Some(now));
        if let Some(at) = before.filter(|_| self.task.get() == task(waker)) {
            self.add(now.saturating_duration_since(at).min(BETWEEN));
        }
        let is_over = self.used.get() >= policy::BUDGET_TIME;
        if is_over {
            self.used.set(Duration::ZERO);
            self.at.set(None);
        }
        is_over
    }

    /// That poll is over.
    #[inline]
    pub(super) fn ends(&self, first: First, waker: &Waker) {
        if first == First::EndedLater || self.timed.get() != 0 {
            self.ends_timed(first, waker);
        }
    }

    #[cold]
    fn ends_timed(&self, first: First, waker: &Waker) {
        let since = self.at.take();
        if first == First::Rests {
            // And so does its task, as a rule.
            return;
        }
        let now = Instant::now();
        if let Some(since) = since {
            self.add(now.saturating_duration_since(since));
        }
        let timed = if first == First::EndedLater {
            TIMED
        } else {
            self.timed.get().saturating_sub(1)
        };
        self.timed.set(timed);
        self.at.set(Some(now));
        self.task.set(task(waker));
    }

    /// Begins one of its own, for an executor that is driven in this thread's poll.
    pub(super) fn take(&self) -> Self {
        let taken = Self::new();
        self.swap(&taken);
        taken
    }

    pub(super) fn swap(&self, other: &Self) {
        self.timed.swap(&other.timed);
        self.used.swap(&other.used);
        self.at.swap(&other.at);
        self.task.swap(&other.task);
    }

    fn add(&self, time: Duration) {
        self.used.set(self.used.get().saturating_add(time));
    }
}

fn task(waker: &Waker) -> (usize, usize) {
    let functions = std::ptr::from_ref(waker.vtable()).addr();
    (waker.data().addr(), functions)
}
