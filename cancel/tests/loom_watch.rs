//! Every interleaving of a cancellation with somebody who begins or ends to watch: a waiter, a
//! dropped token, a callback. Each model asserts that both outcomes occurred.
#![cfg(selvedge_loom)]
#![allow(missing_docs, reason = "a test, not an interface")]

use std::sync::Arc;

use loom::thread;
use selvedge_cancel::CancelToken;

mod support;
use support::{Count, Ways, poll};

/// A waiter `depth` levels below the token that another thread cancels.
fn waiter_below(depth: usize) {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let mut token = root.clone();
        for _ in 0..depth {
            token = token.child();
        }
        let canceller = thread::spawn(move || root.cancel());
        let count = Count::new();
        let mut wait = token.cancelled();
        let late = poll(&mut wait, &count).is_ready();
        canceller.join().unwrap();
        assert!(late || count.get() > 0, "a waiter was forgotten");
        assert!(late || poll(&mut wait, &count).is_ready());
        drop(wait);
        assert_eq!(Arc::strong_count(&count), 1, "a waker was kept");
        seen.went(late);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_waiter_on_the_same_node_wakes_it_or_is_seen() {
    waiter_below(0);
}

#[test]
fn cancel_against_waiter_on_an_unlinked_child_wakes_it_or_is_seen() {
    waiter_below(1);
}

#[test]
fn cancel_against_waiter_on_an_unlinked_grandchild_wakes_it_or_is_seen() {
    waiter_below(2);
}

#[test]
fn cancel_against_two_waiters_that_link_one_path_wakes_both() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let root = CancelToken::new();
        let leaf = root.child();
        let watcher = thread::spawn({
            let leaf = leaf.clone();
            move || {
                let count = Count::new();
                let mut wait = leaf.cancelled();
                let late = poll(&mut wait, &count).is_ready();
                (wait, count, late)
            }
        });
        let canceller = thread::spawn(move || root.cancel());
        let count = Count::new();
        let mut wait = leaf.cancelled();
        let late = poll(&mut wait, &count).is_ready();
        canceller.join().unwrap();
        let (other_wait, other_count, other_late) = watcher.join().unwrap();
        assert!(late || count.get() > 0);
        assert!(other_late || other_count.get() > 0);
        drop(other_wait);
        seen.went(late);
    });
    ways.assert_both();
}

#[test]
fn registration_beside_another_on_the_same_path_is_found_by_the_next_cancel() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let watcher = thread::spawn({
            let leaf = leaf.clone();
            move || {
                let mut wait = leaf.cancelled();
                let late = poll(&mut wait, &Count::new()).is_ready();
                (wait, late)
            }
        });
        let count = Count::new();
        let mut wait = leaf.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        root.cancel();
        // The other thread may be in the middle of linking the same path: no matter.
        assert_eq!(count.get(), 1);
        drop(watcher.join().unwrap());
    });
}

#[test]
fn cancel_against_change_of_waker_wakes_the_new_one_or_is_seen() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let mut wait = root.cancelled();
        let (old, new) = (Count::new(), Count::new());
        assert!(poll(&mut wait, &old).is_pending());
        let canceller = thread::spawn(move || root.cancel());
        let late = poll(&mut wait, &new).is_ready();
        canceller.join().unwrap();
        assert!(late || new.get() > 0);
        seen.went(late);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_drop_of_the_watched_child_leaves_nothing_behind() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let count = Count::new();
        let child = root.child();
        let mut wait = child.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel()
        });
        // This look gives loom a point from which the canceller comes first: it does not know
        // that a count can race with an upgrade.
        let _ = root.is_cancelled();
        drop(child);
        drop(wait);
        canceller.join().unwrap();
        assert_eq!(Arc::strong_count(&count), 1, "a waker was kept");
        assert!(root.is_cancelled());
        seen.went(count.get() > 0);
    });
    ways.assert_both();
}

#[test]
fn drop_against_drop_of_siblings_keeps_the_third_linked() {
    loom::model(|| {
        let root = CancelToken::new();
        let (one, two, three) = (root.child(), root.child(), root.child());
        let count = Count::new();
        let mut waits = [&one, &two, &three].map(CancelToken::cancelled);
        for wait in &mut waits {
            assert!(poll(wait, &count).is_pending());
        }
        drop([one, two, three]);
        let [first, second, third] = waits;
        let dropper = thread::spawn(move || drop(first));
        drop(second);
        dropper.join().unwrap();
        root.cancel();
        assert_eq!(count.get(), 1);
        drop(third);
    });
}

#[test]
fn cancel_against_removal_calls_the_callback_once_or_never() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let child = root.child();
        let called = Count::new();
        let guard = child.on_cancel({
            let called = Arc::clone(&called);
            move |_| called.add()
        });
        let canceller = thread::spawn(move || root.cancel());
        drop(guard);
        canceller.join().unwrap();
        assert!(called.get() <= 1);
        assert_eq!(Arc::strong_count(&called), 1, "the callback was kept");
        seen.went(called.get() == 1);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_registration_calls_the_callback_exactly_once() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let child = root.child();
        let canceller = thread::spawn(move || {
            root.cancel();
            thread::current().id()
        });
        let called = Count::new();
        let caller = Arc::new(std::sync::Mutex::new(None));
        let guard = child.on_cancel({
            let (called, caller) = (Arc::clone(&called), Arc::clone(&caller));
            move |_| {
                called.add();
                *caller.lock().unwrap() = Some(thread::current().id());
            }
        });
        let canceller = canceller.join().unwrap();
        assert_eq!(called.get(), 1);
        seen.went(*caller.lock().unwrap() == Some(canceller));
        drop(guard);
    });
    ways.assert_both();
}
