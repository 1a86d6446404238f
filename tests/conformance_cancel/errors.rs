//! What comes out of a `try_scope` that is cancelled, or whose members fail: CT-009 to CT-027 as far as they speak
//! of cancellation, with the aggregate. The plain result is in `conformance_errors.rs`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::{cancelled, check};
use selvedge::time::sleep;
use selvedge::{CauseKind, TryScope, scope, try_scope};
use selvedge_scope::ScopeErrors;

use crate::{AppError, everywhere, rest, texts, until, yields};

// CT-009
#[test]
fn scope_that_waits_for_children_passes_a_cancellation_on_once_they_ended() {
    everywhere(|pool| async move {
        let (waiting, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (result, ended_then) = scope(async |outer| {
            let inner = outer.spawn(async {
                let inner = try_scope(async |s: TryScope<'_, AppError>| {
                    for _ in 0..3 {
                        s.spawn(async {
                            waiting.fetch_add(1, Ordering::SeqCst);
                            cancelled().await;
                            yields(4).await;
                            ended.fetch_add(1, Ordering::SeqCst);
                            Ok(check()?)
                        });
                    }
                    Ok(())
                });
                (inner.on(&pool).await, ended.load(Ordering::SeqCst))
            });
            until(|| waiting.load(Ordering::SeqCst) == 3).await;
            assert_eq!(ended.load(Ordering::SeqCst), 0);
            outer.cancel();
            inner.await
        })
        .on(&pool)
        .await;
        assert!(matches!(result, Err(AppError::Cancelled(_))), "{result:?}");
        assert_eq!(ended_then, 3, "the scope returns after its children");
    });
}

// CT-012, CT-013
#[test]
fn only_error_is_an_aggregate_of_one_with_that_very_error_and_its_task() {
    everywhere(|pool| async move {
        for body in [true, false] {
            let (address, id) = (Mutex::new(0), Mutex::new(None));
            let fail = || {
                let error = Box::new(7_u8);
                *address.lock().unwrap() = (&raw const *error).addr();
                error
            };
            let failed = try_scope(async |s| {
                let child = s.spawn(async {
                    yields(2).await;
                    if body { Ok(()) } else { Err(fail()) }
                });
                *id.lock().unwrap() = Some(child.id());
                yields(3).await;
                if body { Err(fail()) } else { Ok(()) }
            });
            let errors = failed.on(&pool).all_errors().await.unwrap_err();
            assert_eq!((errors.len(), errors.others.len()), (1, 0));
            assert!(errors.cancelled.is_empty());
            assert_eq!(
                Some(errors.primary.task) == id.into_inner().unwrap(),
                !body,
                "the error names its task"
            );
            let error = errors.into_primary();
            assert_eq!((&raw const *error).addr(), address.into_inner().unwrap());
        }
    });
}

// CT-014
#[test]
fn body_and_child_that_both_fail_are_both_in_the_aggregate() {
    everywhere(|pool| async move {
        for body_first in [true, false] {
            let first = AtomicUsize::new(0);
            let failed = try_scope(async |s| {
                let child = s.spawn(async {
                    if body_first {
                        cancelled().await;
                    }
                    first.fetch_add(1, Ordering::SeqCst);
                    Err::<(), _>(AppError::Real("child"))
                });
                let id = child.id();
                if !body_first {
                    assert_eq!(cancelled().await.task(), Some(id));
                }
                Err::<(), _>(AppError::Real("body"))
            });
            let errors = failed.on(&pool).all_errors().await.unwrap_err();
            let expected = if body_first {
                ["body", "child"]
            } else {
                ["child", "body"]
            };
            assert_eq!(texts(&errors), expected);
            assert_eq!(first.into_inner(), 1);
        }
    });
}

// CT-015
#[test]
fn children_that_fail_before_any_is_cancelled_are_all_there_in_order_of_arrival() {
    everywhere(|pool| async move {
        for children in [2, 3] {
            let failed = try_scope(async |s| {
                for text in ["first", "second", "third"].into_iter().take(children) {
                    s.spawn(async move {
                        assert!(check().is_ok() || text != "first");
                        Err::<(), _>(AppError::Real(text))
                    });
                }
                Ok(())
            });
            // In one thread they arrive in the order in which they were spawned.
            let errors = failed.on(&pool).inline().all_errors().await.unwrap_err();
            assert_eq!(texts(&errors), ["first", "second", "third"][..children]);
        }
    });
}

