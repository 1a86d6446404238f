//! The handle's end of a task: waits for the outcome, takes it, or leaves it to the finisher.
//!
//! It knows pointers only; what a user awaits is [`JoinHandle`](crate::JoinHandle), which decides what to
//! say when there is no value.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use selvedge_cancel::ambient::{self, Look};
use selvedge_cancel::{Cancelled, Cause, TaskId, Watch};

use super::life::Parting;
use super::{Ended, Ending, Header, Payload, Task, is_own_wait, place, quietly};
use crate::window;

/// Why a handle has no value.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The child panicked; the payload comes along unless the scope has raised it already.
    Panicked(Option<Payload>),
    /// Its scope ended without it, or never took it.
    Dropped,
    /// The task that awaits the handle is the task itself.
    Itself,
}

/// The raw handle. `None`: the task was refused, or the outcome was taken.
pub(crate) struct RawJoin<T> {
    task: Option<NonNull<Task>>,
    /// In a `try_scope`, once the handle waits where no scope carries a cancellation down to it. It is there
    /// only while the waker slot is or was filled, so a handle that was never polled need not look for it.
    watch: Option<ManuallyDrop<Box<Watch>>>,
    output: PhantomData<T>,
}

// SAFETY: the handle gives access to a `T` and to nothing else of the task's type; all it shares with the
// scope are the atomic words and, by them, the waker slot.
unsafe impl<T: Send> Send for RawJoin<T> {}
// SAFETY: `&RawJoin` reads atomics only; it cannot reach the `T`.
unsafe impl<T: Send> Sync for RawJoin<T> {}

impl<T> RawJoin<T> {
    /// # Safety
    /// `task` opens a cell with outputs of type `T` whose life word was made with a handle.
    pub(crate) unsafe fn new(task: NonNull<Task>) -> Self {
        Self {
            task: Some(task),
            watch: None,
            output: PhantomData,
        }
    }

    /// The handle of a task that a dying scope has refused.
    pub(crate) fn refused() -> Self {
        Self {
            task: None,
            watch: None,
            output: PhantomData,
        }
    }

    /// The pointer that the cell was made with, null if the handle is spent.
    #[inline]
    fn header(&self) -> *const Header {
        self.task
            .map_or(std::ptr::null(), |task| task.as_ptr().cast_const().cast())
    }

    #[inline]
    pub(crate) fn task(&self) -> Option<&Task> {
        // SAFETY: the handle keeps the cell alive, and lends the task no longer than itself.
        self.task.map(|task| unsafe { task.as_ref() })
    }

    pub(crate) fn id(&self) -> Option<TaskId> {
        self.task().map(|task| task.record.get().id())
    }

