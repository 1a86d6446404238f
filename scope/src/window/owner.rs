//! The owner's side of a window: polls children and body, lends when it pays, waits for helpers, closes.

use std::task::{Context, Poll};
use std::time::Instant;

use super::core::Core;
use super::here::{self, Frame, Lending};
use super::policy::{self, Advice, Policy};
use super::stats;
use super::step::{Stepped, step};
use crate::pool::Worker;
use crate::sync::spin_loop;
use crate::task::{Header, List, quietly};

/// The body of a scope, as the window sees it. It catches its own panics.
pub(super) trait Body {
    /// Polls it.
    fn poll(&mut self, core: &Core) -> Turn;
}

/// What a poll of the body came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// It has ended and is gone.
    pub(super) ended: bool,
    /// How many polls of user code it was.
    pub(super) polls: u32,
    /// When it ended, if the clock was read.
    pub(super) looked: Option<Instant>,
}

/// One poll of a scope: from `open` to `Ready`, or to the `Drop` that closes it.
pub(super) struct Window<'a> {
    core: &'a Core,
    policy: Policy,
    /// While lending: what the owner itself polls next.
    packet: List,
    /// What this packet's polls were like.
    taken: Taken,
    polls: u32,
    /// Polls of the body.
    bodies: u32,
    most_polls: u32,
    since_body: u32,
    /// When the budget ends; set when the clock is first read.
    until: Option<Instant>,
    spent: bool,
    /// The scope is over: nothing is left to close.
    over: bool,
    frame: Option<Frame>,
}

/// The packet being polled while lending.
struct Taken {
    key: usize,
    polls: u64,
    since: Option<Instant>,
}

impl<'a> Window<'a> {
    /// Opens the window: the thread becomes the owner.
    #[inline]
    pub(super) fn open(core: &'a Core) -> Self {
        let frame = Frame::owner(core);
        core.owner.may_lend.set(None);
        let most_polls = if crate::rt::in_block_on() {
            policy::BUDGET_POLLS * policy::BUDGET_ALONE
        } else {
            policy::BUDGET_POLLS
        };
        let window = Self {
            core,
            policy: Policy::new(here::next_window()),
            packet: List::new(),
            taken: Taken {
                key: 0,
                polls: 0,
                since: None,
            },
            polls: 0,
            bodies: 0,
            most_polls,
            since_body: 0,
            until: None,
            spent: false,
            over: false,
            frame: Some(frame),
        };
        let mail = core.inbox.open();
        core.sort(mail);
        window
    }

    /// Runs until nothing is ready, the budget is spent, or everything has ended. After `Ready` the scope
    /// is closed for good.
    pub(super) fn run(&mut self, cx: &Context<'_>, body: &mut dyn Body) -> Poll<()> {
        let core = self.core;
        let owner = &core.owner;
        loop {
            self.poll_children();
            if self.spent {
                return self.give_way(cx, body);
            }
            if core.inbox.has_mail() {
                core.sort(core.inbox.take());
                continue;
            }
            if self.poll_body(body) {
                continue;
            }
            if owner.lent.get() && self.settle() {
                continue;
            }
            if owner.body_done.get() && core.live() == 0 && core.inbox.end() {
                self.over = true;
                return Poll::Ready(());
            }
            if core.inbox.close() {
                self.over = true;
                return Poll::Pending;
            }
        }
    }

    /// Polls the body if it is ready. It obeys the budget too: alone it meets none of the looks that children
    /// cause.
    fn poll_body(&mut self, body: &mut dyn Body) -> bool {
        let owner = &self.core.owner;
        if owner.body_done.get() || !owner.body_ready.replace(false) {
            return false;
        }
        self.since_body = 0;
        self.bodies += 1;
        let turn = body.poll(self.core);
        owner.body_done.set(turn.ended);
        self.polls += turn.polls;
        self.spent |= self.polls >= self.most_polls;
        if let Some(now) = turn.looked {
            self.check_time(now);
        } else if self.bodies % policy::BODY_LOOK == 0 {
            self.check_time(Instant::now());
        }
        true
    }

