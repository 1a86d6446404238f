//! Whose turn it is: where the body stands among the ready children, and where children that other threads have
//! woken do. Owner only. When helpers take part, the [`monitor`](super::monitor) has the queues.
//!
//! Ready children are a queue, first in, first out. The body has its place in that queue, as a number: it is not a
//! node, because helpers must not find it (rule L7). Children that come through the inbox go in front, a few at a
//! time, so that a wake from another thread does not wait behind everything that wakes itself; as many others are
//! polled in between, or all of them once, so that they do not displace those either.

use std::cell::Cell;
use std::time::Instant;

use super::owned::Owner;
use super::policy::{BODY_EVERY, BODY_EVERY_LENT, BODY_WAIT, MAIL_EVERY, MAIL_MOST};
use crate::task::List;

/// The body is not ready.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Turns {
    /// Polls of the owner so far, of children and of the body.
    taken: Cell<u64>,
    /// The body is ready, and its turn comes when so many polls were taken.
    body_due: Cell<u64>,
    /// The present stretch of polls ends when so many were taken; never after the body's turn.
    stop: Cell<u64>,
    /// How many polls were taken when the body had its last turn, that one included.
    body_had: Cell<u64>,
    /// How many were put in front of the queue since then.
    in_front: Cell<u64>,
    /// When a look at the clock first found the body waiting.
    body_waits: Cell<Option<Instant>>,
    /// Children that came through the inbox and have no place in the queue yet.
    pub(super) mail: List,
    /// Children are put in front of the queue only after so many polls.
    mail_due: Cell<u64>,
}

impl Turns {
    /// The body is ready.
    pub(super) const fn new() -> Self {
        Self {
            taken: Cell::new(0),
            body_due: Cell::new(0),
            stop: Cell::new(0),
            body_had: Cell::new(0),
            in_front: Cell::new(0),
            body_waits: Cell::new(None),
            mail: List::new(),
            mail_due: Cell::new(0),
        }
    }

    /// How many polls there were so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// A poll begins.
    #[inline]
    pub(super) fn take(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// At most so many polls follow, and none after the body's turn has come. Returns where they begin.
    #[inline]
    pub(super) fn begin_stretch(&self, most: u32) -> u64 {
        let from = self.taken.get();
        self.stop
            .set((from + u64::from(most)).min(self.body_due.get()));
        from
    }

    /// Whether the stretch goes on: one look that stands for several in the innermost loop.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        self.taken.get() < self.stop.get()
    }

    /// The stretch is over.
    pub(super) fn interrupt(&self) {
        self.stop.set(0);
    }

    /// How many polls there were since then, within a stretch.
    #[inline]
    pub(super) fn since(&self, from: u64) -> u32 {
        u32::try_from(self.taken.get() - from).unwrap_or(u32::MAX)
    }

    fn set_body_due(&self, due: u64) {
        self.body_due.set(due);
        self.stop.set(self.stop.get().min(due));
    }

    /// The body's turn was so many polls. If it has another one it comes next, and is not overdue: what is put in front of it
    /// then is in front.
    pub(super) fn add(&self, polls: u32) {
        let taken = self.taken.get() + u64::from(polls);
        self.taken.set(taken);
        if self.is_body_ready() {
            self.set_body_due(self.body_due.get().max(taken));
        }
    }

    /// The body is ready. It is polled after those who were ready before, or some of them if they are many.
    #[inline]
    pub(super) fn body_woken(&self, ahead: usize) {
        if self.body_due.get() == NEVER {
            let ahead = (ahead as u64).min(BODY_EVERY);
            self.set_body_due(self.taken.get() + ahead);
        }
    }

    /// Another thread woke the body. It goes in front, as mail does, but not before `others` had turns since its last.
    fn body_called(&self, before: usize, others: usize) {
        let earliest = self.body_had.get() + others as u64;
        let ahead = earliest.saturating_sub(self.taken.get());
        self.body_woken(before.max(ahead as usize));
    }

    /// A child was told of a cancellation: whoever cancelled it, the body perhaps, did so before the body's turn, and
    /// is to find that it had its own.
    pub(super) fn told_before_body(&self) {
        if self.is_body_ready() {
            let most = self.taken.get() + BODY_EVERY;
            let due = self.body_due.get();
            self.set_body_due(due.max(most.min(due + 1)));
        }
    }

