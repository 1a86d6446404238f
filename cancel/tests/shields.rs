//! Shields and deadlines at the level of tokens: what a shield hides and what it lets through, alone,
//! nested and one after another, and which deadlines are seen through it.
#![cfg(not(selvedge_loom))]

use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use selvedge_cancel::{
    CancelToken, CauseKind, Instant, Phase, ambient, check, deadline, remaining,
};

mod support;
use support::{Count, poll};

fn watch(token: &CancelToken, from: Phase) -> Arc<Count> {
    let count = Count::new();
    token.watch_phase(&Waker::from(Arc::clone(&count)), from);
    count
}

fn text(token: &CancelToken) -> Option<String> {
    token.cause()?.text().map(str::to_owned)
}

/// Runs a function with this token as the current one.
fn under<T>(token: &CancelToken, run: impl FnOnce() -> T) -> T {
    let before = ambient::replace(Some(token.clone()));
    let output = run();
    ambient::replace(before);
    output
}

// CT-061
#[test]
fn shield_hides_the_cancellation_of_what_is_outside_only() {
    let outer = CancelToken::new();
    let shield = outer.child_shielded();
    let inner = shield.child();
    let leaf = inner.child();
    outer.cancel();
    assert!(outer.is_cancelled() && !shield.is_cancelled() && !leaf.is_cancelled());
    assert!(under(&leaf, check).is_ok());
    inner.cancel_with("inside");
    assert_eq!(text(&leaf).as_deref(), Some("inside"));
    assert!(!shield.is_cancelled());
    shield.cancel_with("the shield itself");
    assert_eq!(text(&shield).as_deref(), Some("the shield itself"));
    assert_eq!(
        text(&leaf).as_deref(),
        Some("inside"),
        "the nearer cause stays"
    );
    assert!(under(&shield.child(), check).is_err());
}

// CT-062
#[test]
fn lowered_shield_lets_the_outer_cancellation_in_at_once() {
    let outer = CancelToken::new();
    let shield = outer.child_shielded();
    let leaf = shield.child();
    let mut wait = leaf.cancelled();
    let count = Count::new();
    assert!(poll(&mut wait, &count).is_pending());
    outer.cancel_with("outer");
    assert_eq!(count.get(), 0);
    assert!(poll(&mut wait, &count).is_pending());
    shield.lower_shield();
    assert_eq!(count.get(), 1);
    assert_eq!(
        under(&leaf, check).unwrap_err().cause().text(),
        Some("outer")
    );
    assert!(shield.own_cause().is_none());
    shield.lower_shield();
    assert_eq!(count.get(), 1);
}

#[test]
fn shield_lowered_before_the_cancellation_is_an_ordinary_child() {
    let outer = CancelToken::new();
    let shield = outer.child_shielded();
    let count = watch(&shield.child(), Phase::Cancelled);
    let kept = shield.child();
    let heard = watch(&kept, Phase::Cancelled);
    shield.lower_shield();
    assert_eq!(kept.phase(), Phase::Running);
    outer.cancel();
    assert_eq!(
        (heard.get(), count.get()),
        (1, 0),
        "the other token was dropped"
    );
    assert!(kept.is_cancelled());
}

#[test]
fn stop_passes_a_shield_and_a_cancellation_looks_like_one() {
    for cancel in [CancelToken::stop, CancelToken::cancel] {
        let outer = CancelToken::new();
        let leaf = outer.child_shielded().child();
        let (stopped, cancelled) = (
            watch(&leaf, Phase::Stopping),
            watch(&leaf, Phase::Cancelled),
        );
        cancel(&outer);
        assert_eq!((stopped.get(), cancelled.get()), (1, 0));
        assert_eq!(leaf.phase(), Phase::Stopping);
        assert!(leaf.cause().is_none() && outer.child_shielded().is_stopping());
    }
}

#[test]
fn abort_ends_every_shield_with_a_cause_of_its_own() {
    let outer = CancelToken::new();
    let shield = outer.child_shielded();
    let inner = shield.child().child_shielded();
    let leaf = inner.child();
    let counts = [&shield, &inner, &leaf].map(|token| watch(token, Phase::Cancelled));
    outer.cancel_with("outer");
    assert_eq!(counts.each_ref().map(|count| count.get()), [0; 3]);
    outer.abort();
    assert_eq!(counts.map(|count| count.get()), [1; 3]);
    for token in [&shield, &inner, &leaf] {
        assert_eq!(token.cause().unwrap().kind(), CauseKind::GraceExpired);
        assert_eq!(token.phase(), Phase::Aborting);
    }
    shield.lower_shield();
    assert_eq!(shield.cause().unwrap().kind(), CauseKind::GraceExpired);
    assert_eq!(text(&outer).as_deref(), Some("outer"));
}

#[test]
fn abort_through_a_shield_that_nobody_watched_has_its_cause_too() {
    let outer = CancelToken::new();
    let shield = outer.child_shielded();
    let leaf = shield.child();
    outer.cancel_with("outer");
    outer.abort_with("too long");
    assert_eq!(text(&leaf).as_deref(), Some("too long"));
    assert_eq!(text(&outer.child()).as_deref(), Some("outer"));
    assert_eq!(
        outer.child_shielded().cause().unwrap().text(),
        Some("too long")
    );
}

