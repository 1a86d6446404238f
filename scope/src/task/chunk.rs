//! Memory for cells: chunks of equal slots.
//!
//! Every chunk holds one reference to the core and counts its slots: the owner in a plain cell, others, once
//! the scope is dead, in `after`. Which slot is free is the [`arena`](super::arena)'s business. Nothing here
//! runs user code (rule W10).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr;

use super::arena::{CLASSES, Place};
use super::{Header, Links, Placed, Task, cache};
use crate::sync::{AtomicUsize, Ordering};
use crate::window::{Core, owned_here};

#[derive(Debug)]
#[repr(C)]
pub(super) struct Chunk {
    pub(super) core: Cell<*const Core>,
    /// The scope's next older chunk.
    pub(super) next: Cell<*const Chunk>,
    /// Neighbours of the one cell in the list of single cells; unused in chunks of many.
    pub(super) links: Links,
    pub(super) layout: Layout,
    /// The class that its slots are recycled in; `CLASSES` if it is a single cell.
    pub(super) class: u32,
    /// How many slots there are, and where.
    slots: u32,
    first: u32,
    stride: u32,
    /// Slots at the end that were never handed out, once the chunk is not the open one of its class.
    pub(super) unused: Cell<u32>,
    /// Slots that have come back and were not handed out again; owner only.
    pub(super) freed: Cell<u32>,
    /// After the scope's death: slots still held elsewhere. Below zero while the owner has not added its
    /// count yet.
    pub(super) after: AtomicUsize,
}

impl Chunk {
    /// # Safety
    /// No slot of the chunk is in use and nobody will look at it again.
    pub(super) unsafe fn free(this: *const Self) {
        // SAFETY: the chunk is still whole.
        let Self { core, layout, .. } = unsafe { &*this };
        let (core, layout) = (core.get(), *layout);
        let memory = this.cast_mut().cast();
        if layout != KEPT || !cache::put(memory) {
            // SAFETY: allocated with this layout in `make` or `make_kept`.
            unsafe { dealloc(memory, layout) };
        }
        // SAFETY: the chunk held a reference, which ends here.
        unsafe { Core::release(core) };
    }

    /// Nothing lies in it, and it is to be used again by the next scope of its core, to which it does not refer meanwhile.
    ///
    /// # Safety
    /// No slot is in use, nobody else will look at the chunk, and the caller has a reference to the core.
    pub(super) unsafe fn rest_empty(this: *const Self) {
        // SAFETY: the chunk is whole.
        let core = unsafe { (*this).core.get() };
        // SAFETY: the chunk held a reference, which ends here.
        unsafe { Core::release(core) };
    }

    /// Frees a chunk that [rests](Self::rest_empty).
    ///
    /// # Safety
    /// Nobody will look at it again.
    pub(super) unsafe fn free_empty(this: *const Self) {
        // SAFETY: the chunk is still whole.
        let layout = unsafe { (*this).layout };
        // SAFETY: allocated with this layout in `make`.
        unsafe { dealloc(this.cast_mut().cast(), layout) };
    }

    /// A chunk that rests serves a scope: where its slots begin and how many there are.
    pub(super) fn begin_again(&self, core: &Core) -> (u32, u32) {
        core.acquire();
        self.core.set(core.as_ptr());
        self.next.set(ptr::null());
        self.unused.set(0);
        self.freed.set(0);
        // Relaxed: nobody else has seen the chunk since it rested.
        self.after.store(0, Ordering::Relaxed);
        (self.first, self.slots)
    }

    pub(super) fn stride(&self) -> u32 {
        self.stride
    }

    /// Whether nobody refers to the core but this chunk and the scope.
    pub(super) fn is_last_but_one(&self) -> bool {
        // SAFETY: the chunk keeps the core alive.
        unsafe { &*self.core.get() }.references() == 2
    }

