//! The life word: references to a cell, and the handshake between a task's end and its join handle.
//!
//! A cell is freed when its count is zero and its handle is gone. The scope holds one count until it has
//! unlinked the task, every waker holds one; the handle holds the `HANDLE` bit instead of a count, so that
//! dropping it is a single step (rule W11). Nothing here is unsafe; the owner of the waker slot is told by
//! the return values.

use crate::sync::{AtomicU32, Ordering};

/// The join handle exists.
const HANDLE: u32 = 1;
/// The join waker slot is filled. Set by the handle only; whoever is told so by a return value owns it.
const WAKER: u32 = 2;
/// The end of the task is published.
const DONE: u32 = 4;
/// Somebody besides the handle waits for the end, or did, and entered the record's list. Set while the handle
/// exists, by whoever borrows it; never taken back, so that a waiter who leaves touches the list alone.
const WAITED: u32 = 8;
/// One reference.
const ONE: u32 = 16;
/// What says nothing of who refers to the cell.
const NOTES: u32 = WAKER | DONE | WAITED;
const HANDLE_AND_ONE: u32 = ONE | HANDLE;
/// Beyond half of the range a count is taken for a leak and the process is ended (rule W13).
#[cfg(not(selvedge_small_counts))]
const LIMIT: u32 = u32::MAX / 2;
#[cfg(selvedge_small_counts)]
const LIMIT: u32 = 1000 * ONE;

/// Who owns the output of a task that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Heir {
    /// The handle. With `wake`, the finisher takes the waker out of the slot and wakes it.
    /// With `waited`, also all who are in the record's list.
    Handle { wake: bool, waited: bool },
    /// Nobody waits for it: the finisher drops the output.
    Finisher,
}

/// What `finish_alone` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Alone {
    /// Nobody but the scope refers to the task: its output and memory are the scope's to drop.
    Last,
    /// The handle owns output and memory now.
    Handed,
    /// There are wakers; nothing was done.
    No,
}

/// What the drop of a handle came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Parting {
    /// The task had not ended; its finisher will see that the handle is gone.
    Gone,
    /// The task ended first: the outcome is still the handle's, which takes it and calls `part`.
    Done,
}

#[derive(Debug)]
pub(crate) struct LifeWord(AtomicU32);

impl LifeWord {
    /// One reference for the scope, and the handle if there is one.
    pub(crate) fn new(handle: bool) -> Self {
        Self(AtomicU32::new(if handle { ONE | HANDLE } else { ONE }))
    }

    /// A waker is cloned.
    #[inline]
    pub(crate) fn acquire(&self) {
        // Relaxed: a reference is made from a reference, which orders it.
        let old = self.0.fetch_add(ONE, Ordering::Relaxed);
        if old > LIMIT {
            std::process::abort();
        }
    }

