//! Time for programs: sleeping, and the `Instant` of the current clock. The clock is the ambient
//! timer where one is installed (a runtime's, a test's), and the embedded one elsewhere.

mod clock;
mod sleep;

pub(crate) use clock::Clock;
pub use selvedge_cancel::Instant;
pub use sleep::{Sleep, sleep, sleep_until};
