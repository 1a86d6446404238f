//! The shared budget of a tokio task: after so many operations in one poll, tokio's channels, sockets and timers answer
//! `Pending` and wake at once, so that a task which finds everything ready lets others run.
//!
//! A scope is polled in one task, so all of its children that the owner polls draw on one budget. Once it is spent,
//! polls of further children come to nothing: the owner gives way, and goes on in the task's next poll with a new one.
//! A helper is in no task of tokio's and would have no budget at all, so that a child with an endless supply would
//! never yield: it works inside a `Handle::block_on`, whose every poll has a fresh one, a packet a poll.
//!
//! Other runtimes have no such budget. Without the feature `tokio` nothing of this is there.

#[cfg(feature = "tokio")]
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
};

use std::task::Waker;

use super::core::Core;
use super::side_by_side::Task;
#[cfg(feature = "tokio")]
use crate::sync::plain::{AtomicU32, Ordering};
#[cfg(feature = "tokio")]
use crate::task::{drop_payload, quietly};

/// Whether tokio's operations may still succeed in this poll.
#[inline]
pub(super) fn has_budget() -> bool {
    #[cfg(feature = "tokio")]
    return tokio::task::coop::has_budget_remaining();
    #[cfg(not(feature = "tokio"))]
    true
}

/// Whether the wake of the task around may be put off: not where that is a member of another window, which polls it
/// in its turn and gives way itself; nor where another executor polls the task, beside a runtime that is entered. A task
/// of tokio's that has gone without a budget, as `unconstrained` has it, is one all the same.
pub(super) fn may_put_off(by_tokio: bool) -> bool {
    let _ = by_tokio;
    #[cfg(feature = "tokio")]
    return !super::here::in_window()
        && tokio::runtime::Handle::try_current().is_ok()
        && (by_tokio || (!crate::rt::in_block_on() && tokio::task::try_id().is_some()));
    #[cfg(not(feature = "tokio"))]
    false
}

/// Who polls a window that no window is around, if that can be told.
pub(super) fn task_around(core: &Core) -> Option<Task> {
    let calls = crate::rt::calls_of_block_on();
    if calls > 0 {
        return Some(Task::BlockOn(calls));
    }
    #[cfg(feature = "tokio")]
    {
        let task = tokio::task::try_id();
        if task.is_some() || core.is_polled_by_tokio() {
            return Some(Task::Tokio(task));
        }
    }
    core.parent.address().map(Task::Other)
}

/// What wakes the task around, should its worker not do so soon after [`PutOff::begin`](super::put_off::PutOff::begin).
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(feature = "tokio")]
    alarm: super::alarm::Alarm,
}

impl Alarm {
    /// Runs code of the waker.
    pub(super) fn new(waker: &Waker) -> Self {
        let _ = waker;
        Self {
            #[cfg(feature = "tokio")]
            alarm: super::alarm::Alarm::new(waker),
        }
    }

    /// The task waits for its worker from now on.
    pub(super) fn wait(&mut self) {
        #[cfg(feature = "tokio")]
        self.alarm.wait();
    }

    /// Whether the task waits.
    pub(super) fn waits(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.alarm.waits();
        #[cfg(not(feature = "tokio"))]
        true
    }

    /// Whether it has woken the task since this was last asked.
    pub(super) fn has_rung(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.alarm.has_rung();
        #[cfg(not(feature = "tokio"))]
        false
    }

    /// The task does not wait any more.
    pub(super) fn rest(&self) {
        #[cfg(feature = "tokio")]
        self.alarm.rest();
    }
}

/// Whether this thread is in a poll of the runtime's, and not in one of some other executor that runs beside it, on a
/// thread that has entered the runtime or may block. Only such a poll has a budget that ends: it is taken, operation by
/// operation, and put back.
pub(super) fn has_budget_that_ends() -> bool {
    #[cfg(feature = "tokio")]
    return budget_left() != Left::Endless;
    #[cfg(not(feature = "tokio"))]
    false
}

/// How many operations of tokio's may still succeed in a poll.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Some(usize),
    Endless,
}

