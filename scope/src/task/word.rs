//! The task word: who may poll a task, and whether a wake has to queue it.
//!
//! One `QUEUED` token exists for each task: whoever sets the bit on an idle task owns the push into a
//! queue, and whoever takes the task out of the queue owns the poll. Counting references and the join
//! handshake are in [`life`](super::life); nothing here is unsafe.

use crate::sync::{AtomicU32, Ordering};

/// The task is in a queue, or will be put there by whoever polls it.
const QUEUED: u32 = 1;
/// Somebody polls the task. It stays set while a task that was woken during its poll waits in a queue
/// again, so that the next `start` still acquires what every waker released.
const RUNNING: u32 = 2;
/// The future is gone.
const DONE: u32 = 4;
/// The task was never polled, hence no waker of it exists.
const FRESH: u32 = 8;
/// With `DONE`: the output was written.
const VALUE: u32 = 16;
/// With `DONE`: the poll, or the drop of the future, panicked.
const PANICKED: u32 = 32;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The output is in the cell, unless its owner took it.
    Value,
    /// It panicked; the payload is with the scope.
    Panicked,
    /// It was dropped before it ended.
    Dropped,
}

/// What to do with a task whose poll returned `Pending`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rest {
    /// Leave it: a waker will queue it.
    Idle,
    /// It was woken during the poll: the poller queues it.
    Again,
}

#[derive(Debug)]
pub(crate) struct TaskWord(AtomicU32);

impl TaskWord {
    /// A task that was never polled and is about to be queued by its maker.
    #[inline]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(QUEUED | FRESH))
    }

    /// A node that is in no queue and that nobody polls: the notice of a scope.
    pub(crate) fn idle() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether the task was never polled. Meaningful only to whoever took it from a queue.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        // Relaxed: the queue that handed the task over already ordered the write.
        self.0.load(Ordering::Relaxed) & FRESH != 0
    }

    /// The holder of the `QUEUED` token begins a poll, as the owner of the window.
    #[inline]
    pub(crate) fn start(&self) {
        if self.is_fresh() {
            // Relaxed: no waker exists before the first poll, and the one other that wakes a fresh task, to
            // tell it of a cancellation, is the owner itself; so nobody else touches this word. The queue
            // that handed the task over ordered its construction.
            self.0.store(RUNNING, Ordering::Relaxed);
        } else {
            self.start_shared();
        }
    }

    /// As `start`, on a helper: the owner may be telling the task of a cancellation at the same time.
    #[inline]
    pub(crate) fn start_shared(&self) {
        // AcqRel: acquires what the wakers released in `wake`, so that the poll sees what they did before
        // waking. A plain store would also lose a wake that already found QUEUED set.
        self.0.swap(RUNNING, Ordering::AcqRel);
    }

    /// The poll returned `Pending`.
    #[inline]
    pub(crate) fn rest(&self) -> Rest {
        // AcqRel: a success releases the poll to the next `start`; Acquire on failure pairs with `wake`.
        match self
            .0
            .compare_exchange(RUNNING, 0, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Rest::Idle,
            Err(_) => Rest::Again,
        }
    }

    /// A waker fires. `true` hands the caller the token: it must queue the task.
    #[inline]
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        // AcqRel: releases what the waker did before to the `start` of the next poll. It is a
        // read-modify-write on every branch, else a wake that finds QUEUED would release nothing.
        self.0.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | RUNNING | DONE) == 0
    }

    /// The future is gone; wakes are no-ops from here on.
    #[inline]
    pub(crate) fn finish(&self, ended: Ended) {
        let bits = match ended {
            Ended::Value => DONE | VALUE,
            Ended::Panicked => DONE | PANICKED,
            Ended::Dropped => DONE,
        };
        // Release: `ended` reads it without the life word too. A wake that this store overwrites found
        // the task RUNNING or QUEUED, and so pushes nothing.
        #[cfg(not(selvedge_loom))]
        self.0.store(bits, Ordering::Release);
        // Loom takes a store and another thread's read-modify-write to be in no order afterwards, though one
        // of them has to read or overwrite the other's value.
        #[cfg(selvedge_loom)]
        self.0.swap(bits, Ordering::Release);
    }

    /// How the task ended; `None` while its future lives.
    #[inline]
    pub(crate) fn ended(&self) -> Option<Ended> {
        // Acquire: pairs with the store in `finish`.
        let bits = self.0.load(Ordering::Acquire);
        if bits & DONE == 0 {
            None
        } else if bits & VALUE != 0 {
            Some(Ended::Value)
        } else if bits & PANICKED != 0 {
            Some(Ended::Panicked)
        } else {
            Some(Ended::Dropped)
        }
    }
}
