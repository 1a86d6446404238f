//! The tree as its users see it: who is cancelled by what, with which cause, who is told, and
//! what awkward callers (destructors, callbacks, panics, a million nodes) do to it.
#![cfg(not(selvedge_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CancelToken, Cause, CauseKind, OnCancel};

mod support;
use support::{Count, poll};

fn text(token: &CancelToken) -> Option<String> {
    token.cause()?.text().map(str::to_owned)
}

/// Registers a callback that counts.
fn count_calls(token: &CancelToken) -> (Arc<Count>, OnCancel) {
    let count = Count::new();
    let guard = token.on_cancel({
        let count = Arc::clone(&count);
        move |_| count.add()
    });
    (count, guard)
}

#[test]
fn cancel_reaches_all_below_and_nobody_above_or_beside() {
    let root = CancelToken::new();
    let (left, right) = (root.child(), root.child());
    let leaves = [left.child(), left.child()];
    left.cancel();
    assert!(left.is_cancelled() && leaves.iter().all(CancelToken::is_cancelled));
    assert!(!root.is_cancelled() && !right.is_cancelled());
    assert!(root.cause().is_none());
}

#[test]
fn cancel_twice_is_the_same_as_once() {
    let token = CancelToken::new();
    let (count, _guard) = count_calls(&token);
    token.cancel_with("first");
    token.cancel_with("second");
    assert_eq!(text(&token).as_deref(), Some("first"));
    assert_eq!(count.get(), 1);
}

#[test]
fn cause_names_kind_text_and_place_and_is_inherited() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    root.cancel_with(Cause::new(CauseKind::Shutdown).with_text("signal"));
    let line = line!() - 1;
    let cause = leaf.cause().expect("inherited");
    assert_eq!(cause.kind(), CauseKind::Shutdown);
    assert_eq!(cause.text(), Some("signal"));
    let place = cause.place().expect("the caller of cancel_with");
    assert_eq!((place.file(), place.line()), (file!(), line));
}

#[test]
fn plain_cancel_is_a_request_from_its_caller() {
    let token = CancelToken::new();
    token.cancel();
    let line = line!() - 1;
    let cause = token.cause().unwrap();
    assert_eq!(cause.kind(), CauseKind::Requested);
    assert_eq!(cause.place().unwrap().line(), line);
}

#[test]
fn nearer_cause_stays_when_a_token_above_is_cancelled_later() {
    let root = CancelToken::new();
    let child = root.child();
    let leaf = child.child();
    child.cancel_with("child");
    root.cancel_with("root");
    assert_eq!(text(&child).as_deref(), Some("child"));
    assert_eq!(text(&leaf).as_deref(), Some("child"));
}

#[test]
fn cancel_below_a_cancelled_token_takes_over_the_earlier_cause() {
    let root = CancelToken::new();
    let child = root.child();
    root.cancel_with("root");
    child.cancel_with("child");
    assert_eq!(text(&child).as_deref(), Some("root"));
}

#[test]
fn child_of_a_cancelled_token_is_born_cancelled() {
    let root = CancelToken::new();
    root.cancel_with("before");
    let child = root.child();
    assert!(child.is_cancelled());
    let (count, _guard) = count_calls(&child);
    assert_eq!(count.get(), 1);
    assert!(poll(&mut child.cancelled(), &Count::new()).is_ready());
}

#[test]
fn child_outlives_the_handles_of_its_parents() {
    let root = CancelToken::new();
    let leaf = root.child().child().child();
    let count = Count::new();
    let mut wait = leaf.cancelled();
    assert!(poll(&mut wait, &count).is_pending());
    root.cancel();
    assert_eq!(count.get(), 1);
    assert!(leaf.is_cancelled());
}

#[test]
fn waiter_is_woken_once_and_stays_ready() {
    let token = CancelToken::new();
    let count = Count::new();
    let mut wait = token.cancelled();
    for _ in 0..3 {
        assert!(poll(&mut wait, &count).is_pending());
    }
    token.cancel_with("now");
    assert_eq!(count.get(), 1);
    for _ in 0..2 {
        assert!(poll(&mut wait, &count).is_ready());
    }
}

#[test]
fn waiter_polled_with_another_waker_wakes_only_that() {
    let token = CancelToken::new();
    let (old, new) = (Count::new(), Count::new());
    let mut wait = token.cancelled();
    assert!(poll(&mut wait, &old).is_pending());
    assert!(poll(&mut wait, &new).is_pending());
    assert_eq!(Arc::strong_count(&old), 1, "the old waker is dropped");
    token.cancel();
    assert_eq!((old.get(), new.get()), (0, 1));
}