#[cfg(feature = "tokio")]
fn budget_left() -> Left {
    /// More than a whole budget.
    const MORE: usize = 256;
    let mut taken = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let left = loop {
        if !has_budget() {
            break Left::Some(taken.len());
        }
        match tokio::task::coop::poll_proceed(&mut cx) {
            Poll::Ready(one) if taken.len() < MORE => taken.push(one),
            Poll::Ready(_) => break Left::Endless,
            Poll::Pending => break Left::Some(taken.len()),
        }
    };
    // Each puts back what there was before it.
    while taken.pop().is_some() {}
    left
}

/// Whether this thread is a helper's who works inside a runtime, as in a poll of it.
pub(super) fn is_helper_inside() -> bool {
    #[cfg(feature = "tokio")]
    return INSIDE.get();
    #[cfg(not(feature = "tokio"))]
    false
}

/// The runtime that a window is in, as helpers know it.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    #[cfg(feature = "tokio")]
    tokio: Option<tokio::runtime::Handle>,
    /// Helpers are inside, as in a poll of the runtime's, and have a budget. Not where the scope is polled by another
    /// executor, with a runtime entered beside it: there a task may block on the runtime, and so it may on a helper.
    /// And not in a pool that has other users, whose jobs a task may run while it waits for some of its own.
    #[cfg(feature = "tokio")]
    inside: bool,
}

/// Whether this thread is a worker of a multi-thread runtime and has that role now, so that it can hand its other tasks to
/// another thread. In `block_on` of such a runtime, in a `LocalSet`, on a thread for blocking work or inside
/// `block_in_place` there is nothing to hand over, and `block_in_place` would panic, or take the budget away for good. The
/// runtime does not say; but only a worker puts a yield off, and all others wake at once. A current-thread runtime does so
/// too, and a multi-thread one may be entered on its thread. What is polled by its `block_on` is no task; where a task polls
/// the scope, it takes one try to find out ([`hand_over`]).
#[cfg(feature = "tokio")]
pub(super) fn is_on_worker() -> bool {
    use tokio::runtime::{Handle, RuntimeFlavor};

    let Ok(runtime) = Handle::try_current() else {
        return false;
    };
    let may_be = runtime.runtime_flavor() == RuntimeFlavor::MultiThread
        && tokio::task::try_id().is_some()
        && REFUSED.get().by != Some(runtime.id());
    if !may_be {
        return false;
    }
    // The same each time: tokio keeps one that comes several times in a row once, and where somebody blocks the worker it
    // keeps them for long.
    let woken = WOKEN.try_with(Arc::clone).unwrap_or_else(|_| Woken::new());
    // Relaxed, here and below: it is this thread.
    woken.0.store(0, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(&woken));
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    woken.0.load(Ordering::Relaxed) == 0
}

#[cfg(feature = "tokio")]
thread_local! {
    static WOKEN: Arc<Woken> = Woken::new();
}

#[cfg(feature = "tokio")]
thread_local! {
    static REFUSED: Cell<Refused> = const { Cell::new(Refused::NEVER) };
}

/// What this thread knows of hand-overs that were refused.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy)]
struct Refused {
    /// The runtime that is entered on this thread, and whose worker it is not.
    by: Option<tokio::runtime::Id>,
    /// How many failed in a row for some other reason.
    failed: u32,
    /// So many waits go by before the next try.
    left_out: u32,
}

#[cfg(feature = "tokio")]
impl Refused {
    const NEVER: Self = Self {
        by: None,
        failed: 0,
        left_out: 0,
    };

    /// Something panicked before the wait could begin. Tokio says so where it is no worker's thread; or it could not have a
    /// thread more just now, or a waker of somebody's has panicked.
    fn learn(self, payload: &crate::task::Payload) -> Self {
        let text = (payload.downcast_ref::<&str>().copied())
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        if text.is_some_and(|text| text.contains(NO_WORKER)) {
            let by = RuntimeId::current().tokio;
            return Self { by, ..self };
        }
        let failed = (self.failed + 1).min(FAILED_MOST);
        Self {
            failed,
            left_out: (1 << failed) - 2,
            ..self
        }
    }
}

