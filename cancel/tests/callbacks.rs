//! On which thread `on_cancel` functions are called: never on one that cancels nothing and only finds a cancellation. And
//! that all are called that a cancellation has reached, whatever becomes of their guards.
#![cfg(not(selvedge_loom))]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};

use selvedge_cancel::{CancelToken, OnCancel, WaitCancelled};

/// Registers a function that tells on which thread it is called.
fn tells_where(token: &CancelToken) -> (OnCancel, mpsc::Receiver<ThreadId>) {
    let (tell, told) = mpsc::channel();
    let guard = token.on_cancel(move |_| tell.send(thread::current().id()).unwrap());
    (guard, told)
}

/// Registers a waker; whether it has to wait.
fn waits(wait: &mut WaitCancelled) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(wait).poll(&mut cx).is_pending()
}

#[test]
fn attaching_to_a_cancelled_token_calls_functions_elsewhere() {
    let (cancelled, top) = (CancelToken::new(), CancelToken::new());
    cancelled.cancel();
    let (_guard, called) = tells_where(&top.child());
    top.attach_to(&cancelled);
    assert_ne!(called.recv().unwrap(), thread::current().id());
}

#[test]
fn following_a_cancelled_token_calls_functions_elsewhere() {
    let (cancelled, follower) = (CancelToken::new(), CancelToken::new());
    cancelled.cancel();
    let (_guard, called) = tells_where(&follower);
    let _following = follower.follow(&cancelled);
    assert_ne!(called.recv().unwrap(), thread::current().id());
}

#[test]
fn cancelling_by_hand_calls_functions_at_once() {
    let root = CancelToken::new();
    let (_guard, called) = tells_where(&root.child());
    root.cancel();
    assert_eq!(called.try_recv(), Ok(thread::current().id()));
}

#[test]
fn function_for_what_is_cancelled_already_is_called_at_once() {
    let root = CancelToken::new();
    let (own, below) = (root.child(), root.child().child());
    own.cancel();
    let (_guard, called) = tells_where(&own);
    assert_eq!(called.try_recv(), Ok(thread::current().id()));
    root.cancel();
    let (_guard, called) = tells_where(&below);
    assert_eq!(called.try_recv(), Ok(thread::current().id()));
}

#[test]
fn thread_that_only_waits_calls_no_function_of_a_cancellation_that_it_overtakes() {
    for _ in 0..50 {
        let root = CancelToken::new();
        let mine = root.child();
        let (_guard, called) = tells_where(&mine);
        // The canceller has to tell all of these first.
        let others: Vec<_> = (0..5_000)
            .map(|_| {
                let mut wait = root.child().cancelled();
                assert!(waits(&mut wait));
                wait
            })
            .collect();
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel()
        });
        loop {
            let is_last = root.is_cancelled();
            waits(&mut mine.child().cancelled());
            if is_last {
                break;
            }
        }
        assert_ne!(called.recv().unwrap(), thread::current().id());
        canceller.join().unwrap();
        drop(others);
    }
}

/// Drops the guards of functions when it is woken, as a task does that the wake has end.
struct Ends(Mutex<Vec<OnCancel>>);

impl Wake for Ends {
    fn wake(self: Arc<Self>) {
        drop(std::mem::take(&mut *self.0.lock().unwrap()));
    }
}

#[test]
fn guard_that_is_dropped_by_whoever_the_cancellation_wakes_comes_too_late() {
    for others in [0, 1, 100] {
        let root = CancelToken::new();
        let (own, below) = (root.child(), root.child().child());
        let ((first, told), (second, also_told)) = (tells_where(&own), tells_where(&below));
        let ends = Arc::new(Ends(Mutex::new(vec![first, second])));
        let mut all: Vec<_> = (0..=others).map(|_| own.cancelled()).collect();
        let waker = Waker::from(Arc::clone(&ends));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut all[0]).poll(&mut cx).is_pending());
        for wait in &mut all[1..] {
            assert!(waits(wait));
        }
        root.cancel();
        assert!(ends.0.lock().unwrap().is_empty(), "the guards are dropped");
        for told in [told, also_told] {
            assert_eq!(told.recv(), Ok(thread::current().id()));
            assert!(told.recv().is_err(), "the function is dropped");
        }
    }
}
