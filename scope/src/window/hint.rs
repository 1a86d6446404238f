//! What somebody who knows better says of polls: it stands for what the engine would have to find out.

use super::policy::{estimate, learn};

/// How long polls are, as a user knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    Cheap,
    Heavy,
}

/// What a poll is taken to cost of which somebody says that it is heavy: enough for a packet by itself, and for a helper
/// if there is one more. In nanoseconds, as below.
pub(super) const HINTED_HEAVY: u64 = 100_000;
/// The same of one that is said to be cheap.
const HINTED_CHEAP: u64 = 50;

/// What is known of a cost, or said of it.
pub(super) fn hinted(known: u64, hint: Option<Hint>) -> u64 {
    match hint {
        Some(Hint::Heavy) => known.max(HINTED_HEAVY),
        Some(Hint::Cheap) if known == 0 => HINTED_CHEAP,
        Some(Hint::Cheap) | None => known,
    }
}

/// Somebody says what polls of this kind cost, which holds until one was timed.
pub(crate) fn learn_hint(key: usize, hint: Hint) {
    let cost = match hint {
        Hint::Cheap => HINTED_CHEAP,
        Hint::Heavy => HINTED_HEAVY,
    };
    for key in [key, key ^ 1] {
        if estimate(key) == 0 {
            learn(key, cost);
        }
    }
}