#[test]
fn abort_that_passed_a_token_with_one_waker_has_its_cause_below_a_shield() {
    let (top, middle) = (CancelToken::new(), CancelToken::new());
    top.abort_with("the abort");
    let mut wait = middle.cancelled();
    assert!(poll(&mut wait, &Count::new()).is_pending());
    middle.attach_to(&top);
    // They join a path on which the abort has been told.
    let (low, follower) = (CancelToken::new(), CancelToken::new());
    let shield = low.child_shielded();
    let (tell, told) = mpsc::channel();
    let guard = shield.on_cancel(move |cause| tell.send(cause.text().map(str::to_owned)).unwrap());
    let _following = follower.follow(&shield);
    low.attach_to(&middle);
    // Its call is left to another thread by now, and cannot be taken back.
    drop(guard);
    assert_eq!(told.recv().unwrap().as_deref(), Some("the abort"));
    for token in [&shield, &follower] {
        assert_eq!(text(token).as_deref(), Some("the abort"));
    }
    assert!(told.recv().is_err(), "called twice");
}

// CT-064
#[test]
fn nested_shields_end_one_by_one_and_two_in_a_row_both_hold() {
    let outer = CancelToken::new();
    let first = outer.child_shielded();
    let second = first.child_shielded();
    let leaf = second.child();
    let count = watch(&leaf, Phase::Cancelled);
    outer.cancel_with("outer");
    second.lower_shield();
    assert!(!leaf.is_cancelled(), "the outer shield holds");
    let third = outer.child_shielded();
    assert!(
        !third.is_cancelled(),
        "so does one that was raised after the cancellation"
    );
    first.lower_shield();
    assert_eq!(count.get(), 1);
    assert_eq!(text(&leaf).as_deref(), Some("outer"));
    assert!(!third.is_cancelled());
}

#[test]
fn outer_shield_lowered_under_an_inner_one_is_seen_when_that_ends() {
    let outer = CancelToken::new();
    let first = outer.child_shielded();
    let second = first.child_shielded();
    let (early, late) = (
        watch(&first, Phase::Cancelled),
        watch(&second, Phase::Cancelled),
    );
    outer.cancel();
    first.lower_shield();
    assert_eq!((early.get(), late.get()), (1, 0));
    second.lower_shield();
    assert_eq!((early.get(), late.get()), (1, 1));
}

// CT-065
#[test]
fn shield_with_a_deadline_of_its_own_ends_by_it() {
    let outer = CancelToken::new();
    outer.cancel_with("outer");
    let shield = outer.child_shielded();
    let limit = shield.child();
    limit.set_deadline(Some(Instant::now() + Duration::from_secs(1)));
    assert!(under(&limit, check).is_ok());
    // What a timer does when that moment comes.
    limit.cancel_with(CauseKind::Deadline);
    let error = under(&limit, check).unwrap_err();
    assert_eq!(error.cause().kind(), CauseKind::Deadline);
    assert!(
        under(&shield, check).is_ok(),
        "the shield goes on after its limit"
    );
}

#[test]
fn effective_deadline_is_the_earliest_of_all_around() {
    let soon = Instant::now() + Duration::from_secs(60);
    let late = soon + Duration::from_secs(60);
    let outer = CancelToken::new();
    let inner = outer.child();
    let leaf = inner.child();
    assert_eq!(leaf.deadline(), None);
    inner.set_deadline(Some(late));
    assert_eq!((leaf.deadline(), outer.deadline()), (Some(late), None));
    outer.set_deadline(Some(soon));
    assert_eq!(leaf.deadline(), Some(soon));
    outer.set_deadline(Some(late + Duration::from_secs(1)));
    assert_eq!(leaf.deadline(), Some(late), "it was moved");
    inner.set_deadline(None);
    outer.set_deadline(None);
    assert_eq!(leaf.deadline(), None);
}

// CT-074
#[test]
fn deadline_in_a_shield_ignores_outer_ones_and_has_passed_once_cancelled() {
    let passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
    let soon = Instant::now() + Duration::from_secs(60);
    let late = soon + Duration::from_secs(60);
    let outer = CancelToken::new();
    outer.set_deadline(Some(soon));
    let shield = outer.child_shielded();
    let leaf = shield.child();
    assert_eq!(under(&leaf, deadline), None);
    assert_eq!(under(&leaf, remaining), None);
    shield.set_deadline(Some(late));
    assert_eq!(under(&leaf, deadline), Some(late));
    outer.cancel();
    assert!(passed(under(&outer, deadline)));
    assert_eq!(under(&outer, remaining), Some(Duration::ZERO));
    assert_eq!(under(&leaf, deadline), Some(late), "the shield holds");
    assert!(under(&leaf, remaining) > Some(Duration::from_secs(60)));
    shield.lower_shield();
    assert!(passed(under(&leaf, deadline)));
    assert_eq!(under(&leaf, remaining), Some(Duration::ZERO));
    let without = CancelToken::new();
    without.cancel();
    assert!(passed(without.deadline()));
}

#[test]
fn deadlines_at_the_ends_of_time_are_as_good_as_others() {
    let token = CancelToken::new();
    let far = Instant::now() + Duration::MAX;
    token.set_deadline(Some(far));
    assert_eq!(token.child().deadline(), Some(far));
    let past = Instant::now() - Duration::MAX;
    token.set_deadline(Some(past));
    assert_eq!(under(&token, remaining), Some(Duration::ZERO));
    token.cancel();
    assert_eq!(token.deadline(), Some(past), "not later than now is enough");
}
