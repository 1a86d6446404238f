//! The first poll of a scope, straight, as long as polls are known to be short: most small scopes are over after a few,
//! and need nothing of what a [`Window`] is for. What is left over goes on in one.
//!
//! The protocol is that of every window: the thread is the owner, the inbox is open, and it ends or closes. Not until it
//! is to close need anybody be known who would be woken then.

use std::task::Context;

use super::core::Core;
use super::here::{self, Frame, Lending};
use super::owner::{Body, Run, Window};
use super::{coop, policy};

/// A window in which nothing but short polls were made so far.
struct Straight<'a> {
    core: &'a Core,
    /// Somebody says that polls are short.
    hinted: bool,
    number: u32,
    frame: Option<Frame>,
    polls: u32,
    /// Polls of the body among them.
    bodies: u32,
    /// The task around has no budget of tokio's left.
    lacks: bool,
}

/// Runs the window of a first poll.
pub(super) fn run(core: &Core, cx: &Context<'_>, body: &mut dyn Body) -> Run {
    let Some(key) = body.key().filter(|_| may_begin(core)) else {
        core.polled_with(cx.waker());
        return Window::open(core).run(cx, body);
    };
    let mut straight = Straight {
        core,
        hinted: core.settings.said.is_cheap(),
        number: here::next_window(),
        frame: Some(Window::begin(core)),
        polls: 0,
        bodies: 0,
        lacks: false,
    };
    // Now and then polls are timed, so that what is known stays true.
    if !policy::takes_sample(straight.number) {
        while straight.poll_next(key, body) {}
        if straight.end() {
            return Run::Ended;
        }
    }
    core.polled_with(cx.waker());
    let Some(frame) = straight.frame.take() else {
        return Run::Ended;
    };
    let mut window = Window::around(core, frame, straight.number);
    window.after_straight(straight.bodies, straight.polls, straight.lacks);
    window.run(cx, body)
}

/// Whether nothing is there, or wanted, that only a whole window has.
fn may_begin(core: &Core) -> bool {
    !core.inbox.has_mail()
        && coop::has_budget()
        && here::lending() != Lending::Forced
        && !core.settings.said.is_heavy()
}

impl Straight<'_> {
    /// One poll of whoever is next, in a window's order. `false`: that is left to a window.
    #[inline]
    fn poll_next(&mut self, key: usize, body: &mut dyn Body) -> bool {
        let core = self.core;
        let owner = &core.owner;
        let goes_on = self.polls < policy::STRAIGHT
            && !self.lacks
            && !owner.lent.get()
            && !owner.noticed.get()
            && !core.inbox.has_mail();
        if !goes_on {
            return false;
        }
        let is_due = owner.turns.is_body_due() || owner.local.is_empty();
        if owner.turns.is_body_ready() && is_due {
            let key = core.body_key(key);
            let is_fine = policy::is_known_short(key) || self.is_said_short(key);
            if !is_fine || policy::has_surprised(key) {
                return false;
            }
            owner.turns.take_body();
            owner.turns.take();
            self.bodies += 1;
            let turn = body.poll(core);
            core.body_polled(turn.ended, || self.look_at_budget());
        } else {
            let left = owner.local.len();
            let next = owner.local.pop_front_if(|head| {
                let key = head.key();
                let is_fine = policy::needs_no_help(key, left) || self.is_said_short(key);
                is_fine && !policy::has_surprised(key)
            });
            let Some(header) = next else {
                return false;
            };
            owner.turns.take();
            core.poll_here(header, || self.look_at_budget());
        }
        self.polls += 1;
        true
    }

    /// Whether somebody says so, and it has not turned out wrong.
    fn is_said_short(&self, key: usize) -> bool {
        self.hinted && policy::estimate(key) < policy::BIG
    }

    /// As a window does: somebody has not ended, perhaps for want of the task's budget.
    fn look_at_budget(&mut self) -> bool {
        self.lacks = !coop::has_budget();
        self.lacks
    }

    /// The scope is over, if nothing is left.
    fn end(&mut self) -> bool {
        let core = self.core;
        let owner = &core.owner;
        let is_over = owner.body_done.get()
            && core.live() == 0
            && !owner.lent.get()
            && !owner.is_stirred()
            && !core.inbox.has_mail()
            && core.inbox.end();
        if is_over {
            drop(self.frame.take());
        }
        is_over
    }
}

impl Drop for Straight<'_> {
    /// Should something in here panic: closes as a window does (rule W4).
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            drop(Window::around(self.core, frame, self.number));
        }
    }
}
