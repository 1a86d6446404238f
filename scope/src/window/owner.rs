//! The owner's side of a window: polls children and body, lends when it pays, waits for helpers, closes.

use std::task::Context;
use std::time::Instant;

use super::core::Core;
use super::here::{self, Frame, Lending};
use super::monitor::{News, Size};
use super::policy::{self, Policy};
use super::step::{Side, Stepped, step};
use crate::sync::spin_loop;
use crate::task::{Header, List};

/// The body of a scope, as the window sees it. It catches its own panics.
pub(super) trait Body {
    /// Polls it.
    fn poll(&mut self, core: &Core) -> Turn;
    /// What its cost is kept under; `None` if it looks at the clock by itself.
    fn key(&self) -> Option<usize>;
}

/// What a poll of the body came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// It has ended and is gone.
    pub(super) ended: bool,
    /// How many polls of user code it was.
    pub(super) polls: u32,
    /// When it began and when it ended, if the clock was read.
    pub(super) looked: Option<(Instant, Instant)>,
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
    /// How many budgets the window has had so far, see [`may_go_on`](Self::may_go_on).
    pub(super) alone: u32,
    /// What was lent has turned out cheap: it is taken back as soon as the helpers have left.
    pub(super) withdraws: bool,
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
    /// There are several kinds among them.
    mixed: bool,
    polls: u64,
    since: Option<Instant>,
}

impl<'a> Window<'a> {
    /// Opens the window: the thread becomes the owner.
    #[inline]
    pub(super) fn open(core: &'a Core) -> Self {
        let frame = Frame::owner(core);
        core.owner.may_lend.set(None);
        let window = Self {
            core,
            policy: Policy::new(here::next_window()),
            packet: List::new(),
            taken: Taken {
                key: 0,
                mixed: false,
                polls: 0,
                since: None,
            },
            polls: 0,
            bodies: 0,
            most_polls: policy::BUDGET_POLLS,
            alone: 1,
            withdraws: false,
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
            if self.spent && !self.has_ended() {
                return self.give_way(cx, body);
            }
            if owner.noticed.get() || self.poll_body(body) {
                continue;
            }
            if core.inbox.has_mail() {
                core.sort(core.inbox.take());
                continue;
            }
            if owner.lent.get() && self.settle() {
                continue;
            }
            if owner.body_done.get() && core.live() == 0 && core.inbox.end() {
                self.over = true;
                return Run::Ended;
            }
            if core.hear_at_last() || owner.has_work() {
                continue;
            }
            if core.inbox.close() {
                self.over = true;
                return Run::Rest;
            }
        }
    }

    /// Body and children have ended, and no helper can be inside.
    fn has_ended(&self) -> bool {
        let owner = &self.core.owner;
        owner.body_done.get() && self.core.live() == 0 && !owner.lent.get()
    }

    /// Polls the body if it is ready. It obeys the budget too: alone it meets none of the looks that children
    /// cause.
    pub(super) fn poll_body(&mut self, body: &mut dyn Body) -> bool {
        let owner = &self.core.owner;
        if !owner.turns.take_body() || owner.body_done.get() {
            return false;
        }
        let Some(key) = body.key() else {
            // It says itself how many polls it was.
            let turn = body.poll(self.core);
            owner.turns.add(turn.polls);
            self.after_body(turn);
            return true;
        };
        // First: a body that wakes itself has its place behind those who are ready, itself not counted.
        owner.turns.take();
        self.bodies += 1;
        let known = policy::estimate(key);
        let from = (known == 0 || known >= policy::BIG || self.policy.samples_body(self.bodies))
            .then(Instant::now);
        let mut turn = body.poll(self.core);
        if let Some(from) = from {
            let until = Instant::now();
            policy::learn_stretch(key, 1, from, until);
            turn.looked = Some((from, until));
        } else if self.bodies % policy::BODY_LOOK == 0 {
            let now = Instant::now();
            turn.looked = Some((now, now));
        }
        self.after_body(turn);
        true
    }