    /// Whether any scope may have it next.
    pub(super) fn is_of_kept_size(&self) -> bool {
        self.layout == KEPT
    }

    /// The next chunk, and how many slots of this one are in use.
    pub(super) fn rest(&self) -> (*const Self, usize) {
        let live = self.slots - self.unused.get() - self.freed.get();
        (self.next.get(), live as usize)
    }

    /// The slots that were ever handed out, the last one first.
    pub(super) fn used(this: *const Self) -> impl Iterator<Item = *const Header> {
        // SAFETY: the caller's chunk is alive.
        let chunk = unsafe { &*this };
        (0..chunk.slots - chunk.unused.get())
            .rev()
            .map(move |index| {
                let offset = chunk.first + index * chunk.stride;
                // SAFETY: the slot lies inside the chunk.
                unsafe { this.byte_add(offset as usize) }.cast()
            })
    }

    /// Makes a chunk for `slots` cells of the given layout; the offset of the first one comes with it.
    pub(super) fn make(core: &Core, class: u32, cell: Layout, slots: u32) -> (*const Self, u32) {
        let (first, offset) = Layout::new::<Self>()
            .extend(cell)
            .expect("a cell fits the address space");
        let rest = cell.pad_to_align().size() * (slots as usize - 1);
        let layout = Layout::from_size_align(first.size() + rest, first.align())
            .expect("a chunk fits the address space")
            .pad_to_align();
        // SAFETY: the layout is not empty: it holds a chunk's header.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        let offset = u32::try_from(offset).expect("the first slot is near");
        let stride = u32::try_from(cell.pad_to_align().size()).unwrap_or(0);
        let value = Self::of(core, class, layout, (slots, offset, stride));
        let chunk = memory.cast::<Self>();
        // SAFETY: just allocated, with room for a chunk.
        unsafe { chunk.write(value) };
        (chunk, offset)
    }

    /// A chunk of the size that is kept for the next scope; with the offset of its first slot and how many
    /// there are.
    pub(super) fn make_kept(core: &Core, class: u32, stride: u32) -> (*const Self, u32, u32) {
        let layout = KEPT;
        let memory = cache::take().unwrap_or_else(|| {
            // SAFETY: the layout is not empty.
            unsafe { alloc(layout) }
        });
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        let first = size_of::<Self>().next_multiple_of(16) as u32;
        let slots = (cache::BYTES as u32 - first) / stride;
        let value = Self::of(core, class, layout, (slots, first, stride));
        let chunk = memory.cast::<Self>();
        // SAFETY: nobody else's, with room for a chunk.
        unsafe { chunk.write(value) };
        (chunk, first, slots)
    }

    fn of(core: &Core, class: u32, layout: Layout, slots: (u32, u32, u32)) -> Self {
        core.acquire();
        Self {
            core: Cell::new(core.as_ptr()),
            next: Cell::new(ptr::null()),
            links: Links::new(),
            layout,
            class,
            slots: slots.0,
            first: slots.1,
            stride: slots.2,
            unused: Cell::new(0),
            freed: Cell::new(0),
            after: AtomicUsize::new(0),
        }
    }
}

/// The chunks that are kept for the next scope.
const KEPT: Layout = match Layout::from_size_align(cache::BYTES, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("the size of a kept chunk is a multiple of its alignment"),
};

/// Neighbours of a single cell in the list of those.
///
/// # Safety
/// `task` is alive for `'a` and was placed by [`solo`].
#[inline]
pub(crate) unsafe fn links_of<'a>(task: *const Task) -> &'a Links {
    // SAFETY: handed on from the caller.
    let offset = unsafe { &*task }.offset;
    // SAFETY: that is the cell's offset in its chunk, which lives as long as the cell.
    &unsafe { chunk_at(task.cast(), offset) }.links
}

