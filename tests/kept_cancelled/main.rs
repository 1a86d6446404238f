//! A `Cancelled` that is kept elsewhere changes nobody's result: an error or a value counts as a cancellation if it
//! holds one itself. Shapes of user code, each with no token kept and with one kept in several places. Not about
//! which operations fail, which the other tests have.
#![cfg(feature = "testing")]

#[path = "../common/mod.rs"]
mod common;

mod cost;
mod par;
mod programs;
mod shapes;

use std::future::{Future, pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use common::Raise;
use selvedge::{Cancelled, FutureCancelExt, Pool, scope};

/// Where the subject leaves a clone of its `Cancelled` before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    Log,
    Static,
    AnotherTask,
    /// The subject keeps nothing; what runs beside it keeps its own.
    Sibling,
}

pub(crate) const PLACES: [Place; 5] = [
    Place::Nowhere,
    Place::Log,
    Place::Static,
    Place::AnotherTask,
    Place::Sibling,
];

static KEPT: Mutex<Vec<Cancelled>> = Mutex::new(Vec::new());

/// What keeps `Cancelled`s while a case runs.
pub(crate) struct Keeper {
    place: Place,
    log: Mutex<Vec<Cancelled>>,
    sender: Mutex<mpsc::Sender<Cancelled>>,
    kept: AtomicUsize,
}

impl Keeper {
    /// For the subject.
    pub(crate) async fn keep(&self, cancelled: &Cancelled) {
        match self.place {
            Place::Nowhere => return,
            Place::Log => self.log.lock().unwrap().push(cancelled.clone()),
            Place::Static => KEPT.lock().unwrap().push(cancelled.clone()),
            Place::AnotherTask => self.sender.lock().unwrap().send(cancelled.clone()).unwrap(),
            Place::Sibling => return until(|| self.kept.load(SeqCst) > 0).await,
        }
        self.kept.fetch_add(1, SeqCst);
    }

    /// What runs beside the subject.
    pub(crate) async fn sibling(&self) {
        if self.place == Place::Sibling {
            let cancelled = rest::<()>().await.unwrap_err();
            self.log.lock().unwrap().push(cancelled);
            self.kept.fetch_add(1, SeqCst);
        }
    }
}

/// Runs a case while something is kept in that place.
pub(crate) async fn keeping(place: Place, case: impl AsyncFnOnce(&Keeper)) {
    let (sender, receiver) = mpsc::channel();
    let keeper = Keeper {
        place,
        log: Mutex::default(),
        sender: Mutex::new(sender),
        kept: AtomicUsize::new(0),
    };
    let receiver = Mutex::new(receiver);
    let over = AtomicBool::new(false);
    let held = scope(async |s| {
        let other = s.spawn(async {
            let mut held = Vec::new();
            until(|| {
                held.extend(receiver.lock().unwrap().try_iter());
                over.load(SeqCst)
            })
            .await;
            held.len()
        });
        {
            // Also if the case fails: the scope waits for the other task.
            let _over = Raise(&over);
            case(&keeper).await;
        }
        other.await
    });
    let held = held.await;
    let kept = keeper.kept.load(SeqCst);
    assert_eq!(kept > 0, place != Place::Nowhere, "{place:?}: reached");
    assert_eq!(held > 0, place == Place::AnotherTask);
}

/// Fails if it does not end: a hang must not stop the other tests.
pub(crate) fn guarded(test: impl FnOnce() + Send + 'static) {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = send.send(());
    });
    match receive.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(payload) = thread.join() {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

pub(crate) fn pools() -> [Pool; 2] {
    [0, 2].map(|threads| Pool::builder().threads(threads).build())
}

/// Lets others run that often.
pub(crate) fn yields(mut times: usize) -> impl Future<Output = ()> + Send {
    poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Lets others run until it is so, cancelled or not.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

/// Waits for a cancellation, and fails with it.
pub(crate) async fn rest<T>() -> Result<T, Cancelled> {
    pending::<T>().or_cancel().await
}
