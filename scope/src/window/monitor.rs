//! The monitor: everything that owner and helpers share, under one lock.
//!
//! A window that lends opens it; helpers enter, exchange what they finished for a packet of ready children,
//! and leave; the owner does the same, waits for the last helper, and closes it. One short critical section
//! a packet of some microseconds is cheaper than any cleverness, and makes "enter fails once closed"
//! (rule W2) and "the last one out rings" plain. No user code runs under the lock (rule W15).

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::context::Carried;
use super::helper::Haul;
use super::policy;
use super::shared::{ALL, NOBODY, Shared};
pub(crate) use super::shared::{News, Size, Visit};
use crate::sync::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering, lock};
use crate::task::List;

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
    news: AtomicU32,
    /// Who is to leave, of helpers between two polls.
    calls_back: AtomicU32,
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
            shared: Mutex::new(Shared::new()),
            bell: Condvar::new(),
            news: AtomicU32::new(0),
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
            shared.admits = None;
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
        if !shared.open || shared.is_shut() || shared.helpers() >= most {
            return false;
        }
        shared.asked += 1;
        true
    }

    /// So many that were asked for will not come.
    pub(crate) fn unask(&self, asked: u32) {
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
        shared.comes(visit, &self.calls_back);
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
        visit.set(shared.comes(visit.get(), &self.calls_back));
        shared.put(haul);
        let next = if shared.is_shut() {
            Next::Leave
        } else if let Some(since) = shared.admits {
            let helpers = shared.helpers();
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
            let helpers = shared.helpers();
            Next::Packet {
                more: shared.left() > 0 && helpers < most,
            }
        };
        self.tell(shared);
        next
    }

    /// A helper that is called back puts back what it has not polled, in front.
    pub(crate) fn put_back(&self, packet: &List) {
        lock(&self.shared).ready.prepend(packet);
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
        #[cfg(all(test, selvedge_loom))]
        {
            shared.sent_away |= shared.inside > 0;
        }
        shared.stop_admitting(&self.calls_back);
    }

    /// Some who are to leave do not, and the owner waits for them since then: others may enter meanwhile, for what they can be
    /// done with soon. `false`: all have come back, and the last of those others will soon have left.
    pub(crate) fn admit(&self, since: Instant) -> bool {
        let mut shared = lock(&self.shared);
        if shared.away == 0 {
            return false;
        }
        shared.admit(since, &self.calls_back);
        true
    }

    /// The owner itself, which drains since then, begins a long poll: others are admitted for as long as that takes.
    pub(crate) fn owner_goes(&self, since: Instant) {
        let mut shared = lock(&self.shared);
        shared.away += 1;
        shared.admit(since, &self.calls_back);
    }

    /// That is over.
    pub(crate) fn owner_is_back(&self) {
        lock(&self.shared).comes_back(&self.calls_back);
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

    /// Whether nobody is inside. While draining it stays so: others are admitted only while somebody is.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.shared).inside == 0
    }

    /// A number that changes with every exchange and leave; for spinning.
    #[inline]
    pub(crate) fn news(&self) -> u32 {
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

    /// Whether somebody was inside when helpers were sent away.
    #[cfg(all(test, selvedge_loom))]
    pub(crate) fn has_sent_away(&self) -> bool {
        lock(&self.shared).sent_away
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
