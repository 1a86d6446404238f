//! Every interleaving of requests for several phases with those who wait for one of them, and with
//! shields that are lowered. Each model asserts that both outcomes occurred.
#![cfg(selvedge_loom)]
#![allow(missing_docs, reason = "a test, not an interface")]

use std::sync::{Arc, Mutex};
use std::task::Waker;

use loom::thread;
use selvedge_cancel::{CancelToken, CauseKind, Phase, Watching};

mod support;
use support::{Count, Ways, poll};

/// For models too large to be enumerated without a bound; three preemptions find every mistake known.
fn bounded(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn watch(token: &CancelToken, from: Phase) -> (Arc<Count>, Watching) {
    let count = Count::new();
    let watching = token.watch_phase(&Waker::from(Arc::clone(&count)), from);
    (count, watching)
}

#[test]
fn cancel_and_abort_against_registration_for_the_abort_wake_it_once() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let canceller = thread::spawn({
            let root = root.clone();
            move || {
                root.cancel();
                root.abort();
            }
        });
        let before = root.phase();
        let (count, watching) = watch(&leaf, Phase::Aborting);
        canceller.join().unwrap();
        assert!(matches!(watching, Watching::At(_)), "nothing was struck");
        assert_eq!(count.get(), 1);
        assert_eq!(leaf.phase(), Phase::Aborting);
        seen.went(before == Phase::Aborting);
    });
    ways.assert_both();
}

#[test]
fn cancel_against_registration_for_the_abort_leaves_a_whole_path() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let (early, _) = watch(&leaf, Phase::Cancelled);
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel()
        });
        let (late, _) = watch(&leaf, Phase::Aborting);
        let before = early.get() == 0;
        canceller.join().unwrap();
        assert_eq!((early.get(), late.get()), (1, 0));
        root.abort();
        assert_eq!((early.get(), late.get()), (1, 1));
        seen.went(before);
    });
    ways.assert_both();
}

#[test]
fn linker_overtaken_by_a_strike_does_not_call_the_path_linked() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel()
        });
        // A visitor links the path, and leaves it without anybody who waits.
        let (_, watching) = watch(&leaf, Phase::Cancelled);
        let visited = if let Watching::At(at) = watching {
            leaf.unwatch_phase(at);
            true
        } else {
            false
        };
        let early = root.is_cancelled();
        canceller.join().unwrap();
        let (count, _) = watch(&leaf, Phase::Aborting);
        root.abort();
        assert_eq!(count.get(), 1, "the path had no end");
        seen.went(visited && early);
    });
    ways.assert_both();
}

#[test]
fn watcher_that_relies_on_another_ones_path_hears_whatever_strikes_it() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let (first, _) = watch(&leaf, Phase::Stopping);
        let canceller = thread::spawn({
            let root = root.clone();
            move || {
                root.stop();
                root.cancel();
            }
        });
        let (second, watching) = watch(&leaf, Phase::Cancelled);
        let early = root.is_stopping();
        canceller.join().unwrap();
        assert_eq!(first.get(), 1);
        assert_eq!(second.get(), usize::from(watching != Watching::Late));
        seen.went(early);
    });
    ways.assert_both();
}

#[test]
fn abort_against_cancel_leaves_the_abort_and_one_cause() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let token = CancelToken::new();
        let mut wait = token.cancelled();
        let woken = Count::new();
        assert!(poll(&mut wait, &woken).is_pending());
        let (aborted, _) = watch(&token, Phase::Aborting);
        let canceller = thread::spawn({
            let token = token.clone();
            move || token.cancel_with("cancel")
        });
        token.abort_with("abort");
        assert_eq!(token.phase(), Phase::Aborting);
        let first = token.cause().unwrap();
        canceller.join().unwrap();
        assert_eq!(token.cause().unwrap().text(), first.text());
        assert_eq!((woken.get(), aborted.get()), (1, 1));
        seen.went(first.text() == Some("abort"));
    });
    ways.assert_both();
}

