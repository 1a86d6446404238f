//! Tokens of tokio-util and ours, made from each other: who cancels whom, from either side, at any time.
//! How much memory conversions cost is counted by a test of the façade.
#![cfg(all(feature = "tokio-util", not(selvedge_loom)))]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use selvedge_cancel::{CancelToken, CauseKind};
use tokio_util::sync::CancellationToken;

mod support;
use support::{Count, poll};

#[test]
fn tokio_token_cancels_ours_and_says_so() {
    let theirs = CancellationToken::new();
    let ours = CancelToken::from(theirs.clone());
    let below = ours.child();
    let count = Count::new();
    let mut waiting = below.cancelled();
    assert!(poll(&mut waiting, &count).is_pending());
    assert!(!ours.is_cancelled());
    theirs.cancel();
    assert_eq!(count.get(), 1, "who waits below is woken");
    assert!(poll(&mut waiting, &count).is_ready());
    let cause = ours.cause().expect("it is cancelled");
    assert_eq!(cause.kind(), CauseKind::Requested);
    assert_eq!(cause.text(), Some("tokio token"));
}

#[test]
fn token_made_from_tokios_cancels_it_too() {
    let theirs = CancellationToken::new();
    let ours = CancelToken::from(theirs.clone());
    let count = Count::new();
    let mut waiting = Box::pin(theirs.cancelled());
    assert!(poll(&mut waiting, &count).is_pending());
    ours.cancel_with("ours");
    assert!(theirs.is_cancelled());
    assert_eq!(count.get(), 1);
    assert!(poll(&mut waiting, &count).is_ready());
    assert_eq!(ours.cause().unwrap().text(), Some("ours"));
}

#[test]
fn token_of_ours_and_its_twin_cancel_each_other() {
    let ours = CancelToken::new();
    let theirs = CancellationToken::from(ours.clone());
    assert!(!theirs.is_cancelled());
    ours.cancel();
    assert!(theirs.is_cancelled());

    let ours = CancelToken::new();
    let theirs = CancellationToken::from(ours.clone());
    theirs.cancel();
    assert_eq!(ours.cause().unwrap().text(), Some("tokio token"));
}

#[test]
fn what_is_cancelled_already_converts_to_what_is_cancelled() {
    let theirs = CancellationToken::new();
    theirs.cancel();
    assert!(CancelToken::from(theirs).is_cancelled());

    let parent = CancelToken::new();
    let ours = parent.child();
    parent.cancel_with("above");
    assert!(CancellationToken::from(ours.clone()).is_cancelled());
    assert_eq!(ours.cause().unwrap().text(), Some("above"));
}

#[test]
fn children_of_either_are_reached_and_reach_nobody_above() {
    let theirs = CancellationToken::new();
    let child = theirs.child_token();
    let ours = CancelToken::from(child.clone());
    let sibling = CancelToken::from(theirs.child_token());
    ours.cancel();
    assert!(child.is_cancelled());
    assert!(!theirs.is_cancelled() && !sibling.is_cancelled());
    theirs.cancel();
    assert!(sibling.is_cancelled());

    let root = CancelToken::new();
    let (one, other) = (root.child(), root.child());
    let twin = CancellationToken::from(one.clone());
    let twins_child = twin.child_token();
    let others_twin = CancellationToken::from(other.clone());
    twin.cancel();
    assert!(one.is_cancelled() && twins_child.is_cancelled());
    assert!(!root.is_cancelled() && !others_twin.is_cancelled());
    root.cancel();
    assert!(others_twin.is_cancelled(), "from above, through ours");
}

#[test]
fn conversions_of_one_token_give_one_twin_and_back_again_the_first() {
    let ours = CancelToken::new();
    let twin = CancellationToken::from(ours.clone());
    assert!(CancellationToken::from(ours.clone()) == twin);

    let theirs = CancellationToken::new();
    let back = CancellationToken::from(CancelToken::from(theirs.clone()));
    assert!(back == theirs);

    // Through both: a chain of two links.
    let far = CancelToken::from(twin);
    assert!(!far.is_same(&ours));
    ours.cancel();
    assert!(far.is_cancelled());
}

#[test]
fn side_that_is_dropped_first_leaves_the_other_alone() {
    let theirs = CancellationToken::new();
    drop(CancelToken::from(theirs.clone()));
    assert!(!theirs.is_cancelled());
    theirs.cancel();

    let theirs = CancellationToken::new();
    let ours = CancelToken::from(theirs.clone());
    drop(theirs);
    assert!(!ours.is_cancelled());
    ours.cancel();

    let ours = CancelToken::new();
    drop(CancellationToken::from(ours.clone()));
    assert!(!ours.is_cancelled());
    let twin = CancellationToken::from(ours.clone());
    drop(ours);
    assert!(!twin.is_cancelled());
    twin.cancel();
}

