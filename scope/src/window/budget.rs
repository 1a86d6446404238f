//! For how long a window lasts while somebody is ready: 5 ms. Windows side by side have a part of that each, and one inside
//! another no more than is left of the other's, since those beside the task wait for all of them.

use std::time::{Duration, Instant};

use super::core::Core;
use super::here;
use super::outer::{self, Around};
use super::side_by_side::{Asks, Round, Share, Task};
use super::{coop, policy};

/// The time of an open window, from when the clock is first read in it. In microseconds, since it is a part of each core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Before somebody was polled.
    pub(super) began: Instant,
    /// For how long it lasts; at first, what each window has.
    lasts: u32,
    /// What it has in all; zero before that was asked. Or what it may be expected to have, once somebody inside wants to know.
    whole: u32,
}

/// Added to what is expected only.
const FORESEEN: u32 = 1 << 31;

impl Budget {
    fn begin(began: Instant) -> Self {
        Self {
            began,
            lasts: micros(policy::BUDGET_LEAST),
            whole: 0,
        }
    }

    /// When it is over.
    pub(super) fn until(&self) -> Instant {
        self.began + Duration::from_micros(self.lasts.into())
    }

    /// When that was asked, which is when it had lasted for as long as each window may: when it began. Where there were surprises
    /// what was not looked at may have been long.
    pub(super) fn began_long_ago(&self) -> Option<Instant> {
        (self.is_asked() || policy::were_surprises()).then_some(self.began)
    }

