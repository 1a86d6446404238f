//! Faults that are known and not mended yet: what they are about is off, so that the fuzzer finds others. Whoever
//! mends one takes its line away.

use std::env;
use std::sync::OnceLock;

/// A known fault, or rather what would find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Wakers among the waiters for a child's end that, when they are dropped, panic or take a lock under which they
    /// may be dropped.
    Waiters,
    /// `set_deadline` with a moment that has passed, asked about in the same poll.
    Deadline,
}

/// Which are mended, so that they are looked for.
const MENDED: &[Known] = &[];

/// Whether this is to be looked for. `SELVEDGE_STRESS_KNOWN=1` says so for all, 0 for none, `waiters,deadline` for
/// these.
pub(crate) fn is_mended(known: Known) -> bool {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| env::var("SELVEDGE_STRESS_KNOWN").ok());
    match asked.as_deref() {
        None => MENDED.contains(&known),
        Some("0") => false,
        Some("1") => true,
        Some(list) => {
            let name = format!("{known:?}").to_lowercase();
            list.split(',').any(|each| each == name)
        }
    }
}