    /// A waker, or the scope, lets go. `true`: nothing refers to the cell any more, the caller frees it.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // Acquire: pairs with the Release of the other releases; alone with the last reference nobody can
        // make another, so no read-modify-write is needed.
        if self.is_last() {
            return true;
        }
        // Release: what this holder did to the cell comes before it is freed.
        let old = self.0.fetch_sub(ONE, Ordering::Release);
        if old & !(ONE - 1) == ONE && old & HANDLE == 0 {
            // Acquire: pairs with the Release of every other holder. A load and not a fence, because
            // ThreadSanitizer understands it: the word changes by read-modify-writes only, so whichever value
            // it finds, it ends the release sequence of every one before.
            self.0.load(Ordering::Acquire);
            return true;
        }
        false
    }

    /// Whether the caller holds the only reference.
    #[inline]
    pub(crate) fn is_last(&self) -> bool {
        self.0.load(Ordering::Acquire) & !NOTES == ONE
    }

    /// Whether there is a handle that the outcome may go to. `false` is for good.
    pub(crate) fn has_handle(&self) -> bool {
        // Relaxed: nothing is read by it.
        self.0.load(Ordering::Relaxed) & HANDLE != 0
    }

    /// How many wakers there are by now, of a task that has not ended.
    pub(crate) fn wakers(&self) -> u32 {
        // Relaxed: a snapshot, for a report.
        (self.0.load(Ordering::Relaxed) / ONE).saturating_sub(1)
    }

    /// The future is dropped and the outcome stored: decides who owns it.
    #[inline]
    pub(crate) fn finish(&self) -> Heir {
        // Acquire: a handle that is gone stays gone; pairs with `part`.
        if self.0.load(Ordering::Acquire) & HANDLE == 0 {
            return Heir::Finisher;
        }
        // AcqRel: publishes the outcome to `poll_done`, `arm` and `part`, and acquires the waker slot.
        let old = self.0.fetch_or(DONE, Ordering::AcqRel);
        if old & HANDLE == 0 {
            Heir::Finisher
        } else {
            Heir::Handle {
                wake: old & WAKER != 0,
                waited: old & WAITED != 0,
            }
        }
    }

    /// `finish` and `release` in one, for a scope that has unlinked the task: the cases without wakers.
    #[inline]
    pub(crate) fn finish_alone(&self) -> Alone {
        // Acquire: as in `finish` and `release`.
        match self.0.load(Ordering::Acquire) {
            ONE => Alone::Last,
            // AcqRel: as in `finish`; after it the cell is the handle's alone.
            HANDLE_AND_ONE
                if self
                    .0
                    .compare_exchange(
                        HANDLE_AND_ONE,
                        HANDLE | DONE,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    )
                    .is_ok() =>
            {
                Alone::Handed
            }
            _ => Alone::No,
        }
    }

    /// Whether the outcome is there for the handle to read.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with `finish`.
        self.0.load(Ordering::Acquire) & DONE != 0
    }

    /// Whether the slot holds a waker and the task has not ended (the handle may compare it, not move it).
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.0.load(Ordering::Acquire) & (WAKER | DONE) == WAKER
    }

    /// The handle has written the slot. `false`: the task ended meanwhile, the slot is the handle's again.
    #[inline]
    #[must_use]
    pub(crate) fn arm(&self) -> bool {
        // AcqRel: releases the slot to `finish`; acquires the outcome if it lost the race.
        let old = self.0.fetch_or(WAKER, Ordering::AcqRel);
        if old & DONE != 0 {
            // Relaxed: after DONE only the handle touches this bit.
            self.0.fetch_and(!WAKER, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Somebody who borrows the handle has entered the record's list. `true`: the task has ended already, and
    /// may or may not have looked at the list.
    #[must_use]
    pub(crate) fn wait(&self) -> bool {
        // AcqRel: releases the entry to `finish`, which takes the list if it finds the mark; acquires the
        // outcome if it lost the race.
        self.0.fetch_or(WAITED, Ordering::AcqRel) & DONE != 0
    }

    /// The handle takes its waker back. `false`: the task ended meanwhile and the finisher owns the slot.
    #[inline]
    #[must_use]
    pub(crate) fn disarm(&self) -> bool {
        // AcqRel: the slot is exclusively the handle's only if the finisher did not come first.
        self.0.fetch_and(!WAKER, Ordering::AcqRel) & DONE == 0
    }

    /// As `try_part`, for a handle that was never polled and whose task nobody else refers to but the
    /// scope. `false`: it is not so simple.
    #[inline]
    #[must_use]
    pub(crate) fn part_fresh(&self) -> bool {
        // Release: as in `try_part`.
        self.0
            .compare_exchange(ONE | HANDLE, ONE, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// The handle is dropped with its waker slot empty: the same step as `finish`, on the other side, so
    /// that exactly one of the two owns the output.
    #[inline]
    pub(crate) fn try_part(&self) -> Parting {
        // Relaxed: the exchange below checks it.
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now & DONE != 0 {
                // Acquire: pairs with `finish`, as a load for the reason given in `release`.
                self.0.load(Ordering::Acquire);
                return Parting::Done;
            }
            // Release: what the handle did comes before the finisher drops the output. The scope's own
            // reference is still counted, so the handle is not the last.
            match self.0.compare_exchange_weak(
                now,
                now & !HANDLE,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Parting::Gone,
                Err(other) => now = other,
            }
        }
    }

    /// The handle of an ended task lets go. `true`: no reference is left, the caller frees the cell.
    #[inline]
    #[must_use]
    pub(crate) fn part(&self) -> bool {
        // Acquire: as in `is_last`: with no reference left but the handle, nobody can make another.
        if self.0.load(Ordering::Acquire) & !NOTES == HANDLE {
            return true;
        }
        // AcqRel: as in `release`.
        self.0.fetch_and(!(HANDLE | WAKER), Ordering::AcqRel) & !(ONE - 1) == 0
    }
}