    fn is_asked(&self) -> bool {
        (1..FORESEEN).contains(&self.whole)
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Core {
    /// A window is about to open.
    #[inline]
    pub(super) fn budget_begins(&self) {
        if self.owner.round.get().is_one() {
            self.budget_begins_again();
        }
        self.owner.budget.set(None);
    }

    #[cold]
    fn budget_begins_again(&self) {
        if self.owner.budget.get().is_some_and(|last| last.is_asked()) {
            // It is another poll of the task than that of the last one.
            self.leaves_task();
        }
    }

    /// The budget of the open window, which begins with the first poll that is timed, for it may be a long one. Owner only.
    pub(super) fn budget(&self, from: Instant) -> Budget {
        self.owner.budget.get().unwrap_or_else(|| {
            let budget = Budget::begin(from);
            self.owner.budget.set(Some(budget));
            budget
        })
    }

    /// Whether the window has had its time. Owner only, in the innermost window.
    #[inline]
    pub(super) fn time_is_over(&self, now: Instant) -> bool {
        let budget = self.budget(now);
        let is_early = !budget.is_asked() && now < budget.until();
        !is_early && self.all_time_is_over(now, budget)
    }

    /// The same, once it has had what each window has.
    #[cold]
    fn all_time_is_over(&self, now: Instant, budget: Budget) -> bool {
        let around = Around::of(self);
        let is_called_back = around.is_some() && outer::calls_back();
        is_called_back || now >= self.whole_budget(around, budget).until()
    }

    /// Whether it has all of that time, beside nobody.
    pub(super) fn has_all_the_time(&self) -> bool {
        let budget = self.owner.budget.get();
        budget
            .is_none_or(|budget| !budget.is_asked() || budget.whole == micros(policy::BUDGET_TIME))
    }

    /// It may go on.
    pub(super) fn extend_budget(&self, now: Instant) {
        let budget = self.budget(now);
        let until = now + policy::BUDGET_TIME;
        let lasts = micros(until.saturating_duration_since(budget.began));
        self.owner.budget.set(Some(Budget { lasts, ..budget }));
    }

    /// Asks, once a window, what it has in all. As far as it is known who polls it. Owner only, in the innermost window.
    #[cold]
    fn whole_budget(&self, around: Option<Around<'_>>, budget: Budget) -> Budget {
        if budget.is_asked() {
            return budget;
        }
        let share = |(task, poll)| {
            let asks = Asks {
                task,
                poll,
                seen: &self.owner.round,
                before: self.owner.share.get(),
                began: budget.began,
            };
            here::side_by_side(|known| known.share(asks))
        };
        let share = self.task_around(around.as_ref()).map(share);
        let share = share.unwrap_or(Share::ALONE);
        self.owner.share.set(share.among);
        let whole = whole_of(around, budget.began, share);
        let budget = Budget {
            lasts: whole,
            whole,
            ..budget
        };
        self.owner.budget.set(Some(budget));
        budget
    }

    /// The same for a window around that has not asked yet, as far as it can be told in the midst of a member's poll: whose
    /// polls that window's are is not asked there. It is kept for the others who are inside of it.
    #[cold]
    fn foreseen_budget(&self, around: Option<Around<'_>>, budget: Budget) -> Budget {
        if budget.is_asked() {
            return budget;
        }
        let mut whole = budget.whole & !FORESEEN;
        if whole == 0 {
            let guess = match &around {
                Some(_) => Share::ALONE,
                None => here::side_by_side(|known| known.guess(budget.began)),
            };
            let among = match self.owner.round.get().is_one() {
                true => self.owner.share.get(),
                false => guess.among,
            };
            whole = whole_of(around, budget.began, Share { among, ..guess });
            self.owner.budget.set(Some(Budget {
                whole: whole | FORESEEN,
                ..budget
            }));
        }
        Budget {
            lasts: whole,
            whole,
            ..budget
        }
    }

    /// Who polls this window, as far as that is known, and in which poll of his.
    fn task_around(&self, around: Option<&Around<'_>>) -> Option<(Task, Option<u32>)> {
        if let Some(around) = around {
            return Some((around.task(), Some(around.number())));
        }
        let task = coop::task_around(self)?;
        let is_ours = matches!(task, Task::BlockOn(_));
        Some((task, is_ours.then(crate::rt::poll_of_block_on)))
    }

    /// The window has had what it has, which others beside it are to know.
    #[cold]
    pub(super) fn budget_is_spent(&self) {
        if let Some((task, _)) = self.task_around(Around::of(self).as_ref()) {
            here::side_by_side(|known| known.is_spent(task));
        }
    }

    /// The window is over. Those beside it are to know for how long they have waited for it, if it was long. `was_big`: the
    /// last poll was, and nobody has looked at the clock since. Owner only, still in it.
    #[inline]
    pub(super) fn budget_ends(&self, was_big: bool) {
        if was_big {
            self.time_is_over(Instant::now());
        }
        if let Some(budget) = self.owner.budget.get().filter(Budget::is_asked) {
            self.has_lasted(budget.began);
        }
    }

    #[cold]
    fn has_lasted(&self, began: Instant) {
        if let Some((task, _)) = self.task_around(Around::of(self).as_ref()) {
            here::side_by_side(|known| known.is_over(task, began, Instant::now()));
        }
    }

    /// The scope is dropped before its end, or polled again, outside of a window: those that come up next in the task are not beside
    /// what was last polled there.
    pub(super) fn leaves_task(&self) {
        let seen = self.owner.round.get();
        if seen.is_one() {
            self.task_is_polled_anew(Some(seen));
        }
    }

    /// The task around has let others have a turn, since it polled the scopes of that round, or the last one.
    #[cold]
    pub(super) fn task_is_polled_anew(&self, seen: Option<Round>) {
        // Its window is not open, so the innermost one is around.
        let task = here::with(|here| self.task_around(here.top().map(Around::at).as_ref()));
        if let Some((task, _)) = task {
            here::side_by_side(|known| known.is_polled_anew(task, seen));
        }
    }
}

/// What a window has in all, with that share of it, in microseconds.
fn whole_of(around: Option<Around<'_>>, began: Instant, share: Share) -> u32 {
    let time = around.map_or(Time::ALL, |around| around.time_in_there(began));
    (time.whole / share.among.max(time.among))
        .min((time.whole / time.among).saturating_sub(micros(share.used)))
        .min(time.left)
        .max(micros(policy::BUDGET_LEAST))
}

/// The time of those who are polled in one poll of a task, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Time {
    /// What they have together.
    whole: u32,
    /// What is left of it.
    left: u32,
    /// How many wait for it.
    among: u32,
}

impl Time {
    /// Nobody is around.
    const ALL: Self = {
        let all = policy::BUDGET_TIME.as_micros() as u32;
        Self {
            whole: all,
            left: all,
            among: 1,
        }
    };
}

impl Around<'_> {
    /// What the window around has for this poll of a member.
    fn time_in_there(self, began: Instant) -> Time {
        let (whole, left, others) = match self.owned() {
            Some(outer) => {
                let its = outer.budget(began);
                let its = outer.foreseen_budget(self.next(), its);
                let left = its.until().saturating_duration_since(began);
                (its.whole, micros(left), outer.owner.who_wait())
            }
            None => (Time::ALL.whole, Time::ALL.left, self.left()),
        };
        Time {
            whole,
            left,
            // Those who are ready in there wait for this one as well.
            among: u32::try_from(others).unwrap_or(u32::MAX - 1) + 1,
        }
    }

    /// For how long scopes that one poll of a member in there opens one after the other may go on together. Not at all, once the
    /// window there is over: where each has but two in it, as in a recursion, nobody else would ever look.
    #[cold]
    pub(super) fn time_for_scopes(self, now: Instant) -> Duration {
        let time = self.time_in_there(now);
        if time.left == 0 {
            return Duration::ZERO;
        }
        let mine = (time.whole / time.among).min(time.left);
        Duration::from_micros(mine.into()).max(policy::BUDGET_LEAST)
    }
}
