//! For how long a window lasts while somebody is ready: 5 ms. Windows side by side have a part of that each, and one inside
//! another no more than is left of the other's, since those beside the task wait for all of them.

use std::time::{Duration, Instant};

use super::core::Core;
use super::here::{self, Around};
use super::side_by_side::Task;
use super::{coop, policy};

/// The time of an open window, from when the clock is first read in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Before somebody was polled.
    pub(super) began: Instant,
    /// When it is over; at first, when the window has had what each has.
    pub(super) until: Instant,
    /// What it has in all, once that was asked.
    whole: Option<Duration>,
}

impl Core {
    /// The budget of the open window, which begins with the first poll that is timed, for it may be a long one. Owner only.
    pub(super) fn budget(&self, from: Instant) -> Budget {
        self.owner.budget.get().unwrap_or_else(|| {
            let budget = Budget {
                began: from,
                until: from + policy::BUDGET_LEAST,
                whole: None,
            };
            self.owner.budget.set(Some(budget));
            budget
        })
    }

    /// Whether the window has had its time. Owner only, in the innermost window.
    pub(super) fn time_is_over(&self, now: Instant) -> bool {
        let budget = self.budget(now);
        if budget.whole.is_none() && now < budget.until {
            return false;
        }
        let around = Around::of(self);
        let calls_back = around.as_ref().is_some_and(Around::calls_back);
        calls_back || now >= self.whole_budget(around, budget).until
    }

    /// It may go on.
    pub(super) fn extend_budget(&self, now: Instant) {
        let until = now + policy::BUDGET_TIME;
        let budget = self.budget(now);
        self.owner.budget.set(Some(Budget { until, ..budget }));
    }

    /// Asks, once a window, what it has in all. As far as it is known who polls it.
    #[cold]
    fn whole_budget(&self, around: Option<Around<'_>>, budget: Budget) -> Budget {
        if budget.whole.is_some() {
            return budget;
        }
        let round = &self.owner.round;
        let whole = match around {
            Some(around) => {
                let share = around.beside().share(around.task(), round);
                match around.owned() {
                    Some(outer) => {
                        let outer = outer.whole_budget(around.next(), outer.budget(budget.began));
                        let whole = outer.whole.unwrap_or(policy::BUDGET_TIME);
                        (whole / share).min(outer.until.saturating_duration_since(budget.began))
                    }
                    None => policy::BUDGET_TIME / share,
                }
            }
            None => {
                let share = |task: Task| here::beside(|beside| beside.share(task, round));
                policy::BUDGET_TIME / coop::task_around(self).map_or(1, share)
            }
        };
        let whole = whole.max(policy::BUDGET_LEAST);
        let budget = Budget {
            until: budget.began + whole,
            whole: Some(whole),
            ..budget
        };
        self.owner.budget.set(Some(budget));
        budget
    }

    /// The window has had what it has, which others beside it are to know.
    #[cold]
    pub(super) fn budget_is_spent(&self) {
        match Around::of(self) {
            Some(around) => around.beside().is_spent(),
            None => here::beside(|beside| beside.is_spent()),
        }
    }
}