    /// Polls ready children until there are none, or something else has its turn.
    fn poll_children(&mut self) {
        let core = self.core;
        loop {
            if core.owner.lent.get() {
                let Some(header) = self.next_lent() else {
                    return;
                };
                self.taken.polls += 1;
                self.poll(header);
                self.count(1);
            } else {
                self.poll_stretch();
                if core.owner.local.is_empty() && !core.owner.lent.get() {
                    return;
                }
            }
            if self.spent || (self.since_body >= policy::BODY_EVERY && core.owner.body_ready.get())
            {
                return;
            }
        }
    }

    fn count(&mut self, polls: u32) {
        self.polls += polls;
        self.since_body += polls;
        self.spent |= self.polls >= self.most_polls;
    }

    /// Polls children outside lending, up to the next look at the clock.
    fn poll_stretch(&mut self) {
        let core = self.core;
        let mut polls = 0;
        while let Some(header) = core.owner.local.pop_front() {
            polls += 1;
            // SAFETY: queued children are alive.
            let key = unsafe { &*header }.key();
            if self.policy.before(key) == Advice::Poll {
                self.poll(header);
                continue;
            }
            self.poll_with_care(header);
            break;
        }
        self.count(polls);
    }

    #[inline(always)]
    fn poll(&self, header: *const Header) {
        let core = self.core;
        // SAFETY: the child came from a queue of this core, and this thread is the owner in its window.
        match unsafe { step(header) } {
            Stepped::Idle => {}
            // SAFETY: the token is ours, so the child is in no queue.
            Stepped::Again => unsafe { core.owner.local.push_back(header) },
            // SAFETY: it has just ended, and was registered when it was taken in.
            Stepped::Ended(ended) => unsafe { core.end_here(header, ended) },
        }
    }

    /// A poll before which there is something to consider, or that is to be timed.
    fn poll_with_care(&mut self, header: *const Header) {
        self.consider();
        if !self.policy.wants_time() {
            return self.poll(header);
        }
        let from = Instant::now();
        self.poll(header);
        let until = Instant::now();
        self.policy.timed(from, until);
        self.check_time(until);
        self.core.set_big(false);
    }

    /// An estimate is new: the budget is checked, and whether help pays.
    #[cold]
    fn consider(&mut self) {
        let core = self.core;
        if let Some(now) = self.policy.looked() {
            self.check_time(now);
        } else if self.policy.estimate() >= policy::BIG {
            self.check_time(Instant::now());
        }
        let left = core.owner.local.len();
        let forced = here::lending() == Lending::Forced;
        if forced && core.may_lend() {
            core.lend(policy::BIG);
            return self.await_help();
        }
        let pool = core.pool();
        if self.policy.pays(left, || pool.is_hot()) && core.may_lend() {
            core.lend(self.policy.estimate());
        } else if self.policy.estimate() >= policy::BIG && core.may_lend() && pool.is_used() {
            // Nothing to lend yet; mail that comes during a long poll may ask for a helper.
            core.owner.lent.set(true);
            core.monitor
                .lend(&core.owner.local, 1, super::context::Carried::capture);
            core.set_big(true);
        }
    }

    /// Lending is forced for tests: gives a helper the time to come, so that it really takes part.
    #[cold]
    fn await_help(&self) {
        let news = self.core.monitor.news();
        let from = Instant::now();
        while self.core.monitor.news() == news && from.elapsed() < policy::NAP {
            spin_loop();
        }
    }

    fn check_time(&mut self, now: Instant) {
        let time = if crate::rt::in_block_on() {
            policy::BUDGET_TIME * policy::BUDGET_ALONE
        } else {
            policy::BUDGET_TIME
        };
        let until = *self.until.get_or_insert(now + time);
        self.spent |= now >= until;
    }

