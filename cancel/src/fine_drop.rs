//! Whether what is dropped right now may be: a select-safe future is meant to be dropped midway, anything else
//! that is, in a debug build, is worth a report by whoever notices.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, what this thread drops was said to be select-safe.
#[doc(hidden)]
#[derive(Debug)]
#[must_use]
pub struct FineDrop(PhantomData<*const ()>);

impl FineDrop {
    /// Drops are fine from here on.
    #[inline]
    pub fn begin() -> Self {
        // Reports are for debug builds only.
        if cfg!(debug_assertions) {
            DEPTH.with(|depth| depth.set(depth.get() + 1));
        }
        Self(PhantomData)
    }

    /// Whether drops are fine here.
    #[must_use]
    pub fn is_on() -> bool {
        DEPTH.get() > 0
    }
}

impl Drop for FineDrop {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            DEPTH.with(|depth| depth.set(depth.get().saturating_sub(1)));
        }
    }
}

/// As a field before a select-safe future: drops are fine once it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Before;

impl Drop for Before {
    fn drop(&mut self) {
        std::mem::forget(FineDrop::begin());
    }
}

/// As the field after it: and no longer.
#[derive(Debug, Default)]
pub(crate) struct After;

impl Drop for After {
    fn drop(&mut self) {
        drop(FineDrop(PhantomData));
    }
}
