//! Time for programs: sleeping, and the `Instant` of the current clock. The clock is the ambient
//! timer where one is installed (a test's virtual clock), and the embedded one elsewhere. Tokio's timer is never asked:
//! `tokio::time::pause` does not stop it.

mod clock;
mod sleep;

pub(crate) use clock::Clock;
pub use selvedge_cancel::Instant;
pub use sleep::{Sleep, sleep, sleep_until};
