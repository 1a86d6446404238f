//! A value in a place of its own that can be emptied without moving the value over the stack: how big futures
//! go down the layers of a spawn, and how they are dropped in place. Not a cell: nothing is shared here.

use std::pin::Pin;

use crate::select_safe_child::{SelectSafeChild, TrySelectSafeChild};

/// A value, or where one was. The layout is that of the reference: a tag in the first byte.
#[derive(Debug)]
#[repr(u8)]
pub(crate) enum Kept<F> {
    Here(F) = HERE,
    // Made by its tag alone.
    #[allow(dead_code)]
    Gone = GONE,
}

const HERE: u8 = 0;
const GONE: u8 = 1;

impl<F> Kept<F> {
    /// Forgets the value, which somebody else has by now, or will have.
    ///
    /// # Safety
    /// Somebody owns the value's bytes in this one's stead.
    unsafe fn forget(&mut self) {
        // SAFETY: the tag is the first byte of an enum with this representation, and `Gone` is the tag alone.
        unsafe { std::ptr::from_mut(self).cast::<u8>().write(GONE) };
    }

    /// Moves the value, in one copy.
    ///
    /// # Safety
    /// The value is here, and `to` valid for a write of it.
    unsafe fn move_to(&mut self, to: *mut F) {
        let Self::Here(value) = self else {
            unreachable!("the caller says that there is a value")
        };
        // SAFETY: handed on from the caller; a new place does not overlap with this one.
        unsafe { std::ptr::from_mut(value).copy_to_nonoverlapping(to, 1) };
        // SAFETY: the value is there now.
        unsafe { self.forget() };
    }

    /// The value, for somebody who gets it back.
    ///
    /// # Panics
    /// If it is gone.
    #[cold]
    pub(crate) fn take(&mut self) -> F {
        let Self::Here(value) = self else {
            unreachable!("a future that was refused is here still")
        };
        // SAFETY: the value is here, and is forgotten below.
        let value = unsafe { std::ptr::read(value) };
        // SAFETY: the caller gets it.
        unsafe { self.forget() };
        value
    }

    /// The value, if it is here.
    pub(crate) fn as_pin_mut(self: Pin<&mut Self>) -> Option<Pin<&mut F>> {
        // SAFETY: the value is not moved: it is pinned with this.
        match unsafe { self.get_unchecked_mut() } {
            // SAFETY: as above; it is dropped in place, by `clear` or with this.
            Self::Here(value) => Some(unsafe { Pin::new_unchecked(value) }),
            Self::Gone => None,
        }
    }

    /// Drops the value in place.
    pub(crate) fn clear(self: Pin<&mut Self>) {
        // SAFETY: the value is dropped where it is.
        let this = std::ptr::from_mut(unsafe { self.get_unchecked_mut() });
        // SAFETY: this is ours for the length of the call.
        if matches!(unsafe { &*this }, Self::Gone) {
            return;
        }
        // From the same pointer as the tag, which is written between this and the drop.
        // SAFETY: the layout of a value that is here.
        let value = unsafe { &raw mut (*this.cast::<Filled<F>>()).value };
        // SAFETY: the tag is the first byte; the value is dropped below, or has begun to be if its destructor
        // panics.
        unsafe { this.cast::<u8>().write(GONE) };
        // SAFETY: the value is here, and nobody drops it again.
        unsafe { value.drop_in_place() };
    }
}

/// A future on its way into a cell, which may wrap it.
pub(crate) trait Passed {
    /// What the cell holds.
    type Into;

    /// # Safety
    /// The future is here, and `to` valid for a write.
    unsafe fn pass(&mut self, to: *mut Self::Into);

    /// Takes the future back.
    ///
    /// # Safety
    /// It was passed there, was not touched since, and is not used there again.
    unsafe fn take_back(&mut self, from: *mut Self::Into);
}

impl<F> Passed for Kept<F> {
    type Into = F;

    unsafe fn pass(&mut self, to: *mut F) {
        // SAFETY: handed on from the caller.
        unsafe { self.move_to(to) };
    }

    unsafe fn take_back(&mut self, from: *mut F) {
        let this = std::ptr::from_mut(self);
        // SAFETY: the value is gone, so nothing is overwritten, and this is one again once its tag says so. The
        // representation is that of a tag followed by the value.
        let place = unsafe { &raw mut (*this.cast::<Filled<F>>()).value };
        // SAFETY: handed on from the caller; the cell does not overlap with this.
        unsafe { place.copy_from_nonoverlapping(from, 1) };
        // SAFETY: the tag is the first byte.
        unsafe { this.cast::<u8>().write(HERE) };
    }
}

/// The layout of [`Kept::Here`].
#[repr(C)]
struct Filled<F> {
    tag: u8,
    value: F,
}

/// A future that is kept in the cell as it comes: the cell's type is this one's, or transparent over it.
pub(crate) struct Whole<'a, F, G>(
    pub(crate) &'a mut Kept<F>,
    pub(crate) std::marker::PhantomData<G>,
);

/// What is nothing but a [`Kept`].
///
/// # Safety
/// The type is `repr(transparent)` over `Kept<F>`.
pub(crate) unsafe trait Keeps<F> {}

impl<F, G: Keeps<F>> Passed for Whole<'_, F, G> {
    type Into = G;

    unsafe fn pass(&mut self, to: *mut G) {
        // SAFETY: the types are the same in memory, and a new place does not overlap with this one.
        unsafe { std::ptr::from_mut(self.0).copy_to_nonoverlapping(to.cast(), 1) };
        // SAFETY: the value is there now.
        unsafe { self.0.forget() };
    }

    unsafe fn take_back(&mut self, from: *mut G) {
        // SAFETY: as in `pass`; what is here is gone, so nothing is overwritten.
        unsafe { std::ptr::from_mut(self.0).copy_from_nonoverlapping(from.cast(), 1) };
    }
}

// SAFETY: it is.
unsafe impl<F> Keeps<F> for SelectSafeChild<F> {}
// SAFETY: it is transparent over the other.
unsafe impl<F> Keeps<F> for TrySelectSafeChild<F> {}
