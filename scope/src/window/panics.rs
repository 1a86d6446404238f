//! The payloads of panicked children, until their handle or the scope's end raises them.

use std::collections::BTreeMap;

use crate::sync::{Mutex, lock};
use crate::task::{Header, Payload, drop_payload};

/// What panicked in a scope.
pub(crate) struct Panics(Mutex<Store>);

struct Store {
    /// By whose it is, an address that is compared and never followed, and by arrival. So a handle finds its own among
    /// very many.
    caught: BTreeMap<(usize, usize), Payload>,
    /// How many came, whether or not a handle took them.
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
            caught: BTreeMap::new(),
            count: 0,
        }))
    }

    pub(crate) fn add(&self, task: *const Header, payload: Payload) {
        let mut store = lock(&self.0);
        store.count += 1;
        let key = (task.addr(), store.count);
        store.caught.insert(key, payload);
    }

    /// The payload of a task, for its handle: the last one, should the address have been another task's before.
    pub(crate) fn take(&self, task: *const Header) -> Option<Payload> {
        let task = task.addr();
        let mut store = lock(&self.0);
        let (&key, _) = store
            .caught
            .range((task, 0)..=(task, usize::MAX))
            .next_back()?;
        store.caught.remove(&key)
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
        for payload in std::mem::take(&mut store.caught).into_values() {
            drop_payload(payload);
        }
    }

    /// At the end of the scope: the payload to raise, if anything panicked, which is the first that no handle took. The
    /// others are dropped here, on the owner and outside the lock.
    #[inline]
    pub(crate) fn finish(&self) -> Option<Payload> {
        if lock(&self.0).count == 0 {
            return None;
        }
        Some(self.finish_some())
    }

    #[cold]
    fn finish_some(&self) -> Payload {
        let caught = {
            let mut store = lock(&self.0);
            store.count = 0;
            std::mem::take(&mut store.caught)
        };
        let mut caught: Vec<_> = caught.into_iter().collect();
        caught.sort_unstable_by_key(|((_, arrival), _)| *arrival);
        let mut caught = caught.into_iter().map(|(_, payload)| payload);
        let Some(first) = caught.next() else {
            return Box::new("a child of the scope panicked; its handle took the payload");
        };
        caught.for_each(drop_payload);
        first
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::*;

    /// Addresses that nobody follows.
    fn task(number: usize) -> *const Header {
        std::ptr::without_provenance(64 * (number + 1))
    }

    fn text(payload: Option<Payload>) -> String {
        let payload = payload.expect("a payload");
        *payload.downcast().expect("a text")
    }

    fn add(panics: &Panics, number: usize, text: &str) {
        panics.add(task(number), Box::new(text.to_owned()));
    }

    #[test]
    fn first_that_no_handle_took_is_raised() {
        let panics = Panics::new();
        assert!(panics.finish().is_none());
        // By arrival, whatever the addresses are.
        for (number, text) in [(3, "first"), (1, "second"), (2, "third")] {
            add(&panics, number, text);
        }
        assert_eq!(text(panics.take(task(3))), "first");
        assert!(panics.take(task(3)).is_none());
        assert!(panics.take(task(7)).is_none());
        assert_eq!(text(panics.finish()), "second");
        assert!(panics.finish().is_none());
    }

    #[test]
    fn taken_ones_are_remembered_until_the_end() {
        let panics = Panics::new();
        add(&panics, 1, "only");
        assert_eq!(text(panics.take(task(1))), "only");
        let payload = panics.finish().expect("a payload of the scope's");
        assert!(payload.is::<&str>());
    }

    #[test]
    fn handle_takes_the_last_one_of_its_address() {
        let panics = Panics::new();
        // The first task has gone, and its cell was used again.
        add(&panics, 5, "of the task before");
        add(&panics, 5, "of this one");
        assert_eq!(text(panics.take(task(5))), "of this one");
        assert_eq!(text(panics.finish()), "of the task before");
    }

    /// A look through all for each would take hours.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn as_many_as_you_like_are_taken_in_the_order_of_arrival() {
        let most = 300_000;
        let panics = Panics::new();
        for number in 0..most {
            panics.add(task(number), Box::new(number));
        }
        for number in 0..most {
            let payload = panics.take(task(number)).expect("a payload");
            assert_eq!(*payload.downcast::<usize>().expect("a number"), number);
        }
    }
}
