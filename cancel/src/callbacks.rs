//! Runs `on_cancel` functions on a thread of their own, where the thread that comes to call them must go on: a timer's,
//! the one that hears Ctrl-C, or one that cancels nothing and only finds a cancellation while it registers or attaches a
//! token. Not for other threads: who cancels by hand calls the functions himself.
//!
//! A function may take long, or block for ever, or wait for the very timer. So no function ever waits for one that a
//! different request called: the thread that takes a request out of the queue starts another thread first if there
//! are more. A thread ends when the queue is empty, so none is left idle.

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::thread;

use crate::Cause;
use crate::process::PerProcess;
use crate::sync::Arc;
use crate::sync::plain::{Mutex, MutexGuard, PoisonError};
use crate::user::{Callback, quietly};

/// The functions that one request reached.
type Calls = Vec<(Arc<dyn Callback>, Cause)>;

thread_local! {
    static ELSEWHERE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, requests of this thread have their `on_cancel` functions called on another thread.
#[doc(hidden)]
#[derive(Debug)]
#[must_use]
pub struct CallbacksElsewhere {
    before: bool,
    /// It belongs to the thread that made it.
    thread: PhantomData<*const ()>,
}

impl CallbacksElsewhere {
    /// From here on.
    pub fn begin() -> Self {
        Self {
            before: ELSEWHERE.replace(true),
            thread: PhantomData,
        }
    }
}

impl Drop for CallbacksElsewhere {
    fn drop(&mut self) {
        ELSEWHERE.set(self.before);
    }
}

/// Whether requests of this thread have their functions called on another one.
pub(crate) fn are_elsewhere() -> bool {
    ELSEWHERE.get()
}

/// Calls all functions that a request reached: here, or on a thread of their own if this one must go on.
pub(crate) fn call(calls: Calls, elsewhere: bool) {
    if calls.is_empty() {
        return;
    }
    // A model has no threads but those that it starts itself.
    if !elsewhere || cfg!(selvedge_loom) {
        return call_here(calls);
    }
    let (ours, users): (Calls, Calls) = calls.into_iter().partition(|(call, _)| call.is_ours());
    call_here(ours);
    if !users.is_empty() {
        QUEUE.get(|_| Queue::new()).add(users);
    }
}

fn call_here(calls: Calls) {
    for (callback, cause) in calls {
        quietly(|| callback.call(&cause));
        quietly(|| drop(callback));
    }
}

static QUEUE: PerProcess<Queue> = PerProcess::new(Queue::new());

struct Queue(Mutex<State>);

struct State {
    waiting: VecDeque<Calls>,
    /// A thread has been started that has not taken anything yet.
    is_coming: bool,
}

impl Queue {
    const fn new() -> Self {
        Self(Mutex::new(State {
            waiting: VecDeque::new(),
            is_coming: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, calls: Calls) {
        let must_start = {
            let mut state = self.lock();
            state.waiting.push_back(calls);
            !std::mem::replace(&mut state.is_coming, true)
        };
        if must_start && !self.start_thread() {
            // No thread can be had: late is better than never.
            while let Some(calls) = self.take_if_nobody_comes() {
                call_here(calls);
            }
        }
    }

    /// Starts a thread that takes what waits. `false`: none can be had.
    fn start_thread(&'static self) -> bool {
        let started = thread::Builder::new()
            .name("selvedge-cancel".into())
            .spawn(|| self.run());
        if started.is_err() {
            self.lock().is_coming = false;
        }
        started.is_ok()
    }

    fn take_if_nobody_comes(&self) -> Option<Calls> {
        let mut state = self.lock();
        match state.is_coming {
            true => None,
            false => state.waiting.pop_front(),
        }
    }

    /// The life of a thread.
    fn run(&'static self) {
        self.lock().is_coming = false;
        loop {
            let (calls, must_start) = {
                let mut state = self.lock();
                let Some(calls) = state.waiting.pop_front() else {
                    return;
                };
                let more = !state.waiting.is_empty();
                (
                    calls,
                    more && !std::mem::replace(&mut state.is_coming, true),
                )
            };
            if must_start {
                // If none can be had, this thread takes the rest when it is done with these.
                self.start_thread();
            }
            call_here(calls);
        }
    }
}
