//! The owner's side of a window: polls children and body, lends when it pays, waits for helpers, closes.

use std::cell::Cell;
use std::task::Context;
use std::time::Instant;

use super::coop;
use super::core::Core;
use super::here::{self, Frame};
use super::lent::Taken;
use super::outer;
use super::policy::{self, Policy};
use super::step::{Side, Stepped, step};
use crate::task::{Header, List};

/// The body of a scope, as the window sees it. It catches its own panics.
pub(super) trait Body {
    /// Polls it.
    fn poll(&mut self, core: &Core) -> Turn;
    /// What the cost of its later polls is kept under; `None` if it looks at the clock by itself.
    fn key(&self) -> Option<usize>;
    /// What the cost of its next poll is kept under: a member's, if it polls that for the first time.
    fn next_key(&self, core: &Core) -> usize;
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
    /// When the clock was last read for them alone.
    body_looked: Option<Instant>,
    pub(super) most_polls: u32,
    /// Notices taken.
    notices: u32,
    /// What was lent has turned out cheap: it is taken back as soon as the helpers have left.
    pub(super) withdraws: bool,
    /// It was lent because nothing is known of who is polled next.
    pub(super) guessed: bool,
    pub(super) spent: bool,
    /// The task around has a budget of tokio's, or none is kept, when the window opens.
    pub(super) budgeted: bool,
    /// That budget is spent.
    pub(super) broke: Cell<bool>,
    /// The scope is over: nothing is left to close.
    pub(super) over: bool,
    pub(super) frame: Option<Frame>,
}

impl<'a> Window<'a> {
    /// Opens the window: the thread becomes the owner.
    #[inline]
    pub(super) fn open(core: &'a Core) -> Self {
        let frame = Self::begin(core);
        let mut window = Self::around(core, frame, here::next_window());
        if !coop::has_budget() {
            window.begin_without_budget();
        }
        window
    }

    /// The thread becomes the owner, and takes in what came so far.
    #[inline]
    pub(super) fn begin(core: &Core) -> Frame {
        core.budget_begins();
        let frame = Frame::owner(core);
        core.owner.may_lend.set(None);
        core.look_around();
        let mail = core.inbox.open();
        core.sort(mail);
        // Whoever was woken before has not kept anybody waiting.
        core.owner.came_back.set(false);
        frame
    }

    /// A window that has begun, in which nobody was polled yet. They are [numbered](here::next_window).
    #[inline]
    pub(super) fn around(core: &'a Core, frame: Frame, number: u32) -> Self {
        Self {
            core,
            policy: Policy::new(
                number,
                core.settings.said.hinted(),
                core.owner.doubted.get(),
            ),
            packet: List::new(),
            taken: Taken::new(),
            polls: 0,
            bodies: 0,
            body_looked: None,
            most_polls: policy::BUDGET_POLLS,
            notices: 0,
            withdraws: false,
            guessed: false,
            spent: false,
            budgeted: true,
            broke: Cell::new(false),
            over: false,
            frame: Some(frame),
        }
    }

