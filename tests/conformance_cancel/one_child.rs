//! What a request does to an operation that is under way, and to the one child it is meant for: CT-047 to CT-052,
//! CT-060 in part. CT-049 is beside `select!`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::{cancelled, checkpoint, shield_unbounded};
use selvedge::testing::VirtualClock;
use selvedge::time::sleep;
use selvedge::{Cancelled, CauseKind, IntoPar, TryScope, scope, try_scope};

use crate::{everywhere, rest, until, yields};

// CT-047
#[test]
fn operation_that_knows_nothing_of_it_completes_and_the_next_one_fails() {
    everywhere(|pool| async move {
        let (begun, asked) = (AtomicBool::new(false), AtomicBool::new(false));
        let foreign = async {
            begun.store(true, Ordering::SeqCst);
            until(|| asked.load(Ordering::SeqCst)).await;
            yields(9).await;
            "value"
        };
        let ended = scope(async |s| {
            let child = s.spawn(async {
                let value = foreign.await;
                (value, checkpoint().await.is_err())
            });
            until(|| begun.load(Ordering::SeqCst)).await;
            s.cancel();
            asked.store(true, Ordering::SeqCst);
            child.await
        });
        assert_eq!(ended.on(&pool).await, ("value", true));
    });
}

// CT-048: the abort of a slow operation is a callback of its token, here of one below two cancelled scopes.
#[test]
fn slow_abort_is_asked_for_once_and_the_cancellation_under_way_is_delivered() {
    everywhere(|pool| async move {
        let aborts = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = aborts.clone();
        let ended = scope(async |outer| {
            let inner = scope(async |inner| {
                let child = inner.spawn(async move {
                    let slow = async {
                        let aborts = counted;
                        let current = selvedge::cancel::current();
                        let _abort = current.on_cancel(move |_| {
                            aborts.fetch_add(1, Ordering::SeqCst);
                        });
                        let failed = rest::<()>().await;
                        // The operation takes its time to give up, and nothing asks it twice.
                        let waited = shield_unbounded(async {
                            yields(3).await;
                            checkpoint().await
                        });
                        assert!(waited.await.is_ok());
                        failed
                    };
                    slow.await.is_err()
                });
                yields(3).await;
                inner.cancel();
                outer.cancel();
                child.await
            });
            inner.on(&pool).await
        });
        assert!(ended.on(&pool).await);
        assert_eq!(aborts.load(Ordering::SeqCst), 1);
    });
}