/// # Safety
/// `slot` lies at this offset of a chunk that is alive for `'a`.
#[inline]
pub(super) unsafe fn chunk_at<'a>(slot: *const Header, offset: u32) -> &'a Chunk {
    // SAFETY: handed on from the caller.
    let chunk = unsafe { chunk_of(slot.cast(), offset) };
    // SAFETY: handed on from the caller.
    unsafe { &*chunk }
}

/// # Safety
/// `cell` is a slot at this offset.
pub(super) unsafe fn chunk_of(cell: *const u8, offset: u32) -> *const Chunk {
    // SAFETY: the slot and its chunk are one allocation.
    unsafe { cell.byte_sub(offset as usize) }.cast()
}

/// A place for one cell of any layout; for spawns from outside the window's thread.
pub(crate) fn solo(core: &Core, cell: Layout) -> Place {
    let (chunk, offset) = Chunk::make(core, CLASSES as u32, cell, 1);
    // SAFETY: the chunk was made with one slot at this offset.
    let slot = unsafe { chunk.byte_add(offset as usize) };
    Place {
        cell: slot.cast_mut().cast(),
        offset,
        solo: true,
    }
}

/// As [`free_task`], by the owner of `core`.
///
/// # Safety
/// As for `free_task`, and the caller is the owner of `core`, in an open window.
#[inline]
pub(crate) unsafe fn free_owned(core: &Core, header: *const Header) {
    // SAFETY: the cell is still whole.
    let task = unsafe { &*header.cast::<Task>() };
    // SAFETY: nobody else refers to the task any more, so nobody has its record.
    unsafe { task.record.clear() };
    if task.solo {
        // SAFETY: handed on from the caller.
        unsafe { free_task(header) };
    } else {
        // SAFETY: the slot is free.
        unsafe { core.owner.arena.take_in(header) };
    }
}

/// Frees the cell of a spawned child.
///
/// # Safety
/// `header` opens a task; its future is gone, its output moved or dropped, and nothing refers to it.
pub(super) unsafe fn free_task(header: *const Header) {
    let task = header.cast::<Task>();
    debug_assert!(
        // SAFETY: the cell is still whole.
        unsafe { (*header).word.ended() }.is_some(),
        "a cell is freed only after its future is gone (rule W10)"
    );
    // SAFETY: the cell is still whole.
    let record = &unsafe { &*task }.record;
    // SAFETY: nobody refers to the task any more, so nobody has its record.
    unsafe { record.clear() };
    // SAFETY: every task lies in a chunk at its offset.
    let chunk = unsafe { place_of_slot(header) };
    // SAFETY: handed on from the caller.
    unsafe { free_slot(chunk, header) };
}

/// The chunk of a task or seat.
///
/// # Safety
/// `header` opens one that is alive.
#[inline]
pub(super) unsafe fn place_of_slot(header: *const Header) -> *const Chunk {
    // SAFETY: the slot is still whole.
    let offset = unsafe { (*header.cast::<Placed>()).offset };
    // SAFETY: every task and seat lies in a chunk at its offset.
    unsafe { chunk_of(header.cast(), offset) }
}

/// Gives a slot back to its chunk, whichever thread this is.
///
/// # Safety
/// `header` opens a slot of `chunk` that nothing refers to.
pub(super) unsafe fn free_slot(chunk: *const Chunk, header: *const Header) {
    // SAFETY: the chunk is alive: this slot is in use.
    let Chunk { core, class, .. } = unsafe { &*chunk };
    if *class as usize == CLASSES {
        // SAFETY: its only slot is free.
        unsafe { Chunk::free(chunk) };
        return;
    }
    // SAFETY: the chunk keeps the core alive.
    let core = unsafe { &*core.get() };
    let arena = &core.owner.arena;
    if owned_here(core) {
        // SAFETY: this thread is the owner in an open window, and the slot is free.
        unsafe { arena.take_in(header) };
    } else {
        // SAFETY: the slot is free.
        unsafe { arena.give_back(chunk, header) };
    }
}
