//! Scopes that a task opens one after the other, in a loop, say, and that never have to wait: who yields in there is
//! polled again in there. Each window has a budget of its own, but those beside the task wait for all of them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::policy;
use super::put_off::Lateness;

/// So many scopes give way one after the other at most. One is not enough: of several that a task waits for at once, the next would
/// begin in the very poll that the first has given way in, and be over. They are done with it when one of them is polled again or,
/// since somebody may drop each that does not end at once, and never come to what it would have done, when one is dropped. Should
/// neither be ever seen, it ends here.
const GIVE_WAY_MOST: u32 = 1 << 16;

/// Whether a scope has given way before anybody in it was polled, and was not polled since, or once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GaveWay {
    Never,
    First,
    Twice,
}

/// So soon after a scope gave way it is the same poll of its task that comes to it again, perhaps.
const JUST_NOW: Duration = Duration::from_micros(50);

/// Windows that were opened in one poll of a task in a window around.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nested {
    poll: u32,
    windows: u32,
    /// When it is enough, from the second one on.
    until: Option<Instant>,
    gave_way: u32,
}

impl Nested {
    pub(super) const NOTHING: Self = Self::of(0);

    const fn of(poll: u32) -> Self {
        Self {
            poll,
            windows: 0,
            until: None,
            gave_way: 0,
        }
    }

    /// Whether one gave way in this poll.
    pub(super) fn gave_way_in(this: &Cell<Self>, poll: u32) -> bool {
        let nested = this.get();
        nested.poll == poll && nested.gave_way > 0
    }

    /// One that gave way is dropped.
    pub(super) fn is_dropped(this: &Cell<Self>) {
        let nested = this.get();
        if nested.gave_way > 0 {
            this.set(Self::of(nested.poll));
        }
    }

    /// One more, in this poll. `true`: they have used up what they have, which is `most`, from the second one on.
    #[cold]
    pub(super) fn opens(
        this: &Cell<Self>,
        poll: u32,
        most: impl FnOnce(Instant) -> Duration,
    ) -> bool {
        let mut nested = this.get();
        if nested.poll != poll {
            nested = Self::of(poll);
        }
        nested.windows += 1;
        let mut is_over = false;
        if nested.windows > 1 {
            let now = Instant::now();
            is_over = now >= *nested.until.get_or_insert_with(|| now + most(now));
        }
        nested.gave_way += u32::from(is_over);
        if nested.gave_way >= GIVE_WAY_MOST {
            nested = Self::of(poll);
        }
        this.set(nested);
        is_over
    }
}

/// Scopes in a thread's polls that no window is around. Whether two of them are in one poll of a task is known to nobody, so
/// it is counted for how long they have kept the thread. Once they have for the time of a budget, those that are polled for
/// the first time give way, until one of them is polled again, or dropped: a task that has been polled anew in between, or another one,
/// has a turn too many for it.
#[derive(Debug)]
pub(super) struct Row {
    /// In nanoseconds.
    used: Cell<u64>,
    /// So much is too much.
    most: Cell<u64>,
    /// How many have given way since it was too much.
    gave_way: Cell<u32>,
    /// How many had, when they began anew: one task may have them side by side, in loops, and polls all of them at once. So each of
    /// them has a part of the time, as windows side by side have.
    share: Cell<u32>,
    /// How often they began anew, modulo.
    round: Cell<u32>,
    /// When the last one did.
    gave_way_at: Cell<Option<Instant>>,
    /// Short ones that have ended since the clock was last read for them, four for each.
    scopes: Cell<u32>,
    read_at: Cell<Option<Instant>>,
    /// Of the first wakes of scopes: somebody may block the worker of this thread.
    lateness: Lateness,
}

/// For so many short scopes the clock is read once.
const READ_EVERY: u32 = 4;
/// So many of those in which nobody ever waited count as one: they are as short as any.
const READY: u32 = 4;
/// The time from one to the next counts up to here: for longer the task may have been at rest.
const FROM_ONE_TO_THE_NEXT: Duration = Duration::from_millis(1);

