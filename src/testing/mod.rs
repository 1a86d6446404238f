//! The testing kit (feature `testing`): a virtual clock, so that a test of an hour takes no time
//! and sees exact times, and single polls. Not for production: here time stands still on its own.

/// Forces, forbids or adapts lending, and counts what it did.
pub mod lending {
    pub use selvedge_scope::lending::{HelpCounts, Lending, help_counts, with};
}

mod clock;
mod poll;
#[cfg(test)]
mod tests;

pub use clock::VirtualClock;
pub use poll::poll_once;
