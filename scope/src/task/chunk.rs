//! Memory for cells: chunks of equal slots, recycled while the scope lives.
//!
//! The owner counts the slots of its chunks in plain cells. Another thread that frees a slot returns it
//! through the core's stack of returned slots, or, once the scope is dead, counts it off the chunk's
//! `after` word; the thread that brings this word to zero frees the chunk. Every chunk holds one reference
//! to the core. Nothing here runs user code (rule W10).

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr;

use super::{Header, Task, cache};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::window::{Core, owned_here};

/// Layouts a scope keeps chunks for at a time; children of further layouts get an allocation each.
const CLASSES: usize = 6;
/// Slots of a scope's first chunk; the next has four times as many, then they have the size that is kept.
/// Four keeps small scopes small; what one stray waker can pin is one chunk of eight kibibytes.
const FIRST_SLOTS: u32 = 4;
const MOST_SLOTS: u32 = 16;
/// Larger cells are allocated one by one.
const MOST_BYTES: usize = 2048;

#[derive(Debug)]
#[repr(C)]
struct Chunk {
    core: *const Core,
    /// The scope's next older chunk.
    next: Cell<*const Chunk>,
    layout: Layout,
    /// The class that its slots are recycled in; `CLASSES` if it is a single cell.
    class: u32,
    /// Slots handed out and not come back; owner only.
    live: Cell<u32>,
    /// After the scope's death: slots still held elsewhere. Below zero while the owner has not added its
    /// count yet.
    after: AtomicUsize,
}

