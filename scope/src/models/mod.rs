//! Loom models of the engine's protocols, on the real types. Run them with `scripts/loom`.
//!
//! Each file models one word or lock by all its orders; `engine` runs whole scopes. A model says which
//! outcomes it must have come by, so that it cannot pass by never reaching its subject. What they prove,
//! and which orderings were weakened to see them fail, is in this crate's `README.md`.

mod alarm;
mod cancel;
mod engine;
mod inbox;
mod life;
mod memory;
mod monitor;
mod word;

use crate::sync::model::Builder;
use crate::sync::plain::{AtomicU32, Ordering};
use crate::sync::{Condvar, Mutex, lock};

/// Every execution of a small model, without a bound.
fn check_all(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = None;
    builder.check(model);
}

/// Every execution with `least` preemptions, or `LOOM_MAX_PREEMPTIONS` of them if that is more.
fn check_some(least: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.max(Some(least));
    builder.max_branches = 20_000;
    builder.check(model);
}

/// How often each outcome was come by, over all executions of a model.
struct Seen<const N: usize>([AtomicU32; N]);

impl<const N: usize> Seen<N> {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; N])
    }

    fn note(&self, outcome: usize) {
        // Relaxed: one thread of the system runs a model. The same below.
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// For a static, which must not remember an earlier run.
    fn assert_all(&self) {
        let times = self.0.each_ref().map(|times| times.load(Ordering::Relaxed));
        assert!(
            times.iter().all(|times| *times > 0),
            "not all seen: {times:?}"
        );
    }
}

/// Something to wait for. A wake-up that never comes is a deadlock, which loom reports.
struct Signal {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Signal {
    fn new() -> Self {
        Self {
            count: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    fn give(&self) {
        *lock(&self.count) += 1;
        self.changed.notify_all();
    }

    /// Waits for one, and takes it.
    fn take(&self) {
        let mut count = lock(&self.count);
        while *count == 0 {
            count = match self.changed.wait(count) {
                Ok(count) => count,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        *count -= 1;
    }

    fn is_given(&self) -> bool {
        *lock(&self.count) > 0
    }
}
