//! Tasks: a future and then its output in place, the two words that govern them, and the handle's end.
//!
//! `README.md` beside this file has the vocabulary and says who may touch which field when; the numbers in
//! the `SAFETY` comments (T1–T6) are its rules. This folder knows nothing of pools or windows beyond the
//! [`Core`](crate::window::Core) that a wake is pushed to.

mod arena;
mod cache;
mod cell;
mod chunk;
mod ending;
mod join;
mod kept;
mod life;
mod list;
mod record;
mod slab;
mod waiters;
mod waker;
mod word;

use std::cell::{Cell, UnsafeCell};
use std::mem::{MaybeUninit, offset_of};
use std::panic::Location;
use std::task::{Context, Waker};

use selvedge_cancel::CancelToken;

pub(crate) use self::arena::{Arena, Place};
pub(crate) use self::cell::{BatchCell, Plain, Settle, TaskCell, Trying, place};
pub(crate) use self::chunk::{free_owned, links_of, solo};
pub(crate) use self::ending::Ending;
pub(crate) use self::join::{Fault, RawJoin};
pub(crate) use self::kept::{Kept, Passed, Whole};
#[cfg(all(test, selvedge_loom))]
pub(crate) use self::life::Parting;
pub(crate) use self::life::{Alone, Heir, LifeWord};
pub(crate) use self::list::{AllList, Links, List};
pub(crate) use self::record::RecordSlot;
pub(crate) use self::slab::{Holds, Slab, leave_seat};
#[cfg(all(test, selvedge_loom))]
pub(crate) use self::waiters::Waiters;
pub(crate) use self::waker::{is_own_wait, is_waker_of, with_waker};
pub(crate) use self::word::{Ended, Rest, TaskWord};
use crate::window::Core;

/// What kind of cell a header opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body of a scope; polled by the owner only (rule L7).
    Body,
    /// The notice of a scope, which is not polled: it tells the owner of a cancellation.
    Notice,
    /// A spawned child: the header opens a [`Task`].
    Child,
    /// One of a batch of like futures: the header opens a seat, the future lies elsewhere.
    Batch,
}

/// What a poll came to. Outputs are in the cell and payloads with the scope by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Pending,
    Value,
    Panicked,
}

/// What can be done to a cell without knowing its type.
#[derive(Debug)]
pub(crate) struct VTable {
    pub(crate) kind: Kind,
    /// Polls the future; at its end drops it and stores the output. Catches everything (rule W4).
    pub(crate) poll: unsafe fn(*const Header, &mut Context<'_>) -> Polled,
    /// Drops a future that has not ended. Catches everything.
    pub(crate) drop_future: unsafe fn(*const Header),
    /// Drops the output; a panic of its destructor comes back.
    pub(crate) drop_output: unsafe fn(*const Header) -> Option<Payload>,
    /// Gives the memory back. What a forgotten wait has left in the record is dropped before, and caught (W4).
    pub(crate) free: unsafe fn(*const Header),
    /// Whether dropping the output does anything.
    pub(crate) output_needs_drop: bool,
    /// Where the output lies, in bytes from the header.
    pub(crate) output: usize,
    /// Writes the handle's output for an awaiting task that is itself cancelled; `try_scope` only.
    pub(crate) cut_short: Option<unsafe fn(*mut (), selvedge_cancel::Cancelled)>,
}

/// The part that every cell begins with: 32 bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    /// Link in the one queue the task is in (rule T2: it belongs to the holder of the `QUEUED` token).
    pub(crate) next: Cell<*const Header>,
    pub(crate) core: *const Core,
    pub(crate) vtable: &'static VTable,
    pub(crate) word: TaskWord,
    pub(crate) life: LifeWord,
}

impl Header {
    pub(crate) fn new(core: *const Core, vtable: &'static VTable, handle: bool) -> Self {
        Self {
            next: Cell::new(std::ptr::null()),
            core,
            vtable,
            word: TaskWord::new(),
            life: LifeWord::new(handle),
        }
    }

    /// As it was made, but for the word; nobody refers to it.
    pub(crate) fn renew(&mut self, word: TaskWord) {
        self.next = Cell::new(std::ptr::null());
        self.word = word;
        self.life = LifeWord::new(false);
    }

    /// The core of the cell's scope.
    ///
    /// # Safety
    /// The cell, and so its core, is alive for `'a`.
    #[inline]
    pub(crate) unsafe fn core_of<'a>(header: *const Self) -> &'a Core {
        // SAFETY: handed on from the caller.
        let header = unsafe { &*header };
        // SAFETY: a cell lies in a chunk, which holds a reference to the core.
        unsafe { &*header.core }
    }

    /// The task that the header opens; `None` for a body, a slot of a batch, or a notice.
    ///
    /// # Safety
    /// The header is alive for `'a`, and a child's pointer reaches its whole cell.
    #[inline]
    pub(crate) unsafe fn task<'a>(header: *const Self) -> Option<&'a Task> {
        // SAFETY: handed on from the caller.
        let is_child = unsafe { &*header }.vtable.kind == Kind::Child;
        // SAFETY: a child's header opens a task.
        is_child.then(|| unsafe { &*header.cast::<Task>() })
    }

