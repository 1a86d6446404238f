//! What goes wrong in a scope: panics and errors of its members, and whom the cause of its cancellation names.
//! Also what the body has of a task: its token and its number.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge_cancel::{CancelToken, Cancelled, Cause, CauseKind, TaskId};

use super::core::Core;
use super::sinks::{Errors, Failed, Sort};
use crate::task::{Header, Payload};

/// How many tasks a report names.
const NAMED: usize = 8;

impl Core {
    /// Something of this scope panicked: its siblings are asked to stop. Called with nothing locked.
    pub(crate) fn panicked(&self, task: *const Header, payload: Payload) {
        self.panics.add(task, payload);
        // SAFETY: whatever panicked was polled or dropped just now, and its cell is there.
        unsafe { self.cancel_for(CauseKind::SiblingPanicked, task) };
    }

    pub(crate) fn take_panic(&self, task: *const Header) -> Option<Payload> {
        self.panics.take(task)
    }

    pub(crate) fn finish_panics(&self) -> Option<Payload> {
        self.panics.finish()
    }

    /// Asks all members to stop because of one, which the cause names. Nothing if they were asked before.
    ///
    /// # Safety
    /// The header is alive.
    unsafe fn cancel_for(&self, kind: CauseKind, header: *const Header) {
        if self.token.is_cancelled() {
            return;
        }
        let cause = Cause::new(kind);
        // SAFETY: handed on from the caller.
        let cause = match unsafe { Header::task(header) } {
            Some(task) => cause
                .with_text(task.describe())
                .with_place(task.place)
                .with_task(task.record.get().id()),
            None if std::ptr::eq(header, &raw const self.body) => cause
                .with_text(format!("the body of {}", self.describe()))
                .with_place(self.place)
                .with_task(self.body_id()),
            None => cause
                .with_text(format!("a member of {}", self.describe()))
                .with_place(self.place)
                .with_task(self.body_id()),
        };
        self.cancel_with(cause);
    }

    /// Where `failed` puts errors until the next poll.
    pub(crate) fn set_sink(&self, sink: *const ()) {
        self.sink.set(sink);
    }

    /// A member of a `try_scope` returned an error: the scope takes it. Unless it holds a cancellation that
    /// the member or the scope was under, the others are asked to stop. The answer is for whoever awaits the member's
    /// handle; if the scope is cancelled, that is what it tells of. Called with nothing locked.
    ///
    /// # Safety
    /// A window is open, the member's future is gone, and the scope's errors are of type `E`.
    pub(crate) unsafe fn failed<E>(&self, header: *const Header, error: E) -> Cancelled {
        // SAFETY: the scope future, which owns the sink, is pinned and being polled.
        let sink = unsafe { &*self.sink.get().cast::<Errors<E>>() };
        // SAFETY: the task is being polled, so it is alive.
        let task = unsafe { Header::task(header) };
        let own = match task {
            Some(task) => task.own_if_any(),
            None => self.own.get().map(|(own, _)| own),
        };
        let asked = AssertUnwindSafe(|| sink.is_cancellation(&error, own, &self.token));
        // What panics is the user's function: the error is kept all the same.
        let (cancelled, panicked) = match catch_unwind(asked) {
            Ok(cancelled) => (cancelled, None),
            Err(payload) => (false, Some(payload)),
        };
        let cause = own.and_then(CancelToken::cause);
        let alone =
            || own.is_some_and(|own| own.own_cause().is_some()) || !self.token.is_cancelled();
        let sort = match cancelled {
            false => Sort::Failure,
            true if alone() => Sort::CancelledAlone,
            true => Sort::Cancelled,
        };
        let id = task.map_or_else(|| self.body_id(), |task| task.record.get().id());
        let failed = Failed {
            error,
            task: id,
            sort,
        };
        sink.push(failed, task.is_none());
        if let Some(payload) = panicked {
            self.panicked(header, payload);
        }
        if !cancelled {
            // SAFETY: as above.
            unsafe { self.cancel_for(CauseKind::SiblingFailed, header) };
        }
        let cause = cause.or_else(|| self.token.cause());
        let cause = cause.unwrap_or_else(|| CauseKind::SiblingFailed.into());
        // One that nobody will see must not have other members' errors looked into.
        if task.is_some_and(|task| task.header.life.has_handle()) {
            Cancelled::counted_at(&self.token, cause)
        } else {
            Cancelled::uncounted(cause)
        }
    }

    /// What hangs below the body, and what fails in it, is counted here: its own token, below the scope's.
    pub(super) fn body_token(&self) -> &CancelToken {
        &self.body_own().0
    }

    /// The body's number.
    pub(super) fn body_id(&self) -> TaskId {
        self.body_own().1
    }

    fn body_own(&self) -> &(CancelToken, TaskId) {
        self.own
            .get_or_init(|| (self.token.child(), TaskId::next()))
    }

    /// Whether something has to happen once the grace is over.
    pub(super) fn minds_abort(&self) -> bool {
        self.settings.said.is_graced()
    }

    /// The scope's phase may have changed, or its limits: sets alarms. Runs code of the timer.
    pub(super) fn look_at_limits(&self) {
        if let Some(limits) = self.settings.limits.get() {
            limits.begin(&self.token);
            limits.look(&self.token);
        }
    }

    /// The scope takes no more children: whether a member is left that has not ended. Owner only, with no
    /// helper inside.
    pub(super) fn is_left(&self) -> bool {
        self.sort(self.inbox.die());
        !self.owner.body_done.get() || self.live() > 0
    }

    /// Which members have not ended, for messages. Owner only, with no helper inside.
    pub(super) fn who_is_left(&self) -> String {
        let mut text = String::new();
        let mut more = 0;
        let mut add = |who: &str| {
            if more >= NAMED {
                more += 1;
                return;
            }
            more += 1;
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(who);
        };
        if !self.owner.body_done.get() {
            add("the body");
        }
        self.each_living(|header| {
            // SAFETY: living children are alive.
            if let Some(task) = unsafe { Header::task(header) } {
                add(&task.describe());
            }
        });
        if more > NAMED {
            let _ = write!(text, " and {} more", more - NAMED);
        }
        text
    }
}
