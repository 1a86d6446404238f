//! What the engine tells `selvedge-cancel` of the task that is polled on this thread: which token it has, and
//! whether a cancellation polls it again without its registering anywhere.

use std::task::Waker;

use selvedge_cancel::ambient::Look;
use selvedge_cancel::{CancelToken, Cause, TaskId, ambient};

use super::body::is_body_waker;
use super::circle;
use super::core::Core;
use super::here;
use crate::task::{Header, Kind, Task, is_waker_of, with_waker};

#[derive(Debug)]
struct Engine;

/// Makes the engine known; called whenever a scope is made, and cheap after the first time.
#[inline]
pub(super) fn install() {
    ambient::set_host(&Engine);
}

/// The innermost window that this thread is in, and the task that it polls there; good for the length of a call.
struct Running<'a> {
    core: &'a Core,
    header: *const Header,
    kind: Kind,
}

impl<'a> Running<'a> {
    fn task(&self) -> Option<&'a Task> {
        // SAFETY: the task is alive while it is polled.
        unsafe { Header::task(self.header) }
    }
}

impl Running<'_> {
    /// Whether this waker is the task's own, so that it is polled by the engine itself and not by something inside.
    fn is_behind(&self, waker: &Waker) -> bool {
        match self.kind {
            Kind::Body => is_body_waker(self.core, waker),
            _ => is_waker_of(self.header, waker),
        }
    }
}

/// The task that this thread polls in the innermost window it is in.
#[inline]
fn current<'a>() -> Option<Running<'a>> {
    let (core, header) = here::polled()?;
    // SAFETY: a frame is taken off before its core can go.
    let core = unsafe { &*core };
    // SAFETY: the task is being polled, so the scope's reference keeps its cell; the body's is the core's.
    let kind = unsafe { &*header }.vtable.kind;
    Some(Running { core, header, kind })
}

/// The task that this thread polls, if it runs under `token` as its scope's.
fn under<'a>(token: &CancelToken) -> Option<Running<'a>> {
    current().filter(|running| running.core.token.is_same(token))
}

/// Whether this is the task's own token.
fn is_own(task: &Task, token: &CancelToken) -> bool {
    task.own_if_any().is_some_and(|own| own.is_same(token))
}

impl ambient::Host for Engine {
    fn member(&self, token: &CancelToken) -> Option<CancelToken> {
        let running = under(token)?;
        match running.task() {
            Some(task) => Some(task.own(&running.core.token).clone()),
            None if running.kind == Kind::Body => Some(running.core.body_token().clone()),
            None => None,
        }
    }

    fn task(&self, token: &CancelToken) -> Option<CancelToken> {
        // SAFETY: a frame is taken off before its core can go.
        let core = unsafe { &*here::innermost()? };
        let scope = &core.token;
        let running = current();
        let task = running.as_ref().and_then(Running::task);
        let (Some(running), Some(task)) = (running, task) else {
            if scope.is_same(token) {
                // A body, a future of a batch, and what is dropped or woken between polls: they show the
                // scope's own token.
                core.expose();
            }
            return None;
        };
        if !scope.is_same(token) && !is_own(task, token) {
            return None;
        }
        // SAFETY: the task is being polled, so its cell outlives the call.
        let own = unsafe {
            with_waker(running.header, |waker| {
                task.record.get().expose(scope, waker)
            })
        };
        Some(own.clone())
    }

    fn cause(&self, token: &CancelToken) -> Option<Cause> {
        under(token)?.task()?.own_if_any()?.own_cause()
    }

    fn look(&self, token: &CancelToken, waker: &Waker) -> Look {
        let Some(running) = current() else {
            return Look::Alone;
        };
        let own = running.task().and_then(Task::own_if_any);
        let scopes = running.core.token.is_same(token);
        if scopes && own.is_some_and(CancelToken::is_cancelled) {
            Look::Cancelled
        } else if running.is_behind(waker) && (scopes || own.is_some_and(|own| own.is_same(token)))
        {
            // A cancellation ends its wait.
            circle::asks_for_more();
            Look::Carried
        } else {
            Look::Alone
        }
    }

    fn task_id(&self) -> Option<TaskId> {
        let running = current()?;
        match running.task() {
            Some(task) => Some(task.record.get().id()),
            None if running.kind == Kind::Body => Some(running.core.body_id()),
            None => None,
        }
    }
}
