//! The one allocation of a batch: its slots, and the count of those that outlive it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

use super::Header;
use crate::sync::{AtomicUsize, Ordering};
use crate::window::Core;

/// The one allocation of a batch: its slots, and what counts those that outlive it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct BatchChunk {
    core: *const Core,
    layout: Layout,
    first: usize,
    stride: usize,
    after: AtomicUsize,
}

impl BatchChunk {
    /// Room for `slots` cells of one layout.
    pub(crate) fn make(core: &Core, cell: Layout, slots: usize) -> *const Self {
        let cell = cell.pad_to_align();
        let (head, first) = Layout::new::<Self>()
            .extend(cell)
            .expect("a cell fits the address space");
        let size = cell
            .size()
            .checked_mul(slots)
            .and_then(|bytes| bytes.checked_add(first));
        let layout =
            Layout::from_size_align(size.expect("a batch fits the address space"), head.align())
                .expect("a batch fits the address space");
        // SAFETY: the layout is not empty: it holds the chunk's own header.
        let chunk = unsafe { alloc(layout) }.cast::<Self>();
        if chunk.is_null() {
            handle_alloc_error(layout);
        }
        core.acquire();
        let value = Self {
            core: core.as_ptr(),
            layout,
            first,
            stride: cell.size(),
            after: AtomicUsize::new(0),
        };
        // SAFETY: just allocated with room for it.
        unsafe { chunk.write(value) };
        chunk
    }

    /// The slot with this index.
    ///
    /// # Safety
    /// The chunk is alive and has that many slots.
    #[inline]
    pub(crate) unsafe fn slot(this: *const Self, index: usize) -> *const Header {
        // SAFETY: the chunk is alive.
        let Self { first, stride, .. } = *unsafe { &*this };
        let offset = first + stride * index;
        // SAFETY: the slot lies inside the chunk.
        unsafe { this.byte_add(offset) }.cast()
    }

    /// The batch has let go of every slot; `survivors` are still held by wakers.
    ///
    /// # Safety
    /// Called once, by the owner.
    pub(crate) unsafe fn retire(this: *const Self, survivors: usize) {
        let unheld = survivors == 0 || {
            // AcqRel: as in `Arena::retire`.
            // SAFETY: the chunk lives until `after` reaches zero, which needs this step.
            let old = unsafe { &*this }
                .after
                .fetch_add(survivors, Ordering::AcqRel);
            old.wrapping_add(survivors) == 0
        };
        if unheld {
            // SAFETY: no slot is in use.
            unsafe { Self::free(this) };
        }
    }

    /// # Safety
    /// No slot is in use and nobody looks at the chunk again.
    unsafe fn free(this: *const Self) {
        // SAFETY: the chunk is still whole.
        let Self { core, layout, .. } = *unsafe { &*this };
        // SAFETY: allocated with this layout in `make`.
        unsafe { dealloc(this.cast_mut().cast(), layout) };
        // SAFETY: the chunk held a reference, which ends here.
        unsafe { Core::release(core) };
    }
}

/// A waker was the last to let go of a slot of a batch.
///
/// # Safety
/// `header` opens a cell of a batch that nothing refers to any more.
pub(super) unsafe fn free_batch(header: *const Header) {
    // SAFETY: the chunk keeps the core alive, and a core has one batch at most.
    let chunk = unsafe { Header::core_of(header) }.batch.get();
    // AcqRel: as in `Arena::give_back`.
    // SAFETY: the chunk lives until `after` reaches zero, which needs this step.
    if unsafe { &*chunk }.after.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: that was the last slot held.
        unsafe { BatchChunk::free(chunk) };
    }
}
