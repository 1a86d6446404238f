//! The arena of a scope: hands out slots of its chunks, and recycles them while the scope lives.
//!
//! The owner works on plain cells. Another thread that frees a slot returns it through the stack of
//! returned slots, or, once the scope is dead, counts it off its chunk; the thread that brings this count to
//! zero frees the chunk.

use std::alloc::Layout;
use std::cell::{Cell, OnceCell};
use std::ptr;

use super::chunk::{Chunk, chunk_at, solo};
use super::slab::Seat;
use super::{Header, Placed, cache};
use crate::sync::{AtomicPtr, Ordering};
use crate::window::Core;

/// Layouts a scope keeps chunks for at a time; children of further layouts get an allocation each.
pub(super) const CLASSES: usize = 6;
/// As many are part of the core; a scope that meets more allocates them.
const COMMON: usize = 2;
/// Slots of a scope's first chunk; the next has four times as many, then they have the size that is kept.
/// Four keeps small scopes small; what one stray waker can pin is one chunk of eight kibibytes.
const FIRST_SLOTS: u32 = 4;
const MOST_SLOTS: u32 = 16;
/// Bytes of the slots of a chunk that is not of the kept size.
const MOST_CHUNK: u32 = (cache::BYTES - size_of::<Chunk>()) as u32;
/// Larger cells are allocated one by one.
const MOST_BYTES: usize = 2048;

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
    const fn new() -> Self {
        Self {
            stride: Cell::new(0),
            free: Cell::new(ptr::null()),
            open: Cell::new(ptr::null()),
            offset: Cell::new(0),
            left: Cell::new(0),
            grow: Cell::new(FIRST_SLOTS),
        }
    }

    /// The next slot of the open chunk that was never used.
    #[inline]
    fn next_slot(&self) -> Place {
        self.left.set(self.left.get() - 1);
        let offset = self.offset.get();
        self.offset.set(offset + self.stride.get());
        let chunk = self.open.get();
        // SAFETY: `left` says that the slot at this offset is inside the chunk.
        let slot = unsafe { chunk.byte_add(offset as usize) };
        Place {
            cell: slot.cast_mut().cast(),
            offset,
            solo: false,
        }
    }
}

/// Room for a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) cell: *mut u8,
    /// Bytes from the start of its chunk.
    pub(crate) offset: u32,
    /// It has the chunk to itself, and is not found by `each_living`.
    pub(crate) solo: bool,
}

/// The chunks of one scope; owner only but for `give_back`.
#[derive(Debug)]
pub(crate) struct Arena {
    classes: [Class; COMMON],
    /// The classes beyond the first few.
    rare: OnceCell<Box<[Class; CLASSES - COMMON]>>,
    recent: Cell<usize>,
    chunks: Cell<*const Chunk>,
    /// A small chunk that the last scope of this core has left, in which nothing lies.
    spare: Cell<*const Chunk>,
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
            classes: [const { Class::new() }; COMMON],
            rare: OnceCell::new(),
            recent: Cell::new(0),
            chunks: Cell::new(ptr::null()),
            spare: Cell::new(ptr::null()),
            returned: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// As it was made; nobody has a slot of it.
    pub(crate) fn renew(&mut self) {
        let Self {
            classes,
            rare,
            recent,
            chunks,
            // The next scope of the core has it.
            spare: _,
            returned,
        } = self;
        for class in classes {
            *class = Class::new();
        }
        if rare.get().is_some() {
            *rare = OnceCell::new();
        }
        *recent = Cell::new(0);
        *chunks = Cell::new(ptr::null());
        *returned = AtomicPtr::new(ptr::null_mut());
    }

    #[inline]
    fn class(&self, index: usize) -> &Class {
        match self.classes.get(index) {
            Some(class) => class,
            None => &self
                .rare
                .get_or_init(|| Box::new([const { Class::new() }; CLASSES - COMMON]))
                [index - COMMON],
        }
    }

    /// A place for a cell.
    ///
    /// # Safety
    /// The caller is the owner of `core`, whose arena this is, in an open window.
    #[inline]
    pub(crate) unsafe fn place(&self, core: &Core, cell: Layout) -> Place {
        // SAFETY: handed on from the caller.
        unsafe { self.place_by(core, cell, stride_of(cell)) }
    }

