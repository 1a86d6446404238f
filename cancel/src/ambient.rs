//! What the code that runs on this thread right now belongs to: its cancel token and its timer.
//!
//! "Ambient" belongs to the stack: an executor or a scope swaps its things in around each poll
//! and back out after it. This module is for them, and hidden; users have `current` and its kin.

use std::cell::Cell;
use std::sync::Arc;

use crate::{CancelToken, Cancelled, Timer};

#[cfg(not(selvedge_loom))]
thread_local! {
    static TOKEN: Cell<Option<CancelToken>> = const { Cell::new(None) };
    static TIMER: Cell<Option<Arc<dyn Timer>>> = const { Cell::new(None) };
}

// All threads of a model run on one thread of the system.
#[cfg(selvedge_loom)]
crate::sync::thread_local! {
    static TOKEN: Cell<Option<CancelToken>> = Cell::new(None);
    static TIMER: Cell<Option<Arc<dyn Timer>>> = Cell::new(None);
}

/// Swaps this thread's current token; touches no count.
///
/// In a thread-local destructor that runs after ours, there is no current token any more:
/// nothing is kept, and the answer is `None`.
pub fn replace(token: Option<CancelToken>) -> Option<CancelToken> {
    TOKEN.try_with(|cell| cell.replace(token)).ok().flatten()
}

/// Swaps this thread's timer; as [`replace`].
pub fn replace_timer(timer: Option<Arc<dyn Timer>>) -> Option<Arc<dyn Timer>> {
    TIMER.try_with(|cell| cell.replace(timer)).ok().flatten()
}

/// Puts what was taken out of a thread-local cell back in, on every way out.
struct Peek<'a, T> {
    cell: &'a Cell<Option<T>>,
    value: Option<T>,
}

impl<T> Drop for Peek<'_, T> {
    fn drop(&mut self) {
        self.cell.set(self.value.take());
    }
}

/// Reads a cell's value in place. The cell is empty meanwhile, so `look` is for our own code.
fn peek<T, R>(cell: &Cell<Option<T>>, look: impl FnOnce(Option<&T>) -> R) -> R {
    let value = cell.take();
    let peek = Peek { cell, value };
    look(peek.value.as_ref())
}

/// The current token, if anything runs under one.
pub fn token() -> Option<CancelToken> {
    TOKEN
        .try_with(|cell| peek(cell, |token| token.cloned()))
        .ok()
        .flatten()
}

/// The current timer, if one is installed.
pub fn timer() -> Option<Arc<dyn Timer>> {
    TIMER
        .try_with(|cell| peek(cell, |timer| timer.cloned()))
        .ok()
        .flatten()
}

/// `Err` if the current token is cancelled, without touching a count.
pub(crate) fn check() -> Result<(), Cancelled> {
    let cause = TOKEN
        .try_with(|cell| {
            peek(cell, |token| match token {
                Some(token) if token.is_cancelled() => token.cause(),
                _ => None,
            })
        })
        .ok()
        .flatten();
    match cause {
        Some(cause) => Err(Cancelled::new(cause)),
        None => Ok(()),
    }
}

/// All ambient things of one thread, to be carried to another.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The current token; `None` outside every scope.
    pub token: Option<CancelToken>,
    /// The installed timer; `None` stands for the embedded one.
    pub timer: Option<Arc<dyn Timer>>,
}

impl Context {
    /// What this thread has.
    #[must_use]
    pub fn capture() -> Self {
        Self {
            token: token(),
            timer: timer(),
        }
    }

    /// Swaps this in for what the thread has, which is the answer.
    pub fn install(self) -> Self {
        Self {
            token: replace(self.token),
            timer: replace_timer(self.timer),
        }
    }
}
