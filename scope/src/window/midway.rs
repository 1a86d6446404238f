//! In debug builds: says so when a scope is dropped while tasks of it are suspended midway and nobody said that
//! this is fine. Mostly somebody has put a whole scope into a foreign `select!`, which drops the loser.

use std::cell::Cell;

use selvedge_cancel::FineDrop;

use super::core::Core;
use crate::messages::say;
use crate::task::{Header, Task};

thread_local! {
    /// The scope around this one has reported already.
    static REPORTED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, scopes that go down with this one are not reported by themselves.
#[derive(Debug)]
#[must_use]
pub(super) struct Reported {
    before: bool,
}

impl Drop for Reported {
    fn drop(&mut self) {
        REPORTED.set(self.before);
    }
}

/// Whether it was polled, has not ended, and loses something by being dropped.
///
/// # Safety
/// The header opens a child of a scope, which is alive and between polls.
unsafe fn is_midway(header: *const Header) -> bool {
    // SAFETY: handed on from the caller.
    let head = unsafe { &*header };
    if head.word.is_fresh() || head.word.ended().is_some() {
        return false;
    }
    // SAFETY: a scope's children are tasks.
    !unsafe { &*header.cast::<Task>() }.select_safe
}

/// Called first when a scope is dropped before its end.
pub(super) fn report(core: &Core) -> Option<Reported> {
    if !cfg!(debug_assertions) || FineDrop::is_on() || std::thread::panicking() {
        return None;
    }
    if REPORTED.get() {
        return None;
    }
    let mut midway = 0_usize;
    let mut first = None;
    core.each_living(|header| {
        // SAFETY: living children are alive, and nobody polls while the scope is dropped.
        if unsafe { is_midway(header) } {
            midway += 1;
            // SAFETY: a scope's children are tasks.
            first.get_or_insert_with(|| unsafe { &*header.cast::<Task>() }.describe());
        }
    });
    if midway == 0 {
        return None;
    }
    let whole = core.describe();
    let first = first.map(|first| format!(", {first} among them"));
    say(format!(
        "{whole} was dropped with {midway} of its tasks suspended midway{}. What they had begun is lost. Await the \
         scope to its end, select on a handle instead, or say that it may be dropped: `select_safe(scope(…))`.",
        first.unwrap_or_default()
    ));
    Some(Reported {
        before: REPORTED.replace(true),
    })
}