/// From what `block_in_place` panics with in a thread that is no worker's.
#[cfg(feature = "tokio")]
const NO_WORKER: &str = "multi-threaded runtime";
/// After so many failures in a row a thread tries once in a thousand waits.
#[cfg(feature = "tokio")]
const FAILED_MOST: u32 = 10;

/// Runs a wait while another thread has this worker's tasks. It may be over at once: what the worker does first may call
/// wakers of users that panic.
#[cfg(feature = "tokio")]
pub(super) fn hand_over(wait: impl Fn()) {
    let refused = REFUSED.get();
    if refused.left_out > 0 {
        let left_out = refused.left_out - 1;
        REFUSED.set(Refused {
            left_out,
            ..refused
        });
        return wait();
    }
    let has_begun = Cell::new(false);
    let handed = catch_unwind(AssertUnwindSafe(|| {
        tokio::task::block_in_place(|| {
            has_begun.set(true);
            wait();
        });
    }));
    let refused = match &handed {
        Err(payload) if !has_begun.get() => refused.learn(payload),
        _ => Refused {
            failed: 0,
            ..refused
        },
    };
    REFUSED.set(refused);
    if let Err(payload) = handed {
        drop_payload(payload);
    }
}

/// Whether somebody has called it.
#[cfg(feature = "tokio")]
struct Woken(AtomicU32);

#[cfg(feature = "tokio")]
impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU32::new(0)))
    }
}

#[cfg(feature = "tokio")]
impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // Relaxed: as above.
        self.0.store(1, Ordering::Relaxed);
    }
}

/// Whether this thread is in a runtime of somebody's. It is no helper then: what budget it has may be spent for good.
pub(super) fn in_runtime() -> bool {
    #[cfg(feature = "tokio")]
    return tokio::runtime::Handle::try_current().is_ok();
    #[cfg(not(feature = "tokio"))]
    false
}

/// Which runtime a thread is in, if it is in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RuntimeId {
    #[cfg(feature = "tokio")]
    tokio: Option<tokio::runtime::Id>,
}

impl RuntimeId {
    /// This thread's.
    #[inline]
    pub(super) fn current() -> Self {
        Self {
            #[cfg(feature = "tokio")]
            tokio: tokio::runtime::Handle::try_current()
                .ok()
                .map(|runtime| runtime.id()),
        }
    }
}

#[cfg(feature = "tokio")]
thread_local! {
    /// A helper works here inside a runtime, as in a poll of it.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Puts back whether a helper works here.
#[cfg(feature = "tokio")]
struct Inside(bool);

#[cfg(feature = "tokio")]
impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

impl Runtime {
    /// That of this thread, for helpers of this kind of pool. `by_tokio`: the owner is in a poll of the runtime's.
    pub(super) fn current(shared: bool, by_tokio: bool) -> Self {
        let _ = (shared, by_tokio);
        Self {
            #[cfg(feature = "tokio")]
            tokio: tokio::runtime::Handle::try_current().ok(),
            #[cfg(feature = "tokio")]
            inside: !shared && by_tokio,
        }
    }

    /// Whether helpers are inside, so that each turn has a budget of its own.
    pub(super) fn is_inside(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.tokio.is_some() && self.inside;
        #[cfg(not(feature = "tokio"))]
        false
    }

    /// Runs `turn` inside the runtime until it says `false`, each time under a fresh budget.
    pub(super) fn turns(&self, mut turn: impl FnMut() -> bool) {
        #[cfg(feature = "tokio")]
        if let Some(runtime) = &self.tokio {
            if self.inside {
                let _inside = Inside(INSIDE.replace(true));
                return runtime.block_on(poll_fn(|cx| {
                    if turn() {
                        // The thread does not sleep: this is how to have a poll more.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                }));
            }
            let inside = runtime.enter();
            while turn() {}
            // A child that has left a runtime of its own entered makes this panic.
            return quietly(|| drop(inside));
        }
        while turn() {}
    }
}