#[test]
fn dropped_waiter_leaves_no_waker_behind() {
    let token = CancelToken::new();
    let count = Count::new();
    let mut waits: Vec<_> = (0..10).map(|_| token.cancelled()).collect();
    for wait in &mut waits {
        assert!(poll(wait, &count).is_pending());
    }
    assert_eq!(Arc::strong_count(&count), 11);
    drop(waits);
    assert_eq!(Arc::strong_count(&count), 1);
    token.cancel();
    assert_eq!(count.get(), 0);
}

#[test]
fn dropped_guard_takes_the_callback_back() {
    let token = CancelToken::new();
    let (count, guard) = count_calls(&token);
    drop(guard);
    assert_eq!(Arc::strong_count(&count), 1, "the callback is dropped");
    token.cancel();
    assert_eq!(count.get(), 0);
}

#[test]
fn panicking_callback_and_waker_do_not_stop_the_others() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("waker");
        }
    }

    let root = CancelToken::new();
    let child = root.child();
    let (before, _before) = count_calls(&root);
    let _bomb = root.on_cancel(|_| panic!("callback"));
    let (after, _after) = count_calls(&root);
    let (below, _below) = count_calls(&child);
    let waker = Arc::new(Bomb).into();
    let mut bomb = root.cancelled();
    let polled = Future::poll(
        std::pin::Pin::new(&mut bomb),
        &mut std::task::Context::from_waker(&waker),
    );
    assert!(polled.is_pending());
    let waiting = Count::new();
    let mut wait = child.cancelled();
    assert!(poll(&mut wait, &waiting).is_pending());
    root.cancel();
    let counts = [&before, &after, &below, &waiting].map(|count| count.get());
    assert_eq!(counts, [1, 1, 1, 1]);
}

#[test]
fn callback_that_panics_with_a_payload_that_panics_in_drop_is_contained() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            std::panic::panic_any(Payload);
        }
    }
    let token = CancelToken::new();
    let _bomb = token.on_cancel(|_| std::panic::panic_any(Payload));
    let (after, _after) = count_calls(&token);
    token.cancel();
    assert_eq!(after.get(), 1);
}

#[test]
fn callback_may_cancel_its_own_token_and_the_one_above() {
    let root = CancelToken::new();
    let token = root.child();
    let (above, _above) = count_calls(&root);
    let _guard = token.on_cancel({
        let (token, root) = (token.clone(), root.clone());
        move |_| {
            token.cancel_with("again");
            root.cancel_with("up");
        }
    });
    token.cancel_with("first");
    assert_eq!(text(&token).as_deref(), Some("first"));
    assert_eq!(text(&root).as_deref(), Some("up"));
    assert_eq!(above.get(), 1);
}

#[test]
fn callback_may_register_wait_and_make_children() {
    let token = CancelToken::new();
    let heard = Count::new();
    let _guard = token.on_cancel({
        let (token, heard) = (token.clone(), Arc::clone(&heard));
        move |_| {
            let inner = Arc::clone(&heard);
            drop(token.on_cancel(move |_| inner.add()));
            assert!(poll(&mut token.cancelled(), &heard).is_ready());
            assert!(token.child().is_cancelled());
            heard.add();
        }
    });
    token.cancel();
    assert_eq!(heard.get(), 2);
}

#[test]
fn callback_that_drops_the_guard_of_another_takes_back_what_was_not_reached() {
    let token = CancelToken::new();
    let others: Arc<Mutex<Vec<OnCancel>>> = Arc::default();
    let _first = token.on_cancel({
        let others = Arc::clone(&others);
        move |_| drop(std::mem::take(&mut *others.lock().unwrap()))
    });
    let (reached, guard) = count_calls(&token);
    let beside = CancelToken::new();
    let (spared, other) = count_calls(&beside);
    others.lock().unwrap().extend([guard, other]);
    token.cancel();
    beside.cancel();
    assert_eq!([&reached, &spared].map(|count| count.get()), [1, 0]);
    for function in [reached, spared] {
        assert_eq!(Arc::strong_count(&function), 1, "it is dropped");
    }
}

#[test]
fn callback_may_drop_its_own_guard() {
    let token = CancelToken::new();
    let own: Arc<Mutex<Option<OnCancel>>> = Arc::default();
    let count = Count::new();
    let guard = token.on_cancel({
        let (own, count) = (Arc::clone(&own), Arc::clone(&count));
        move |_| {
            drop(own.lock().unwrap().take());
            count.add();
        }
    });
    *own.lock().unwrap() = Some(guard);
    token.cancel();
    assert_eq!(count.get(), 1);
}

