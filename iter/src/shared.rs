//! What the lanes of one running pipeline share: the pipeline itself, the limit up to which
//! items may still be begun, and the roster. It is counted, so lanes need no lifetime.

use std::panic::Location;

use selvedge_cancel::{CancelToken, Cause, CauseKind};

use crate::one_by_one::OneByOne;
use crate::pipe::Pipe;
use crate::plan::Plan;
use crate::roster::Roster;
use crate::sink::Origin;
use crate::source::Source;
use crate::sync::{Arc, AtomicU64, OnceLock, Ordering};

/// The limit while nothing has failed.
const OPEN: u64 = u64::MAX;

/// One running pipeline.
pub(crate) struct Shared<P, S> {
    pub(crate) pipe: P,
    pub(crate) sink: S,
    pub(crate) roster: Roster,
    pub(crate) plan: Plan,
    pub(crate) ordered: bool,
    /// Whether lanes tell the sink where runs begin and end.
    pub(crate) runs: bool,
    /// Items from this source position on are not begun any more.
    limit: AtomicU64,
    /// Not zero: a lane has found out that items take long, and none that they do not any more.
    slow: AtomicU64,
    /// What the items' futures run under; cancelled when one of them fails.
    token: OnceLock<CancelToken>,
    /// Where the terminal was called.
    place: &'static Location<'static>,
}

impl<P, S> Shared<P, S> {
    /// Drops it, if nobody else has it: the pipeline, then the terminal, whatever a destructor panics with.
    pub(crate) fn let_go(this: Arc<Self>, all: &mut OneByOne) {
        let Ok(Self { pipe, sink, .. }) = Arc::try_unwrap(this) else {
            return;
        };
        let_go(pipe, sink, all);
    }
}

/// Drops a pipeline, then its terminal.
pub(crate) fn let_go<P, S>(pipe: P, sink: S, all: &mut OneByOne) {
    all.run(|| drop(pipe));
    all.run(|| drop(sink));
}

impl<P: Pipe, S> Shared<P, S> {
    pub(crate) fn new(
        pipe: P,
        sink: S,
        plan: Plan,
        ordered: bool,
        runs: bool,
        place: &'static Location<'static>,
    ) -> Self {
        let roster = Roster::new(plan.lanes, plan.up);
        let (limit, slow) = (AtomicU64::new(OPEN), AtomicU64::new(0));
        let token = OnceLock::new();
        Self {
            pipe,
            sink,
            roster,
            plan,
            ordered,
            runs,
            limit,
            slow,
            token,
            place,
        }
    }

    /// Whether items take long, as far as lanes know that have looked at the clock.
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        // Relaxed: a hint. The same below.
        self.slow.load(Ordering::Relaxed) != 0
    }

    /// What a lane has found out.
    pub(crate) fn note_slow(&self, is_slow: bool) {
        if self.is_slow() != is_slow {
            self.slow.store(u64::from(is_slow), Ordering::Relaxed);
        }
    }

    /// Called once, before the first lane is polled.
    pub(crate) fn set_token(&self, token: CancelToken) {
        let _ = self.token.set(token);
    }

    /// Whether the item at this position may be begun.
    #[inline]
    pub(crate) fn admits(&self, at: u64) -> bool {
        // Relaxed, here and below: an item begun a little too late does no harm, and the
        // error itself travels under a lock.
        at < self.limit.load(Ordering::Relaxed)
    }

    /// What begins before this position may be a part of the result. `None`: nothing.
    pub(crate) fn counts_before(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Whether new items may be taken.
    pub(crate) fn takes(&self) -> bool {
        self.admits(OPEN - 1)
    }

    /// Whether what has just been polled met a cancellation, now or in an earlier poll, that
    /// the stop can have caused. Its error, should it end in one, may be an echo.
    #[inline]
    pub(crate) fn was_cut(&self, from: Origin) -> bool {
        // Who has seen the token cancelled sees the limit that was set before it. A sink that
        // cannot fail sets none, and then the count is not looked at.
        !self.takes() && from.met_cancellation()
    }

    /// The item at this position failed. Nothing is taken any more; items that were taken
    /// from before it are still begun if the pipeline is ordered, because one of them may
    /// hold the error that comes first. Those under way are asked to stop.
    #[cold]
    pub(crate) fn fail(&self, at: u64) {
        let limit = if self.ordered { at } else { 0 };
        self.limit.fetch_min(limit, Ordering::Relaxed);
        self.stop();
        if let Some(token) = self.token.get() {
            token.cancel_with(Cause::new(CauseKind::SiblingFailed).with_place(self.place));
        }
    }

    /// A lane panics: nothing is begun any more. Its window does the cancelling.
    #[cold]
    pub(crate) fn abort(&self) {
        self.limit.store(0, Ordering::Relaxed);
        self.stop();
    }

    fn stop(&self) {
        self.pipe.source().close();
        self.roster.close();
    }
}