    /// Whether the outcome is there, or will never be.
    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        self.task().is_none_or(|task| task.header.life.is_done())
    }

    /// An output that says "cancelled", if this kind of handle has one.
    pub(crate) fn cut_short(&self, cancelled: impl FnOnce() -> Option<Cancelled>) -> Option<T> {
        let write = self.task()?.header.vtable.cut_short?;
        let mut output = MaybeUninit::<T>::uninit();
        let cancelled = cancelled()?;
        // SAFETY: the vtable's function writes what handles of this task yield, a `T`.
        unsafe { write(output.as_mut_ptr().cast(), cancelled) };
        // SAFETY: just written.
        Some(unsafe { output.assume_init() })
    }

    /// In a `try_scope`: the output of a child that was dropped with its cancelled scope, when the grace was over.
    #[cold]
    pub(crate) fn cut_off(&mut self) -> Option<T> {
        let header = &self.task()?.header;
        if header.word.ended() != Some(Ended::Dropped) {
            return None;
        }
        // SAFETY: the handle keeps the cell, which keeps the core.
        let core = unsafe { Header::core_of(self.header()) };
        let cancelled = || Some(Cancelled::counted_at(&core.token, core.token.cause()?));
        let value = self.cut_short(cancelled)?;
        self.part();
        Some(value)
    }

    /// Whether awaiting this handle can be cut short.
    #[inline]
    pub(crate) fn can_be_cut_short(&self) -> bool {
        self.task()
            .is_some_and(|task| task.header.vtable.cut_short.is_some())
    }

    /// Takes the value, or has `waker` woken when the outcome is there. `None`: there is no value, and
    /// `fault` says why.
    #[inline]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Option<T>> {
        let Some(task) = self.task() else {
            return Poll::Ready(None);
        };
        if !task.header.life.is_done() {
            if is_own_wait(&task.header, waker) {
                return Poll::Ready(None);
            }
            if !Self::register(task, waker) {
                window::asks_for_child(&task.header, waker);
                return Poll::Pending;
            }
        }
        if task.header.word.ended() != Some(Ended::Value) {
            return Poll::Ready(None);
        }
        let offset = task.header.vtable.output;
        let header = self.header();
        // SAFETY: the output lies at this offset of the cell.
        let output = unsafe { place::<T>(header, offset) };
        // SAFETY: it was written, and the life word made it the handle's (rule W11).
        let output = unsafe { output.read() };
        self.part();
        Poll::Ready(Some(output))
    }

    /// Asks the child, and everything below it, to stop.
    pub(crate) fn cancel(&self, cause: Cause) {
        let Some(task) = self.task() else { return };
        if task.header.life.is_done() {
            return;
        }
        // SAFETY: the handle keeps the cell, which keeps the core.
        let core = unsafe { Header::core_of(self.header()) };
        let own = task.own(&core.token);
        if own.is_cancelled() {
            // Whoever was first marks the child, or the scope tells it; a mark more each time would count references
            // without end.
            return;
        }
        own.cancel_with(cause);
        window::may_wait_no_more(&task.header);
        // SAFETY: the handle keeps the cell.
        unsafe { core.mark(self.header()) };
    }

    /// The child's end, for any number of waiters.
    pub(crate) fn ending(&self) -> Ending<'_> {
        Ending::new(self.task())
    }

    /// Why `poll` gave no value; the handle is spent, unless it is the task's own.
    #[cold]
    pub(crate) fn fault(&mut self) -> Fault {
        let Some(task) = self.task() else {
            return Fault::Dropped;
        };
        let header = &task.header;
        if !header.life.is_done() {
            return Fault::Itself;
        }
        let fault = match header.word.ended() {
            Some(Ended::Panicked) => {
                // SAFETY: the cell keeps its core alive.
                let core = unsafe { Header::core_of(header) };
                Fault::Panicked(core.take_panic(header))
            }
            _ => Fault::Dropped,
        };
        self.part();
        fault
    }

    /// `false`: the waker is registered. `true`: the outcome is there.
    fn register(task: &Task, waker: &Waker) -> bool {
        let slot = &task.joiner;
        if task.header.life.is_armed() {
            // SAFETY: the slot was written by this handle, and a finisher only reads it.
            if unsafe { slot.peek() }.will_wake(waker) {
                return false;
            }
        }
        let fresh = waker.clone();
        let old = if task.header.life.is_armed() && task.header.life.disarm() {
            // SAFETY: `disarm` gave the filled slot back to the handle.
            Some(unsafe { slot.take() })
        } else {
            None
        };
        // A handle that was armed and could not be disarmed finds the task ended.
        if task.header.life.is_done() {
            quietly(|| drop(fresh));
            quietly(|| drop(old));
            return true;
        }
        // SAFETY: the slot is the handle's: it is not armed.
        unsafe { slot.put(fresh) };
        let armed = task.header.life.arm();
        if !armed {
            // SAFETY: the finisher did not see the slot, so it is the handle's again, filled just now.
            let fresh = unsafe { slot.take() };
            quietly(|| drop(fresh));
        }
        quietly(|| drop(old));
        !armed
    }

    /// The handle waits: asks to be woken by the cancellation of the awaiting task, unless that is polled
    /// again anyway.
    pub(crate) fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        if self.watch.is_none() && ambient::look(cx.waker()) == Look::Carried {
            return Poll::Pending;
        }
        let make = || ManuallyDrop::new(Box::new(Watch::new()));
        self.watch.get_or_insert_with(make).poll(cx)
    }

    pub(crate) fn end_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            // It drops a waker: user code.
            quietly(|| drop(ManuallyDrop::into_inner(watch)));
        }
    }

    /// Lets go of an ended task whose output is taken or dropped.
    #[inline]
    fn part(&mut self) {
        if self.watch.is_some() {
            self.end_watch();
        }
        let Some(task) = self.task.take() else { return };
        let header = task.cast::<Header>().as_ptr().cast_const();
        // SAFETY: the handle keeps the cell alive until this very step.
        if unsafe { &*header }.life.part() {
            // SAFETY: nothing refers to the cell any more, and its future and output are gone.
            unsafe { Header::free(header) };
        }
    }

    /// Drops the handle; a panic of the output's destructor comes back.
    fn abandon(&mut self) -> Option<Payload> {
        let task = self.task()?;
        if task.header.life.is_armed() && task.header.life.disarm() {
            // SAFETY: `disarm` gave the filled slot back to the handle.
            let waker = unsafe { task.joiner.take() };
            quietly(|| drop(waker));
        }
        if task.header.life.try_part() == Parting::Gone {
            // The cell may be freed from here on, by its finisher.
            self.task = None;
            return None;
        }
        let mut payload = None;
        if task.header.word.ended() == Some(Ended::Value) {
            // SAFETY: the task ended with the handle alive, so the output is the handle's.
            payload = unsafe { Header::drop_output(self.header()) };
        }
        self.part();
        payload
    }
}

impl<T> Drop for RawJoin<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(task) = self.task() {
            // The common case first: dropped at once, never awaited.
            if !task.header.life.part_fresh() {
                self.drop_slowly();
            }
        }
    }
}

impl<T> RawJoin<T> {
    #[cold]
    fn drop_slowly(&mut self) {
        self.end_watch();
        if let Some(payload) = self.abandon() {
            if !std::thread::panicking() {
                std::panic::resume_unwind(payload);
            }
            super::drop_payload(payload);
        }
    }
}

impl<T> fmt::Debug for RawJoin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawJoin")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
