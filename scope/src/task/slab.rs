//! The memory of a batch: futures, and later their outputs, in one slab that the engine owns and frees at its
//! end, whatever wakers do; and seats, which is all that a waker points to and may keep.
//!
//! A future has a seat from its first poll on, or from when it is queued for it, until it has ended. Seats
//! come from the scope's arena, so a kept one pins a chunk of the arena (rule T6) and never the slab. What is
//! polled when is the engine's business.

use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ptr;

use super::cell::{Stage, Staged};
use super::chunk::{free_slot, place_of_slot};
use super::{BatchCell, Ended, Header, Place, Placed, TaskWord};
use crate::window::Core;

/// What the wakers of a future of a batch point to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Seat {
    header: Header,
    /// As in a task: bytes from the start of the chunk.
    offset: u32,
    /// Where the future lies. Good until the scope lets go of the seat; wakers do not follow it.
    slot: *const State,
}

const _: () = assert!(offset_of!(Seat, offset) == offset_of!(Placed, offset));

/// How far the future of a slot is; the owner's alone.
#[derive(Debug)]
pub(crate) struct State(Cell<*const Header>);

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A future that has no seat yet.
    Fresh,
    /// A future with this seat; or what it came to, which the scope has not taken note of yet.
    Seated(*const Header),
    Output,
    Nothing,
}

const OUTPUT: *const Header = ptr::without_provenance(1);
const NOTHING: *const Header = ptr::without_provenance(2);

impl State {
    #[inline]
    fn get(&self) -> Holds {
        match self.0.get() {
            seat if seat.is_null() => Holds::Fresh,
            OUTPUT => Holds::Output,
            NOTHING => Holds::Nothing,
            seat => Holds::Seated(seat),
        }
    }
}

/// A future of a batch, then its output.
#[repr(C)]
pub(crate) struct Slot<F: Future> {
    state: State,
    stage: UnsafeCell<Stage<F, F::Output>>,
}

impl<F: Future> Staged for Slot<F> {
    #[inline]
    unsafe fn stage<T>(header: *const Header) -> *mut T {
        // SAFETY: the header of a batch opens a seat, which is alive.
        let slot = unsafe { (*header.cast::<Seat>()).slot };
        // SAFETY: the scope has not let go of the seat, so the slot is there, and this is its stage.
        unsafe { slot.byte_add(offset_of!(Self, stage)) }
            .cast::<T>()
            .cast_mut()
    }
}

/// The slots of a batch. It knows how many there are, and not which of them are filled: dropping it frees
/// the memory and drops nothing in it.
#[derive(Debug)]
pub(crate) struct Slab<F: Future> {
    /// Of the type [`Slot<F>`].
    first: *const (),
    room: usize,
    futures: PhantomData<F>,
}

impl<F: Future> Slab<F> {
    pub(crate) fn new(room: usize) -> Self {
        let mut slots = ManuallyDrop::new(Vec::<Slot<F>>::with_capacity(room));
        Self {
            first: slots.as_mut_ptr().cast_const().cast(),
            room: slots.capacity(),
            futures: PhantomData,
        }
    }

    /// # Safety
    /// `index` is below the room.
    #[inline]
    unsafe fn slot(&self, index: usize) -> *mut Slot<F> {
        debug_assert!(index < self.room, "slots of a batch are counted");
        let first = self.first.cast::<Slot<F>>().cast_mut();
        // SAFETY: handed on from the caller.
        unsafe { first.add(index) }
    }

    /// # Safety
    /// `index` is below the room.
    #[inline]
    unsafe fn stage(&self, index: usize) -> *mut Stage<F, F::Output> {
        // SAFETY: handed on from the caller.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the slot lies in the slab.
        UnsafeCell::raw_get(unsafe { &raw const (*slot).stage })
    }

    /// # Safety
    /// The slot was filled.
    #[inline]
    unsafe fn state(&self, index: usize) -> &State {
        // SAFETY: a filled slot is below the room.
        let slot = unsafe { self.slot(index) };
        // SAFETY: handed on from the caller.
        unsafe { &(*slot).state }
    }

    /// Where the future of a slot is to be written.
    ///
    /// # Safety
    /// The slot is empty, its index below the room, and no other thread has seen the slab. Once the future is
    /// written the slot is filled.
    #[inline]
    pub(crate) unsafe fn vacancy(&self, index: usize) -> *mut F {
        // SAFETY: handed on from the caller.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the slot lies in the slab.
        let state = unsafe { &raw mut (*slot).state };
        // SAFETY: nobody else looks at an empty slot.
        unsafe { state.write(State(Cell::new(ptr::null()))) };
        // SAFETY: handed on from the caller.
        unsafe { self.stage(index) }.cast()
    }

    /// # Safety
    /// The slot was filled, and the caller is the owner.
    #[inline]
    pub(crate) unsafe fn holds(&self, index: usize) -> Holds {
        // SAFETY: handed on from the caller.
        unsafe { self.state(index) }.get()
    }

    /// Moves the future out.
    ///
    /// # Safety
    /// The slot holds a future that was never polled; the caller is the owner.
    pub(crate) unsafe fn take_future(&self, index: usize) -> F {
        // SAFETY: handed on from the caller.
        unsafe { self.state(index) }.0.set(NOTHING);
        // SAFETY: a filled slot is below the room.
        let stage = unsafe { self.stage(index) };
        // SAFETY: the future is there, and the slot says that it is gone.
        unsafe { stage.cast::<F>().read() }
    }

