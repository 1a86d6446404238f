//! The end of a child, for those who wait for it besides the handle's owner, any number of them. They borrow the
//! handle, which keeps the cell. While they wait they have a place in the list of the task's record, which they give
//! up when they are dropped.

use std::marker::PhantomData;
use std::task::{Poll, Waker};

use super::{Task, is_own_wait, quietly};
use crate::window;

/// The end of a child, as seen through a borrowed handle.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    task: *const Task,
    /// The place in the list of waiters, once a waker was put there.
    place: Option<u32>,
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
            place: None,
            handle: PhantomData,
        }
    }

    /// The task, for as long as the handle is borrowed.
    pub(crate) fn task(&self) -> Option<&'a Task> {
        // SAFETY: the handle is borrowed for `'a`, and keeps the cell.
        unsafe { self.task.as_ref() }
    }

    /// Whether it is the task that waits with this waker, and so would wait for itself.
    pub(crate) fn is_itself(&self, waker: &Waker) -> bool {
        !self.task.is_null() && is_own_wait(self.task.cast(), waker)
    }

    /// `Ready` once the child has ended; until then `waker`, and none that came before it, is woken by the end.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let Some(task) = self.task() else {
            return Poll::Ready(());
        };
        let life = &task.header.life;
        if life.is_done() {
            self.leave();
            return Poll::Ready(());
        }
        let waiters = &task.record.get().waiters;
        let entered = self.place.is_none();
        self.place = waiters.enter(self.place, waker);
        if self.place.is_none() {
            // Whoever took the list had seen the end.
            return Poll::Ready(());
        }
        if !entered || !life.wait() {
            window::asks_for_child(&task.header, waker);
            return Poll::Pending;
        }
        // It ended meanwhile, and the finisher may have looked at the list before we entered it.
        self.place = None;
        for waker in waiters.close() {
            quietly(|| waker.wake());
        }
        Poll::Ready(())
    }

    /// Takes the waker out of the list, if it is there.
    fn leave(&mut self) {
        if let (Some(place), Some(task)) = (self.place.take(), self.task()) {
            task.record.get().waiters.leave(place);
        }
    }
}

impl Clone for Ending<'_> {
    /// The clone has no place yet, and enters the list when it is polled.
    fn clone(&self) -> Self {
        Self {
            task: self.task,
            place: None,
            handle: PhantomData,
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
