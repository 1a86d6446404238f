//! The owner's side of a window: polls children and body, lends when it pays, waits for helpers, closes.

use std::task::Context;
use std::time::Instant;

use super::core::Core;
use super::here::{self, Frame, Lending};
use super::monitor::News;
use super::policy::{self, Advice, Policy};
use super::step::{Side, Stepped, step};
use crate::sync::spin_loop;
use crate::task::{Header, List};

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

/// How a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Run {
    /// Something is left to wait for, or the budget is spent.
    Rest,
    /// Everything has ended, and the scope is closed for good.
    Ended,
    /// The grace is over: what is left is to be dropped.
    Abort,
}

/// One poll of a scope: from `open` to `Ready`, or to the `Drop` that closes it.
pub(super) struct Window<'a> {
    pub(super) core: &'a Core,
    pub(super) policy: Policy,
    /// While lending: what the owner itself polls next.
    pub(super) packet: List,
    /// What this packet's polls were like.
    pub(super) taken: Taken,
    pub(super) polls: u32,
    /// Polls of the body.
    pub(super) bodies: u32,
    pub(super) most_polls: u32,
    pub(super) since_body: u32,
    /// When the budget ends; set when the clock is first read.
    pub(super) until: Option<Instant>,
    pub(super) spent: bool,
    /// The scope is over: nothing is left to close.
    pub(super) over: bool,
    pub(super) frame: Option<Frame>,
}

/// The packet being polled while lending.
pub(super) struct Taken {
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

    /// Runs until nothing is ready, the budget is spent, or everything has ended.
    pub(super) fn run(&mut self, cx: &Context<'_>, body: &mut dyn Body) -> Run {
        let core = self.core;
        let owner = &core.owner;
        loop {
            // Before anybody is polled: what is to be dropped is not.
            if owner.noticed.get() {
                core.take_notice();
            }
            // The notice may have been taken while an earlier window gave way.
            if owner.aborted.get() {
                self.close();
                return Run::Abort;
            }
            self.poll_children();
            if self.spent {
                return self.give_way(cx, body);
            }
            if owner.noticed.get() {
                continue;
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
                return Run::Ended;
            }
            if core.hear_at_last() {
                continue;
            }
            if core.inbox.close() {
                self.over = true;
                return Run::Rest;
            }
        }
    }

    /// Polls the body if it is ready. It obeys the budget too: alone it meets none of the looks that children
    /// cause.
    pub(super) fn poll_body(&mut self, body: &mut dyn Body) -> bool {
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
            let body = self.since_body >= policy::BODY_EVERY && core.owner.body_ready.get();
            if self.spent || body || core.owner.noticed.get() {
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
                if core.owner.lent.get() {
                    // It spawned for long. What is woken from now on may have been spawned and polled on a helper,
                    // and is the owner's only after an exchange has registered it (rule L4).
                    break;
                }
                continue;
            }
            self.poll_with_care(header);
            break;
        }
        self.count(polls);
    }

    #[inline(always)]
    pub(super) fn poll(&self, header: *const Header) {
        let core = self.core;
        // SAFETY: the child came from a queue of this core, and this thread is the owner in its window.
        match unsafe { step(header, Side::Owner) } {
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
            let context = || super::context::Carried::capture(&core.token);
            core.monitor.lend(&core.owner.local, 1, context);
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
        let news = self.exchange(&core.owner.local, size);
        let forced = here::lending() == Lending::Forced;
        if news.left > 0
            && news.inside + news.asked == 0
            && (forced || policy::pays(estimate, news.left, || true))
        {
            core.ask();
        }
        news.inside
    }

    /// Puts `back` behind what is shared, takes a packet, and takes in the news: newborns are registered
    /// before any child that has ended is retired (rule L4).
    pub(super) fn exchange(&self, back: &List, size: usize) -> News {
        let core = self.core;
        let done = List::new();
        let news = core.monitor.collect(back, &self.packet, size, &done);
        core.register_newborns(news.newborn);
        if news.body {
            core.owner.body_ready.set(true);
        }
        if news.notice {
            core.owner.noticed.set(true);
        }
        while let Some(header) = done.pop_front() {
            // SAFETY: it ended on a helper, and every newborn is registered by now.
            unsafe { core.retire(header) };
        }
        news
    }

    /// While lending, with nothing ready here: waits for helpers or closes the monitor. `true`: look again.
    fn settle(&mut self) -> bool {
        let core = self.core;
        let seen = core.monitor.news();
        if self.collect(1, 0) > 0 {
            let idle = self.packet.is_empty() && !core.owner.body_ready.get();
            if idle && !core.hear_at_last() && !core.owner.noticed.get() {
                self.wait(seen);
            }
            return true;
        }
        if !self.packet.is_empty() || core.owner.has_work() {
            return true;
        }
        // What a helper left behind between the last collection and its leaving is taken here.
        self.end_lending();
        core.owner.has_work() || core.owner.lent.get()
    }
}

impl Drop for Window<'_> {
    /// No helper is left inside when a poll ends, even if the engine itself panics (rule W4).
    fn drop(&mut self) {
        self.close();
        drop(self.frame.take());
    }
}