#[test]
fn child_of_a_dropped_token_is_still_linked() {
    let theirs = CancellationToken::new();
    let ours = CancelToken::from(theirs.clone());
    let below = ours.child();
    drop(ours);
    theirs.cancel();
    assert!(below.is_cancelled());
}

#[test]
fn wish_to_stop_is_not_passed_on_and_an_abort_is_a_cancellation() {
    let ours = CancelToken::new();
    let theirs = CancellationToken::from(ours.clone());
    ours.stop();
    assert!(!theirs.is_cancelled());
    ours.abort();
    assert!(theirs.is_cancelled());
}

#[test]
fn outside_every_scope_a_tokio_token_stands_alone() {
    let theirs = CancellationToken::from(selvedge_cancel::current());
    theirs.cancel();
    assert!(!selvedge_cancel::current().is_cancelled());
}

#[test]
fn callback_of_ours_may_ask_and_cancel_every_tokio_token_around() {
    let theirs = CancellationToken::new();
    let child = theirs.child_token();
    let ours = CancelToken::from(child.clone());
    let (asked, own) = (Arc::new(AtomicBool::new(false)), theirs.clone());
    let guard = ours.on_cancel({
        let asked = Arc::clone(&asked);
        move |_| {
            own.cancel();
            child.cancel();
            drop(own.child_token());
            asked.store(own.is_cancelled(), Ordering::SeqCst);
        }
    });
    theirs.cancel();
    assert!(asked.load(Ordering::SeqCst));
    drop(guard);
}

#[test]
fn both_sides_cancelled_at_once_and_converted_meanwhile_end_cancelled() {
    for _ in 0..200 {
        let ours = CancelToken::new();
        let theirs = CancellationToken::from(ours.clone());
        let barrier = Barrier::new(3);
        let (converted, linked) = thread::scope(|s| {
            s.spawn(|| {
                barrier.wait();
                ours.cancel();
            });
            s.spawn(|| {
                barrier.wait();
                theirs.cancel();
            });
            let converted = s.spawn(|| {
                barrier.wait();
                (
                    CancellationToken::from(ours.clone()),
                    CancelToken::from(theirs.clone()),
                )
            });
            converted.join().unwrap()
        });
        assert!(ours.is_cancelled() && theirs.is_cancelled());
        assert!(converted.is_cancelled() && linked.is_cancelled());
    }
}

#[test]
fn first_conversions_on_several_threads_agree_on_the_twin() {
    for _ in 0..200 {
        let ours = CancelToken::new();
        let barrier = Barrier::new(3);
        let twins = thread::scope(|s| {
            let convert = || {
                barrier.wait();
                CancellationToken::from(ours.clone())
            };
            [s.spawn(convert), s.spawn(convert), s.spawn(convert)].map(|t| t.join().unwrap())
        });
        assert!(twins.iter().all(|twin| *twin == twins[0]));
        ours.cancel();
        assert!(twins[0].is_cancelled());
    }
}

#[test]
fn twin_of_a_token_that_nobody_keeps_is_linked_to_nothing() {
    let root = CancelToken::new();
    let lost = CancellationToken::from(root.child());
    let kept = root.child();
    let twin = CancellationToken::from(kept.clone());
    root.cancel();
    assert!(!lost.is_cancelled(), "as the documentation says");
    let count = Count::new();
    let mut waiting = pin!(twin.cancelled());
    assert_eq!(poll(&mut waiting, &count), Poll::Ready(()));
}

/// A waker that panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker's wake");
    }
}

#[test]
fn waker_on_tokios_side_that_panics_takes_the_call_from_nobody_on_ours() {
    let ours = CancelToken::new();
    let theirs = CancellationToken::from(ours.clone());
    let called = Count::new();
    let noted = Arc::clone(&called);
    // Called after tokio's side, which came first.
    let guard = ours.on_cancel(move |_| noted.add());
    let evil = Waker::from(Arc::new(Panics));
    let mut waiting = pin!(theirs.cancelled());
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(&evil))
            .is_pending()
    );
    ours.cancel();
    assert!(theirs.is_cancelled());
    assert_eq!(called.get(), 1);
    drop(guard);
}

// A function behind a token of tokio's was called on the thread that had only attached one to what was cancelled already.
#[test]
fn functions_behind_a_tokio_token_are_called_elsewhere_too_by_who_only_finds_a_cancellation() {
    let (cancelled, top) = (CancelToken::new(), CancelToken::new());
    cancelled.cancel();
    let theirs = CancellationToken::from(top.clone());
    let linked = CancelToken::from(theirs.child_token());
    let (tell, told) = std::sync::mpsc::channel();
    let _guards = [&top, &linked].map(|token| {
        let tell = tell.clone();
        token.on_cancel(move |_| tell.send(thread::current().id()).unwrap())
    });
    top.attach_to(&cancelled);
    for _ in 0..2 {
        assert_ne!(told.recv().unwrap(), thread::current().id());
    }
}
