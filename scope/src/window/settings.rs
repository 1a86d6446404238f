//! What builder methods set before a scope's first poll, and some of it later.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::hint::Hint;
use super::lends_to::NamedPool;
use crate::limit::Limits;

/// What the builder methods set before the first poll.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) pool: NamedPool,
    pub(crate) inline: OnceLock<()>,
    /// What the user knows of what its polls cost.
    pub(crate) hint: OnceLock<Hint>,
    pub(crate) name: OnceLock<Cow<'static, str>>,
    pub(crate) limits: OnceLock<Box<Limits>>,
    /// What is left some time after a cancellation is dropped.
    pub(crate) graced: OnceLock<()>,
}

impl Settings {
    pub(super) fn renew(&mut self) {
        let Self {
            pool,
            inline,
            hint,
            name,
            limits,
            graced,
        } = &*self;
        let is_set = pool.is_set()
            || inline.get().is_some()
            || hint.get().is_some()
            || name.get().is_some()
            || limits.get().is_some()
            || graced.get().is_some();
        if is_set {
            *self = Self::default();
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.limits.get_or_init(|| Box::new(Limits::new()))
    }
}
