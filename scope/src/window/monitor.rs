//! The monitor: everything that owner and helpers share, under one lock.
//!
//! A window that lends opens it; helpers enter, exchange what they finished for a packet of ready children,
//! and leave; the owner does the same, waits for the last helper, and closes it. One short critical section
//! a packet of some microseconds is cheaper than any cleverness, and makes "enter fails once closed"
//! (rule W2) and "the last one out rings" plain. No user code runs under the lock (rule W15).

use std::cell::Cell;
use std::ops::Deref;
use std::ptr;
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use selvedge_cancel::ambient::Cancellations;

use super::context::Carried;
use super::helper::Haul;
use super::policy;
use crate::sync::{AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, lock};
use crate::task::{List, Task, links_of};

/// What owner and helpers share.
pub(crate) struct Shared {
    /// Children to be polled by whoever comes first.
    ready: List,
    /// Those that came through the inbox: packets are taken from both queues in turn, so that neither waits behind
    /// all of the other.
    mail: List,
    /// The last packet was mail.
    mail_was_last: bool,
    /// Children spawned on helpers that are not in the list of all tasks yet, linked by their `Links`.
    newborn: *const Task,
    newborn_tail: *const Task,
    /// Children that ended on a helper; the owner unlinks them.
    done: List,
    /// A helper found the body's wake.
    body: bool,
    /// A helper found, or gave, a notice.
    notice: bool,
    /// What helpers have counted, for the owner's thread.
    counted: Cancellations,
    /// Helpers that have entered and not left.
    inside: usize,
    /// Helper jobs handed to the pool that have not started.
    asked: usize,
    open: bool,
    /// The budget is spent: helpers put back what they hold and leave.
    draining: bool,
    /// How often that was said.
    drains: usize,
    /// Helpers who have not come back since then, and the owner if it has gone: somebody is in a long poll.
    away: usize,
    /// Until they do, others may enter for what is short, and for what takes no longer than it is since then.
    admits: Option<Instant>,
    /// The owner waits for the bell.
    waiting: bool,
    /// What makes a packet.
    size: Size,
    context: Option<Carried>,
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
    fn put(&mut self, haul: &Haul) {
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
    fn news(&mut self, done: &List) -> News {
        done.append(&self.done);
        let left = self.left();
        let worth = if left == 0 || self.inside + self.asked > 0 {
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
            inside: self.inside,
            left,
            worth,
            asked: self.asked,
        }
    }

    /// A helper comes that is inside.
    fn comes(&mut self, visit: Visit, monitor: &Monitor) -> Visit {
        if visit.drains != self.drains {
            self.comes_back(monitor);
        }
        Visit {
            drains: self.drains,
        }
    }

    fn comes_back(&mut self, monitor: &Monitor) {
        self.away -= 1;
        if self.away == 0 && self.admits.is_some() {
            self.stop_admitting(monitor);
        }
    }

    fn stop_admitting(&mut self, monitor: &Monitor) {
        self.admits = None;
        // Relaxed: a hint.
        monitor.calls_back.store(ALL, Ordering::Relaxed);
    }

    /// Nobody enters, or goes on.
    fn is_shut(&self) -> bool {
        self.draining && self.admits.is_none()
    }

    fn left(&self) -> usize {
        self.ready.len() + self.mail.len()
    }

    /// Takes a packet, from the other queue than the last time if both have something.
    fn split(&mut self, size: Size, packet: &List) {
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
    fn split_fitting(&mut self, packet: &List, fits: impl Fn(usize) -> bool) -> bool {
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

    fn has_news(&self) -> bool {
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

/// How a helper goes on after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has a packet; with `more`, there is work for another helper, and room for one.
    Packet { more: bool },
    /// Nothing is ready.
    Nothing,
    /// The window ends.
    Leave,
}

#[derive(Debug)]
pub(crate) struct Monitor {
    shared: Mutex<Shared>,
    bell: Condvar,
    /// Counts everything that an owner who waits would want to look at.
    news: AtomicUsize,
    /// Who is to leave, of helpers between two polls.
    calls_back: AtomicU32,
}

const NOBODY: u32 = 0;
/// Who has something else to poll than what is short.
const LONG: u32 = 1;
const ALL: u32 = 2;

/// What a helper inside is to the monitor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// How many drains had been said when it was last here.
    drains: usize,
}

/// The monitor of a scope, made when it first lends: most scopes never do.
#[derive(Debug)]
pub(crate) struct LazyMonitor(OnceLock<Box<Monitor>>);

impl LazyMonitor {
    pub(crate) fn new() -> Self {
        let lazy = OnceLock::new();
        if cfg!(selvedge_loom) {
            // A model does not see what std's cell orders.
            lazy.get_or_init(|| Box::new(Monitor::new()));
        }
        Self(lazy)
    }

    /// Whether anything was ever shared.
    pub(super) fn is_made(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Deref for LazyMonitor {
    type Target = Monitor;

    #[inline]
    fn deref(&self) -> &Monitor {
        self.0.get_or_init(|| Box::new(Monitor::new()))
    }
}

impl Monitor {
    pub(crate) fn new() -> Self {
        Self {
            shared: Mutex::new(Shared {
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
                waiting: false,
                size: Size { most: 1, least: 0 },
                context: None,
            }),
            bell: Condvar::new(),
            news: AtomicUsize::new(0),
            calls_back: AtomicU32::new(NOBODY),
        }
    }

    fn tell(&self, shared: MutexGuard<'_, Shared>) {
        // Release: a hint for the spinning owner, who takes the lock before it acts on it.
        self.news.fetch_add(1, Ordering::Release);
        let ring = shared.waiting && shared.has_news();
        drop(shared);
        if ring {
            self.bell.notify_one();
        }
    }

    /// The owner opens the monitor if it is not, and shares the children of both queues.
    pub(crate) fn lend(
        &self,
        ready: &List,
        mail: &List,
        size: Size,
        context: impl FnOnce() -> Carried,
    ) {
        let mut shared = lock(&self.shared);
        if !shared.open {
            drop(shared);
            let context = context();
            shared = lock(&self.shared);
            shared.open = true;
            shared.draining = false;
            // Relaxed: as in `drain`.
            self.calls_back.store(NOBODY, Ordering::Relaxed);
            shared.context = Some(context);
        }
        shared.size = size;
        shared.ready.append(ready);
        shared.mail.append(mail);
    }

    /// Notes that a job is about to be handed to the pool; `false` if there are enough.
    #[must_use]
    pub(crate) fn ask(&self, most: usize) -> bool {
        let mut shared = lock(&self.shared);
        if !shared.open || shared.is_shut() || shared.asked + shared.inside >= most {
            return false;
        }
        shared.asked += 1;
        true
    }

    /// So many that were asked for will not come.
    pub(crate) fn unask(&self, asked: usize) {
        let mut shared = lock(&self.shared);
        shared.asked -= asked;
    }

    /// A helper job starts: it enters, unless the window is closed or the thread is in a poll already.
    #[must_use]
    pub(crate) fn enter(&self, in_a_poll: bool) -> Option<(Carried, Visit)> {
        let mut shared = lock(&self.shared);
        shared.asked -= 1;
        if in_a_poll || !shared.open || shared.is_shut() {
            return None;
        }
        let context = shared.context.clone()?;
        shared.inside += 1;
        // Release: as in `tell`.
        self.news.fetch_add(1, Ordering::Release);
        let drains = shared.drains;
        Some((context, Visit { drains }))
    }

    /// A helper leaves. Its context is off, and it touches nothing of the scope afterwards but the core it
    /// holds a reference to.
    pub(crate) fn leave(&self, visit: Visit) {
        let mut shared = lock(&self.shared);
        shared.comes(visit, self);
        shared.inside -= 1;
        self.tell(shared);
    }

    /// A helper hands in what it has and takes a packet. A window has `most` helpers at a time.
    pub(crate) fn exchange(
        &self,
        visit: &Cell<Visit>,
        haul: &Haul,
        packet: &List,
        most: usize,
    ) -> Next {
        let mut shared = lock(&self.shared);
        visit.set(shared.comes(visit.get(), self));
        shared.put(haul);
        let next = if shared.is_shut() {
            Next::Leave
        } else if let Some(since) = shared.admits {
            let helpers = shared.asked + shared.inside;
            let waited = since.elapsed();
            let more = shared.split_fitting(packet, |key| policy::may_begin(key, waited));
            match packet.is_empty() {
                true => Next::Nothing,
                false => Next::Packet {
                    more: more && helpers < most,
                },
            }
        } else if shared.left() == 0 {
            Next::Nothing
        } else {
            let size = shared.size;
            shared.split(size, packet);
            let helpers = shared.asked + shared.inside;
            Next::Packet {
                more: shared.left() > 0 && helpers < most,
            }
        };
        self.tell(shared);
        next
    }

    /// A helper's work has unwound: what it held is there for others. Usually it holds nothing any more.
    pub(crate) fn hand_in(&self, haul: &Haul, packet: &List) {
        if haul.is_empty() && packet.is_empty() {
            return;
        }
        let mut shared = lock(&self.shared);
        shared.put(haul);
        shared.ready.append(packet);
        self.tell(shared);
    }

    /// The owner puts `back` behind what is ready, and what came through the inbox behind the like, takes a packet,
    /// and learns the news.
    pub(crate) fn collect(
        &self,
        back: &List,
        mail: &List,
        packet: &List,
        size: Size,
        done: &List,
    ) -> News {
        let mut shared = lock(&self.shared);
        shared.ready.append(back);
        shared.mail.append(mail);
        if size.most > 0 {
            shared.size = size;
        }
        shared.split(size, packet);
        shared.news(done)
    }

    /// As `collect`, while draining: what is in the packet goes back in front, and it gets the first that fits. Whether there is
    /// another one.
    pub(crate) fn collect_fitting(
        &self,
        back: &List,
        mail: &List,
        packet: &List,
        fits: impl Fn(usize) -> bool,
        done: &List,
    ) -> (News, bool) {
        let mut shared = lock(&self.shared);
        shared.ready.append(back);
        shared.mail.append(mail);
        shared.ready.prepend(packet);
        let more = shared.split_fitting(packet, fits);
        (shared.news(done), more)
    }

    /// The owner takes everything back.
    pub(crate) fn take_back(&self, ready: &List, mail: &List, done: &List) -> News {
        let mut shared = lock(&self.shared);
        ready.append(&shared.ready);
        mail.append(&shared.mail);
        shared.news(done)
    }

    /// From here on helpers hand back what they hold and leave, and none enters.
    pub(crate) fn drain(&self) {
        let mut shared = lock(&self.shared);
        shared.draining = true;
        shared.drains = shared.drains.wrapping_add(1);
        shared.away = shared.inside;
        shared.stop_admitting(self);
    }

    /// Some who are to leave do not, and the owner waits for them since then: others may enter meanwhile, for what they can be
    /// done with soon. `false`: all have come back, and the last of those others will soon have left.
    pub(crate) fn admit(&self, since: Instant) -> bool {
        let mut shared = lock(&self.shared);
        if shared.away == 0 {
            return false;
        }
        shared.admits = Some(since);
        // Relaxed: a hint.
        self.calls_back.store(LONG, Ordering::Relaxed);
        true
    }

    /// The owner itself begins a long poll while it drains.
    pub(crate) fn owner_goes(&self) {
        lock(&self.shared).away += 1;
    }

    /// That is over.
    pub(crate) fn owner_is_back(&self) {
        lock(&self.shared).comes_back(self);
    }

    /// Those who were to leave may stay. How many are ready for them.
    pub(crate) fn reopen(&self) -> usize {
        let mut shared = lock(&self.shared);
        shared.draining = false;
        shared.admits = None;
        // Relaxed: a hint.
        self.calls_back.store(NOBODY, Ordering::Relaxed);
        shared.left()
    }

    /// Whether helpers are called back: a hint, without the lock.
    #[inline]
    pub(crate) fn calls_back(&self) -> bool {
        // Relaxed: as in `drain`.
        self.calls_back.load(Ordering::Relaxed) != NOBODY
    }

    /// The same, of those who only have something to poll that is short.
    pub(crate) fn calls_all_back(&self) -> bool {
        // Relaxed: as in `drain`.
        self.calls_back.load(Ordering::Relaxed) == ALL
    }

    /// How many are ready for whoever comes first.
    pub(crate) fn count_left(&self) -> usize {
        lock(&self.shared).left()
    }

    /// The owner closes the monitor; `None` while somebody is inside. What is still shared stays there for
    /// a last `collect`, after which it is empty. What helpers were given is the caller's to drop: a timer
    /// may be user code.
    #[must_use]
    pub(crate) fn close(&self) -> Option<Option<Carried>> {
        let mut shared = lock(&self.shared);
        if shared.inside > 0 {
            return None;
        }
        shared.open = false;
        Some(shared.context.take())
    }

    /// Whether nobody is inside. While draining it stays so.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.shared).inside == 0
    }

    /// A number that changes with every exchange and leave; for spinning.
    #[inline]
    pub(crate) fn news(&self) -> usize {
        // Relaxed: a hint.
        self.news.load(Ordering::Relaxed)
    }

    /// The owner waits until there is news or `stirred`, which gives `true`, or the time is up.
    pub(crate) fn wait(&self, stirred: impl Fn() -> bool, most: Option<Duration>) -> bool {
        let mut shared = lock(&self.shared);
        shared.waiting = true;
        while !shared.has_news() && !stirred() {
            shared = match most {
                Some(most) => {
                    let (again, time) = self
                        .bell
                        .wait_timeout(shared, most)
                        .unwrap_or_else(PoisonError::into_inner);
                    shared = again;
                    if time.timed_out() {
                        break;
                    }
                    shared
                }
                None => self
                    .bell
                    .wait(shared)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        shared.waiting = false;
        shared.has_news() || stirred()
    }

    /// While draining: waits until the last helper has left or `stirred`, which gives `true`, or the time is
    /// up.
    pub(crate) fn wait_empty(&self, stirred: impl Fn() -> bool, most: Duration) -> bool {
        let mut shared = lock(&self.shared);
        shared.waiting = true;
        while shared.inside > 0 && !stirred() {
            let (again, time) = self
                .bell
                .wait_timeout(shared, most)
                .unwrap_or_else(PoisonError::into_inner);
            shared = again;
            if time.timed_out() {
                break;
            }
        }
        shared.waiting = false;
        shared.inside == 0 || stirred()
    }

    /// Somebody pushed into the inbox of a parked owner.
    pub(crate) fn ring(&self) {
        // The lock orders this after the owner's last look, so the bell cannot ring too early.
        let waiting = lock(&self.shared).waiting;
        if waiting {
            self.bell.notify_one();
        }
    }
}