#[test]
fn stop_cancel_and_abort_from_three_threads_are_each_heard_once() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let root = CancelToken::new();
        let leaf = root.child();
        let phases = [Phase::Stopping, Phase::Cancelled, Phase::Aborting];
        let counts = phases.map(|phase| watch(&leaf, phase).0);
        let [stopper, aborter] = [CancelToken::stop, CancelToken::abort].map(|ask| {
            let root = root.clone();
            thread::spawn(move || ask(&root))
        });
        leaf.cancel();
        stopper.join().unwrap();
        aborter.join().unwrap();
        assert_eq!(counts.map(|count| count.get()), [1; 3]);
        assert_eq!(leaf.phase(), Phase::Aborting);
        seen.went(leaf.own_cause().is_some());
    });
    ways.assert_both();
}

#[test]
fn lowering_a_shield_against_cancel_ends_in_the_parents_cause() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let shield = root.child_shielded();
        let leaf = shield.child();
        let (count, _) = watch(&leaf, Phase::Cancelled);
        let canceller = thread::spawn({
            let root = root.clone();
            move || root.cancel_with("root")
        });
        let before = root.is_cancelled();
        shield.lower_shield();
        canceller.join().unwrap();
        assert_eq!(count.get(), 1);
        assert_eq!(leaf.cause().unwrap().text(), Some("root"));
        assert!(shield.own_cause().is_none());
        seen.went(before);
    });
    ways.assert_both();
}

#[test]
fn lowering_a_shield_against_abort_gives_one_cause_and_one_wake() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        root.cancel();
        let shield = root.child_shielded();
        let (count, _) = watch(&shield, Phase::Cancelled);
        let aborter = thread::spawn({
            let root = root.clone();
            move || root.abort()
        });
        shield.lower_shield();
        let early = shield.cause().map(|cause| cause.kind());
        aborter.join().unwrap();
        let kind = shield.cause().unwrap().kind();
        assert_eq!(early, Some(kind), "it was lowered, so there is a cause");
        assert_eq!(count.get(), 1);
        assert_eq!(shield.phase(), Phase::Aborting);
        seen.went(kind == CauseKind::GraceExpired);
    });
    ways.assert_both();
}

#[test]
fn cancel_and_abort_against_a_waiter_in_a_shield_wake_it_with_the_aborts_cause() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let shield = root.child_shielded();
        let canceller = thread::spawn({
            let root = root.clone();
            move || {
                root.cancel();
                root.abort();
            }
        });
        let mut wait = shield.cancelled();
        let count = Count::new();
        let late = poll(&mut wait, &count).is_ready();
        canceller.join().unwrap();
        assert!(late || count.get() == 1);
        let kind = shield.cause().unwrap().kind();
        assert_eq!(kind, CauseKind::GraceExpired);
        seen.went(late);
    });
    ways.assert_both();
}

#[test]
fn abort_against_registration_below_a_shield_calls_the_function_with_its_cause() {
    let ways = Arc::new(Ways::default());
    let seen = Arc::clone(&ways);
    bounded(move || {
        let root = CancelToken::new();
        let middle = root.child();
        // With one waker, it is told of the abort and keeps no cause.
        let (_count, _watching) = watch(&middle, Phase::Cancelled);
        let shield = middle.child_shielded();
        let aborter = thread::spawn(move || {
            root.abort();
            thread::current().id()
        });
        let told = Arc::new(Mutex::new(Vec::new()));
        let guard = shield.on_cancel({
            let told = Arc::clone(&told);
            move |cause| {
                told.lock()
                    .unwrap()
                    .push((cause.kind(), thread::current().id()))
            }
        });
        let aborter = aborter.join().unwrap();
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "called once");
        assert_eq!(told[0].0, CauseKind::GraceExpired);
        seen.went(told[0].1 == aborter);
        drop(guard);
    });
    ways.assert_both();
}