    /// While lending: the next child of the owner's packet, or of a new one.
    fn next_lent(&mut self) -> Option<*const Header> {
        if let Some(header) = self.packet.pop_front() {
            return Some(header);
        }
        let now = Instant::now();
        self.check_time(now);
        if self.spent {
            return None;
        }
        if self.core.inbox.has_mail() {
            self.core.sort(self.core.inbox.take());
        }
        let estimate = match self.taken.since.replace(now) {
            Some(since) if self.taken.polls > 0 => {
                self.policy
                    .lent(self.taken.key, self.taken.polls, since, now)
            }
            _ => self.policy.estimate(),
        };
        self.taken.polls = 0;
        let forced = here::lending() == Lending::Forced;
        // Children that turned out cheap are taken back.
        let size = if self.policy.is_blank() {
            // Lent while the body spawned: the first packet tells of which kind the children are.
            1
        } else if estimate >= policy::HEAVY || forced {
            policy::packet(if forced { policy::BIG } else { estimate })
        } else {
            usize::MAX
        };
        self.collect(size, estimate);
        let header = self.packet.pop_front()?;
        // SAFETY: queued children are alive.
        self.taken.key = unsafe { (*header).key() };
        Some(header)
    }

    /// Exchanges with the helpers: `local` goes behind what is shared, a packet and the news come back.
    fn collect(&mut self, size: usize, estimate: u64) -> usize {
        let core = self.core;
        let done = List::new();
        let news = core
            .monitor
            .collect(&core.owner.local, &self.packet, size, &done);
        core.register_newborns(news.newborn);
        if news.body {
            core.owner.body_ready.set(true);
        }
        while let Some(header) = done.pop_front() {
            // SAFETY: it ended on a helper, and every newborn is registered by now (rule L4).
            unsafe { core.retire(header) };
        }
        let forced = here::lending() == Lending::Forced;
        if news.left > 0
            && news.inside + news.asked == 0
            && (forced || policy::pays(estimate, news.left, || true))
        {
            core.ask();
        }
        news.inside
    }

    /// While lending, with nothing ready here: waits for helpers or closes the monitor. `true`: look again.
    fn settle(&mut self) -> bool {
        let core = self.core;
        let seen = core.monitor.news();
        if self.collect(1, 0) > 0 {
            if self.packet.is_empty() && !core.owner.body_ready.get() {
                self.wait(seen);
            }
            return true;
        }
        if !self.packet.is_empty() || !core.owner.local.is_empty() || core.owner.body_ready.get() {
            return true;
        }
        // What a helper left behind between the last collection and its leaving is taken here.
        self.end_lending();
        !core.owner.local.is_empty() || core.owner.body_ready.get() || core.owner.lent.get()
    }

    /// Waits until helpers or wakers have something for the owner.
    fn wait(&self, news: usize) {
        let core = self.core;
        let from = Instant::now();
        let mut spins = 0u32;
        loop {
            if core.inbox.has_mail() || core.monitor.news() != news {
                return;
            }
            spin_loop();
            spins += 1;
            if spins == policy::SPINS {
                if from.elapsed() >= policy::SPIN {
                    break;
                }
                spins = 0;
            }
        }
        stats::count(&stats::PARKS);
        let worker = core.pool().worker();
        if !core.inbox.park() {
            return;
        }
        // Tokio may wake what it has put off on this very thread, past the inbox.
        let stirred = || !core.inbox.is_parked() || !core.owner.local.is_empty();
        if worker == Worker::No {
            if !core.monitor.wait(stirred, Some(policy::LONG)) {
                // No longer than the budget: a helper that polls on and on rings for nothing else.
                let left = self.until.map_or(policy::NAP, |until| {
                    until.saturating_duration_since(Instant::now())
                });
                super::context::long_wait(|| {
                    core.monitor.wait(stirred, Some(left));
                });
            }
        } else {
            core.monitor.wait(stirred, Some(policy::NAP));
        }
        core.inbox.unpark();
        look_after(worker);
    }

