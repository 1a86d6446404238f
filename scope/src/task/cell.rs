//! Typed cells: a header followed by a future that gives way to its output.
//!
//! Everything that runs user code here catches what it throws (rule W4) and hands it to the scope.

use std::cell::UnsafeCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop, offset_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};

use selvedge_cancel::Cancelled;

use super::slab::{Slot, free_seat};
use super::{Header, Kind, Payload, Polled, Task, VTable, chunk, quietly};
use crate::select_safe_child::Cut;
use crate::window::Core;

/// What becomes of a future's output: it stays as it is, or its error goes to the scope.
pub(crate) trait Settle<O> {
    /// What the handle yields.
    type Out;
    /// Writes the handle's output for an awaiting task that is itself cancelled.
    const CUT_SHORT: Option<unsafe fn(*mut (), Cancelled)>;
    /// # Safety
    /// Called inside a window of `core`, whose scope was made for this kind of child.
    unsafe fn settle(core: &Core, task: *const Header, output: O) -> Self::Out;
}

/// The children of a plain scope.
pub(crate) enum Plain {}

impl<O> Settle<O> for Plain {
    type Out = O;
    const CUT_SHORT: Option<unsafe fn(*mut (), Cancelled)> = None;

    unsafe fn settle(_: &Core, _: *const Header, output: O) -> O {
        output
    }
}

/// The children of a `try_scope` with errors of type `E`: the scope owns the error.
pub(crate) struct Trying<E>(PhantomData<fn(E)>);

impl<T, E: Send> Settle<Result<T, E>> for Trying<E> {
    type Out = Result<T, Cancelled>;
    const CUT_SHORT: Option<unsafe fn(*mut (), Cancelled)> = Some(cut_short::<T>);

    unsafe fn settle(core: &Core, task: *const Header, output: Result<T, E>) -> Self::Out {
        // SAFETY: handed on from the caller: an open window of a scope with errors of type `E`.
        output.map_err(|error| unsafe { core.failed(task, error) })
    }
}

impl<T, E: Send> Settle<Cut<Result<T, E>>> for Trying<E> {
    type Out = Result<T, Cancelled>;
    const CUT_SHORT: Option<unsafe fn(*mut (), Cancelled)> = Some(cut_short::<T>);

    unsafe fn settle(core: &Core, task: *const Header, output: Cut<Result<T, E>>) -> Self::Out {
        // SAFETY: handed on from the caller.
        output.0.and_then(|output| unsafe {
            <Self as Settle<Result<T, E>>>::settle(core, task, output)
        })
    }
}

/// # Safety
/// `output` is valid for a write of a `Result<T, Cancelled>`.
unsafe fn cut_short<T>(output: *mut (), cancelled: Cancelled) {
    // SAFETY: handed on from the caller.
    unsafe { output.cast::<Result<T, Cancelled>>().write(Err(cancelled)) }
}

/// The future, then its output. Which one it is stands in the task word. At a multiple of 16 bytes, as an allocation of
/// its own would be: moves of 16 bytes that lie across lines of the cache cost a loop over a channel a tenth.
#[repr(C, align(16))]
pub(super) union Stage<F, T> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<T>,
}

/// A spawned child.
#[repr(C)]
pub(crate) struct TaskCell<F: Future, S: Settle<F::Output>> {
    task: Task,
    stage: UnsafeCell<Stage<F, S::Out>>,
}

/// What is known of the futures of a batch by their type; where they lie is the slab's business.
pub(crate) struct BatchCell<F>(PhantomData<F>);

impl<F: Future, S: Settle<F::Output>> TaskCell<F, S> {
    pub(crate) const VTABLE: VTable = VTable {
        kind: Kind::Child,
        poll: poll::<F, S, Self>,
        drop_future: drop_future::<F, S, Self>,
        drop_output: drop_output::<F, S, Self>,
        output_needs_drop: needs_drop::<S::Out>(),
        free: chunk::free_task,
        output: offset_of!(Self, stage),
        cut_short: S::CUT_SHORT,
    };

    /// Begins the cell, and says where its future goes.
    ///
    /// # Safety
    /// `cell` is valid for a write of `Self`.
    #[inline]
    pub(crate) unsafe fn begin(cell: *mut Self, task: Task) -> *mut F {
        // SAFETY: handed on from the caller.
        let place = unsafe { &raw mut (*cell).task };
        // SAFETY: as above.
        unsafe { place.write(task) };
        // SAFETY: as above.
        UnsafeCell::raw_get(unsafe { &raw const (*cell).stage }).cast()
    }
}

impl<F: Future> BatchCell<F> {
    pub(crate) const VTABLE: VTable = VTable {
        kind: Kind::Batch,
        poll: poll::<F, Plain, Slot<F>>,
        drop_future: drop_future::<F, Plain, Slot<F>>,
        drop_output: drop_output::<F, Plain, Slot<F>>,
        output_needs_drop: needs_drop::<F::Output>(),
        free: free_seat,
        // Nobody has a handle that would look.
        output: 0,
        cut_short: None,
    };

