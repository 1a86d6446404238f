//! What a task is called: the hook for inspection, allocated when somebody first asks.
//!
//! It holds `'static` data only (rule W10) and costs a null pointer until then. Wakers that were left in its list are
//! user code; they are dropped one by one, each caught, before the record is freed (rule W4).

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::OnceLock;
use std::task::Waker;

use selvedge_cancel::{CancelToken, Phase, TaskId, Watching};

use super::quietly;
use super::waiters::Waiters;
use crate::sync::{AtomicPtr, Mutex, Ordering, lock};

/// Whether a task is in the list of its own token.
#[derive(Debug)]
enum Listening {
    No,
    /// At this place, which may have been served since.
    At(usize),
    /// It was cancelled when it came, or has ended.
    Told,
}

/// The record of one task.
#[derive(Debug)]
pub(crate) struct Record {
    id: TaskId,
    name: OnceLock<Cow<'static, str>>,
    /// The task's own token, below its scope's.
    own: OnceLock<CancelToken>,
    /// Where the task itself stands among its token's watchers, once somebody else may have the token.
    listening: Mutex<Listening>,
    /// Who waits for the task's end besides its handle; when the end takes them, the life word says.
    pub(crate) waiters: Waiters,
}

std::thread_local! {
    /// While this thread frees a record: those that came up meanwhile.
    static FREED: Cell<Option<Vec<Record>>> = const { Cell::new(None) };
}

/// The next one, or the end of this.
fn more(freed: &Cell<Option<Vec<Record>>>) -> Option<Record> {
    let mut others = freed.take()?;
    let next = others.pop();
    freed.set(next.is_some().then_some(others));
    next
}

impl Record {
    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.get().map(AsRef::as_ref)
    }

    /// The task's own token, made below the scope's when it is first asked for.
    pub(crate) fn own(&self, scope: &CancelToken) -> &CancelToken {
        self.own.get_or_init(|| scope.child())
    }

    /// The task's own token, if it has one.
    pub(crate) fn own_if_any(&self) -> Option<&CancelToken> {
        self.own.get()
    }

    /// The task's own token, for somebody who may cancel it past the task's handle: that wakes the task, by
    /// `waker`, which is its own. Called in the task's poll.
    pub(crate) fn expose(&self, scope: &CancelToken, waker: &Waker) -> &CancelToken {
        let own = self.own(scope);
        if !matches!(*lock(&self.listening), Listening::No) {
            return own;
        }
        // Only the task itself comes here, in its poll, so nobody else does meanwhile.
        let listening = match own.watch_phase(waker, Phase::Cancelled) {
            Watching::At(at) => Listening::At(at),
            Watching::Late => {
                // What came to rest in this poll is looked at again, once.
                waker.wake_by_ref();
                Listening::Told
            }
            Watching::Never => Listening::Told,
        };
        *lock(&self.listening) = listening;
        own
    }

    /// The task has ended: its token wakes it no more.
    pub(crate) fn end_listening(&self) {
        let listening = std::mem::replace(&mut *lock(&self.listening), Listening::Told);
        if let (Listening::At(at), Some(own)) = (listening, self.own.get()) {
            own.unwatch_phase(at);
        }
    }

    /// The task is being freed. A wait that was forgotten has left its waker here, which may be the last that keeps
    /// another task, and so on: one record after another, not one inside another.
    fn free(self) {
        let mut next = Some(self);
        // In a destructor of a thread-local value there may be no list any more; then they are inside one another.
        let _ = FREED.try_with(|freed| match freed.take() {
            Some(mut others) => {
                others.extend(next.take());
                freed.set(Some(others));
            }
            None => freed.set(Some(Vec::new())),
        });
        while let Some(record) = next {
            for waker in record.waiters.close() {
                quietly(|| drop(waker));
            }
            quietly(|| drop(record));
            next = FREED.try_with(more).ok().flatten();
        }
    }

    /// The first name given stays.
    pub(crate) fn set_name(&self, name: Cow<'static, str>) {
        let _ = self.name.set(name);
    }
}

/// Where a task keeps its record: empty until somebody asks for it.
#[derive(Debug)]
pub(crate) struct RecordSlot(AtomicPtr<Record>);

impl RecordSlot {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The record, made if it is not there yet.
    pub(crate) fn get(&self) -> &Record {
        if let Some(record) = self.peek() {
            return record;
        }
        let fresh = Box::into_raw(Box::new(Record {
            id: TaskId::next(),
            name: OnceLock::new(),
            own: OnceLock::new(),
            listening: Mutex::new(Listening::No),
            waiters: Waiters::new(),
        }));
        // AcqRel: publishes the fresh record to `peek`, or acquires the one that came first.
        match self.0.compare_exchange(
            std::ptr::null_mut(),
            fresh,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            // SAFETY: the record was made above and is freed only when its task is.
            Ok(_) => unsafe { &*fresh },
            Err(first) => {
                // SAFETY: nobody else has seen `fresh`, which came from a box.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: a published record is freed only when its task is.
                unsafe { &*first }
            }
        }
    }

    /// The record, if there is one.
    pub(crate) fn peek(&self) -> Option<&Record> {
        // Acquire: pairs with the publication in `get`.
        let record = self.0.load(Ordering::Acquire);
        // SAFETY: a published record is freed only when its task is.
        unsafe { record.as_ref() }
    }
}

impl RecordSlot {
    /// Empties the slot of a task that is being freed: nobody else has the slot, or a record from it.
    ///
    /// # Safety
    /// As said: no reference to the record is left.
    #[inline(always)]
    pub(crate) unsafe fn clear(&self) {
        // Relaxed: the holder's last reference already ordered what others did.
        if !self.0.load(Ordering::Relaxed).is_null() {
            // SAFETY: handed on from the caller.
            unsafe { self.free() };
        }
    }

    /// # Safety
    /// There is a record, and no reference to it is left.
    #[cold]
    unsafe fn free(&self) {
        // AcqRel: takes what `get` has published.
        let record = self.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: it came from a box in `get`; the last holder of the task takes it, once.
        unsafe { Box::from_raw(record) }.free();
    }
}
