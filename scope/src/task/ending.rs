//! The end of a child, for those who wait for it besides the handle's owner, any number of them. They borrow the
//! handle, which keeps the cell; what they leave behind are wakers in the task's record.

use std::marker::PhantomData;
use std::task::{Poll, Waker};

use super::{Task, quietly};
use crate::window;

/// The end of a child, as seen through a borrowed handle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    task: *const Task,
    handle: PhantomData<&'a Task>,
}

// SAFETY: it reaches the life word and the record, which are atomic or locked, and nothing of the child's type.
unsafe impl Send for Ending<'_> {}
// SAFETY: as above.
unsafe impl Sync for Ending<'_> {}

impl<'a> Ending<'a> {
    /// `None`: the handle is spent, and there is nothing to wait for.
    pub(super) fn new(task: Option<&'a Task>) -> Self {
        Self {
            task: task.map_or(std::ptr::null(), std::ptr::from_ref),
            handle: PhantomData,
        }
    }

    /// The task, for as long as the handle is borrowed.
    pub(crate) fn task(&self) -> Option<&'a Task> {
        // SAFETY: the handle is borrowed for `'a`, and keeps the cell.
        unsafe { self.task.as_ref() }
    }

    /// Whether it is the task that this thread is polling, which would wait for itself.
    pub(crate) fn is_itself(&self) -> bool {
        !self.task.is_null() && window::is_current_task(self.task.cast())
    }

    /// `Ready` once the child has ended; until then `waker` is woken by the end.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<()> {
        let Some(task) = self.task() else {
            return Poll::Ready(());
        };
        if task.header.life.is_done() {
            return Poll::Ready(());
        }
        task.record.get().add_waiter(waker);
        if !task.header.life.wait() {
            return Poll::Pending;
        }
        // It ended meanwhile, and the finisher may have looked at the list before we entered it.
        for waker in task.record.get().take_waiters() {
            quietly(|| waker.wake());
        }
        Poll::Ready(())
    }
}