    /// Moves the output out.
    ///
    /// # Safety
    /// The output was written, and was not taken; the caller is the owner.
    #[inline]
    pub(crate) unsafe fn take_output(&self, index: usize) -> F::Output {
        // SAFETY: handed on from the caller.
        unsafe { self.state(index) }.0.set(NOTHING);
        // SAFETY: a filled slot is below the room.
        let stage = unsafe { self.stage(index) };
        // SAFETY: the output is there, and the slot says that it is gone.
        unsafe { stage.cast::<F::Output>().read() }
    }

    /// Drops the future, or the output, in place.
    ///
    /// # Safety
    /// The slot holds a future that was never polled, or an output; the caller is the owner.
    pub(crate) unsafe fn drop_content(&self, index: usize) {
        // SAFETY: handed on from the caller.
        let state = unsafe { self.state(index) };
        let holds = state.get();
        state.0.set(NOTHING);
        // SAFETY: a filled slot is below the room.
        let stage = unsafe { self.stage(index) };
        match holds {
            // SAFETY: it is there, and the slot says that it is gone.
            Holds::Fresh => unsafe { stage.cast::<F>().drop_in_place() },
            // SAFETY: as above.
            Holds::Output => unsafe { stage.cast::<F::Output>().drop_in_place() },
            Holds::Seated(_) | Holds::Nothing => {}
        }
    }

    /// Makes a seat for a future.
    ///
    /// # Safety
    /// The slot was filled and has no seat. The caller is the owner of `core`, in an open window, says so by
    /// `note_seat` unless the future ends at once, and frees the slab only when the scope has let go of the seat.
    #[inline]
    pub(crate) unsafe fn seat(&self, core: &Core, index: usize) -> *const Header {
        // SAFETY: the caller is the owner, in an open window.
        let Place { cell, offset, .. } = unsafe { core.owner.arena.seat(core) };
        let seat = cell.cast::<Seat>();
        // SAFETY: a filled slot is below the room.
        let slot = unsafe { self.slot(index) };
        let value = Seat {
            header: Header::new(core.as_ptr(), const { &BatchCell::<F>::VTABLE }, false),
            offset,
            slot: slot.cast_const().cast(),
        };
        // SAFETY: the place is nobody else's, and has room for a seat.
        unsafe { seat.write(value) };
        seat.cast_const().cast()
    }

    /// Makes a seat for a future of one that was another's.
    ///
    /// # Safety
    /// As for `seat`, and nothing but the scope refers to the seat, which came from there and is not free.
    #[inline]
    pub(crate) unsafe fn seat_again(&self, header: *const Header, index: usize) {
        let seat = header.cast_mut().cast::<Seat>();
        // SAFETY: a filled slot is below the room.
        let slot = unsafe { self.slot(index) };
        // SAFETY: the seat is the caller's.
        unsafe { (*seat).slot = slot.cast_const().cast() };
        // SAFETY: as above. The life word is that of one reference already.
        unsafe { (*seat).header.word = TaskWord::new() };
    }

    /// The future of a slot has this seat.
    ///
    /// # Safety
    /// It has, and the caller is the owner.
    #[inline]
    pub(crate) unsafe fn note_seat(&self, header: *const Header, index: usize) {
        // SAFETY: the slot was filled.
        unsafe { self.state(index) }.0.set(header);
    }
}

impl<F: Future> Drop for Slab<F> {
    fn drop(&mut self) {
        let first = self.first.cast::<Slot<F>>().cast_mut();
        // SAFETY: this is the vector that `new` made, still without a length.
        drop(unsafe { Vec::from_raw_parts(first, 0, self.room) });
    }
}

/// The scope lets go of a seat whose future has ended: the slot keeps in mind what came of it.
///
/// # Safety
/// `header` opens a seat, its future has ended, and the caller is the owner of `core`, which holds a
/// reference that ends here.
#[inline]
pub(crate) unsafe fn leave_seat(core: &Core, header: *const Header) {
    // SAFETY: the scope's reference keeps it.
    let seat = unsafe { &*header.cast::<Seat>() };
    let holds = match seat.header.word.ended() {
        Some(Ended::Value) => OUTPUT,
        _ => NOTHING,
    };
    // SAFETY: the slab is there as long as a seat has not been left.
    unsafe { &*seat.slot }.0.set(holds);
    if seat.header.life.release() {
        // SAFETY: nothing refers to the seat any more; the caller is the owner.
        unsafe { core.owner.arena.take_in(header) };
    }
}

/// A waker was the last to let go of a seat.
///
/// # Safety
/// `header` opens a seat that nothing refers to any more.
pub(super) unsafe fn free_seat(header: *const Header) {
    debug_assert!(
        // SAFETY: the seat is still whole.
        unsafe { (*header).word.ended() }.is_some(),
        "a seat is freed only after its future is gone (rule W10)"
    );
    // SAFETY: every seat lies in a chunk of many, at its offset.
    let chunk = unsafe { place_of_slot(header) };
    // SAFETY: nothing refers to the seat any more.
    unsafe { free_slot(chunk, header) };
}
