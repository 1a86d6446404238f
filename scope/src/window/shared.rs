//! What owner and helpers of a window share, under the lock of the [`monitor`](super::monitor).

use std::ptr;
use std::time::Instant;

use selvedge_cancel::ambient::Cancellations;

use super::context::Carried;
use super::helper::Haul;
use super::policy;
use crate::sync::{AtomicU32, Ordering};
use crate::task::{List, Task, links_of};

/// What owner and helpers share.
pub(super) struct Shared {
    /// Children to be polled by whoever comes first.
    pub(super) ready: List,
    /// Those that came through the inbox: packets are taken from both queues in turn, so that neither waits behind
    /// all of the other.
    pub(super) mail: List,
    /// The last packet was mail.
    pub(super) mail_was_last: bool,
    /// Children spawned on helpers that are not in the list of all tasks yet, linked by their `Links`.
    pub(super) newborn: *const Task,
    pub(super) newborn_tail: *const Task,
    /// Children that ended on a helper; the owner unlinks them.
    pub(super) done: List,
    /// A helper found the body's wake.
    pub(super) body: bool,
    /// A helper found, or gave, a notice.
    pub(super) notice: bool,
    /// What helpers have counted, for the owner's thread.
    pub(super) counted: Cancellations,
    /// Helpers that have entered and not left.
    pub(super) inside: u32,
    /// Helper jobs handed to the pool that have not started.
    pub(super) asked: u32,
    pub(super) open: bool,
    /// The budget is spent: helpers put back what they hold and leave.
    pub(super) draining: bool,
    /// How often that was said.
    pub(super) drains: u32,
    /// Helpers who have not come back since then, and the owner if it has gone: somebody is in a long poll.
    pub(super) away: u32,
    /// Until they do, others may enter for what is short, and for what takes no longer than it is since then.
    pub(super) admits: Option<Instant>,
    /// For the models: somebody was inside when helpers were sent away.
    #[cfg(all(test, selvedge_loom))]
    pub(super) sent_away: bool,
    /// The owner waits for the bell.
    pub(super) waiting: bool,
    /// What makes a packet.
    pub(super) size: Size,
    pub(super) context: Option<Carried>,
}

