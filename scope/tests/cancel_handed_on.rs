//! A `Cancelled` that one member got and another one returns: while their scope is cancelled, that is no failure.
//! What a member got itself is in `cancel_tokens.rs`; which values hold a `Cancelled`, in `selvedge-cancel`.

mod common;

use std::time::Duration;

use common::{guarded, yields};
use futures::channel::oneshot;
use selvedge_cancel::{CancelToken, Cancelled, FutureCancelExt, cancelled, check};
use selvedge_scope::{TryScope, block_on, shield_unbounded, timeout, try_scope};

type Scope<'env> = TryScope<'env, Cancelled>;
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Rests until it is cancelled.
async fn rest() -> Result<(), Cancelled> {
    std::future::pending::<()>().or_cancel().await
}

#[test]
fn what_a_handle_yields_to_a_member_in_a_shield_is_no_failure() {
    let ended = guarded(|| {
        block_on(try_scope(async |s: Scope<'_>| {
            let first = s.spawn(rest());
            s.spawn(async move {
                cancelled().await;
                shield_unbounded(first).await
            });
            s.cancel();
            Ok(7)
        }))
    });
    assert_eq!(ended.unwrap(), 7);
}

#[test]
fn what_a_handle_yields_of_a_failure_is_none_itself() {
    let errors = guarded(|| {
        let failed = try_scope(async |s: TryScope<'_, Error>| {
            let first = s.spawn(async {
                cancelled().await;
                Err::<(), _>("failed".into())
            });
            s.spawn(async move {
                cancelled().await;
                Ok(shield_unbounded(first).await?)
            });
            s.cancel();
            Ok(7)
        });
        block_on(failed.all_errors()).unwrap_err()
    });
    assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
    assert_eq!(errors.into_primary().to_string(), "failed");
}

#[test]
fn what_a_sibling_sends_is_no_failure() {
    let ended = guarded(|| {
        block_on(try_scope(async |s: Scope<'_>| {
            let (reply, answer) = oneshot::channel();
            s.spawn(async move {
                cancelled().await;
                let _ = reply.send(check());
                Ok(())
            });
            s.spawn(async move { answer.await.unwrap() });
            s.cancel();
            Ok(7)
        }))
    });
    assert_eq!(ended.unwrap(), 7);
}

#[test]
fn what_a_member_of_the_scope_around_sends_is_no_failure() {
    guarded(|| {
        for around_is_cancelled in [true, false] {
            let ended = block_on(try_scope(async |outer: Scope<'_>| {
                let (reply, answer) = oneshot::channel();
                let beside = outer.spawn(async move {
                    cancelled().await;
                    let _ = reply.send(check());
                    Ok(())
                });
                let inner = try_scope(async |s: TryScope<'_, Cancelled>| {
                    s.spawn(async move { answer.await.unwrap() });
                    // Cancelled itself, so that a cancellation is not passed on.
                    s.cancel();
                    match around_is_cancelled {
                        true => outer.cancel(),
                        false => beside.cancel(),
                    }
                    Ok(7)
                });
                let inner = inner.all_errors().await;
                Ok::<_, Cancelled>(inner.map_err(|errors| (errors.len(), errors.cancelled.len())))
            }));
            assert_eq!(
                ended.unwrap(),
                match around_is_cancelled {
                    true => Ok(7),
                    false => Err((1, 0)),
                }
            );
        }
    });
}

#[test]
fn what_a_child_that_was_cancelled_alone_met_fails_who_returns_it() {
    let ended = guarded(|| {
        block_on(try_scope(async |s: Scope<'_>| {
            let first = s.spawn(rest());
            first.cancel();
            s.spawn(first);
            Ok(7)
        }))
    });
    assert!(ended.is_err());
}

#[test]
fn scope_that_timed_out_says_so_whatever_its_members_hand_on() {
    let ended = guarded(|| {
        block_on(try_scope(async |outer: Scope<'_>| {
            let limited = try_scope(async |s: TryScope<'_, Cancelled>| {
                let first = s.spawn(rest());
                s.spawn(async move {
                    cancelled().await;
                    shield_unbounded(first).await
                });
                Ok(())
            });
            let limited = outer.spawn(async { limited.timeout(Duration::from_millis(1)).await });
            limited.await?;
            check()?;
            Ok(7)
        }))
    });
    assert_eq!(ended.unwrap(), 7);
}

#[test]
fn handle_of_a_child_that_was_cut_off_tells_of_the_cancellation_around() {
    let ended = guarded(|| {
        block_on(try_scope(async |outer: Scope<'_>| {
            let (give, handle) = oneshot::channel();
            let (say, given) = oneshot::channel();
            outer.spawn(async move {
                let handle = handle.await.unwrap();
                say.send(()).unwrap();
                shield_unbounded(handle).await
            });
            outer.spawn(async move {
                let cut = try_scope(async |s: TryScope<'_, Cancelled>| {
                    let _ = give.send(s.spawn(std::future::pending::<Result<(), Cancelled>>()));
                    Ok(())
                });
                cut.grace(Duration::ZERO).await
            });
            given.await.unwrap();
            outer.cancel();
            Ok(7)
        }))
    });
    assert_eq!(ended.unwrap(), 7);
}