    fn after_body(&mut self, turn: Turn) {
        let owner = &self.core.owner;
        owner.body_done.set(turn.ended);
        if turn.ended {
            owner.turns.take_body();
        }
        self.count(turn.polls);
        if let Some((from, until)) = turn.looked {
            self.begin_time(from);
            self.check_time(until);
        }
    }

    /// Polls ready children until there are none, or something else has its turn.
    fn poll_children(&mut self) {
        let core = self.core;
        let owner = &core.owner;
        loop {
            // At each look, and while lending before each poll: somebody on another thread must not wait until
            // nothing is ready here.
            if core.inbox.has_mail() {
                core.sort(core.inbox.take());
            }
            if owner.noticed.get() || self.spent {
                return;
            }
            if owner.lent.get() {
                if owner.turns.is_body_due() {
                    return;
                }
                match self.next_lent() {
                    Some(header) => {
                        owner.turns.take();
                        self.poll(header);
                        self.count(1);
                    }
                    None if owner.lent.get() => return,
                    None => {}
                }
            } else {
                owner.turns.place_mail(&owner.local);
                if owner.local.is_empty() || owner.turns.is_body_due() {
                    return;
                }
                self.poll_stretch();
            }
        }
    }

    fn count(&mut self, polls: u32) {
        self.polls += polls;
        if self.polls >= self.most_polls {
            if self.may_go_on() {
                self.most_polls += policy::BUDGET_POLLS;
            } else {
                self.spent = true;
            }
        }
    }

    /// The budget is spent. Under the embedded executor nothing runs beside the scope; if nobody waits in windows
    /// around it either, it may go on for a few budgets more.
    #[cold]
    fn may_go_on(&mut self) -> bool {
        self.alone += 1;
        self.alone <= policy::BUDGET_ALONE && crate::rt::in_block_on() && !here::others_wait()
    }

    /// Polls children of one kind outside lending, up to the next look at clock or inbox, or the body's turn; or one
    /// child that is the first of another kind, or comes with a look.
    fn poll_stretch(&mut self) {
        let owner = &self.core.owner;
        let key = self.policy.key();
        let from = owner
            .turns
            .begin_stretch(self.policy.room().min(policy::MAIL_EVERY));
        while owner.turns.goes_on() {
            let Some(header) = owner.local.pop_front_if(|head| head.key() == key) else {
                break;
            };
            owner.turns.take();
            self.poll(header);
        }
        let polls = owner.turns.since(from);
        if polls > 0 {
            self.policy.ran(polls);
            self.count(polls);
        } else if let Some(header) = owner.local.pop_front() {
            self.poll_after_look(header);
        }
    }

