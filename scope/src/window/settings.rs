//! What builder methods set before a scope's first poll, and some of it later.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::hint::Hint;
use super::lends_to::NamedPool;
use crate::limit::Limits;
use crate::sync::plain::{AtomicU32, Ordering};

/// What the builder methods set before the first poll.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) pool: NamedPool,
    pub(crate) said: Said,
    pub(crate) name: OnceLock<Cow<'static, str>>,
    pub(crate) limits: OnceLock<Box<Limits>>,
}

impl Settings {
    #[inline]
    pub(super) fn renew(&mut self) {
        let Self {
            pool,
            said,
            name,
            limits,
        } = &*self;
        if pool.is_set() || name.get().is_some() || limits.get().is_some() {
            *self = Self::default();
        } else if !said.is_nothing() {
            self.said = Said::default();
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.limits.get_or_init(|| Box::new(Limits::new()))
    }
}

/// What the user says by a word: each holds for good once it is said.
#[derive(Debug, Default)]
pub(crate) struct Said(AtomicU32);

const INLINE: u32 = 1;
const GRACED: u32 = 2;
const HEAVY: u32 = 4;
const CHEAP: u32 = 8;

impl Said {
    #[inline]
    fn says(&self, what: u32) -> bool {
        // Relaxed: nothing else comes with it. The same below.
        self.0.load(Ordering::Relaxed) & what != 0
    }

    fn say(&self, what: u32) {
        self.0.fetch_or(what, Ordering::Relaxed);
    }

    #[inline]
    fn is_nothing(&self) -> bool {
        !self.says(!0)
    }

    /// Nothing is lent.
    pub(crate) fn inline(&self) {
        self.say(INLINE);
    }

    pub(super) fn is_inline(&self) -> bool {
        self.says(INLINE)
    }

    /// What is left some time after a cancellation is dropped.
    pub(crate) fn graced(&self) {
        self.say(GRACED);
    }

    pub(super) fn is_graced(&self) -> bool {
        self.says(GRACED)
    }

    /// What the user knows of what its polls cost. The first to be said stays.
    pub(crate) fn hint(&self, hint: Hint) {
        if self.hinted().is_none() {
            self.say(match hint {
                Hint::Heavy => HEAVY,
                Hint::Cheap => CHEAP,
            });
        }
    }

    #[inline]
    pub(super) fn hinted(&self) -> Option<Hint> {
        if !self.says(HEAVY | CHEAP) {
            None
        } else if self.says(HEAVY) {
            Some(Hint::Heavy)
        } else {
            Some(Hint::Cheap)
        }
    }

    #[inline]
    pub(super) fn is_heavy(&self) -> bool {
        self.says(HEAVY)
    }

    #[inline]
    pub(super) fn is_cheap(&self) -> bool {
        self.says(CHEAP)
    }
}