// SAFETY: the pointers are to cells of one scope, which only move between the threads of its window; whoever
// holds the lock may touch the links of what is in these lists.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("open", &self.open)
            .field("inside", &self.inside)
            .field("ready", &self.left())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            ready: List::new(),
            mail: List::new(),
            mail_was_last: false,
            newborn: ptr::null(),
            newborn_tail: ptr::null(),
            done: List::new(),
            body: false,
            notice: false,
            counted: Cancellations::default(),
            inside: 0,
            asked: 0,
            open: false,
            draining: false,
            drains: 0,
            away: 0,
            admits: None,
            #[cfg(all(test, selvedge_loom))]
            sent_away: false,
            waiting: false,
            size: Size { most: 1, least: 0 },
            context: None,
        }
    }

    pub(super) fn put(&mut self, haul: &Haul) {
        self.ready.append(&haul.again);
        self.mail.append(&haul.mail);
        self.done.append(&haul.done);
        self.body |= haul.body.replace(false);
        self.notice |= haul.notice.replace(false);
        self.counted.add(haul.take_counted());
        let (first, last) = haul.take_newborn();
        if !first.is_null() {
            if self.newborn.is_null() {
                self.newborn = first;
            } else {
                // SAFETY: the tail is a newborn child: alive, a single cell, and linked by nobody else.
                unsafe { links_of(self.newborn_tail) }.next.set(first);
            }
            self.newborn_tail = last;
        }
    }

    /// What the owner is to know, and the children that have ended.
    pub(super) fn news(&mut self, done: &List) -> News {
        done.append(&self.done);
        let left = self.left();
        let worth = if left == 0 || self.helpers() > 0 {
            0
        } else {
            let least = self.size.least;
            policy::worth(&self.ready, least).saturating_add(policy::worth(&self.mail, least))
        };
        News {
            newborn: std::mem::replace(&mut self.newborn, ptr::null()),
            body: std::mem::take(&mut self.body),
            notice: std::mem::take(&mut self.notice),
            counted: std::mem::take(&mut self.counted),
            inside: self.inside as usize,
            left,
            worth,
            asked: self.asked as usize,
        }
    }

    /// A helper comes that is inside.
    pub(super) fn comes(&mut self, visit: Visit, calls_back: &AtomicU32) -> Visit {
        if visit.drains != self.drains {
            self.comes_back(calls_back);
        }
        Visit {
            drains: self.drains,
        }
    }

    pub(super) fn comes_back(&mut self, calls_back: &AtomicU32) {
        self.away -= 1;
        if self.away == 0 && self.admits.is_some() {
            self.stop_admitting(calls_back);
        }
    }

    pub(super) fn admit(&mut self, since: Instant, calls_back: &AtomicU32) {
        self.admits = Some(since);
        // Relaxed: a hint.
        calls_back.store(LONG, Ordering::Relaxed);
    }

    pub(super) fn stop_admitting(&mut self, calls_back: &AtomicU32) {
        self.admits = None;
        // Relaxed: a hint.
        calls_back.store(ALL, Ordering::Relaxed);
    }

    /// Who are inside, or on their way.
    pub(super) fn helpers(&self) -> usize {
        self.inside as usize + self.asked as usize
    }

    /// Nobody enters, or goes on.
    pub(super) fn is_shut(&self) -> bool {
        self.draining && self.admits.is_none()
    }

    pub(super) fn left(&self) -> usize {
        self.ready.len() + self.mail.len()
    }

    /// Takes a packet, from the other queue than the last time if both have something.
    pub(super) fn split(&mut self, size: Size, packet: &List) {
        if size.most == 0 {
            return;
        }
        let its_turn = !self.mail_was_last || self.ready.is_empty();
        let mail = its_turn && !self.mail.is_empty();
        self.mail_was_last = mail;
        let queue = if mail { &self.mail } else { &self.ready };
        policy::split_packet(queue, size.most, size.least, packet);
    }

    /// The first that may be polled now, of either queue. Whether there is another one.
    pub(super) fn split_fitting(&mut self, packet: &List, fits: impl Fn(usize) -> bool) -> bool {
        let mut more = false;
        let queues = match self.mail_was_last {
            true => [&self.ready, &self.mail],
            false => [&self.mail, &self.ready],
        };
        for queue in queues {
            let had = packet.len();
            more |= policy::split_fitting(queue, packet, &fits);
            if packet.len() > had {
                self.mail_was_last = std::ptr::eq(queue, &self.mail);
            }
        }
        more
    }

    pub(super) fn has_news(&self) -> bool {
        self.left() > 0 || self.body || self.notice || self.inside == 0 || !self.newborn.is_null()
    }
}

/// What the owner gets from an exchange; all of it is its own from there on.
#[derive(Debug)]
pub(crate) struct News {
    /// Register these before anything else (rule L4).
    pub(crate) newborn: *const Task,
    pub(crate) body: bool,
    pub(crate) notice: bool,
    /// The cancellations that helpers met.
    pub(crate) counted: Cancellations,
    pub(crate) inside: usize,
    /// Children left for others after the packet was taken.
    pub(crate) left: usize,
    /// What they are worth, if nobody is inside or on the way.
    pub(crate) worth: u64,
    /// Jobs that are on their way.
    pub(crate) asked: usize,
}

/// What makes a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Children at most.
    pub(crate) most: usize,
    /// What each of them is taken to cost at least, in nanoseconds.
    pub(crate) least: u64,
}

/// Who is to leave, of helpers between two polls.
pub(super) const NOBODY: u32 = 0;
/// Who has something else to poll than what is short.
pub(super) const LONG: u32 = 1;
pub(super) const ALL: u32 = 2;

/// What a helper inside is to the monitor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// How many drains had been said when it was last here.
    pub(super) drains: u32,
}
