//! The phases of a token's life, in their order, and what a shield lets through.
//! Not for who moves a token from one to the next, which is `node/spread.rs`.

use std::fmt;

/// How far the end of something has come: each phase asks for more than the one before.
///
/// A token is in the furthest phase that it, or one above it, was moved to; it never goes back.
///
/// # Examples
/// ```
/// use selvedge_cancel::{CancelToken, Phase};
///
/// let server = CancelToken::new();
/// let connection = server.child();
/// server.stop();
/// assert_eq!(connection.phase(), Phase::Stopping);
/// connection.cancel();
/// assert_eq!(connection.phase(), Phase::Cancelled);
/// assert!(server.phase() < Phase::Cancelled);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Nobody has asked for anything.
    Running,
    /// A graceful end is wanted: everything still works, but nothing new is begun.
    Stopping,
    /// Cancellable operations fail.
    Cancelled,
    /// The time for clean-up is over: shields end, and graced scopes drop what is left.
    Aborting,
}

impl Phase {
    /// What is seen of this phase from below, through a shield if there is one.
    pub(crate) fn through(self, shielded: bool) -> Self {
        match self {
            Self::Cancelled if shielded => Self::Stopping,
            other => other,
        }
    }

    /// The inverse of `as u32`, for the two bits of a position.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Running,
            1 => Self::Stopping,
            2 => Self::Cancelled,
            _ => Self::Aborting,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Cancelled => "cancelled",
            Self::Aborting => "aborting",
        })
    }
}
