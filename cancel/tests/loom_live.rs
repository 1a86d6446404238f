//! Every interleaving of `Cancelled`s that are made, cloned and dropped with the question whether one
//! is alive, and of a token that follows another with the end of either.
#![cfg(selvedge_loom)]
#![allow(missing_docs, reason = "a test, not an interface")]

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use selvedge_cancel::{CancelToken, Cancelled, Phase, ambient, check};

mod support;
use support::{Count, Ways, poll};

/// What an operation fails with in code that runs under this token.
fn fail(token: &CancelToken) -> Option<Cancelled> {
    let outer = ambient::replace(Some(token.clone()));
    let failed = check().err();
    ambient::replace(outer);
    failed
}

#[test]
fn error_that_is_kept_is_counted_while_its_clones_are_dropped_elsewhere() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let scope = CancelToken::new();
        let task = scope.child();
        scope.cancel();
        let kept = fail(&task).expect("it is cancelled");
        let dropped = Arc::new(AtomicBool::new(false));
        let dropper = thread::spawn({
            let (clone, dropped) = (kept.clone(), Arc::clone(&dropped));
            move || {
                drop(clone);
                dropped.store(true, Ordering::Release);
            }
        });
        assert!(task.has_live() && scope.has_live_own() && !task.has_live_own());
        seen.went(dropped.load(Ordering::Acquire));
        drop(kept);
        dropper.join().unwrap();
        assert!(!task.has_live() && !scope.has_live());
    });
    ways.assert_both();
}

#[test]
fn question_after_the_maker_ended_against_the_last_drop_elsewhere_is_answered_in_order() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let scope = CancelToken::new();
        let task = scope.child();
        scope.cancel();
        let stashed = fail(&task).expect("it is cancelled");
        let dropper = thread::spawn(move || drop(stashed));
        let live = task.has_live();
        if !live {
            assert!(!task.has_live(), "it came back to life");
        }
        seen.went(live);
        dropper.join().unwrap();
        assert!(!task.has_live() && !scope.has_live_own());
    });
    ways.assert_both();
}

#[test]
fn two_tasks_that_fail_at_once_are_counted_apart_and_together() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let scope = CancelToken::new();
        let (one, two) = (scope.child(), scope.child());
        scope.cancel();
        let other = thread::spawn({
            let two = two.clone();
            move || {
                let error = fail(&two).expect("it is cancelled");
                assert!(two.has_live());
                drop(error);
                assert!(!two.has_live(), "another task's error was counted");
            }
        });
        let error = fail(&one).expect("it is cancelled");
        seen.went(two.has_live());
        assert!(one.has_live() && scope.has_live_own());
        other.join().unwrap();
        assert!(one.has_live() && scope.has_live_own());
        drop(error);
        assert!(!one.has_live() && !scope.has_live());
    });
    ways.assert_both();
}

#[test]
fn cancel_against_failure_counts_it_if_there_is_one() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let scope = CancelToken::new();
        let task = scope.child();
        let canceller = thread::spawn({
            let scope = scope.clone();
            move || scope.cancel()
        });
        let failed = fail(&task);
        assert_eq!(failed.is_some(), task.has_live());
        canceller.join().unwrap();
        assert_eq!(failed.is_some(), scope.has_live_own());
        seen.went(failed.is_some());
    });
    ways.assert_both();
}

#[test]
fn two_cancellers_above_each_other_against_failure_leave_no_count_behind() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let scope = CancelToken::new();
        let limit = scope.child();
        let task = limit.child();
        let above = thread::spawn({
            let scope = scope.clone();
            move || scope.cancel_with("scope")
        });
        limit.cancel_with("limit");
        let error = fail(&task).expect("it is cancelled");
        above.join().unwrap();
        let own = limit.own_cause().is_some();
        assert_eq!(own, limit.has_live_own());
        assert_eq!(!own, scope.has_live_own());
        drop(error);
        assert!(
            ![&scope, &limit, &task]
                .map(CancelToken::has_live)
                .contains(&true)
        );
        seen.went(own);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_follow_reaches_the_follower_and_wakes_it_once() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let (leader, follower) = (CancelToken::new(), CancelToken::new());
        let count = Count::new();
        let mut wait = follower.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        let canceller = thread::spawn({
            let leader = leader.clone();
            move || leader.cancel_with("led")
        });
        let before = leader.is_cancelled();
        let guard = follower.follow(&leader);
        canceller.join().unwrap();
        assert_eq!(follower.own_cause().unwrap().text(), Some("led"));
        assert_eq!(count.get(), 1);
        drop(guard);
        seen.went(before);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_the_end_of_following_arrives_or_does_not() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let (leader, follower) = (CancelToken::new(), CancelToken::new());
        let guard = follower.follow(&leader);
        let canceller = thread::spawn({
            let leader = leader.clone();
            move || leader.cancel()
        });
        drop(guard);
        canceller.join().unwrap();
        seen.went(follower.is_cancelled());
        leader.abort();
        assert!(follower.phase() < Phase::Aborting, "it follows no more");
    });
    ways.assert_both();
}

#[test]
fn cancel_against_the_drop_of_the_follower_keeps_nothing() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    loom::model(move || {
        let (leader, follower) = (CancelToken::new(), CancelToken::new());
        let count = Count::new();
        let mut wait = follower.cancelled();
        assert!(poll(&mut wait, &count).is_pending());
        let guard = follower.follow(&leader);
        let canceller = thread::spawn({
            let leader = leader.clone();
            move || leader.cancel()
        });
        // A point from which the canceller may come first; loom does not see counts.
        let _ = leader.is_cancelled();
        drop((wait, follower));
        canceller.join().unwrap();
        assert_eq!(Arc::strong_count(&count), 1, "a waker was kept");
        seen.went(count.get() == 1);
        drop(guard);
    });
    ways.assert_both();
}

#[test]
fn tokens_that_follow_each_other_end_together_whoever_is_first() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (one, two) = (CancelToken::new(), CancelToken::new());
        let _forth = one.follow(&two);
        let _back = two.follow(&one);
        let other = thread::spawn({
            let two = two.clone();
            move || two.cancel_with("two")
        });
        one.cancel_with("one");
        other.join().unwrap();
        assert!(one.is_cancelled() && two.is_cancelled());
        seen.went(one.cause().unwrap().text() == Some("one"));
    });
    ways.assert_both();
}