    /// A place for a seat of a batch, always in a chunk of many.
    ///
    /// # Safety
    /// As for `place`; the arena has no other cells than seats.
    #[inline]
    pub(super) unsafe fn seat(&self, core: &Core) -> Place {
        let seat = Layout::new::<Seat>();
        // SAFETY: handed on from the caller.
        unsafe { self.place_by(core, seat, const { stride_of_seat() }) }
    }

    /// So many seats may be wanted at a time: few have a chunk that is no larger than they need.
    pub(crate) fn expect_seats(&self, most: usize) {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.classes[0].grow.set(most.clamp(1, MOST_SLOTS + 1));
    }

    /// # Safety
    /// As for `place`.
    #[inline]
    unsafe fn place_by(&self, core: &Core, cell: Layout, stride: u32) -> Place {
        let recent = self.class(self.recent.get());
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
    unsafe fn reuse(&self, class: &Class, slot: *const Header) -> Place {
        // SAFETY: free slots keep their header's link.
        class.free.set(unsafe { (*slot).next.get() });
        // SAFETY: free slots keep their offset.
        let offset = unsafe { (*slot.cast::<Placed>()).offset };
        // SAFETY: that is the slot's offset; the chunk lives while the scope does.
        let freed = &unsafe { chunk_at(slot, offset) }.freed;
        freed.set(freed.get() - 1);
        Place {
            cell: slot.cast_mut().cast(),
            offset,
            solo: false,
        }
    }

    /// # Safety
    /// As for `place`.
    unsafe fn place_slow(&self, core: &Core, cell: Layout, stride: u32) -> Place {
        let Some(index) = self.class_for(stride) else {
            return solo(core, cell);
        };
        self.recent.set(index);
        let class = self.class(index);
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
        if let Some((chunk, offset, slots)) = self.take_spare(core, index, stride) {
            class.grow.set(class.grow.get() * 4);
            return self.open_next(class, (chunk, offset, slots));
        }
        let index = u32::try_from(index).unwrap_or(0);
        let slots = class.grow.replace(class.grow.get() * 4);
        // Small ones by count, large ones by size: a stray waker pins no more than one of the kept size.
        let (chunk, offset, slots) = if slots <= MOST_SLOTS && slots * stride < MOST_CHUNK {
            let layout = Layout::from_size_align(stride as usize, 16).expect("strides are small");
            let (chunk, offset) = Chunk::make(core, index, layout, slots);
            (chunk, offset, slots)
        } else {
            class.grow.set(MOST_SLOTS + 1);
            Chunk::make_kept(core, index, stride)
        };
        self.open_next(class, (chunk, offset, slots));
    }

    /// The chunk that was left by the last scope of this core, if it has slots of this size. It is of the first class.
    #[inline]
    fn take_spare(
        &self,
        core: &Core,
        index: usize,
        stride: u32,
    ) -> Option<(*const Chunk, u32, u32)> {
        let spare = self.spare.get();
        // SAFETY: a spare chunk is alive until it is taken or freed, by this thread.
        let chunk = unsafe { spare.as_ref() }?;
        if index != 0 || chunk.stride() != stride {
            return None;
        }
        self.spare.set(ptr::null());
        let (offset, slots) = chunk.begin_again(core);
        Some((spare, offset, slots))
    }

    #[inline]
    fn open_next(&self, class: &Class, (chunk, offset, slots): (*const Chunk, u32, u32)) {
        // SAFETY: just made.
        unsafe { &*chunk }.next.set(self.chunks.replace(chunk));
        let full = class.open.replace(chunk);
        if !full.is_null() {
            // `note_unused` may have looked at it when it was not full yet.
            // SAFETY: the scope's chunks live while it does.
            unsafe { &*full }.unused.set(0);
        }
        class.offset.set(offset);
        class.left.set(slots);
    }

    fn class_for(&self, stride: u32) -> Option<usize> {
        if stride == 0 {
            return None;
        }
        for index in 0..CLASSES {
            let class = self.class(index);
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
    pub(crate) unsafe fn take_in(&self, slot: *const Header) {
        // SAFETY: free slots keep their offset.
        let offset = unsafe { (*slot.cast::<Placed>()).offset };
        // SAFETY: that is the slot's offset; the chunk lives while the scope does.
        let chunk = unsafe { chunk_at(slot, offset) };
        chunk.freed.set(chunk.freed.get() + 1);
        let class = self.class(chunk.class as usize);
        // SAFETY: the slot is ours.
        unsafe { (*slot).next.set(class.free.replace(slot)) };
    }

    /// Another thread frees a slot of a chunk.
    ///
    /// # Safety
    /// `slot` is free; the chunk keeps the core, and so this arena, alive until this returns.
    pub(super) unsafe fn give_back(&self, chunk: *const Chunk, slot: *const Header) {
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

    /// Writes into the open chunks what is left of them.
    fn note_unused(&self) {
        let rare = self.rare.get().into_iter().flat_map(|rare| rare.iter());
        for class in self.classes.iter().chain(rare) {
            let open = class.open.get();
            if !open.is_null() {
                // SAFETY: the open chunk lives while the scope does.
                unsafe { &*open }.unused.set(class.left.get());
            }
        }
    }

    /// Calls `visit` with every child in the arena that has not ended, the newest chunk first.
    ///
    /// # Safety
    /// The caller is the owner, and places no cell meanwhile.
    pub(crate) unsafe fn each_living(&self, mut visit: impl FnMut(*const Header)) {
        self.note_unused();
        let mut chunk = self.chunks.get();
        while !chunk.is_null() {
            for slot in Chunk::used(chunk) {
                // SAFETY: a slot that was handed out was written; a freed one keeps its word, which is DONE.
                if unsafe { &*slot }.word.ended().is_none() {
                    visit(slot);
                }
            }
            // SAFETY: the scope's chunks live while it does.
            chunk = unsafe { &*chunk }.next.get();
        }
    }

    /// Whether a chunk, in which nothing lies, stays for the next scope of this core: a first one, which is small, and
    /// not if a waker may keep the core for long.
    ///
    /// # Safety
    /// The chunk is alive.
    unsafe fn keeps(&self, chunk: *const Chunk) -> bool {
        // SAFETY: handed on from the caller.
        let chunk = unsafe { &*chunk };
        self.spare.get().is_null()
            && chunk.class == 0
            && !chunk.is_of_kept_size()
            && chunk.is_last_but_one()
    }

    /// The scope is dead: frees every chunk that nobody holds a slot of and leaves the rest to the last
    /// holder of each.
    ///
    /// # Safety
    /// The caller is the owner, holds a reference to the core, and places no further cell.
    pub(crate) unsafe fn retire(&self) {
        if self.chunks.get().is_null() {
            // Nobody has a slot to give back.
            return;
        }
        // AcqRel: takes the returned slots, and tells later ones to count themselves off.
        let mut slot = self.returned.swap(dead(), Ordering::AcqRel).cast_const();
        while !slot.is_null() && slot != dead() {
            // SAFETY: returned slots keep their link.
            let next = unsafe { (*slot).next.get() };
            // SAFETY: a returned slot is free, and the owner asks.
            unsafe { self.take_in(slot) };
            slot = next;
        }
        self.note_unused();
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
            // SAFETY: it is freed below.
            if unheld && next.is_null() && unsafe { self.keeps(chunk) } {
                self.spare.set(chunk);
                // SAFETY: no slot is in use, and the caller has a reference besides.
                unsafe { Chunk::rest_empty(chunk) };
            } else if unheld {
                // SAFETY: no slot is in use.
                unsafe { Chunk::free(chunk) };
            }
            chunk = next;
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let spare = self.spare.get();
        if !spare.is_null() {
            // SAFETY: it is empty, and the arena's alone.
            unsafe { Chunk::free_empty(spare) };
        }
    }
}

const fn stride_of_seat() -> u32 {
    assert!(align_of::<Seat>() <= 16);
    size_of::<Seat>().next_multiple_of(16) as u32
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
