//! The only file of this crate that names `std::sync` locks and atomics or `loom`: under
//! `--cfg selvedge_loom` the tree runs on loom's versions, so that its races can be enumerated.
//!
//! `Arc`, `Weak` and `OnceLock` stay std's: loom has no `Weak`, and the tree reads a parent link
//! for its meaning only under a lock (see `README.md`), so a model loses nothing by it.

#[cfg(not(selvedge_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

#[cfg(selvedge_loom)]
pub(crate) use loom::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    thread_local,
};

pub(crate) use std::sync::{Arc, OnceLock, Weak};

/// For statics, which outlive the executions of a model: always std's.
pub(crate) mod plain {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
}

/// Locks, whatever happened to an earlier holder: no user code runs under the locks of this
/// crate, so a poisoned one still guards a consistent value.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