// CT-050
#[test]
fn child_cancelled_by_its_handle_says_so_and_fails_nobody() {
    everywhere(|pool| async move {
        let (stopped, went_on) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ended = try_scope(async |s: TryScope<'_, Cancelled>| {
            let one = s.spawn(rest::<()>());
            let other = s.spawn(async {
                until(|| stopped.load(Ordering::SeqCst)).await;
                checkpoint().await?;
                went_on.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            yields(1).await;
            one.cancel_and_wait().await;
            stopped.store(true, Ordering::SeqCst);
            other.await?;
            let said = one.await.unwrap_err();
            assert_eq!(said.cause().kind(), CauseKind::Requested);
            checkpoint().await?;
            Ok("not failed")
        });
        let ended = ended.on(&pool).all_errors().await;
        assert_eq!(ended.unwrap(), "not failed");
        assert_eq!(went_on.into_inner(), 1);
    });
}

// CT-051
#[test]
fn waiting_cancel_returns_after_the_clean_up_and_the_plain_one_at_once() {
    everywhere(|pool| async move {
        for waits in [true, false] {
            let (resting, cleaned) = (AtomicBool::new(false), AtomicBool::new(false));
            let cleaned_then = scope(async |s| {
                let go_on = AtomicBool::new(waits);
                let go_on = std::sync::Arc::new(go_on);
                let child = s.spawn({
                    let go_on = go_on.clone();
                    let (resting, cleaned) = (&resting, &cleaned);
                    async move {
                        resting.store(true, Ordering::SeqCst);
                        cancelled().await;
                        until(|| go_on.load(Ordering::SeqCst)).await;
                        yields(5).await;
                        cleaned.store(true, Ordering::SeqCst);
                    }
                });
                until(|| resting.load(Ordering::SeqCst)).await;
                if waits {
                    child.cancel_and_wait().await;
                } else {
                    child.cancel();
                }
                let then = cleaned.load(Ordering::SeqCst);
                go_on.store(true, Ordering::SeqCst);
                then
            });
            assert_eq!(cleaned_then.on(&pool).await, waits);
            assert!(cleaned.into_inner(), "the scope waits in both cases");
        }
    });
}

// CT-052
#[test]
fn two_tasks_that_cancel_one_child_and_wait_both_return_after_its_clean_up() {
    everywhere(|pool| async move {
        let (waiting, cleaned) = (AtomicUsize::new(0), AtomicBool::new(false));
        let returned = AtomicUsize::new(0);
        scope(async |s| {
            let child = std::sync::Arc::new(s.spawn(async {
                cancelled().await;
                until(|| waiting.load(Ordering::SeqCst) == 2).await;
                yields(5).await;
                cleaned.store(true, Ordering::SeqCst);
            }));
            for _ in 0..2 {
                let (child, waiting, cleaned, returned) =
                    (child.clone(), &waiting, &cleaned, &returned);
                s.spawn(async move {
                    let gone = child.cancel_and_wait();
                    waiting.fetch_add(1, Ordering::SeqCst);
                    gone.await;
                    assert!(cleaned.load(Ordering::SeqCst));
                    returned.fetch_add(1, Ordering::SeqCst);
                });
            }
        })
        .on(&pool)
        .await;
        assert_eq!(returned.into_inner(), 2);
    });
}

// CT-050: what the child drives is asked, too: a parallel stream ends with the cancellation of its items.
#[test]
fn parallel_stream_in_a_child_cancelled_by_its_handle_ends_with_it() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let ended = scope(async |s| {
            let child = s.spawn(async {
                let stream = (0..8_usize).into_par().concurrency(4).on(&pool);
                stream
                    .try_for_each(async |_| {
                        resting.fetch_add(1, Ordering::SeqCst);
                        rest::<()>().await
                    })
                    .await
            });
            until(|| resting.load(Ordering::SeqCst) > 0).await;
            child.cancel();
            let ended = child.await;
            checkpoint().await.unwrap();
            ended
        });
        let cancelled = ended.on(&pool).await.unwrap_err();
        assert_eq!(cancelled.cause().kind(), CauseKind::Requested);
    });
}

// CT-060, as far as there is anything without a supervisor: that its parent was cancelled is no failure of the
// scope below, so whoever counts its failures finds none.
#[test]
fn scope_whose_parent_is_cancelled_has_no_failure_of_its_own() {
    everywhere(|pool| async move {
        let (resting, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(async |s| {
            s.spawn(async {
                let below = try_scope(async |below: TryScope<'_, Cancelled>| {
                    for _ in 0..3 {
                        below.spawn(async {
                            resting.fetch_add(1, Ordering::SeqCst);
                            rest::<()>().await
                        });
                    }
                    let told = below.token().cancelled().await;
                    assert_eq!(told.kind(), CauseKind::Requested, "nobody failed");
                    Ok(())
                });
                let ended = below.on(&pool).all_errors().await.unwrap_err();
                assert_eq!((ended.others.len(), ended.cancelled.len()), (0, 2));
                assert_eq!(ended.into_primary().cause().kind(), CauseKind::Requested);
                seen.fetch_add(1, Ordering::SeqCst);
            });
            until(|| resting.load(Ordering::SeqCst) == 3).await;
            s.cancel();
        })
        .on(&pool)
        .await;
        assert_eq!(seen.into_inner(), 1);
    });
}

// CT-050: nobody waits for the time that a child would have slept.
#[test]
fn sleeping_child_that_is_cancelled_wakes_without_the_clock() {
    let clock = VirtualClock::new().panics_when_stuck();
    let woken = clock.block_on(scope(async |s| {
        let one = s.spawn(sleep(Duration::from_secs(60)));
        let others: Vec<_> = (0..100)
            .map(|_| s.spawn(sleep(Duration::from_secs(3600))))
            .collect();
        yields(3).await;
        one.cancel();
        let mut woken = [one.await.is_err(), s.is_cancelled()].map(usize::from);
        s.cancel();
        for other in others {
            woken[1] += usize::from(other.await.is_err());
        }
        woken
    }));
    assert_eq!(woken, [1, 100]);
    assert_eq!((clock.elapsed(), clock.timers()), (Duration::ZERO, 0));
}