    /// Polls the future of a seat; the same as through the vtable, but open to the optimiser.
    ///
    /// # Safety
    /// As for `VTable::poll`.
    #[inline(always)]
    pub(crate) unsafe fn poll(header: *const Header, cx: &mut Context<'_>) -> Polled {
        // SAFETY: handed on from the caller.
        unsafe { poll::<F, Plain, Slot<F>>(header, cx) }
    }

    /// What the cost of first polls is kept under, as [`Header::key`] gives it.
    #[inline]
    pub(crate) fn fresh_key() -> usize {
        Self::VTABLE.poll as usize ^ 1
    }
}

/// Where the future of a header lies, and then its output.
pub(crate) trait Staged {
    /// # Safety
    /// `header` opens one of these, and the scope has not let go of it.
    unsafe fn stage<T>(header: *const Header) -> *mut T;
}

impl<F: Future, S: Settle<F::Output>> Staged for TaskCell<F, S> {
    #[inline]
    unsafe fn stage<T>(header: *const Header) -> *mut T {
        // SAFETY: the stage lies at this offset of the cell.
        unsafe { place(header, offset_of!(Self, stage)) }
    }
}

/// The bytes `offset` behind a header.
///
/// # Safety
/// `header` opens a cell that is at least that long.
#[inline]
pub(crate) unsafe fn place<T>(header: *const Header, offset: usize) -> *mut T {
    // SAFETY: handed on from the caller.
    unsafe { header.byte_add(offset) }.cast::<T>().cast_mut()
}

/// # Safety
/// 1. `header` opens a `C` whose future lives; 2. no other thread polls or drops it: the caller holds
///    `RUNNING`; 3. what the future borrows is alive: a window is open (rule W1).
#[inline]
unsafe fn poll<F: Future, S: Settle<F::Output>, C: Staged>(
    header: *const Header,
    cx: &mut Context<'_>,
) -> Polled {
    // SAFETY: 1.
    let future = unsafe { C::stage::<F>(header) };
    // SAFETY: 2. makes the borrow exclusive.
    let exclusive = unsafe { &mut *future };
    // SAFETY: cells never move, and the future is dropped in place.
    let pinned = unsafe { Pin::new_unchecked(exclusive) };
    let polled = catch_unwind(AssertUnwindSafe(|| pinned.poll(cx)));
    if let Ok(Poll::Pending) = polled {
        return Polled::Pending;
    }
    // SAFETY: the scope's reference keeps the cell, which keeps the core.
    let core = unsafe { Header::core_of(header) };
    // SAFETY: 2.; the future is not touched again. Its drop is caught apart from the output's.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(future) }));
    let settled = match (polled, dropped) {
        (Ok(Poll::Ready(value)), Ok(())) => {
            // SAFETY: 3.; the vtable of a cell names the kind of its scope.
            catch_unwind(AssertUnwindSafe(|| unsafe {
                S::settle(core, header, value)
            }))
        }
        (Ok(Poll::Ready(value)), Err(payload)) => {
            quietly(|| drop(value));
            Err(payload)
        }
        (Ok(Poll::Pending), _) => return Polled::Pending,
        (Err(payload), dropped) => {
            if let Err(second) = dropped {
                super::drop_payload(second);
            }
            Err(payload)
        }
    };
    match settled {
        Ok(output) => {
            // SAFETY: 1.
            let stage = unsafe { C::stage::<S::Out>(header) };
            // SAFETY: the future is gone, so its place is the output's.
            unsafe { stage.write(output) };
            Polled::Value
        }
        Err(payload) => {
            core.panicked(header, payload);
            Polled::Panicked
        }
    }
}

/// # Safety
/// As for `poll`: the caller is the only one who may touch the future, which lives.
unsafe fn drop_future<F: Future, S: Settle<F::Output>, C: Staged>(header: *const Header) {
    // SAFETY: the caller names a cell whose future lives and is ours.
    let future = unsafe { C::stage::<F>(header) };
    // SAFETY: as above; the task word says DONE afterwards, so nobody touches it again.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(future) }));
    if let Err(payload) = dropped {
        // SAFETY: the caller holds the cell, which keeps the core.
        let core = unsafe { Header::core_of(header) };
        core.panicked(header, payload);
    }
}

/// # Safety
/// The output was written, was not taken, and is the caller's (rule W11).
unsafe fn drop_output<F: Future, S: Settle<F::Output>, C: Staged>(
    header: *const Header,
) -> Option<Payload> {
    // SAFETY: handed on from the caller.
    let output = unsafe { C::stage::<S::Out>(header) };
    // SAFETY: handed on from the caller; nobody touches it again.
    catch_unwind(AssertUnwindSafe(|| unsafe { ptr::drop_in_place(output) })).err()
}