    /// Runs until nothing is ready, the budget is spent, or everything has ended.
    pub(super) fn run(&mut self, cx: &Context<'_>, body: &mut dyn Body) -> Run {
        let core = self.core;
        let owner = &core.owner;
        loop {
            // Before anybody is polled: what is to be dropped is not.
            let mut again = false;
            if owner.noticed.get() {
                core.take_notice();
                // There may be another one already. Somebody who gives notice on and on keeps nobody from a turn, nor the
                // poll from its end.
                again = owner.noticed.get();
                self.notices += 1;
            }
            // The notice may have been taken while an earlier window gave way.
            if owner.aborted.get() {
                self.close();
                return Run::Abort;
            }
            self.poll_children(again);
            if self.spent && !self.has_ended() {
                return self.give_way(cx, body);
            }
            let polled = (!owner.noticed.get() || again) && self.poll_body(body);
            // Only now: in each window all who are ready have had a turn.
            self.spent |= self.notices >= policy::NOTICES;
            if polled || owner.noticed.get() {
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

    /// The budget of the task was spent by somebody beside the scope: all who are ready have a poll each, which may do
    /// without.
    #[cold]
    fn begin_without_budget(&mut self) {
        let owner = &self.core.owner;
        let ready = owner.local.len() + owner.turns.mail.len();
        self.budgeted = false;
        self.most_polls = u32::try_from(ready).map_or(policy::BUDGET_POLLS, |ready| ready + 1);
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
        let key = self.core.body_key(key);
        let is_short = policy::is_known_short(key);
        if !is_short && !self.policy.is_said_short(key) {
            self.expect_long_body(policy::estimate(key));
        }
        let is_timed =
            !is_short || policy::has_surprised(key) || self.policy.samples_body(self.bodies);
        let from = is_timed.then(Instant::now);
        let mut turn = body.poll(self.core);
        self.taken.is_no_packet();
        if let Some(from) = from {
            let until = Instant::now();
            policy::learn_stretch(key, 1, from, until);
            turn.looked = Some((from, until));
            self.core.set_big(false);
        } else if self.bodies % policy::BODY_LOOK == policy::BODY_LOOK_FIRST {
            let now = Instant::now();
            turn.looked = Some((now, now));
            let before = self.body_looked.replace(now);
            if before.is_some_and(|before| now.saturating_duration_since(before) >= policy::LONG) {
                // Its own polls, or those of others between them: the next ones tell.
                policy::suspect(key);
            }
        }
        self.after_body(turn);
        true
    }

    fn after_body(&mut self, turn: Turn) {
        self.core.body_polled(turn.ended, || self.look_at_budget());
        self.count(turn.polls);
        if let Some((from, until)) = turn.looked {
            self.core.budget(from);
            self.check_time(until);
        }
    }

    /// So many polls, which nobody timed, were made in this window already.
    pub(super) fn after_straight(&mut self, bodies: u32, polls: u32, lacks: bool) {
        self.bodies = bodies;
        self.policy.begins_after(polls);
        if lacks {
            self.broke.set(true);
            self.core.owner.turns.interrupt();
        }
        self.count(polls);
    }

    /// Polls ready children until there are none, or something else has its turn. With `again`, a notice has had its
    /// turn just now.
    fn poll_children(&mut self, mut again: bool) {
        let core = self.core;
        let owner = &core.owner;
        loop {
            // At each look, and while lending before each poll: somebody on another thread must not wait until
            // nothing is ready here.
            if core.inbox.has_mail() {
                core.sort(core.inbox.take());
            }
            let again = std::mem::take(&mut again);
            if self.spent || (owner.noticed.get() && !again) {
                return;
            }
            if owner.lent.get() {
                if owner.turns.is_body_due() {
                    return;
                }
                match self.next_lent(again) {
                    Some(header) => {
                        owner.turns.take();
                        self.poll_lent(header);
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
        self.spent |= self.broke.get() || self.core.owner.ends_early.get();
        if self.polls >= self.most_polls {
            if self.may_go_on() {
                self.most_polls += policy::BUDGET_POLLS;
            } else if self.budgeted {
                self.use_up();
            } else {
                // Nobody has more than a poll in it, however long those were.
                self.spent = true;
            }
        }
    }

    /// The window has had what it has, which others in the same task are to know.
    fn use_up(&mut self) {
        if !std::mem::replace(&mut self.spent, true) {
            self.core.budget_is_spent();
        }
    }

    /// The budget is spent. Under the embedded executor nothing runs beside the scope; if nobody waits in windows
    /// around it either, it may go on for a while.
    #[cold]
    fn may_go_on(&self) -> bool {
        self.budgeted
            && self.core.has_all_the_time()
            && !self.core.is_polled_by_tokio()
            && !outer::others_wait()
            && crate::rt::may_go_on(policy::TIME_ALONE)
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
        if self.guessed {
            self.check_guess();
        }
        self.count(1);
    }

    #[inline(always)]
    pub(super) fn poll(&self, header: *const Header) {
        self.core.poll_here(header, || self.look_at_budget());
    }

    /// A member has not ended, perhaps for want of the task's budget; then it is ready as soon as there is a new one.
    /// Tokio has it woken too, but not always soon: a worker gathers such wakes, and serves them when it has nothing
    /// else to do, or after many polls.
    #[inline]
    fn look_at_budget(&self) -> bool {
        let lacks = self.budgeted && !coop::has_budget();
        if lacks {
            self.broke.set(true);
            self.core.owner.turns.interrupt();
        }
        lacks
    }

    /// A poll that is perhaps to be timed.
    fn poll_with_care(&mut self, header: *const Header) {
        if !self.policy.wants_time() {
            return self.poll(header);
        }
        let from = Instant::now();
        self.core.budget(from);
        self.poll(header);
        let until = Instant::now();
        self.policy.timed(from, until);
        self.check_time(until);
        self.core.set_big(false);
    }

    /// The window is closed: the thread is no owner any more.
    #[inline]
    pub(super) fn leave(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.core.budget_ends(self.policy.is_big());
            drop(frame);
        }
    }

    pub(super) fn check_time(&mut self, now: Instant) {
        if self.core.time_is_over(now) {
            if self.may_go_on() {
                self.core.extend_budget(now);
            } else {
                self.use_up();
            }
        }
        self.core.owner.turns.looked(now);
    }
}

impl Core {
    /// What the cost of the body's next poll is kept under: as for children, the first one by itself.
    pub(super) fn body_key(&self, key: usize) -> usize {
        key ^ usize::from(self.body.word.is_fresh())
    }

    /// The body has been polled. `lacks`: as below. Owner only, in an open window.
    #[inline(always)]
    pub(super) fn body_polled(&self, ended: bool, lacks: impl FnOnce() -> bool) {
        self.owner.body_done.set(ended);
        if ended {
            self.owner.turns.take_body();
        } else if lacks() && self.body.word.wake() {
            self.owner.wake_body();
        }
    }

    /// Polls a child that came from a queue of this core. `lacks`: it has not ended, perhaps for want of the task's
    /// budget. Owner only, in an open window.
    #[inline(always)]
    pub(super) fn poll_here(&self, header: *const Header, lacks: impl FnOnce() -> bool) {
        // SAFETY: the child came from a queue of this core, and this thread is the owner in its window.
        match unsafe { step(header, Side::Owner) } {
            Stepped::Idle => {
                // SAFETY: the scope's reference keeps it alive.
                if lacks() && unsafe { &*header }.word.wake() {
                    // SAFETY: the token is ours, so the child is in no queue.
                    unsafe { self.owner.local.push_back(header) };
                }
            }
            Stepped::Again => {
                self.owner.came_back.set(true);
                // SAFETY: the token is ours, so the child is in no queue.
                unsafe { self.owner.local.push_back(header) };
                let _ = lacks();
            }
            // SAFETY: it has just ended, and was registered when it was taken in.
            Stepped::Ended(ended) => unsafe { self.end_here(header, ended) },
        }
    }
}

impl Drop for Window<'_> {
    /// No helper is left inside when a poll ends, even if the engine itself panics (rule W4).
    fn drop(&mut self) {
        self.core.owner.doubted.set(self.policy.doubted());
        self.close();
        self.leave();
    }
}
