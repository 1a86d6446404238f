//! The deadline of a node: known to whoever asks how much time is left, and, if it is a limit, what cancels the node.
//! Whoever sets a limit has a timer that sees to it; here is only the case that the timer is late. Not for waiting.

use std::panic::Location;

use super::{LIMITED, Node};
use crate::sync::{Arc, Ordering, Weak};
use crate::{CancelToken, Cause, CauseKind, Instant, Phase, Timer};

/// What cancels a node at its deadline: where in the source it was asked for, and by which clock.
pub(super) struct Limit {
    place: &'static Location<'static>,
    /// `None`: the clock of the system. Weak, and only compared: a token may outlive its clock.
    clock: Option<Weak<dyn Timer>>,
}

type Clock = Arc<dyn Timer>;

impl Limit {
    fn new(place: &'static Location<'static>, clock: Option<&Clock>) -> Self {
        Self {
            place,
            clock: clock.map(Arc::downgrade),
        }
    }

    fn goes_by(&self, clock: Option<&Clock>) -> bool {
        match (&self.clock, clock) {
            (None, None) => true,
            (Some(own), Some(other)) => std::ptr::addr_eq(own.as_ptr(), Arc::as_ptr(other)),
            _ => false,
        }
    }
}

impl Node {
    /// Sets the deadline. `limit`: what is to be done when it has passed; without one it is only known.
    fn set_deadline(&self, deadline: Option<Instant>, limit: Option<Limit>) {
        if self.is_never {
            return;
        }
        let mut locked = self.lock();
        let rare = locked.cold().rare();
        rare.deadline = deadline;
        // It holds no more than a weak reference, whose drop runs nobody's code (T5).
        rare.limit = limit;
        // Release: pairs with the Acquire in `marks`; who sees the mark comes for the deadline.
        if deadline.is_some() {
            self.marks.fetch_or(LIMITED, Ordering::Release);
        } else {
            self.marks.fetch_and(!LIMITED, Ordering::Release);
        }
    }

    /// The earliest deadline of this node and those above it, up to a shield that is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.upwards()
            .take_while(|(_, hidden)| !hidden)
            .filter(|(node, _)| node.marks() & LIMITED != 0)
            .filter_map(|(node, _)| node.lock().rare()?.deadline)
            .min()
    }

    /// Whether this node or one above it, up to a shield that is up, may have a deadline.
    pub(crate) fn has_deadline(&self) -> bool {
        self.upwards()
            .take_while(|(_, hidden)| !hidden)
            .any(|(node, _)| node.marks() & LIMITED != 0)
    }

    /// Sets when the shield of this node is lowered, by whoever set it up.
    fn set_bound(&self, at: Instant, limit: Limit) {
        self.lock().cold().rare().bound = Some((at, limit));
        // Release: as in `set_deadline`.
        self.marks.fetch_or(LIMITED, Ordering::Release);
    }

    /// Cancels, the soonest first, this node and those above it, up to a shield that is up, whose limits on this clock
    /// are before this moment, which has come. Whether there is one, cancelled or not.
    ///
    /// A limit above a shield is felt when the shield is lowered, if that is later. One that was to be lowered before
    /// the moment is lowered here.
    pub(crate) fn end_before(self: &Arc<Self>, at: Instant, clock: Option<&Clock>) -> bool {
        let mut over: Vec<(Instant, Cause, &Arc<Self>)> = Vec::new();
        let mut open_since = None;
        let mut next = Some(self);
        while let Some(node) = next {
            let (limit, bound) = match node.marks() & LIMITED {
                0 => (None, None),
                _ => node.own_limits(clock),
            };
            let felt = limit.map(|(deadline, cause)| (open_since.max(Some(deadline)), cause));
            if let Some((Some(felt), cause)) = felt.filter(|(felt, _)| *felt < Some(at)) {
                over.push((felt, cause, node));
            }
            open_since = open_since.max(bound);
            if node.is_shielded() {
                if bound.is_none() || bound >= Some(at) {
                    break;
                }
                node.lower_shield();
            }
            next = node.parent();
        }
        over.sort_by_key(|(felt, ..)| *felt);
        let is_over = !over.is_empty();
        for (_, cause, node) in over {
            if !node.is_cancelled() {
                node.raise(Phase::Cancelled, cause);
            }
        }
        is_over
    }

    /// The node's own limit on this clock, with the cause it gives, and when its shield is lowered.
    fn own_limits(&self, clock: Option<&Clock>) -> (Option<(Instant, Cause)>, Option<Instant>) {
        let locked = self.lock();
        let Some(rare) = locked.rare() else {
            return (None, None);
        };
        let limit = rare.limit.as_ref().filter(|limit| limit.goes_by(clock));
        let limited = rare.deadline.zip(limit).map(|(deadline, limit)| {
            let cause = Cause::new(CauseKind::Deadline).with_place(limit.place);
            (deadline, cause)
        });
        let bound = rare.bound.as_ref();
        let bound = bound.filter(|(_, limit)| limit.goes_by(clock));
        (limited, bound.map(|(at, _)| *at))
    }
}

/// For engines.
#[doc(hidden)]
impl CancelToken {
    /// Stores the token's own deadline. Nothing happens when it passes: the engine sees to that.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.node().set_deadline(deadline, None);
    }

    /// Stores the token's own deadline, which cancels it with cause `Deadline` and this place. The engine sees to that,
    /// by this timer; `None` is the embedded one.
    pub fn set_limit(
        &self,
        deadline: Option<Instant>,
        place: &'static Location<'static>,
        timer: Option<&Arc<dyn Timer>>,
    ) {
        let limit = deadline.map(|_| Limit::new(place, timer));
        self.node().set_deadline(deadline, limit);
    }

    /// Stores when the token's shield is lowered, by this timer. The engine sees to that.
    pub fn set_shield_bound(
        &self,
        at: Instant,
        place: &'static Location<'static>,
        timer: Option<&Arc<dyn Timer>>,
    ) {
        self.node().set_bound(at, Limit::new(place, timer));
    }

    /// Whether this token or one above it may have a deadline, up to the nearest shield.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        self.node().has_deadline()
    }

    /// Whether a limit of this token, or of one above it up to the nearest shield, was over before this moment, which
    /// has come. Those that were are cancelled when this returns, the soonest first.
    pub fn end_before(&self, at: Instant, timer: Option<&Arc<dyn Timer>>) -> bool {
        self.node().end_before(at, timer)
    }
}