// CT-015: on several threads whoever comes first is primary, and nobody is lost.
#[test]
fn children_that_fail_on_several_threads_are_each_there_once() {
    everywhere(|pool| async move {
        let ids = Mutex::new(Vec::new());
        let failed = try_scope(async |s| {
            for n in 0..20_usize {
                let child = s.spawn(async move {
                    yields(n % 2).await;
                    Err::<(), _>(n)
                });
                ids.lock().unwrap().push((n, child.id()));
            }
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(errors.primary.task, errors.iter().next().unwrap().task);
        let mut came: Vec<_> = errors
            .iter()
            .map(|error| (error.error, error.task))
            .collect();
        came.sort_by_key(|came| came.0);
        assert_eq!(came, ids.into_inner().unwrap());
        assert!(errors.cancelled.is_empty());
    });
}

// CT-016
#[test]
fn cancellation_of_a_sleeping_sibling_is_not_among_the_errors() {
    everywhere(|pool| async move {
        let (asleep, cleaned) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = try_scope(async |s| {
            s.spawn(async {
                asleep.fetch_add(1, Ordering::SeqCst);
                let slept = sleep(Duration::from_secs(3600)).await;
                yields(3).await;
                cleaned.fetch_add(1, Ordering::SeqCst);
                Ok(slept?)
            });
            s.spawn(async {
                until(|| asleep.load(Ordering::SeqCst) == 1).await;
                Err::<(), _>(AppError::Real("failed"))
            });
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(texts(&errors), ["failed"]);
        assert_eq!(errors.cancelled.len(), 1, "it was asked to stop, and did");
        assert_eq!(cleaned.into_inner(), 1);
    });
}

// CT-018
#[test]
fn error_of_the_body_leaves_the_scope_after_a_sleeping_child_was_cleaned_up() {
    everywhere(|pool| async move {
        let (asleep, cleaned) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = try_scope(async |s| {
            s.spawn(async {
                asleep.fetch_add(1, Ordering::SeqCst);
                let slept = sleep(Duration::from_secs(3600)).await;
                yields(3).await;
                cleaned.fetch_add(1, Ordering::SeqCst);
                Ok(slept?)
            });
            until(|| asleep.load(Ordering::SeqCst) == 1).await;
            Err::<(), _>(AppError::Real("body"))
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!((texts(&errors), cleaned.into_inner()), (vec!["body"], 1));
    });
}

// CT-019: asked to stop, the child fails with an error that holds no cancellation.
#[test]
fn error_without_a_cancellation_inside_is_a_failure_also_after_a_cancel() {
    everywhere(|pool| async move {
        // The scope was cancelled, so nothing came before.
        let alone = try_scope(async |s| {
            s.spawn(async {
                rest::<()>().await.unwrap_err();
                Err::<(), _>(AppError::Real("clean-up"))
            });
            s.cancel();
            Ok(())
        });
        let alone = alone.on(&pool).await.unwrap_err();
        assert_eq!(alone.real(), "clean-up");
        // A sibling failed first, which stays primary.
        let second = try_scope(async |s| {
            s.spawn(async {
                rest::<()>().await.unwrap_err();
                Err::<(), _>(AppError::Real("clean-up"))
            });
            Err::<(), _>(AppError::Real("body"))
        });
        let second = second.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(texts(&second), ["body", "clean-up"]);
    });
}

// CT-021
#[test]
fn aggregate_of_an_inner_scope_is_one_member_of_the_outers_without_cancellations() {
    everywhere(|pool| async move {
        let (resting, inner_failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = try_scope(async |s: TryScope<'_, AppError>| {
            s.spawn(async {
                let inner = try_scope(async |s: TryScope<'_, AppError>| {
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        Ok(rest::<()>().await?)
                    });
                    s.spawn(async {
                        until(|| resting.load(Ordering::SeqCst) == 2).await;
                        Err::<(), _>(AppError::Real("inner"))
                    });
                    Ok(())
                });
                let inner = inner.on(&pool).all_errors().await;
                inner_failed.fetch_add(1, Ordering::SeqCst);
                inner.map_err(|errors| AppError::Inner(Box::new(errors)))
            });
            s.spawn(async {
                until(|| inner_failed.load(Ordering::SeqCst) == 1).await;
                Err::<(), _>(AppError::Real("outer"))
            });
            s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                Ok(rest::<()>().await?)
            });
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        let mut members = texts(&errors);
        members.sort_unstable();
        assert_eq!(members, ["inner", "outer"]);
        assert_eq!(errors.cancelled.len(), 1);
        let inner: Vec<_> = errors
            .iter()
            .filter_map(|error| match &error.error {
                AppError::Inner(inner) => Some(inner),
                _ => None,
            })
            .collect();
        assert_eq!(inner.len(), 1, "one nested member");
        assert_eq!(texts(inner[0]), ["inner"]);
        assert_eq!(inner[0].cancelled.len(), 1);
    });
}

// CT-022
#[test]
fn one_cancellation_comes_out_of_an_inner_scope_with_several_sleeping_children() {
    everywhere(|pool| async move {
        for body_sleeps in [false, true] {
            let resting = AtomicUsize::new(0);
            let errors: Mutex<Option<ScopeErrors<AppError>>> = Mutex::new(None);
            let outer = try_scope(async |outer: TryScope<'_, AppError>| {
                outer.spawn(async {
                    let inner = try_scope(async |s: TryScope<'_, AppError>| {
                        for _ in 0..5 {
                            s.spawn(async {
                                resting.fetch_add(1, Ordering::SeqCst);
                                Ok(sleep(Duration::MAX).await?)
                            });
                        }
                        if body_sleeps {
                            sleep(Duration::MAX).await?;
                        }
                        Ok(())
                    });
                    let ended = inner.on(&pool).all_errors().await;
                    *errors.lock().unwrap() = ended.err();
                    Ok(())
                });
                until(|| resting.load(Ordering::SeqCst) == 5).await;
                outer.cancel();
                Ok(())
            });
            assert!(outer.on(&pool).await.is_ok(), "it was cancelled itself");
            let errors = errors.into_inner().unwrap().expect("the inner one was not");
            assert_eq!(texts(&errors), ["cancelled"]);
            assert_eq!(errors.cancelled.len(), 4 + usize::from(body_sleeps));
        }
    });
}

// CT-023
#[test]
fn real_error_is_all_that_is_seen_of_a_cancelled_scope() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let failed = try_scope(async |s: TryScope<'_, AppError>| {
            for n in 0..5 {
                let resting = &resting;
                s.spawn(async move {
                    resting.fetch_add(1, Ordering::SeqCst);
                    let rested = rest::<()>().await;
                    if n == 3 {
                        return Err(AppError::Real("failed"));
                    }
                    Ok(rested?)
                });
            }
            until(|| resting.load(Ordering::SeqCst) == 5).await;
            s.cancel();
            rest::<()>().await?;
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(texts(&errors), ["failed"]);
        assert_eq!(errors.cancelled.len(), 5);
    });
}