/// A member that was cancelled by its handle alone, and is over.
async fn one_is_cancelled(s: &Scope<'_>) {
    let one = s.spawn(async {
        cancelled().await;
        check()?;
        Ok::<_, Cancelled>(())
    });
    one.cancel();
    assert!(one.await.is_err());
}

/// A scope that is cancelled from outside at the end of its body, with a child that rests until then or without.
fn cancelled_from_outside(alone: bool, rests: bool) -> Result<u32, Cancelled> {
    guarded(move || {
        let outer = CancelToken::new();
        let whole = try_scope(async |s: Scope<'_>| {
            if alone {
                one_is_cancelled(&s).await;
            }
            if rests {
                s.spawn(rest());
            }
            outer.cancel_with("outside");
            Ok(7)
        });
        block_on(whole.token(&outer))
    })
}

// What was handled in the scope came out of it much later, instead of its value, when the outside was cancelled.
#[test]
fn what_was_cancelled_alone_is_not_passed_on_when_the_outside_is_cancelled() {
    for alone in [false, true] {
        assert_eq!(cancelled_from_outside(alone, false).unwrap(), 7, "{alone}");
        // One that the outside does reach is passed on, whoever was cancelled before.
        let passed_on = cancelled_from_outside(alone, true).unwrap_err();
        assert_eq!(passed_on.cause().text(), Some("outside"), "{alone}");
    }
}

// It asked only whether the token it is under is cancelled by now.
#[test]
fn scope_that_was_cancelled_itself_has_its_value_whoever_cancels_later() {
    for by_deadline in [false, true] {
        for outside in [false, true] {
            let ended = guarded(move || {
                let outer = CancelToken::new();
                let whole = try_scope(async |s: Scope<'_>| {
                    let one = s.spawn(rest());
                    if !by_deadline {
                        s.cancel();
                    }
                    assert!(shield_unbounded(one).await.is_err());
                    if outside {
                        outer.cancel();
                    }
                    Ok(7)
                });
                let limit = if by_deadline {
                    Duration::ZERO
                } else {
                    Duration::MAX
                };
                block_on(whole.timeout(limit).token(&outer))
            });
            assert_eq!(
                ended.unwrap(),
                7,
                "deadline: {by_deadline}, outside: {outside}"
            );
        }
    }
}

// Two requests from one line were taken for one.
#[test]
fn scope_that_was_cancelled_itself_has_its_value_whoever_cancels_later_in_the_same_way() {
    fn stop(token: &CancelToken) {
        token.cancel();
    }
    for outside_first in [false, true] {
        let ended = guarded(move || {
            let outer = CancelToken::new();
            let whole = try_scope(async |s: Scope<'_>| {
                let one = s.spawn(rest());
                let (first, second) = match outside_first {
                    true => (outer.clone(), s.token()),
                    false => (s.token(), outer.clone()),
                };
                stop(&first);
                assert!(shield_unbounded(one).await.is_err());
                stop(&second);
                Ok(7)
            });
            block_on(whole.token(&outer))
        });
        assert_eq!(ended.is_ok(), !outside_first);
    }
}

#[test]
fn what_was_cancelled_alone_is_among_all_errors() {
    let ended = guarded(|| {
        let failed = try_scope(async |s: TryScope<'_, String>| {
            for _ in 0..3 {
                let one = s.spawn(async {
                    cancelled().await;
                    check().map_err(|error| format!("{error:?}"))
                });
                one.cancel();
                assert!(one.await.is_err());
            }
            Err::<(), _>("failed".to_owned())
        });
        block_on(failed.cancelled_if(|error| error != "failed").all_errors())
    });
    assert_eq!(ended.unwrap_err().cancelled.len(), 3);
}

/// Runs a scope until it is cancelled; one member meets the cancellation and keeps what it met, another one may fail.
async fn scope_inside(fails: bool) -> Cancelled {
    let mut met = None;
    let keep = &mut met;
    let ended = try_scope(async |s: TryScope<'_, Error>| {
        s.spawn(async move {
            *keep = rest().await.err();
            Ok(())
        });
        s.spawn(async move {
            cancelled().await;
            match fails {
                true => Err("failed".into()),
                false => Ok(()),
            }
        });
        Ok(())
    });
    assert_eq!(ended.await.is_err(), fails);
    met.expect("it was cancelled")
}

#[test]
fn what_comes_out_of_a_scope_that_failed_is_still_known() {
    for fails in [false, true] {
        let ended = guarded(move || {
            block_on(try_scope(async |s: Scope<'_>| {
                s.spawn(async move { Err::<(), _>(scope_inside(fails).await) });
                yields(1).await;
                s.cancel();
                Ok(7)
            }))
        });
        assert_eq!(ended.unwrap(), 7, "{fails}");
        let late =
            guarded(move || block_on(timeout(Duration::from_millis(1), scope_inside(fails))));
        assert!(late.is_err(), "{fails}");
    }
}
