//! The payloads of panicked children, until their handle or the scope's end raises them.

use crate::sync::{Mutex, lock};
use crate::task::{Header, Payload, drop_payload};

struct Caught {
    /// Whose it is; compared, never followed.
    task: usize,
    payload: Payload,
}

/// What panicked in a scope, in order of arrival.
pub(crate) struct Panics(Mutex<Store>);

struct Store {
    caught: Vec<Caught>,
    count: usize,
}

impl std::fmt::Debug for Panics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Panics")
            .field("count", &lock(&self.0).count)
            .finish()
    }
}

impl Panics {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Store {
            caught: Vec::new(),
            count: 0,
        }))
    }

    pub(crate) fn add(&self, task: *const Header, payload: Payload) {
        let mut store = lock(&self.0);
        store.count += 1;
        store.caught.push(Caught {
            task: task.addr(),
            payload,
        });
    }

    /// The payload of a task, for its handle.
    pub(crate) fn take(&self, task: *const Header) -> Option<Payload> {
        let mut store = lock(&self.0);
        let index = store
            .caught
            .iter()
            .rposition(|caught| caught.task == task.addr())?;
        Some(store.caught.remove(index).payload)
    }

    /// As it was made. `false`: something is left in it.
    pub(super) fn renew(&mut self) -> bool {
        let store = self.0.get_mut();
        let store = store.unwrap_or_else(std::sync::PoisonError::into_inner);
        store.count = 0;
        store.caught.is_empty()
    }

    /// The last holder of the core drops what nobody raised.
    pub(super) fn clear_owned(&mut self) {
        let store = self.0.get_mut();
        let store = store.unwrap_or_else(std::sync::PoisonError::into_inner);
        if store.caught.is_empty() {
            return;
        }
        for caught in std::mem::take(&mut store.caught) {
            drop_payload(caught.payload);
        }
    }

    /// At the end of the scope: the payload to raise, if anything panicked. The others are dropped here,
    /// on the owner and outside the lock.
    #[inline]
    pub(crate) fn finish(&self) -> Option<Payload> {
        if lock(&self.0).count == 0 {
            return None;
        }
        self.finish_some()
    }

    #[cold]
    fn finish_some(&self) -> Option<Payload> {
        let (caught, count) = {
            let mut store = lock(&self.0);
            (
                std::mem::take(&mut store.caught),
                std::mem::take(&mut store.count),
            )
        };
        let mut caught = caught.into_iter().map(|caught| caught.payload);
        let first = caught.next();
        caught.for_each(drop_payload);
        if first.is_none() && count > 0 {
            return Some(Box::new(
                "a child of the scope panicked; its handle took the payload",
            ));
        }
        first
    }
}
