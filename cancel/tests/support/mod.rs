//! What several test files share: wakers that count, and single polls. Not a test itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A waker that counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn get(&self) -> usize {
        // Relaxed: read where the waking thread is joined, or is the reader.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        // Relaxed: as above.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.add();
    }
}

/// Polls once with a counting waker.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(count));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Counts how many executions went which way. Not loom's: it lives across executions.
#[cfg(selvedge_loom)]
#[derive(Debug, Default)]
pub(crate) struct Ways([AtomicUsize; 2]);

#[cfg(selvedge_loom)]
impl Ways {
    pub(crate) fn went(&self, first: bool) {
        // Relaxed: one thread at a time runs a model.
        self.0[usize::from(first)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn assert_both(&self) {
        // Relaxed: as above.
        let all = self.0.iter().all(|way| way.load(Ordering::Relaxed) > 0);
        assert!(all, "one outcome never occurred: {self:?}");
    }
}