impl Row {
    pub(super) const fn new() -> Self {
        Self {
            used: Cell::new(0),
            most: Cell::new(nanos(policy::BUDGET_TIME)),
            gave_way: Cell::new(0),
            share: Cell::new(1),
            round: Cell::new(0),
            gave_way_at: Cell::new(None),
            scopes: Cell::new(0),
            read_at: Cell::new(None),
            lateness: Lateness::new(),
        }
    }

    /// A scope is polled for the first time. `true`: it has to give way first.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        let is_over = self.used.get() >= self.most.get();
        if is_over {
            self.gives_way();
        }
        is_over
    }

    #[cold]
    fn gives_way(&self) {
        let gave_way = self.gave_way.get() + 1;
        self.gave_way.set(gave_way);
        if gave_way >= GIVE_WAY_MOST {
            self.begin_anew();
        }
    }

    /// One that gave way is dropped, without ever having been polled again.
    pub(super) fn is_dropped(&self) {
        if self.gave_way.get() > 0 {
            self.begin_anew();
        }
    }

    fn begin_anew(&self) {
        self.share.set(self.gave_way.replace(0).max(1));
        self.round.set(self.round.get().wrapping_add(1));
        self.used.set(0);
        self.most.set(nanos(policy::BUDGET_TIME));
    }

    /// One has given way, and its task is woken. In which round that was.
    pub(super) fn has_told(&self) -> u32 {
        self.gave_way_at.set(Some(Instant::now()));
        self.round.get()
    }

    /// Whether one gave way just now.
    pub(super) fn gave_way_just_now(&self) -> bool {
        let at = self.gave_way_at.get();
        at.is_some_and(|at| at.elapsed() < JUST_NOW)
    }

    /// One that gave way is polled again: the task has left others a turn, as a rule. There is a new budget.
    ///
    /// If others have come back since then, which gave way in the same `round`, its task may be in the same poll; whether it is
    /// the first of these.
    pub(super) fn has_given_way(&self, round: u32) -> bool {
        let is_first = round == self.round.get();
        if is_first {
            self.begin_anew();
        }
        let part = policy::BUDGET_TIME / self.share.get();
        self.used.set(0);
        self.most.set(nanos(part.max(policy::BUDGET_LEAST)));
        is_first
    }

    /// A scope is over with its first poll, in which somebody has come back, or else worked. When its window began, if that has
    /// lasted.
    #[inline]
    pub(super) fn is_over_at_once(&self, began: Option<Instant>, came_back: bool) {
        let scopes = self.scopes.get() + if came_back { READY } else { 1 };
        self.scopes.set(scopes);
        if began.is_some() || scopes >= READY * READ_EVERY {
            self.read(began, scopes);
        }
    }

    #[cold]
    fn read(&self, began: Option<Instant>, scopes: u32) {
        let now = Instant::now();
        let between = match began {
            Some(began) => {
                self.add(now.saturating_duration_since(began));
                began
            }
            None => now,
        };
        if let Some(before) = self.read_at.replace(Some(now)) {
            let passed = between.saturating_duration_since(before);
            self.add(passed.min(scopes * FROM_ONE_TO_THE_NEXT / READY));
        }
        self.scopes.set(0);
    }

    fn add(&self, time: Duration) {
        self.used.set(self.used.get().saturating_add(nanos(time)));
    }

    /// Whether the first wake of a scope may be put off.
    pub(super) fn may_put_off(&self) -> bool {
        self.lateness.may_put_off()
    }

    /// What was put off came, or it did not.
    pub(super) fn put_off(&self, came: bool) {
        // Not for long: whoever blocks the worker may have gone, and others are served later for it.
        self.lateness.note(came, 4);
    }

    /// Begins one of its own, for an executor that is driven in this thread's poll.
    pub(super) fn take(&self) -> Self {
        let taken = Self::new();
        self.swap(&taken);
        taken
    }

    pub(super) fn swap(&self, other: &Self) {
        self.used.swap(&other.used);
        self.most.swap(&other.most);
        self.gave_way.swap(&other.gave_way);
        self.share.swap(&other.share);
        self.round.swap(&other.round);
        self.gave_way_at.swap(&other.gave_way_at);
        self.scopes.swap(&other.scopes);
        self.read_at.swap(&other.read_at);
        self.lateness.swap(&other.lateness);
    }
}

const fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