    #[inline]
    pub(super) fn is_body_ready(&self) -> bool {
        self.body_due.get() != NEVER
    }

    #[inline]
    pub(super) fn is_body_due(&self) -> bool {
        self.taken.get() >= self.body_due.get()
    }

    /// The body is about to be polled, or has ended. Whether it was ready.
    pub(super) fn take_body(&self) -> bool {
        self.body_waits.set(None);
        let was_ready = self.body_due.replace(NEVER) != NEVER;
        if was_ready {
            self.body_had.set(self.taken.get() + 1);
            self.in_front.set(0);
        }
        was_ready
    }

    /// The clock was read: a body that has waited for long is next. But not before the queue has moved on since its last turn:
    /// in each window it might come, and somebody in front of the queue, before one who has been ready all the time, and use
    /// the window up.
    pub(super) fn looked(&self, now: Instant) {
        if !self.is_body_ready() {
            return;
        }
        match self.body_waits.get() {
            None => self.body_waits.set(Some(now)),
            Some(since) if now.saturating_duration_since(since) >= BODY_WAIT => {
                if self.taken.get() > self.body_had.get() + self.in_front.get() {
                    self.set_body_due(self.taken.get());
                }
            }
            Some(_) => {}
        }
    }

    /// Gives children that came through the inbox their place in the queue.
    #[inline]
    pub(super) fn place_mail(&self, queue: &List) {
        if self.mail.is_empty() {
            return;
        }
        if queue.is_empty() && !self.is_body_ready() {
            // Not all: what comes later would be put in front of those who are waiting.
            let some = List::new();
            self.mail.split_to(MAIL_EVERY as usize, &some);
            queue.append(&some);
        } else {
            self.place_some_mail(queue);
        }
    }

    /// Somebody else is ready too: a child, or the body, which may be the members of a batch that have not begun.
    fn place_some_mail(&self, queue: &List) {
        let taken = self.taken.get();
        if taken < self.mail_due.get() {
            return;
        }
        let others = queue.len() as u64 + u64::from(self.is_body_ready());
        let some = List::new();
        self.mail.split_to(MAIL_MOST as usize, &some);
        let placed = some.len() as u64;
        queue.prepend(&some);
        // As many others come before the next ones, but none of them twice: one that computes would go on and on, while many are
        // ready who have not had a turn.
        self.mail_due.set(taken + placed + placed.min(others));
        self.in_front.set(self.in_front.get() + placed);
        if self.is_body_ready() {
            self.set_body_due(self.body_due.get() + placed);
        }
    }
}

impl Owner {
    /// Something came up on the owner's own thread, while it waited.
    pub(super) fn is_stirred(&self) -> bool {
        !self.local.is_empty() || !self.turns.mail.is_empty() || self.noticed.get()
    }

    /// Another thread woke the body, which goes in front of the others as a child does.
    pub(super) fn wake_body_by_mail(&self) {
        if self.body_done.get() {
            return;
        }
        let before = self.turns.mail.len().min(MAIL_MOST as usize);
        let others = self.others().min(MAIL_MOST as usize);
        self.turns.body_called(before, others);
    }

    /// The body is ready; its turn comes after that of those who are.
    pub(super) fn wake_body(&self) {
        if self.body_done.get() {
            // A wake that came with its end.
            return;
        }
        self.came_back.set(true);
        self.turns.body_woken(self.others());
    }

    /// How many others are ready, or may be. While lending, children come back by an exchange, which the owner makes
    /// when it has no other turn to take: so there is always room for one.
    fn others(&self) -> usize {
        if self.lent.get() {
            self.ahead().clamp(1, BODY_EVERY_LENT)
        } else {
            self.local.len()
        }
    }

    /// How many are ready, or may be, while a member is polled.
    pub(super) fn who_wait(&self) -> usize {
        let shared = if self.lent.get() { self.ahead() } else { 0 };
        shared + self.local.len() + self.turns.mail.len() + usize::from(self.turns.is_body_ready())
    }

    /// Something is ready for the owner.
    pub(super) fn has_work(&self) -> bool {
        self.is_stirred() || self.turns.is_body_ready()
    }
}
