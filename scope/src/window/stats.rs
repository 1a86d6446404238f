//! Counters of the slow paths: how often help was asked for, came, and was waited for.
//!
//! Each is touched only where a thread is woken or parked anyway.

use crate::sync::plain::{AtomicU64, Ordering};

pub(crate) static ASKS: AtomicU64 = AtomicU64::new(0);
pub(crate) static ENTRIES: AtomicU64 = AtomicU64::new(0);
pub(crate) static PACKETS: AtomicU64 = AtomicU64::new(0);
pub(crate) static PARKS: AtomicU64 = AtomicU64::new(0);

pub(super) fn count(counter: &AtomicU64) {
    // Relaxed: a statistic.
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How often scopes of this process were helped, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HelpCounts {
    /// Jobs handed to a pool.
    pub asks: u64,
    /// Helpers that entered a window.
    pub entries: u64,
    /// Packets of children that helpers took.
    pub packets: u64,
    /// Times an owner was put to sleep by helpers that were still busy.
    pub parks: u64,
}

/// The counters as they stand.
#[must_use]
pub fn help_counts() -> HelpCounts {
    HelpCounts {
        asks: ASKS.load(Ordering::Relaxed),
        entries: ENTRIES.load(Ordering::Relaxed),
        packets: PACKETS.load(Ordering::Relaxed),
        parks: PARKS.load(Ordering::Relaxed),
    }
}
