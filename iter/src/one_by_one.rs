//! Dropping items of users, of which any may panic. A collection of the standard library that is dropped ends the process
//! when two of its items panic, and when one does while something else unwinds.

use std::any::Any;
use std::mem::needs_drop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use selvedge_cancel::quietly;

/// Runs destructors one after the other, whatever one of them panics with.
#[derive(Default)]
pub(crate) struct OneByOne {
    first: Option<Box<dyn Any + Send>>,
}

impl OneByOne {
    pub(crate) fn run(&mut self, destructor: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(destructor)) {
            match &self.first {
                None => self.first = Some(payload),
                Some(_) => quietly(|| drop(payload)),
            }
        }
    }

    /// Raises the first panic, unless this is part of an unwinding.
    pub(crate) fn end(self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(payload) = self.first() {
            resume_unwind(payload);
        }
    }

    /// What the first panic was raised with.
    pub(crate) fn first(mut self) -> Option<Box<dyn Any + Send>> {
        self.first.take()
    }
}

/// A payload that nobody takes is a value of a user's, too.
impl Drop for OneByOne {
    fn drop(&mut self) {
        let first = self.first.take();
        quietly(|| drop(first));
    }
}

/// Drops each by itself, and raises the first panic when all are gone, unless this is part of an unwinding.
pub(crate) fn drop_all<T>(items: impl Iterator<Item = T>) {
    if !needs_drop::<T>() {
        return;
    }
    let mut all = OneByOne::default();
    for item in items {
        all.run(|| drop(item));
    }
    all.end();
}

/// What is left of some items is dropped so.
#[derive(Debug)]
pub(crate) struct Rest<I: Iterator>(pub(crate) I);

impl<I: Iterator> Drop for Rest<I> {
    #[inline]
    fn drop(&mut self) {
        if needs_drop::<I::Item>() {
            drop_all(self.0.by_ref());
        }
    }
}