// CT-024
#[test]
fn aggregate_without_a_cancellation_passes_a_cancelled_scope_unchanged() {
    everywhere(|pool| async move {
        let aggregate = try_scope(async |s| {
            s.spawn(async { Err::<(), _>(AppError::Real("one")) });
            s.spawn(async { Err::<(), _>(AppError::Real("two")) });
            Ok(())
        });
        let aggregate = aggregate.on(&pool).inline().all_errors().await;
        let aggregate = Box::new(aggregate.unwrap_err());
        let address = (&raw const *aggregate).addr();
        let failed = try_scope(async |s: TryScope<'_, AppError>| {
            s.cancel();
            Err::<(), _>(AppError::Inner(aggregate))
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!((errors.len(), errors.cancelled.len()), (1, 0));
        let AppError::Inner(inner) = errors.into_primary() else {
            panic!("another error");
        };
        assert_eq!((&raw const *inner).addr(), address);
        assert_eq!(texts(&inner), ["one", "two"]);
    });
}

// CT-026: without a supervisor, which is not there yet.
#[test]
fn failed_child_whose_handle_was_awaited_fails_the_scope_once() {
    everywhere(|pool| async move {
        let seen = Mutex::new(None);
        let failed = try_scope(async |s| {
            let child = s.spawn(async {
                yields(1).await;
                Err::<(), _>(AppError::Real("child"))
            });
            let id = child.id();
            let cancelled = child.await.unwrap_err();
            *seen.lock().unwrap() = Some((cancelled.cause().kind(), id));
            Ok("body")
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!((texts(&errors), errors.cancelled.len()), (vec!["child"], 0));
        let (kind, id) = seen.into_inner().unwrap().expect("the body went on");
        assert_eq!((kind, id), (CauseKind::SiblingFailed, errors.primary.task));
    });
}

// CT-027
#[test]
fn failed_child_that_nobody_looks_at_is_reported_with_its_task() {
    everywhere(|pool| async move {
        let id = Mutex::new(None);
        let failed = try_scope(async |s| {
            let child = s.spawn(async {
                yields(2).await;
                Err::<(), _>(AppError::Real("unseen"))
            });
            *id.lock().unwrap() = Some(child.id());
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(texts(&errors), ["unseen"]);
        assert_eq!(Some(errors.primary.task), id.into_inner().unwrap());
    });
}

// CT-023: the inner aggregate holds a real failure, and beside it what was cancelled from outside.
#[test]
fn aggregate_with_a_failure_of_an_inner_scope_that_was_cancelled_is_a_failure_outside() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let failed = try_scope(async |outer: TryScope<'_, AppError>| {
            outer.spawn(async {
                let inner = try_scope(async |s: TryScope<'_, AppError>| {
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        Ok(rest::<()>().await?)
                    });
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        rest::<()>().await.unwrap_err();
                        Err::<(), _>(AppError::Real("failed"))
                    });
                    Ok(())
                });
                let inner = inner.on(&pool).all_errors().await;
                inner.map_err(|errors| AppError::Inner(Box::new(errors)))
            });
            until(|| resting.load(Ordering::SeqCst) == 2).await;
            outer.cancel();
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await;
        let errors = errors.expect_err("a child failed for real");
        assert_eq!((texts(&errors), errors.cancelled.len()), (vec!["inner"], 0));
    });
}
