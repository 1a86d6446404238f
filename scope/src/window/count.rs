//! How many children a scope has, for whoever asks. The owner counts those it has registered and not retired; here is
//! what it does not know yet. Snapshots only: the window decides nothing by them.

use super::core::Core;
use crate::sync::Ordering;

impl Core {
    /// Children that have not ended, those not registered yet included.
    pub(crate) fn len(&self) -> usize {
        // Relaxed: a snapshot, which another thread's spawns and ends make stale at once.
        let known = self.live.load(Ordering::Relaxed) + self.newborns.load(Ordering::Relaxed);
        known.saturating_sub(self.away.load(Ordering::Relaxed))
    }

    /// A child is about to end on a helper.
    pub(super) fn ends_away(&self) {
        // Relaxed: who learns of the end, by its release, sees this too.
        self.away.fetch_add(1, Ordering::Relaxed);
    }

    /// A child is about to be pushed from outside the window's thread, or was refused (`-1`).
    pub(crate) fn expect_newborn(&self) {
        // Relaxed: a snapshot for `len`.
        self.newborns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn newborn_came(&self) {
        // Relaxed: a snapshot for `len`.
        self.newborns.fetch_sub(1, Ordering::Relaxed);
    }

    /// The owner retires one that ended on a helper.
    pub(super) fn came_back(&self) {
        // Relaxed: a snapshot for `len`.
        self.away.fetch_sub(1, Ordering::Relaxed);
    }
}
