//! The count of living `Cancelled`s: on which nodes an error is counted, for how long, and which ones
//! are not counted at all.
#![cfg(not(selvedge_loom))]

use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use selvedge_cancel::{CancelToken, Cancelled, Cause, CauseKind, ambient, check};

/// What an operation fails with in code that runs under this token.
fn fail(token: &CancelToken) -> Option<Cancelled> {
    let before = ambient::replace(Some(token.clone()));
    let failed = check().err();
    ambient::replace(before);
    failed
}

/// Which of them have a live one, and which one of their own.
fn live<const N: usize>(tokens: [&CancelToken; N]) -> [(bool, bool); N] {
    tokens.map(|token| (token.has_live(), token.has_live_own()))
}

const NONE: (bool, bool) = (false, false);
const LIVE: (bool, bool) = (true, false);
const OWN: (bool, bool) = (true, true);

#[test]
fn error_is_counted_from_where_it_was_made_to_where_the_cancellation_began() {
    let top = CancelToken::new();
    let scope = top.child();
    let task = scope.child();
    let beside = scope.child();
    let nested = task.child();
    assert!(fail(&nested).is_none());
    scope.cancel();
    let error = fail(&task).expect("it is cancelled");
    let all = [&top, &scope, &task, &beside, &nested];
    assert_eq!(live(all), [NONE, OWN, LIVE, NONE, NONE]);
    let deeper = fail(&nested).expect("it is cancelled");
    drop(error);
    assert_eq!(live(all), [NONE, OWN, LIVE, NONE, LIVE]);
    drop(deeper);
    assert_eq!(live(all), [NONE; 5]);
}

#[test]
fn error_lives_as_long_as_any_clone_in_any_wrapping() {
    let scope = CancelToken::new();
    scope.cancel();
    let error = fail(&scope).unwrap();
    let clone = error.clone();
    let wrapped: Box<dyn std::error::Error> = Box::new(io::Error::from(error));
    drop(clone);
    assert!(scope.has_live_own());
    let text = wrapped.to_string();
    drop(wrapped);
    assert!(!scope.has_live(), "a text holds no cancellation");
    assert!(text.starts_with("cancelled: requested"));
}

#[test]
fn error_that_is_forgotten_is_counted_for_ever() {
    let scope = CancelToken::new();
    scope.cancel();
    std::mem::forget(fail(&scope));
    assert!(scope.has_live());
}

#[test]
fn nearest_token_that_was_cancelled_itself_is_the_origin() {
    let scope = CancelToken::new();
    let limit = scope.child();
    let task = limit.child();
    limit.cancel_with(CauseKind::Deadline);
    scope.cancel();
    let error = fail(&task).unwrap();
    assert_eq!(live([&scope, &limit, &task]), [NONE, OWN, LIVE]);
    drop(error);
    // The other way round, the limit is cancelled from above and is no origin.
    let scope = CancelToken::new();
    let limit = scope.child();
    scope.cancel();
    limit.cancel_with(CauseKind::Deadline);
    let error = fail(&limit).unwrap();
    assert_eq!(live([&scope, &limit]), [OWN, LIVE]);
    assert!(limit.own_cause().is_none());
    assert_eq!(error.cause().kind(), CauseKind::Requested);
}

#[test]
fn abort_of_what_was_cancelled_from_above_does_not_move_the_origin() {
    let scope = CancelToken::new();
    let task = scope.child();
    let error = |token| fail(token).unwrap();
    scope.cancel();
    task.abort();
    let _kept = error(&task);
    assert_eq!(live([&scope, &task]), [OWN, LIVE]);
}

#[test]
fn shield_ends_the_search_for_the_origin_except_for_an_abort() {
    let scope = CancelToken::new();
    let shield = scope.child_shielded();
    let task = shield.child();
    scope.cancel();
    assert!(fail(&task).is_none(), "hidden");
    task.cancel();
    let own = fail(&task).unwrap();
    assert_eq!(live([&scope, &shield, &task]), [NONE, NONE, OWN]);
    drop(own);
    let other = shield.child();
    scope.abort();
    let aborted = fail(&other).unwrap();
    assert_eq!(aborted.cause().kind(), CauseKind::GraceExpired);
    assert_eq!(live([&scope, &shield, &other]), [OWN, LIVE, LIVE]);
}

#[test]
fn lowered_shield_makes_the_outer_token_the_origin() {
    let scope = CancelToken::new();
    let shield = scope.child_shielded();
    scope.cancel();
    shield.lower_shield();
    let _error = fail(&shield).unwrap();
    assert_eq!(live([&scope, &shield]), [OWN, LIVE]);
}

#[test]
fn follower_is_an_origin() {
    let (leader, follower) = (CancelToken::new(), CancelToken::new());
    let _guard = follower.follow(&leader);
    leader.cancel_with("led");
    let error = fail(&follower).unwrap();
    assert_eq!(live([&leader, &follower]), [NONE, OWN]);
    assert_eq!(error.cause().text(), Some("led"));
}

#[test]
fn tree_that_grows_upwards_later_does_not_change_what_was_counted() {
    let scope = CancelToken::new();
    scope.cancel();
    let error = fail(&scope).unwrap();
    let top = CancelToken::new();
    scope.attach_to(&top);
    top.cancel();
    assert_eq!(live([&top, &scope]), [NONE, OWN]);
    drop(error);
    assert_eq!(live([&top, &scope]), [NONE, NONE]);
}

#[test]
fn errors_made_where_nothing_is_cancelled_are_not_counted() {
    let elsewhere = Cancelled::new("handed on");
    let scope = CancelToken::new();
    let before = ambient::replace(Some(scope.clone()));
    let made = Cancelled::new(Cause::from("by hand"));
    ambient::replace(before);
    scope.cancel();
    assert_eq!(live([&scope]), [NONE]);
    drop((elsewhere, made));
    assert_eq!(live([&scope]), [NONE]);
}

#[test]
fn last_clone_may_be_dropped_on_another_thread_after_the_tree_is_gone() {
    let scope = CancelToken::new();
    let task = scope.child();
    scope.cancel();
    let error = fail(&task).unwrap();
    drop((scope, task));
    let error = Arc::new(error);
    let other = std::thread::spawn({
        let error = Arc::clone(&error);
        move || drop(error)
    });
    drop(error);
    other.join().unwrap();
}

#[test]
fn cancelled_is_one_word_and_crosses_every_border() {
    fn crosses<T: Send + Sync + Clone + UnwindSafe + RefUnwindSafe + 'static>() {}
    crosses::<Cancelled>();
    assert_eq!(size_of::<Cancelled>(), size_of::<usize>());
    assert_eq!(size_of::<Result<(), Cancelled>>(), size_of::<usize>());
}
