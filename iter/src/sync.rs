//! The one place of this crate that names atomics, locks and threads, so that a model
//! checker can stand in for them under `--cfg selvedge_loom`. Holds one helper, the lock
//! that never sleeps; protocols live beside the data they guard, not here.

#[cfg(not(selvedge_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard},
    thread::yield_now,
};

#[cfg(selvedge_loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard},
    thread::yield_now,
};
/// What the loom models need besides.
#[cfg(all(test, selvedge_loom))]
pub(crate) mod model {
    pub(crate) use loom::{model::Builder, sync::Condvar, thread};
    pub(crate) use std::sync::atomic::AtomicU32;
}

// Same under the model: set once before lanes run; an error type without state.
pub(crate) use std::sync::{OnceLock, PoisonError, TryLockError};

/// Tries that spin before the thread offers its core to others.
pub(crate) const SPINS: u32 = if cfg!(selvedge_loom) { 1 } else { 128 };

/// Locks without ever sleeping in the kernel: a futex wake costs its waker about 40 µs,
/// the sections behind these locks well under one. A poisoned lock is taken as it is:
/// every section keeps its data valid at each point where user code may panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if cfg!(selvedge_loom) {
        // Each try would be one more order to look at, and all of them come to the same.
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    let mut tries = 0;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if tries < SPINS => {
                tries += 1;
                spin_loop();
            }
            Err(TryLockError::WouldBlock) => yield_now(),
        }
    }
}
