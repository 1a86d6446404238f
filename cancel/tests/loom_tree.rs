//! Every interleaving of a cancellation with a tree that grows: children made, subtrees attached,
//! two cancellers, a reader in between. Each model asserts that both outcomes occurred.
#![cfg(selvedge_loom)]
#![allow(missing_docs, reason = "a test, not an interface")]

use std::sync::Arc;

use loom::thread;
use selvedge_cancel::CancelToken;

mod support;
use support::{Count, Ways, poll};

#[test]
fn cancel_against_child_creation_reaches_the_child() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel_with("gone")
        });
        let child = root.child();
        let at_birth = child.is_cancelled();
        canceller.join().unwrap();
        assert!(child.is_cancelled());
        assert_eq!(child.cause().unwrap().text(), Some("gone"));
        seen.went(at_birth);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_attach_wakes_whoever_waits_in_the_attached_tree() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let top = CancelToken::new();
        let leaf = top.child();
        let count = Count::new();
        let mut wait = leaf.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel()
        });
        let before = root.is_cancelled();
        top.attach_to(&root);
        canceller.join().unwrap();
        assert_eq!(count.get(), 1);
        assert!(poll(&mut wait, &count).is_ready());
        seen.went(before);
    });
    ways.assert_both();
}

#[test]
fn attach_against_registration_leaves_a_whole_path() {
    loom::model(|| {
        let root = CancelToken::new();
        let top = CancelToken::new();
        let leaf = top.child();
        let attacher = thread::spawn({
            let (top, root) = (top.clone(), root.clone());
            move || top.attach_to(&root)
        });
        let count = Count::new();
        let mut wait = leaf.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        attacher.join().unwrap();
        root.cancel();
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn attach_against_attach_has_one_parent() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let (one, two, child) = (CancelToken::new(), CancelToken::new(), CancelToken::new());
        let attacher = thread::spawn({
            let (one, child) = (one.clone(), child.clone());
            move || child.attach_to(&one)
        });
        child.attach_to(&two);
        attacher.join().unwrap();
        one.cancel_with("one");
        let under_one = child.is_cancelled();
        two.cancel_with("two");
        let text = if under_one { "one" } else { "two" };
        assert_eq!(child.cause().unwrap().text(), Some(text));
        seen.went(under_one);
    });
    ways.assert_both();
}

#[test]
fn two_cancellers_of_one_token_leave_one_cause() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let token = CancelToken::new();
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let guard = token.on_cancel({
            let heard = Arc::clone(&heard);
            move |cause| heard.lock().unwrap().push(cause.text() == Some("a"))
        });
        let other = thread::spawn({
            let token = token.clone();
            move || token.cancel_with("a")
        });
        token.cancel_with("b");
        let first_look = token.cause().unwrap().text() == Some("a");
        other.join().unwrap();
        let second_look = token.cause().unwrap().text() == Some("a");
        assert_eq!(first_look, second_look, "a later cause displaced the first");
        assert_eq!(*heard.lock().unwrap(), [first_look]);
        seen.went(first_look);
        drop(guard);
    });
    ways.assert_both();
}

#[test]
fn cancel_of_parent_against_cancel_of_child_never_changes_a_cause_that_was_seen() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let parent = CancelToken::new();
        let child = parent.child();
        let above = thread::spawn({
            let parent = parent.clone();
            move || parent.cancel_with("parent")
        });
        let below = thread::spawn({
            let child = child.clone();
            move || child.cancel_with("child")
        });
        let early = child.cause();
        above.join().unwrap();
        below.join().unwrap();
        let settled = child.cause().unwrap();
        if let Some(early) = early {
            assert_eq!(early.text(), settled.text());
        }
        assert_eq!(parent.cause().unwrap().text(), Some("parent"));
        seen.went(settled.text() == Some("parent"));
    });
    ways.assert_both();
}

#[test]
fn reader_that_settles_a_watched_node_does_not_swallow_its_wake() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let root = CancelToken::new();
        let child = root.child();
        let count = Count::new();
        let mut wait = child.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        let canceller = thread::spawn(move || root.cancel());
        let early = child.is_cancelled();
        canceller.join().unwrap();
        assert_eq!(count.get(), 1);
        seen.went(early);
    });
    ways.assert_both();
}