    /// Gives the cell's memory back.
    ///
    /// # Safety
    /// Nothing refers to the cell any more, its future is gone, and its output moved or dropped.
    #[inline]
    pub(crate) unsafe fn free(header: *const Self) {
        // SAFETY: the cell is still whole.
        let free = unsafe { &*header }.vtable.free;
        // SAFETY: handed on from the caller.
        unsafe { free(header) };
    }

    /// Drops a future that has not ended; its panics go to the scope.
    ///
    /// # Safety
    /// The future lives, and is the caller's alone.
    pub(crate) unsafe fn drop_future(header: *const Self) {
        // SAFETY: the cell is whole.
        let drop_future = unsafe { &*header }.vtable.drop_future;
        // SAFETY: handed on from the caller.
        unsafe { drop_future(header) };
    }

    /// Drops the output; a panic of its destructor comes back.
    ///
    /// # Safety
    /// The output was written, was not taken, and is the caller's.
    pub(crate) unsafe fn drop_output(header: *const Self) -> Option<Payload> {
        // SAFETY: the cell is whole.
        let vtable = unsafe { &*header }.vtable;
        if !vtable.output_needs_drop {
            return None;
        }
        // SAFETY: handed on from the caller.
        unsafe { (vtable.drop_output)(header) }
    }

    /// What the cost estimates are kept under: the future's type, first and later polls apart.
    #[inline]
    pub(crate) fn key(&self) -> usize {
        self.vtable.poll as usize ^ usize::from(self.word.is_fresh())
    }
}

/// What a spawned child adds to the header.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Task {
    pub(crate) header: Header,
    /// Bytes from the start of the chunk to this cell.
    pub(crate) offset: u32,
    /// Pushed into the inbox by its spawn, and not registered yet.
    pub(crate) newborn: Cell<bool>,
    /// In a chunk of its own, and so in the list of single cells once it is registered.
    pub(crate) solo: bool,
    /// It may be dropped midway.
    pub(crate) select_safe: bool,
    /// In debug builds: it is at rest and known to wait for one end.
    pub(crate) waits: Cell<bool>,
    /// Whom to wake at the end; governed by the life word (rule T4).
    pub(crate) joiner: WakerSlot,
    /// Where the task was spawned.
    pub(crate) place: &'static Location<'static>,
    /// Name, number and whatever inspection adds; null until somebody asks.
    pub(crate) record: RecordSlot,
}

/// What a task and a seat begin with, as far as their memory is concerned.
#[repr(C)]
struct Placed {
    header: Header,
    /// Bytes from the start of the chunk.
    offset: u32,
}

const _: () = assert!(offset_of!(Task, offset) == offset_of!(Placed, offset));

impl Task {
    /// The task's own token, if it has one.
    #[inline]
    pub(crate) fn own_if_any(&self) -> Option<&CancelToken> {
        self.record.peek().and_then(record::Record::own_if_any)
    }

    /// The task's own token, below its scope's, made when it is first asked for.
    pub(crate) fn own(&self, scope: &CancelToken) -> &CancelToken {
        self.record.get().own(scope)
    }

    /// Which child this is, for messages.
    pub(crate) fn describe(&self) -> String {
        match self.record.peek().and_then(record::Record::name) {
            Some(name) => format!("child `{name}` spawned at {}", self.place),
            None => format!("the child spawned at {}", self.place),
        }
    }
}

/// Room for a waker. Who may touch it when, the life word says.
#[derive(Debug)]
pub(crate) struct WakerSlot(UnsafeCell<MaybeUninit<Waker>>);

impl WakerSlot {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    /// The slot is filled, and nobody writes it meanwhile.
    pub(crate) unsafe fn peek(&self) -> &Waker {
        // SAFETY: nobody writes it, says the caller.
        let slot = unsafe { &*self.0.get() };
        // SAFETY: it is filled, says the caller.
        unsafe { slot.assume_init_ref() }
    }

    /// # Safety
    /// The slot is the caller's, and empty.
    pub(crate) unsafe fn put(&self, waker: Waker) {
        // SAFETY: the slot is the caller's.
        unsafe { self.0.get().write(MaybeUninit::new(waker)) };
    }

    /// # Safety
    /// The slot is filled and the caller's, who leaves it empty.
    pub(crate) unsafe fn take(&self) -> Waker {
        // SAFETY: a plain copy; a handle may be comparing the waker meanwhile, which only reads too.
        let slot = unsafe { self.0.get().read() };
        // SAFETY: it was filled, and this copy is the one that counts.
        unsafe { slot.assume_init() }
    }
}

/// A panic's payload.
pub(crate) type Payload = Box<dyn std::any::Any + Send>;

/// Runs user code that must not unwind into the engine. A payload that nobody takes is dropped here too.
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        drop_payload(payload);
    }
}

/// Drops a payload; one whose destructor panics is forgotten with what it panicked with.
pub(crate) fn drop_payload(payload: Payload) {
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)));
    if let Err(second) = dropped {
        std::mem::forget(second);
    }
}