    fn poll_after_look(&mut self, header: *const Header) {
        let owner = &self.core.owner;
        // SAFETY: queued children are alive.
        self.policy.pause(unsafe { &*header }.key());
        self.consider();
        if self.spent && self.polls > 0 {
            // It is the first in the next window.
            // SAFETY: it was taken from this list just now.
            unsafe { owner.local.push_front(header) };
            return;
        }
        owner.turns.take();
        self.poll_with_care(header);
        self.count(1);
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

    /// A poll that is perhaps to be timed.
    fn poll_with_care(&mut self, header: *const Header) {
        if !self.policy.wants_time() {
            return self.poll(header);
        }
        let from = Instant::now();
        self.begin_time(from);
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
        let forced = here::lending() == Lending::Forced;
        if forced && core.may_lend() {
            core.lend(0);
            return self.await_help();
        }
        let pool = core.pool();
        let left = core.owner.local.len();
        // The next one says that it pays; the others may be of other kinds.
        let pays = self.policy.pays(left, || pool.is_hot())
            && policy::is_worth(policy::worth(&core.owner.local, self.policy.mean()), || {
                pool.is_hot()
            });
        if pays && core.may_lend() {
            core.lend(self.policy.mean());
        } else if self.policy.estimate() >= policy::BIG && core.may_lend() && pool.is_used() {
            // Nothing to lend yet; mail that comes during a long poll may ask for a helper.
            core.owner.lent.set(true);
            core.share(0);
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

    /// The budget counts from before the first poll that is timed, for it may be a long one. Returns when it ends.
    fn begin_time(&mut self, from: Instant) -> Instant {
        *self.until.get_or_insert(from + policy::BUDGET_TIME)
    }

    fn check_time(&mut self, now: Instant) {
        let until = self.begin_time(now);
        if now >= until {
            if self.may_go_on() {
                self.until = Some(now + policy::BUDGET_TIME);
            } else {
                self.spent = true;
            }
        }
        self.core.owner.turns.looked(now);
    }

    /// While lending: the next child of the owner's packet, or of a new one.
    fn next_lent(&mut self) -> Option<*const Header> {
        if let Some(header) = self.packet.pop_front() {
            return Some(self.take_lent(header));
        }
        let now = Instant::now();
        self.check_time(now);
        if self.spent || self.core.owner.turns.is_body_due() {
            return None;
        }
        let taken = &mut self.taken;
        let since = taken.since.replace(now);
        let polls = std::mem::take(&mut taken.polls);
        let key = (!taken.mixed).then_some(taken.key);
        if let (Some(since), true) = (since, polls > 0) {
            // Children that turned out cheap are not left to helpers: those that are inside leave.
            if self.policy.lent(key, polls, since, now) && here::lending() != Lending::Forced {
                self.core.monitor.drain();
                self.withdraws = true;
            }
        }
        if self.collect(policy::PACKET_MOST) == 0 && self.withdraws {
            self.end_lending();
            return None;
        }
        self.taken.mixed = false;
        self.taken.key = 0;
        let header = self.packet.pop_front()?;
        Some(self.take_lent(header))
    }

    /// A child of the owner's packet is about to be polled.
    fn take_lent(&mut self, header: *const Header) -> *const Header {
        // SAFETY: queued children are alive.
        let key = unsafe { (*header).key() };
        let taken = &mut self.taken;
        taken.mixed |= taken.key != 0 && taken.key != key;
        taken.key = key;
        taken.polls += 1;
        header
    }

    /// Exchanges with the helpers: what came up here goes behind what is shared, a packet and the news come back.
    fn collect(&mut self, most: usize) -> usize {
        let core = self.core;
        let forced = here::lending() == Lending::Forced;
        let most = if forced { most.min(1) } else { most };
        let news = self.exchange(&core.owner.local, most);
        core.owner.ahead.set(self.packet.len() + news.left);
        if news.left > 0
            && news.inside + news.asked == 0
            && (forced || policy::is_worth(news.worth, || true))
        {
            core.ask();
        }
        news.inside
    }

    /// Puts `back` and the mail behind what is shared, takes a packet, and takes in the news: newborns are
    /// registered before any child that has ended is retired (rule L4).
    pub(super) fn exchange(&self, back: &List, most: usize) -> News {
        let core = self.core;
        let mail = &core.owner.turns.mail;
        let size = Size {
            most,
            least: self.policy.mean(),
        };
        let done = &core.owner.done;
        let news = core.monitor.collect(back, mail, &self.packet, size, done);
        self.take_in(&news);
        news
    }

    /// What helpers have brought, besides the children that have ended.
    pub(super) fn take_in(&self, news: &News) {
        let core = self.core;
        core.register_newborns(news.newborn);
        if news.body {
            core.owner.wake_body();
        }
        if news.notice {
            core.owner.noticed.set(true);
        }
        core.retire_done();
    }

    /// While lending, with nothing ready here: waits for helpers or closes the monitor. `true`: look again.
    fn settle(&mut self) -> bool {
        let core = self.core;
        let seen = core.monitor.news();
        if self.collect(1) > 0 {
            let idle = self.packet.is_empty() && !core.owner.turns.is_body_ready();
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
