//! Where this crate runs code that is not its own: wakers and callbacks. Each call is caught by
//! itself, so that one that panics takes nothing from the others. No lock is ever held here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Cause;
use crate::sync::{Mutex, lock};

/// A function registered with `on_cancel`, which is called once, or disarmed, or neither.
pub(crate) trait Callback: Send + Sync + fmt::Debug {
    /// Calls the function unless it was called or disarmed before.
    fn call(&self, cause: &Cause);
    /// Drops the function, so that it is not called, unless it is summoned.
    fn disarm(&self);
    /// A request has come for it: it is going to be called, and nobody takes it back.
    fn summon(&self) {}
    /// Whether it is code of this crate, which takes no longer than a waker.
    fn is_ours(&self) -> bool {
        false
    }
}

/// The function itself, in a lock that is held only to take it out.
pub(crate) struct Armed<F>(Mutex<State<F>>);

struct State<F> {
    function: Option<F>,
    summoned: bool,
}

impl<F> Armed<F> {
    pub(crate) fn new(function: F) -> Self {
        Self(Mutex::new(State {
            function: Some(function),
            summoned: false,
        }))
    }
}

impl<F> fmt::Debug for Armed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Armed")
    }
}

impl<F: FnOnce(&Cause) + Send> Callback for Armed<F> {
    fn call(&self, cause: &Cause) {
        let function = lock(&self.0).function.take();
        if let Some(function) = function {
            quietly(|| function(cause));
        }
    }

    fn disarm(&self) {
        let function = {
            let mut state = lock(&self.0);
            match state.summoned {
                true => None,
                false => state.function.take(),
            }
        };
        let_go(function);
    }

    fn summon(&self) {
        lock(&self.0).summoned = true;
    }
}

/// Drops what may be a user's: a waker, a function, or something that holds one. It may do so in a destructor that is
/// part of an unwinding, where a panic that came out would end the process.
pub(crate) fn let_go<T>(user: T) {
    quietly(|| drop(user));
}

/// Runs user code and stops its panic, which the panic hook has reported by then. Resuming it in
/// the canceller was rejected: cancellations start in destructors, where it would abort.
pub fn quietly(run: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else {
        return;
    };
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(payload)));
    if let Err(second) = dropped {
        // A payload whose destructor panics with another such payload has no end; leak it.
        std::mem::forget(second);
    }
}