    /// The budget is spent: takes everything back and lets the tasks beside the scope run.
    fn give_way(&mut self, cx: &Context<'_>, body: &mut dyn Body) -> Poll<()> {
        let core = self.core;
        if core.owner.lent.get() {
            core.monitor.drain();
            // The poll cannot end before the helpers' polls do, so what is ready here goes on (rule W9).
            while !core.monitor.is_empty() {
                if !self.poll_one(body) {
                    self.wait_out();
                }
            }
        }
        self.close();
        // The thread is no owner any more when the parent is told: what `wake` does is any stranger's doing,
        // and on another thread the next poll may have begun.
        drop(self.frame.take());
        quietly(|| cx.waker().wake_by_ref());
        Poll::Pending
    }

    /// While draining: one poll of something that is ready.
    fn poll_one(&mut self, body: &mut dyn Body) -> bool {
        let core = self.core;
        if core.inbox.has_mail() {
            core.sort(core.inbox.take());
        }
        let next = self.packet.pop_front();
        if let Some(header) = next.or_else(|| core.owner.local.pop_front()) {
            self.poll(header);
            return true;
        }
        self.poll_body(body)
    }

    /// Sends the helpers away, takes back what is shared, and closes the window.
    fn close(&mut self) {
        if self.over {
            return;
        }
        let core = self.core;
        // Again, should dropping what the helpers had been given spawn and lend.
        while core.owner.lent.get() {
            core.monitor.drain();
            while !core.monitor.is_empty() {
                self.wait_out();
            }
            self.end_lending();
        }
        while !core.inbox.close() {
            core.sort(core.inbox.take());
        }
        self.over = true;
    }

    /// No helper is inside: closes the monitor and takes what is left in it.
    fn end_lending(&mut self) {
        let core = self.core;
        let Some(context) = core.monitor.close() else {
            return;
        };
        core.owner.lent.set(false);
        core.set_big(false);
        let back = List::new();
        back.append(&self.packet);
        self.collect_rest();
        back.append(&self.packet);
        back.append(&core.owner.local);
        core.owner.local.append(&back);
        quietly(|| drop(context));
    }

    /// After the monitor was closed: what is left in it.
    fn collect_rest(&mut self) {
        let none = List::new();
        let core = self.core;
        let done = List::new();
        let news = core.monitor.collect(&none, &self.packet, usize::MAX, &done);
        core.register_newborns(news.newborn);
        if news.body {
            core.owner.body_ready.set(true);
        }
        while let Some(header) = done.pop_front() {
            // SAFETY: it ended on a helper, and every newborn is registered by now (rule L4).
            unsafe { core.retire(header) };
        }
    }

    /// While draining: waits for the helpers to leave, or for something to do.
    fn wait_out(&self) {
        let core = self.core;
        let news = core.monitor.news();
        let from = Instant::now();
        while core.monitor.news() == news && !core.inbox.has_mail() && from.elapsed() < policy::SPIN
        {
            spin_loop();
        }
        if !core.inbox.park() {
            return;
        }
        let stirred = || !core.inbox.is_parked() || !core.owner.local.is_empty();
        let worker = core.pool().worker();
        if worker != Worker::No {
            core.monitor.wait_empty(stirred, policy::NAP);
        } else if !core.monitor.wait_empty(stirred, policy::LONG) {
            super::context::long_wait(|| {
                core.monitor.wait_empty(stirred, policy::ENDLESS);
            });
        }
        core.inbox.unpark();
        look_after(worker);
    }
}

/// The one exception to "nothing but its own scope" (rule W9): a rayon worker looks after its queue.
fn look_after(worker: Worker) {
    // No task is being polled: a job that comes up now may await whatever it likes.
    here::set_task(std::ptr::null());
    match worker {
        Worker::No => {}
        Worker::Own => quietly(|| {
            rayon_core::yield_local();
        }),
        Worker::Foreign => quietly(|| {
            rayon_core::yield_now();
        }),
    }
}

impl Drop for Window<'_> {
    /// No helper is left inside when a poll ends, even if the engine itself panics (rule W4).
    fn drop(&mut self) {
        self.close();
        drop(self.frame.take());
    }
}
