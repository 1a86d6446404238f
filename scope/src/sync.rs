//! The only place that names the standard library's atomics and locks, or loom's.
//!
//! `--cfg selvedge_loom` switches every protocol of this crate to loom's types at once. Statistics that
//! take no part in a protocol use [`plain`], which is never switched.

#[cfg(not(selvedge_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(all(feature = "tokio", not(selvedge_loom)))]
pub(crate) use std::sync::atomic::AtomicU64;

#[cfg(all(selvedge_loom, any(feature = "tokio", test)))]
pub(crate) use loom::sync::atomic::AtomicU64;

#[cfg(selvedge_loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
    thread_local,
};

/// What the loom models in `models/` need besides.
#[cfg(all(test, selvedge_loom))]
pub(crate) mod model {
    pub(crate) use loom::{cell::UnsafeCell, model::Builder, thread};
}

/// Counters and tables that no protocol depends on; they live in statics, which loom's types cannot.
pub(crate) mod plain {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

/// Locks, whether or not a panic passed through the lock before: no code of this crate unwinds while it
/// holds one (rule W15), so the data is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