impl Chunk {
    /// # Safety
    /// No slot of the chunk is in use and nobody will look at it again.
    unsafe fn free(this: *const Self) {
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
    fn rest(&self) -> (*const Self, usize) {
        (self.next.get(), self.live.get() as usize)
    }

    /// Makes a chunk for `slots` cells of the given layout; the offset of the first one comes with it.
    fn make(core: &Core, class: u32, cell: Layout, slots: u32) -> (*const Self, u32) {
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
    fn make_kept(core: &Core, class: u32, stride: u32) -> (*const Self, u32, u32) {
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
            core,
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

/// Slots of one layout.
#[derive(Debug)]
struct Class {
    stride: Cell<u32>,
    /// Recycled slots, linked through their headers.
    free: Cell<*const Header>,
    /// The chunk that still has slots never used, the offset of the next, and how many there are.
    open: Cell<*const Chunk>,
    offset: Cell<u32>,
    left: Cell<u32>,
    /// Slots of the chunk after this one.
    grow: Cell<u32>,
}

impl Class {
    /// The next slot of the open chunk that was never used.
    #[inline]
    fn next_slot(&self) -> (*mut u8, u32) {
        self.left.set(self.left.get() - 1);
        let offset = self.offset.get();
        self.offset.set(offset + self.stride.get());
        let chunk = self.open.get();
        // SAFETY: the open chunk lives while the scope does.
        let live = &unsafe { &*chunk }.live;
        live.set(live.get() + 1);
        // SAFETY: `left` says that the slot at this offset is inside the chunk.
        let slot = unsafe { chunk.byte_add(offset as usize) };
        (slot.cast_mut().cast(), offset)
    }
}

/// The chunks of one scope; owner only but for `give_back`.
#[derive(Debug)]
pub(crate) struct Arena {
    classes: [Class; CLASSES],
    recent: Cell<usize>,
    chunks: Cell<*const Chunk>,
    /// Slots freed by other threads, or `DEAD`.
    returned: AtomicPtr<Header>,
}

/// The mark of a dead scope in `returned`.
fn dead() -> *mut Header {
    ptr::without_provenance_mut(1)
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| Class {
                stride: Cell::new(0),
                free: Cell::new(ptr::null()),
                open: Cell::new(ptr::null()),
                offset: Cell::new(0),
                left: Cell::new(0),
                grow: Cell::new(FIRST_SLOTS),
            }),
            recent: Cell::new(0),
            chunks: Cell::new(ptr::null()),
            returned: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A place for a cell, and its offset in its chunk.
    ///
    /// # Safety
    /// The caller is the owner of `core`, whose arena this is, in an open window.
    #[inline]
    pub(crate) unsafe fn place(&self, core: &Core, cell: Layout) -> (*mut u8, u32) {
        let stride = stride_of(cell);
        let recent = &self.classes[self.recent.get()];
        if recent.stride.get() == stride && stride != 0 {
            let slot = recent.free.get();
            if !slot.is_null() {
                // SAFETY: free slots keep their header's link and their offset.
                unsafe { return self.reuse(recent, slot) };
            }
            if recent.left.get() != 0 {
                return recent.next_slot();
            }
        }
        // SAFETY: handed on from the caller.
        unsafe { self.place_slow(core, cell, stride) }
    }

    /// # Safety
    /// `slot` heads the free list of `class`.
    #[inline]
    unsafe fn reuse(&self, class: &Class, slot: *const Header) -> (*mut u8, u32) {
        // SAFETY: free slots keep their header's link.
        class.free.set(unsafe { (*slot).next.get() });
        // SAFETY: free slots keep their offset.
        let offset = unsafe { (*slot.cast::<Task>()).offset };
        // SAFETY: that is the slot's offset; the chunk lives while the scope does.
        let live = &unsafe { chunk_at(slot, offset) }.live;
        live.set(live.get() + 1);
        (slot.cast_mut().cast(), offset)
    }

    /// # Safety
    /// As for `place`.
    unsafe fn place_slow(&self, core: &Core, cell: Layout, stride: u32) -> (*mut u8, u32) {
        let Some(index) = self.class_for(stride) else {
            return solo(core, cell);
        };
        self.recent.set(index);
        let class = &self.classes[index];
        if class.free.get().is_null() && class.left.get() == 0 {
            self.recycle();
        }
        let slot = class.free.get();
        if !slot.is_null() {
            // SAFETY: just seen at the head of the list.
            return unsafe { self.reuse(class, slot) };
        }
        if class.left.get() == 0 {
            self.open_chunk(core, class, index);
        }
        class.next_slot()
    }

    fn open_chunk(&self, core: &Core, class: &Class, index: usize) {
        let stride = class.stride.get();
        let index = u32::try_from(index).unwrap_or(0);
        let slots = class.grow.replace(class.grow.get() * 4);
        let (chunk, offset, slots) = if slots <= MOST_SLOTS {
            let layout = Layout::from_size_align(stride as usize, 16).expect("strides are small");
            let (chunk, offset) = Chunk::make(core, index, layout, slots);
            (chunk, offset, slots)
        } else {
            class.grow.set(slots);
            Chunk::make_kept(core, index, stride)
        };
        // SAFETY: just made.
        unsafe { &*chunk }.next.set(self.chunks.replace(chunk));
        class.open.set(chunk);
        class.offset.set(offset);
        class.left.set(slots);
    }

    fn class_for(&self, stride: u32) -> Option<usize> {
        if stride == 0 {
            return None;
        }
        for (index, class) in self.classes.iter().enumerate() {
            if class.stride.get() == stride {
                return Some(index);
            }
            if class.stride.get() == 0 {
                class.stride.set(stride);
                return Some(index);
            }
        }
        None
    }

    /// Takes in what other threads have freed.
    fn recycle(&self) {
        // Acquire: pairs with the Release in `give_back`.
        if self.returned.load(Ordering::Acquire).is_null() {
            return;
        }
        let mut slot = self
            .returned
            .swap(ptr::null_mut(), Ordering::Acquire)
            .cast_const();
        while !slot.is_null() {
            // SAFETY: returned slots keep their link.
            let next = unsafe { (*slot).next.get() };
            // SAFETY: a returned slot is free, and the owner asks.
            unsafe { self.take_in(slot) };
            slot = next;
        }
    }

    /// # Safety
    /// `slot` is free and in no list; the caller is the owner.
    #[inline]
    unsafe fn take_in(&self, slot: *const Header) {
        // SAFETY: free slots keep their offset.
        let offset = unsafe { (*slot.cast::<Task>()).offset };
        // SAFETY: that is the slot's offset; the chunk lives while the scope does.
        let chunk = unsafe { chunk_at(slot, offset) };
        chunk.live.set(chunk.live.get() - 1);
        let class = &self.classes[chunk.class as usize];
        // SAFETY: the slot is ours.
        unsafe { (*slot).next.set(class.free.replace(slot)) };
    }

    /// Another thread frees a slot of a chunk.
    ///
    /// # Safety
    /// `slot` is free; the chunk keeps the core, and so this arena, alive until this returns.
    unsafe fn give_back(&self, chunk: *const Chunk, slot: *const Header) {
        // Relaxed: the exchange below checks it.
        let mut head = self.returned.load(Ordering::Relaxed);
        loop {
            if head == dead() {
                // AcqRel: Release for this slot's last use; Acquire of all others', if this is the last.
                // SAFETY: the chunk lives until its `after` reaches zero, which needs this step.
                if unsafe { &*chunk }.after.fetch_sub(1, Ordering::AcqRel) == 1 {
                    // SAFETY: that was the last slot of a dead scope's chunk.
                    unsafe { Chunk::free(chunk) };
                }
                return;
            }
            // SAFETY: the slot is ours until the exchange succeeds.
            unsafe { (*slot).next.set(head) };
            // Release: pairs with the Acquire in `recycle` and `retire`.
            match self.returned.compare_exchange_weak(
                head,
                slot.cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The scope is dead: frees every chunk that nobody holds a slot of and leaves the rest to the last
    /// holder of each.
    ///
    /// # Safety
    /// The caller is the owner, holds a reference to the core, and places no further cell.
    pub(crate) unsafe fn retire(&self) {
        // AcqRel: takes the returned slots, and tells later ones to count themselves off.
        let mut slot = self.returned.swap(dead(), Ordering::AcqRel).cast_const();
        while !slot.is_null() && slot != dead() {
            // SAFETY: returned slots keep their link.
            let next = unsafe { (*slot).next.get() };
            // SAFETY: a returned slot is free, and the owner asks.
            unsafe { self.take_in(slot) };
            slot = next;
        }
        let mut chunk = self.chunks.replace(ptr::null());
        while !chunk.is_null() {
            // SAFETY: the scope's chunks live until freed here or by their last holder.
            let (next, live) = unsafe { &*chunk }.rest();
            let unheld = live == 0 || {
                // AcqRel: as in `give_back`; holders that came first have counted below zero.
                // SAFETY: the chunk lives until its `after` reaches zero, which needs this step.
                let old = unsafe { &*chunk }.after.fetch_add(live, Ordering::AcqRel);
                old.wrapping_add(live) == 0
            };
            if unheld {
                // SAFETY: no slot is in use.
                unsafe { Chunk::free(chunk) };
            }
            chunk = next;
        }
    }
}

/// Slot sizes, coarse enough that the children of most scopes share a few. Zero: one allocation each.
#[inline]
fn stride_of(cell: Layout) -> u32 {
    let size = cell.size();
    if size > MOST_BYTES || cell.align() > 16 || cfg!(selvedge_no_recycle) {
        return 0;
    }
    let step: usize = if size <= 256 {
        16
    } else if size <= 1024 {
        128
    } else {
        512
    };
    ((size + step - 1) & !(step - 1)) as u32
}

/// # Safety
/// `slot` lies at this offset of a chunk that is alive for `'a`.
#[inline]
unsafe fn chunk_at<'a>(slot: *const Header, offset: u32) -> &'a Chunk {
    // SAFETY: handed on from the caller.
    let chunk = unsafe { chunk_of(slot.cast(), offset) };
    // SAFETY: handed on from the caller.
    unsafe { &*chunk }
}

/// # Safety
/// `cell` is a slot at this offset.
unsafe fn chunk_of(cell: *const u8, offset: u32) -> *const Chunk {
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
            core,
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
