//! State that belongs to one process: after a `fork` the child has the parent's memory, but none of its threads.
//! Not a lock, and not a hook into `fork`: whoever asks for the state pays for one look at the process's number.

use std::fmt;
use std::process;

use crate::sync::OnceLock;
use crate::sync::plain::{AtomicU32, Ordering};

/// A value for each process that uses it: the parent's, then that of its child, and so on.
///
/// For statics. A child process makes a value of its own at its first [`get`](Self::get); what the parent had
/// stays where it is, because a thread that no longer exists may hold its lock.
#[doc(hidden)]
pub struct PerProcess<T> {
    /// The process whose value it is; zero until somebody asks.
    process: AtomicU32,
    value: T,
    next: OnceLock<Box<Self>>,
}

impl<T> PerProcess<T> {
    /// The value of the process that asks first.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self {
            process: AtomicU32::new(0),
            value,
            next: OnceLock::new(),
        }
    }

    /// The value of this process. In a child process the first call makes it, from the parent's.
    pub fn get(&self, make: impl FnOnce(&T) -> T) -> &T {
        let process = process::id();
        let last = self.last();
        // Relaxed: the number is written once in each process, and means nothing beside itself.
        match last
            .process
            .compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => &last.value,
            Err(owner) if owner == process => &last.value,
            Err(_) => {
                let next = last.next.get_or_init(|| {
                    Box::new(Self {
                        process: AtomicU32::new(process),
                        value: make(&last.value),
                        next: OnceLock::new(),
                    })
                });
                &next.value
            }
        }
    }

    /// Whether this process has asked before, or nobody has; not so in a child process that has yet to ask.
    pub fn is_ours(&self) -> bool {
        // Relaxed: as in `get`.
        let owner = self.last().process.load(Ordering::Relaxed);
        owner == 0 || owner == process::id()
    }

    /// The value of the process that asked last: of this one, or, if this one has not asked yet, of its parent.
    pub fn latest(&self) -> &T {
        &self.last().value
    }

    fn last(&self) -> &Self {
        let mut last = self;
        while let Some(next) = last.next.get() {
            last = next;
        }
        last
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess").finish_non_exhaustive()
    }
}
