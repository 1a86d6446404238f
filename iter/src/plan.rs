//! How a pipeline runs, decided once before it starts: how many lanes, how many of them up
//! from the start, and how they batch. What an explicit `concurrency` bounds is kept here
//! and nowhere else: lanes times batch size never exceeds it.

use std::borrow::Cow;

use selvedge_scope::Pool;

use crate::pace::{BATCH_MAX, PIECE_MAX, Pace};
use crate::pipe::Pipe;
use crate::source::Source;

/// Items under way in a pipeline with asynchronous stages, unless `.concurrency(n)` says
/// otherwise.
const CONCURRENCY: usize = 64;

/// The most lanes. More are never worth their memory, and `concurrency(usize::MAX)` is a
/// fair way to say "no limit".
const LANES: usize = 1 << 16;

/// What the builder methods of a `ParStream` have set.
#[derive(Debug, Clone)]
pub(crate) struct Knobs {
    pub(crate) concurrency: Option<usize>,
    pub(crate) batch: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) pool: Option<Pool>,
    pub(crate) hint: Option<Hint>,
}

/// What the user knows of what items cost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hint {
    Cheap,
    Heavy,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            concurrency: None,
            batch: None,
            ordered: true,
            name: None,
            pool: None,
            hint: None,
        }
    }
}

/// How a pipeline runs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) lanes: usize,
    /// Lanes that are up from the start.
    pub(crate) up: usize,
    pub(crate) pace: Pace,
}

/// What the plan depends on, of the types of a pipeline.
#[derive(Debug, Clone, Copy)]
struct Kind {
    suspends: bool,
    waits_at_once: bool,
    cuts: bool,
    one_by_one: bool,
}

impl Plan {
    /// Of what is left, a lane takes at most one part in so many.
    pub(crate) fn share(&self) -> u64 {
        match self.lanes {
            1 => 1,
            lanes => 2 * lanes as u64,
        }
    }

    /// `workers` threads may work; the source has at most `upper` items.
    pub(crate) fn new<P: Pipe>(knobs: &Knobs, workers: usize, upper: Option<usize>) -> Self {
        let kind = Kind {
            suspends: P::SUSPENDS,
            waits_at_once: P::WAITS_AT_ONCE,
            cuts: P::Source::SPLITS,
            one_by_one: P::Source::ONE_BY_ONE,
        };
        Self::lay(knobs, workers, upper, kind)
    }

    fn lay(knobs: &Knobs, workers: usize, upper: Option<usize>, kind: Kind) -> Self {
        let Kind {
            suspends,
            waits_at_once,
            cuts,
            one_by_one,
        } = kind;
        let limit = knobs.concurrency.map(|n| n.clamp(1, LANES));
        // Where only what was gathered may have to wait, the limit is shared by lanes whose batches are as long as is wanted.
        let wanted = match knobs.batch {
            Some(size) if !waits_at_once && !one_by_one => size.max(1),
            _ => 1,
        };
        let most = if suspends {
            limit.map_or(CONCURRENCY, |limit| limit / wanted.min(limit))
        } else {
            workers
        };
        // A source that knows its end needs no more lanes than it has items. Should it be
        // wrong, fewer lanes do all the work.
        let lanes = most
            .min(limit.unwrap_or(most))
            .min(upper.unwrap_or(most))
            .max(1);
        // The limit counts items in batches too, so the lanes share it.
        let max = match limit {
            _ if waits_at_once => 1,
            // A lane holds one item at a time, and a batch is only a stretch between two looks.
            _ if one_by_one => BATCH_MAX,
            Some(limit) => limit / lanes,
            None if cuts => PIECE_MAX,
            None => BATCH_MAX,
        };
        let pace = match knobs.batch {
            // As long as is wanted, within the limit.
            Some(size) => Pace::fixed(size.clamp(
                1,
                if limit.is_none() && !waits_at_once {
                    PIECE_MAX
                } else {
                    max
                },
            )),
            None => Pace::adaptive(max, cuts),
        };
        Self {
            lanes,
            up: workers.min(lanes),
            pace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Knobs, Plan};

    fn kind(suspends: bool, cuts: bool, one_by_one: bool) -> Kind {
        Kind {
            suspends,
            waits_at_once: suspends,
            cuts,
            one_by_one,
        }
    }

    /// What is gathered may have to wait.
    fn gathers(cuts: bool, one_by_one: bool) -> Kind {
        Kind {
            waits_at_once: false,
            ..kind(true, cuts, one_by_one)
        }
    }

    #[test]
    fn lanes_times_batches_never_exceed_an_explicit_concurrency() {
        let mut looked = 0;
        for n in 1..200 {
            for workers in [1, 2, 3, 17] {
                for batch in [None, Some(0), Some(1), Some(5), Some(1000)] {
                    for upper in [None, Some(0), Some(3), Some(500)] {
                        for kind in [
                            kind(false, false, false),
                            kind(false, true, false),
                            kind(true, false, false),
                            kind(false, false, true),
                            kind(true, false, true),
                            gathers(true, false),
                            gathers(false, true),
                        ] {
                            let knobs = Knobs {
                                concurrency: Some(n),
                                batch,
                                ..Knobs::default()
                            };
                            let plan = Plan::lay(&knobs, workers, upper, kind);
                            assert!(plan.lanes >= 1 && plan.pace.most() >= 1);
                            let held = if kind.one_by_one { 1 } else { plan.pace.most() };
                            assert!(plan.lanes * held <= n, "{knobs:?} {plan:?}");
                            looked += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(looked, 199 * 4 * 5 * 4 * 7);
    }

    #[test]
    fn lanes_that_gather_share_the_limit_by_batches() {
        let lanes = |concurrency, batch| {
            let knobs = Knobs {
                concurrency,
                batch,
                ..Knobs::default()
            };
            let plan = Plan::lay(&knobs, 2, None, gathers(true, false));
            (plan.lanes, plan.pace.most())
        };
        assert_eq!(lanes(None, None), (super::CONCURRENCY, super::PIECE_MAX));
        assert_eq!(lanes(None, Some(100)), (super::CONCURRENCY, 100));
        assert_eq!(lanes(Some(800), Some(100)), (8, 100));
        assert_eq!(lanes(Some(800), None), (800, 1));
        assert_eq!(lanes(Some(8), Some(100)), (1, 8));
    }

    #[test]
    fn odd_limits_are_clamped() {
        for (n, lanes) in [(0, 1), (usize::MAX, super::LANES)] {
            let knobs = Knobs {
                concurrency: Some(n),
                ..Knobs::default()
            };
            assert_eq!(
                Plan::lay(&knobs, 3, None, kind(true, false, false)).lanes,
                lanes
            );
        }
    }

    #[test]
    fn synchronous_pipelines_have_a_lane_a_thread() {
        let lanes = |workers, upper, kind| Plan::lay(&Knobs::default(), workers, upper, kind).lanes;
        assert_eq!(lanes(3, None, kind(false, false, false)), 3);
        assert_eq!(lanes(3, Some(2), kind(false, false, false)), 2);
        assert_eq!(lanes(1, None, kind(false, true, false)), 1);
        assert_eq!(lanes(3, None, kind(false, false, true)), 3);
    }
}
