//! What a task is called: the hook for inspection, allocated when somebody first asks.
//!
//! It holds `'static` data only (rule W10) and costs a null pointer until then.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::OnceLock;

use crate::sync::{AtomicPtr, Ordering, plain};

/// A task's number, unique in the process for as long as it runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    fn next() -> Self {
        static NEXT: plain::AtomicU64 = plain::AtomicU64::new(1);
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(1, plain::Ordering::Relaxed);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The record of one task.
#[derive(Debug)]
pub(crate) struct Record {
    id: TaskId,
    name: OnceLock<Cow<'static, str>>,
}

impl Record {
    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.get().map(AsRef::as_ref)
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
    pub(crate) unsafe fn clear(&self) {
        // Relaxed: the holder's last reference already ordered what others did.
        if self.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        // AcqRel: takes what `get` has published.
        let record = self.0.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: it came from a box in `get`; the last holder of the task takes it, once.
        drop(unsafe { Box::from_raw(record) });
    }
}
