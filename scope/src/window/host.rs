//! What the engine tells `selvedge-cancel` of the task that is polled on this thread: which token it has, and
//! whether a cancellation polls it again without its registering anywhere.

use std::task::Waker;

use selvedge_cancel::{CancelToken, Cause, TaskId, ambient};

use super::body::is_body_waker;
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

/// The innermost window that this thread is in, and the task that it polls, as seen by [`running`].
struct Running<'a> {
    core: &'a Core,
    header: *const Header,
    kind: Kind,
}

impl Running<'_> {
    fn task(&self) -> Option<&Task> {
        // SAFETY: a child's header opens a task, which is alive while it is polled.
        (self.kind == Kind::Child).then(|| unsafe { &*self.header.cast::<Task>() })
    }
}

/// Runs `look` if a task is being polled on this thread, in a window whose tasks run under `token`.
fn running<R>(token: &CancelToken, look: impl FnOnce(Running<'_>) -> Option<R>) -> Option<R> {
    let (core, header) = here::polled()?;
    // SAFETY: a frame is taken off before its core can go.
    let core = unsafe { &*core };
    if !core.token.is_same(token) {
        return None;
    }
    // SAFETY: the task is being polled, so the scope's reference keeps its cell; the body's is the core's.
    let kind = unsafe { &*header }.vtable.kind;
    look(Running { core, header, kind })
}

impl ambient::Host for Engine {
    fn member(&self, token: &CancelToken) -> Option<CancelToken> {
        running(token, |running| match running.task() {
            Some(task) => Some(task.own(&running.core.token).clone()),
            None if running.kind == Kind::Body => Some(running.core.body_token().clone()),
            None => None,
        })
    }

    fn task(&self, token: &CancelToken) -> Option<CancelToken> {
        running(token, |running| {
            let Some(task) = running.task() else {
                // The body shows the scope's own token.
                running.core.expose();
                return None;
            };
            let scope = &running.core.token;
            // SAFETY: the task is being polled, so its cell outlives the call.
            let own = unsafe {
                with_waker(running.header, |waker| {
                    task.record.get().expose(scope, waker)
                })
            };
            Some(own.clone())
        })
    }

    fn cause(&self, token: &CancelToken) -> Option<Cause> {
        running(token, |running| running.task()?.own_if_any()?.own_cause())
    }

    fn carries(&self, token: &CancelToken, waker: &Waker) -> bool {
        let Some((core, header)) = here::polled() else {
            return false;
        };
        // SAFETY: as in `running`.
        let core = unsafe { &*core };
        // SAFETY: as in `running`.
        let kind = unsafe { &*header }.vtable.kind;
        let own = || {
            // SAFETY: a child's header opens a task, which is alive while it is polled.
            let task = (kind == Kind::Child).then(|| unsafe { &*header.cast::<Task>() });
            task.and_then(Task::own_if_any)
                .is_some_and(|own| own.is_same(token))
        };
        let its_own = match kind {
            Kind::Body => is_body_waker(core, waker),
            _ => is_waker_of(header, waker),
        };
        its_own && (core.token.is_same(token) || own())
    }

    fn task_id(&self) -> Option<TaskId> {
        let (core, header) = here::polled()?;
        // SAFETY: as in `running`.
        match unsafe { &*header }.vtable.kind {
            // SAFETY: a child's header opens a task, which is alive while it is polled.
            Kind::Child => Some(unsafe { &*header.cast::<Task>() }.record.get().id()),
            // SAFETY: as in `running`.
            Kind::Body => Some(unsafe { &*core }.body_id()),
            Kind::Batch | Kind::Notice => None,
        }
    }
}
