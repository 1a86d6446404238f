//! The wakers of children: a counted pointer to the cell, good on any thread at any time (rule W6).

use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::Header;
use crate::window;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);

/// Lends a waker of the task for the length of a call, without counting it.
///
/// # Safety
/// The cell outlives the call.
#[inline]
pub(crate) unsafe fn with_waker<R>(header: *const Header, f: impl FnOnce(&Waker) -> R) -> R {
    let raw = RawWaker::new(header.cast(), &VTABLE);
    // SAFETY: the functions below keep the contract of `RawWaker`; this one is borrowed, never dropped.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw) });
    f(&waker)
}

/// Whether this is a waker of that very task.
#[inline]
pub(crate) fn is_waker_of(header: *const Header, waker: &Waker) -> bool {
    waker.data() == header.cast() && ptr::eq(waker.vtable(), &VTABLE)
}

/// Whether what asks with this waker is that very task, which this thread is polling. Its thread alone does not say so:
/// an executor inside the task may be polling something else, with a waker of its own.
#[inline]
pub(crate) fn is_own_wait(header: *const Header, waker: &Waker) -> bool {
    is_waker_of(header, waker) && window::is_current_task(header)
}

/// # Safety
/// `data` is a header that the waker holds a reference to. The same for the three below.
unsafe fn clone(data: *const ()) -> RawWaker {
    let header = data.cast::<Header>();
    // SAFETY: the waker keeps the cell alive.
    unsafe { &*header }.life.acquire();
    window::waker_is_cloned(header);
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: handed on; the reference is given up only afterwards, so the cell, its chunk and its core
    // outlive the telling of the parent.
    unsafe { wake_by_ref(data) };
    // SAFETY: `wake` consumes the waker.
    unsafe { drop(data) };
}

unsafe fn wake_by_ref(data: *const ()) {
    let header = data.cast::<Header>();
    // SAFETY: the waker keeps the cell alive.
    if unsafe { &*header }.word.wake() {
        // SAFETY: `wake` gave us the token, so the task is in no queue.
        unsafe { window::enqueue(header) };
    }
}

unsafe fn drop(data: *const ()) {
    let header = data.cast::<Header>();
    // SAFETY: the waker keeps the cell alive until here.
    if unsafe { &*header }.life.release() {
        // SAFETY: nothing refers to the cell any more; the scope let go, so its future is gone.
        unsafe { Header::free(header) };
    }
}
