//! Memory for cells: chunks of equal slots.
//!
//! Every chunk holds one reference to the core and counts its slots: the owner in a plain cell, others, once
//! the scope is dead, in `after`. Which slot is free is the [`arena`](super::arena)'s business. Nothing here
//! runs user code (rule W10).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr;

use super::arena::CLASSES;
use super::{Header, Task, cache};
use crate::sync::AtomicUsize;
use crate::window::{Core, owned_here};

#[derive(Debug)]
#[repr(C)]
pub(super) struct Chunk {
    pub(super) core: *const Core,
    /// The scope's next older chunk.
    pub(super) next: Cell<*const Chunk>,
    pub(super) layout: Layout,
    /// The class that its slots are recycled in; `CLASSES` if it is a single cell.
    pub(super) class: u32,
    /// Slots handed out and not come back; owner only.
    pub(super) live: Cell<u32>,
    /// After the scope's death: slots still held elsewhere. Below zero while the owner has not added its
    /// count yet.
    pub(super) after: AtomicUsize,
}

impl Chunk {
    /// # Safety
    /// No slot of the chunk is in use and nobody will look at it again.
    pub(super) unsafe fn free(this: *const Self) {
        // SAFETY: the chunk is still whole.
        let Self { core, layout, .. } = *unsafe { &*this };
        let memory = this.cast_mut().cast();
        if layout != KEPT || !cache::put(memory) {
            // SAFETY: allocated with this layout in `make` or `make_kept`.
            unsafe { dealloc(memory, layout) };
        }
        // SAFETY: the chunk held a reference, which ends here.
        unsafe { Core::release(core) };
    }

    /// The next chunk, and how many slots of this one are in use.
    pub(super) fn rest(&self) -> (*const Self, usize) {
        (self.next.get(), self.live.get() as usize)
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
        // SAFETY: just allocated, with room for a chunk.
        let chunk = unsafe { Self::begin(memory, core, class, layout) };
        let offset = u32::try_from(offset).expect("the first slot is near");
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
        // SAFETY: nobody else's, with room for a chunk.
        let chunk = unsafe { Self::begin(memory, core, class, layout) };
        let offset = size_of::<Self>().next_multiple_of(16);
        let slots = (layout.size() - offset) / stride as usize;
        (chunk, offset as u32, slots as u32)
    }

    /// # Safety
    /// `memory` is nobody else's and has room for a chunk's header.
    unsafe fn begin(memory: *mut u8, core: &Core, class: u32, layout: Layout) -> *const Self {
        core.acquire();
        let value = Self {
            core: core.as_ptr(),
            next: Cell::new(ptr::null()),
            layout,
            class,
            live: Cell::new(0),
            after: AtomicUsize::new(0),
        };
        let chunk = memory.cast::<Self>();
        // SAFETY: handed on from the caller.
        unsafe { chunk.write(value) };
        chunk
    }
}

/// The chunks that are kept for the next scope.
const KEPT: Layout = match Layout::from_size_align(cache::BYTES, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("the size of a kept chunk is a multiple of its alignment"),
};

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
pub(crate) fn solo(core: &Core, cell: Layout) -> (*mut u8, u32) {
    let (chunk, offset) = Chunk::make(core, CLASSES as u32, cell, 1);
    // SAFETY: the chunk was made with one slot at this offset.
    (
        unsafe { chunk.byte_add(offset as usize) }.cast_mut().cast(),
        offset,
    )
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
    // SAFETY: every task lies in a chunk at its offset, which is alive: this slot is in use.
    let class = unsafe { chunk_at(header, task.offset) }.class;
    if class as usize == CLASSES {
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
    // SAFETY: the cell is still whole.
    let offset = unsafe { (*task).offset };
    // SAFETY: every task lies in a chunk at its offset.
    let chunk = unsafe { chunk_of(task.cast(), offset) };
    // SAFETY: the chunk is alive: this slot is in use.
    let Chunk { core, class, .. } = *unsafe { &*chunk };
    if class as usize == CLASSES {
        // SAFETY: its only slot is free.
        unsafe { Chunk::free(chunk) };
        return;
    }
    // SAFETY: the chunk keeps the core alive.
    let arena = &unsafe { &*core }.owner.arena;
    if owned_here(core) {
        // SAFETY: this thread is the owner in an open window, and the slot is free.
        unsafe { arena.take_in(header) };
    } else {
        // SAFETY: the slot is free.
        unsafe { arena.give_back(chunk, header) };
    }
}
