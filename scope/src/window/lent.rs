//! The owner's side of lending: when to begin, what it polls itself meanwhile, and what it exchanges with helpers.

use std::time::Instant;

use selvedge_cancel::ambient;

use super::core::Core;
use super::here::{self, Lending};
use super::monitor::{News, Size};
use super::owner::Window;
use super::policy;
use crate::sync::spin_loop;
use crate::task::{Header, List};

/// The packet being polled while lending.
#[derive(Debug)]
pub(super) struct Taken {
    key: usize,
    /// There are several kinds among them.
    mixed: bool,
    polls: u64,
    since: Option<Instant>,
}

impl Taken {
    pub(super) const fn new() -> Self {
        Self {
            key: 0,
            mixed: false,
            polls: 0,
            since: None,
        }
    }

    /// Time has passed with something else than its polls.
    #[inline]
    pub(super) fn is_no_packet(&mut self) {
        self.since = None;
    }
}

impl Window<'_> {
    /// An estimate is new: the budget is checked, and whether help pays.
    #[cold]
    pub(super) fn consider(&mut self) {
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
        let is_hot = || core.pool().is_hot();
        let (local, mail) = (&core.owner.local, &core.owner.turns.mail);
        let left = local.len() + mail.len();
        // The next one says that it pays; the others may be of other kinds.
        let pays = self.policy.pays(left, is_hot)
            && policy::is_worth(self.worth(local).saturating_add(self.worth(mail)), is_hot);
        if pays && core.may_lend() {
            core.lend(self.policy.least());
            if self.policy.estimate() >= policy::BIG {
                core.begins_big();
            }
        } else if self.policy.is_unknown()
            && (policy::may_be_long(local) || policy::may_be_long(mail))
            && core.may_lend()
        {
            // Who knows how long this takes: the others shall not wait for it. Once a kind; if it is over soon, they
            // are taken back.
            core.lend(0);
            core.begins_big();
            self.guessed = true;
        } else if self.policy.is_unknown() || self.policy.estimate() >= policy::BIG {
            core.expect_long_poll(1, self.policy.estimate());
        }
        self.spent |= core.owner.ends_early.get();
    }

    /// The body, of which that is known, is about to be polled for long, perhaps: those who are ready behind it may go to
    /// helpers.
    #[cold]
    pub(super) fn expect_long_body(&mut self, known: u64) {
        let core = self.core;
        if core.live() == 0 && !core.may_get_more() {
            return;
        }
        let (local, mail) = (&core.owner.local, &core.owner.turns.mail);
        if core.owner.lent.get() {
            if policy::may_be_very_big(known) {
                self.lend_on();
            }
            self.ask_for_shared(&self.share_packet());
            return core.expect_long_poll(0, known);
        }
        let worth = self.worth(local).saturating_add(self.worth(mail));
        let asks = policy::may_be_long(local)
            || policy::may_be_long(mail)
            || policy::is_worth(worth, || core.pool().is_hot());
        core.expect_long_poll(0, known);
        if asks && core.owner.lent.get() {
            core.ask();
        }
    }

    fn worth(&self, queue: &List) -> u64 {
        policy::worth(queue, self.policy.least())
    }

    /// What was lent for want of knowledge has turned out cheap, as far as can be told by now.
    pub(super) fn check_guess(&mut self) {
        if std::mem::take(&mut self.guessed) && self.policy.is_cheap() && self.core.owner.lent.get()
        {
            self.core.monitor.drain();
            self.withdraws = true;
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

    /// While lending: the next child of the owner's packet, or of a new one. With `again` although there is a notice.
    pub(super) fn next_lent(&mut self, again: bool) -> Option<*const Header> {
        if let Some(header) = self.take_lent() {
            return Some(header);
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
            policy::note_lent(key, since, now);
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
        if self.core.owner.noticed.get() && !again {
            // Who is to be dropped is not polled.
            return None;
        }
        self.taken.mixed = false;
        self.taken.key = 0;
        self.take_lent()
    }

    /// A child of the owner's packet, which is about to be polled.
    fn take_lent(&mut self) -> Option<*const Header> {
        let (header, key) = self.packet.pop_front_with_key()?;
        let taken = &mut self.taken;
        taken.mixed |= taken.key != 0 && taken.key != key;
        taken.key = key;
        taken.polls += 1;
        // While a big one is polled mail is worth a helper, also when those that were here have gone.
        let known = policy::estimate(key);
        match known {
            1..policy::BIG if !policy::has_surprised(key) => self.core.set_big(false),
            _ => self.core.begins_big(),
        }
        // A big one is a packet by itself.
        let mut others = self.core.owner.ahead().saturating_sub(1);
        if policy::may_be_very_big(known) {
            others = self.lend_on().unwrap_or(others);
        }
        self.core.ask_beside(known, others);
        Some(header)
    }

    /// A poll begins that may be very long. Should helpers have been sent away, since those who are ready are cheap: they are not
    /// to wait for it, however cheap they are. How many there are then.
    fn lend_on(&mut self) -> Option<usize> {
        std::mem::take(&mut self.withdraws).then(|| self.core.monitor.reopen())
    }

    /// Exchanges with the helpers: what came up here goes behind what is shared, a packet and the news come back.
    fn collect(&mut self, most: usize) -> usize {
        let core = self.core;
        let forced = here::lending() == Lending::Forced;
        let most = if forced { most.min(1) } else { most };
        let news = self.exchange(&core.owner.local, most);
        self.ask_for_shared(&news);
        news.inside
    }

    /// Whoever is shared gets a helper, if that pays.
    fn ask_for_shared(&self, news: &News) {
        let core = self.core;
        core.owner.set_ahead(self.packet.len() + news.left);
        let pays = || here::lending() == Lending::Forced || policy::is_worth(news.worth, || true);
        if news.left > 0 && news.inside + news.asked == 0 && pays() {
            core.ask();
        }
    }

    /// Polls a child of the owner's packet. While somebody is big all may be lent, and nobody ever polled outside: so what
    /// is seen here first is learnt here.
    pub(super) fn poll_lent(&self, header: *const Header) {
        match policy::estimate(self.taken.key) {
            0 => self.poll_and_learn(header, self.taken.key),
            _ => self.poll(header),
        }
    }

    /// Polls a child of that kind, timed by itself.
    pub(super) fn poll_and_learn(&self, header: *const Header, key: usize) {
        let from = Instant::now();
        self.poll(header);
        policy::learn_stretch(key, 1, from, Instant::now());
    }

    /// What is left of a packet is shared again, in front: nobody else could take it while the owner polls the body.
    pub(super) fn share_packet(&self) -> News {
        self.exchange_fitting(|_| false).0
    }

    /// Puts `back` and the mail behind what is shared, takes a packet, and takes in the news: newborns are
    /// registered before any child that has ended is retired (rule L4).
    pub(super) fn exchange(&self, back: &List, most: usize) -> News {
        let core = self.core;
        let mail = &core.owner.turns.mail;
        let size = Size {
            most,
            least: self.policy.least(),
        };
        let done = &core.owner.done;
        let news = core.monitor.collect(back, mail, &self.packet, size, done);
        self.take_in(&news);
        news
    }

    /// The same while draining: what is left of a packet goes in front of what is shared, and the first that fits is the new
    /// one. Whether there is another one.
    pub(super) fn exchange_fitting(&self, fits: impl Fn(usize) -> bool) -> (News, bool) {
        let core = self.core;
        let (local, mail) = (&core.owner.local, &core.owner.turns.mail);
        let (packet, done) = (&self.packet, &core.owner.done);
        let (news, more) = core
            .monitor
            .collect_fitting(local, mail, packet, fits, done);
        self.take_in(&news);
        (news, more)
    }

    /// What helpers have brought, besides the children that have ended.
    pub(super) fn take_in(&self, news: &News) {
        let core = self.core;
        core.register_newborns(news.newborn);
        // Before a child that has ended is retired: whoever gets its error asks for this count.
        ambient::pass_on(news.counted);
        if news.body {
            core.owner.wake_body();
        }
        if news.notice {
            core.owner.noticed.set(true);
        }
        core.retire_done();
    }

    /// While lending, with nothing ready here: waits for helpers or closes the monitor. `true`: look again.
    pub(super) fn settle(&mut self) -> bool {
        let core = self.core;
        let seen = core.monitor.news();
        if self.collect(1) > 0 {
            let idle = self.packet.is_empty() && !core.owner.turns.is_body_ready();
            if idle && !core.hear_at_last() && !core.owner.noticed.get() {
                self.wait(seen);
                self.taken.is_no_packet();
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

impl Core {
    /// A member is about to be polled for long, perhaps: one of so many children, or the body. Mail that comes meanwhile may
    /// ask for a helper. Owner only, in an open window.
    #[cold]
    pub(super) fn expect_long_poll(&self, children: usize, known: u64) {
        if self.live() <= children && !self.may_get_more() || !self.may_lend() {
            return;
        }
        let owner = &self.owner;
        if !owner.lent.get() {
            owner.set_ahead(owner.local.len() + owner.turns.mail.len());
            self.share(0);
            owner.lent.set(true);
        }
        self.begins_big();
        self.ask_beside(known, owner.ahead());
    }

    /// A poll that is known to take so long begins. If it is very long, or nobody knows, so many others who are shared get a
    /// helper, however little they have to do.
    #[inline]
    fn ask_beside(&self, known: u64, others: usize) {
        if policy::may_be_very_big(known) && others > 0 {
            self.ask();
        }
    }
}