#[test]
fn cancel_from_a_destructor_while_unwinding_runs_the_callbacks() {
    let token = CancelToken::new();
    let (count, _guard) = count_calls(&token);
    let _bomb = token.on_cancel(|_| panic!("second panic, while unwinding"));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _cancels = token.clone().drop_guard();
        panic!("first panic");
    }));
    assert!(unwound.is_err());
    assert!(token.is_cancelled());
    assert_eq!(count.get(), 1);
    assert_eq!(text(&token).as_deref(), Some("guard dropped"));
}

#[test]
fn attach_counts_once_and_carries_a_watched_subtree() {
    let (first, second) = (CancelToken::new(), CancelToken::new());
    let top = CancelToken::new();
    let leaf = top.child();
    let (count, _guard) = count_calls(&leaf);
    top.attach_to(&first);
    top.attach_to(&second);
    second.cancel();
    assert!(!leaf.is_cancelled());
    first.cancel_with("first");
    assert_eq!(count.get(), 1);
    assert_eq!(text(&leaf).as_deref(), Some("first"));
}

#[test]
fn attach_that_would_close_a_circle_is_ignored() {
    let alone = CancelToken::new();
    alone.attach_to(&alone);
    assert!(!alone.is_cancelled());
    let root = CancelToken::new();
    let leaf = root.child().child();
    root.attach_to(&root);
    root.attach_to(&leaf);
    assert!(!leaf.is_cancelled());
    root.cancel();
    assert!(leaf.is_cancelled());
}

#[test]
fn chain_of_a_million_is_cancelled_and_dropped_without_recursion() {
    // A thread with a small stack would not survive a frame for each node.
    thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            let root = CancelToken::new();
            let mut leaf = root.clone();
            for _ in 0..1_000_000 {
                leaf = leaf.child();
            }
            let (count, guard) = count_calls(&leaf);
            root.cancel_with("far");
            assert_eq!(count.get(), 1);
            assert_eq!(text(&leaf).as_deref(), Some("far"));
            drop(guard);
            drop(root);
            drop(leaf);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn chain_of_a_million_that_nobody_watched_is_dropped_without_recursion() {
    thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            let mut leaf = CancelToken::new();
            for _ in 0..1_000_000 {
                leaf = leaf.child();
            }
            assert!(!leaf.is_cancelled());
        })
        .unwrap()
        .join()
        .unwrap();
}

// Each went up to the root to ask why, though its parent knew; it took a minute and a half.
#[test]
fn chain_is_aborted_token_by_token_without_going_up_each_time() {
    const DEPTH: usize = 30_000;
    let (done, is_done) = std::sync::mpsc::channel();
    let aborts = thread::spawn(move || {
        let mut chain = vec![CancelToken::new()];
        for _ in 1..DEPTH {
            let child = chain[chain.len() - 1].child();
            chain.push(child);
        }
        chain[0].stop();
        for token in &chain {
            token.abort();
        }
        // The last of them tells its followers why they are to stop, however far above that was asked.
        let follower = CancelToken::new();
        let _following = follower.follow(&chain[DEPTH - 1]);
        assert!(follower.is_cancelled());
        done.send(()).unwrap();
    });
    let waited = is_done.recv_timeout(Duration::from_secs(30));
    assert!(waited.is_ok(), "quadratic, or it panicked");
    aborts.join().unwrap();
}

#[test]
fn hundred_thousand_watched_children_are_all_told() {
    let root = CancelToken::new();
    let count = Count::new();
    let mut waits: Vec<_> = (0..100_000).map(|_| root.child().cancelled()).collect();
    for wait in &mut waits {
        assert!(poll(wait, &count).is_pending());
    }
    root.cancel();
    assert_eq!(count.get(), 100_000);
    assert!(waits.iter_mut().all(|wait| poll(wait, &count).is_ready()));
}

#[test]
fn threads_that_register_while_another_cancels_all_hear_of_it() {
    for _ in 0..200 {
        let root = CancelToken::new();
        let (left, right) = (root.child().child(), root.child());
        let told: usize = thread::scope(|scope| {
            let watchers: Vec<_> = [&left, &right, &left]
                .into_iter()
                .map(|token| scope.spawn(move || count_calls(token)))
                .collect();
            scope.spawn(|| root.cancel());
            let watchers: Vec<_> = watchers.into_iter().map(|w| w.join().unwrap()).collect();
            while !root.is_cancelled() {
                thread::yield_now();
            }
            // The guards go after the canceller has been joined, at the end of the block.
            let counts: Vec<_> = watchers
                .iter()
                .map(|(count, _)| Arc::clone(count))
                .collect();
            while counts.iter().any(|count| count.get() == 0) {
                thread::yield_now();
            }
            counts.iter().map(|count| count.get()).sum()
        });
        assert_eq!(told, 3);
    }
}
