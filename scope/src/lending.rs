//! The switch for tests: force, forbid or adapt lending, and count what it did.

use crate::messages;
pub use crate::window::Lending;
use crate::window::set_lending;
pub use crate::window::stats::{HelpCounts, help_counts};

/// Runs `f` with scopes that are polled on this thread, or on helpers of such scopes, lending like this.
///
/// # Examples
/// ```
/// use selvedge_scope::lending::{Lending, with};
/// use selvedge_scope::{block_on, scope};
///
/// let sum = with(Lending::Forced, || block_on(scope(async |s| s.spawn(async { 1 }).await)));
/// assert_eq!(sum, 1);
/// ```
pub fn with<R>(lending: Lending, f: impl FnOnce() -> R) -> R {
    struct Restore(Lending);

    impl Drop for Restore {
        fn drop(&mut self) {
            set_lending(self.0);
        }
    }

    let _restore = Restore(set_lending(lending));
    f()
}

/// How many messages of a debug build are not on standard error yet.
#[doc(hidden)]
#[must_use]
pub fn messages_under_way() -> usize {
    messages::under_way()
}
