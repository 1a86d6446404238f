//! Which pool a scope lends to, for as long as the scope lasts, and whether tests want it to. Not when it lends, nor the pool itself.
//!
//! A core outlives its scope while somebody keeps a waker. The pool must not: with the last reference to it goes what
//! its handlers hold of a user's, and that is no business of whatever thread drops the last waker, a timer's perhaps.

use std::ops::Deref;
use std::sync::{MutexGuard, OnceLock, PoisonError};

use super::core::Core;
use crate::pool::Pool;
use crate::sync::plain::Mutex;

/// The pool that the user has named, until the scope is over. The lock is held for a copy of the reference only.
#[derive(Debug, Default)]
pub(crate) struct NamedPool(OnceLock<Mutex<Option<Pool>>>);

impl NamedPool {
    /// The first one stays.
    pub(crate) fn set(&self, pool: &Pool) {
        let _ = self.0.set(Mutex::new(Some(pool.clone())));
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Option<Pool>>> {
        Some(self.0.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self) -> Option<Pool> {
        self.lock()?.clone()
    }

    /// Gives it up.
    pub(super) fn take(&self) -> Option<Pool> {
        self.lock()?.take()
    }
}

/// The pool, for a moment.
#[derive(Debug)]
pub(crate) enum LendsTo {
    Named(Pool),
    Global(&'static Pool),
}

impl Deref for LendsTo {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        match self {
            Self::Named(pool) => pool,
            Self::Global(pool) => pool,
        }
    }
}

impl Core {
    /// The pool that this scope lends to. Of a scope that is over, which lends nothing, only a late pusher asks.
    pub(crate) fn pool(&self) -> LendsTo {
        match self.settings.pool.get() {
            Some(pool) => LendsTo::Named(pool),
            None => LendsTo::Global(Pool::global_ref()),
        }
    }

    /// Whether that pool has threads that may help here.
    pub(super) fn has_pool(&self) -> bool {
        let pool = self.pool();
        pool.threads() > 0 && (self.settings.pool.is_set() || !pool.on_foreign_worker())
    }
}

/// Whether scopes polled on this thread lend their children to the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lending {
    /// When the learnt cost of the children says that help pays.
    #[default]
    Adaptive,
    /// Never: children are polled by the thread that polls the scope.
    Never,
    /// Always, whatever it costs: to test that children do not depend on their thread.
    Forced,
}
