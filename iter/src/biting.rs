//! For tests: wakers that do something when they are woken or dropped. No test lives here.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::sync::{Arc, AtomicUsize, Ordering};

/// How often a waker was woken or dropped for good.
#[derive(Clone, Default)]
pub(crate) struct Bites(Arc<AtomicUsize>);

impl Bites {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A waker with something to do in `wake` and in its destructor.
pub(crate) struct Biting {
    bites: Bites,
    woken: Box<dyn Fn() + Send + Sync>,
    dropped: Box<dyn Fn() + Send + Sync>,
}

impl Biting {
    fn waker(
        woken: impl Fn() + Send + Sync + 'static,
        dropped: impl Fn() + Send + Sync + 'static,
    ) -> (Waker, Bites) {
        let bites = Bites::default();
        let biting = Self {
            bites: bites.clone(),
            woken: Box::new(woken),
            dropped: Box::new(dropped),
        };
        (Waker::from(Arc::new(biting)), bites)
    }

    pub(crate) fn on_drop(bite: impl Fn() + Send + Sync + 'static) -> (Waker, Bites) {
        Self::waker(|| (), bite)
    }

    pub(crate) fn panics(in_wake: bool, in_drop: bool) -> (Waker, Bites) {
        Self::waker(
            move || assert!(!in_wake, "a waker's wake"),
            move || assert!(!in_drop, "a waker's drop"),
        )
    }
}

impl Wake for Biting {
    fn wake(self: Arc<Self>) {
        self.bites.0.fetch_add(1, Ordering::SeqCst);
        (self.woken)();
    }
}

impl Drop for Biting {
    fn drop(&mut self) {
        self.bites.0.fetch_add(1, Ordering::SeqCst);
        (self.dropped)();
    }
}

/// Runs `test` on a thread of its own, and fails if it does not end.
#[track_caller]
pub(crate) fn guarded(test: impl FnOnce() + Send + 'static) {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = send.send(());
    });
    match receive.recv_timeout(Duration::from_secs(60)) {
        Err(RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => thread.join().unwrap(),
    }
}
