//! How a request travels, and what it does to operations: CT-038 to CT-045, CT-056, CT-010, X-11. What
//! is asked of one child is in `one_child.rs`.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::{check, checkpoint, shield_unbounded};
use selvedge::testing::VirtualClock;
use selvedge::time::sleep;
use selvedge::{
    CancelToken, Cancelled, CauseKind, FutureCancelExt, Pool, TryScope, Why, block_on, join_all,
    scope, timeout, try_scope,
};

use crate::{everywhere, guarded, rest, until, yields};

// CT-038
#[test]
fn second_cancel_changes_nothing_and_operations_go_on_failing() {
    everywhere(|pool| async move {
        let texts = scope(async |s| {
            let child = s.spawn(async {
                let mut texts = Vec::new();
                for _ in 0..3 {
                    let failed = rest::<()>().await.unwrap_err();
                    texts.push(failed.cause().text().map(str::to_owned));
                    texts.push(
                        checkpoint()
                            .await
                            .unwrap_err()
                            .cause()
                            .text()
                            .map(str::to_owned),
                    );
                }
                texts
            });
            yields(2).await;
            s.cancel_with("first");
            s.cancel_with("second");
            child.await
        });
        let texts = texts.on(&pool).await;
        assert_eq!(texts, vec![Some(String::from("first")); 6]);
    });
}

// CT-039
#[test]
fn operation_of_a_cancelled_scope_fails_on_entry_even_if_it_could_finish_at_once() {
    everywhere(|pool| async move {
        let polled = AtomicBool::new(false);
        let touched = || polled.store(true, Ordering::SeqCst);
        let failed = try_scope(async |s: TryScope<'_, Cancelled>| {
            let ended = s.spawn(async { Ok(1) });
            until(|| ended.is_finished()).await;
            s.cancel();
            let all = [
                check().is_err(),
                checkpoint().await.is_err(),
                sleep(Duration::ZERO).await.is_err(),
                ready(1).or_cancel().await.is_err(),
                async { touched() }.or_cancel().await.is_err(),
                timeout(Duration::from_secs(9), checkpoint())
                    .await
                    .is_ok_and(|inner| inner.is_err()),
                ended.await.is_err(),
            ];
            // Shielded, the same succeed.
            let shielded = shield_unbounded(async {
                let ended = s.spawn(async { Ok(1) });
                until(|| ended.is_finished()).await;
                [
                    check().is_ok(),
                    checkpoint().await.is_ok(),
                    sleep(Duration::ZERO).await.is_ok(),
                    ready(1).or_cancel().await.is_ok(),
                    ended.await.is_ok(),
                ]
            });
            Ok((all, shielded.await))
        });
        let (all, shielded) = failed.on(&pool).await.unwrap();
        assert_eq!((all, shielded), ([true; 7], [true; 5]));
        assert!(!polled.into_inner(), "it was never begun");
    });
}

// CT-040
#[test]
fn cancelled_scope_without_an_operation_gives_its_value_and_touches_nothing_outside() {
    everywhere(|pool| async move {
        let asked = scope(async |s| {
            s.cancel();
            (5, s.is_cancelled())
        });
        assert_eq!(asked.on(&pool).await, (5, true));
        let asked = try_scope(async |s: TryScope<'_, Cancelled>| {
            s.cancel();
            Ok(s.is_cancelled())
        });
        assert!(asked.on(&pool).await.unwrap());
        assert!(checkpoint().await.is_ok(), "nothing around it is cancelled");
    });
}

// CT-042
#[test]
fn child_of_a_cancelled_scope_starts_and_fails_at_its_first_operation() {
    everywhere(|pool| async move {
        let (began, went_on) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ended = try_scope(async |s: TryScope<'_, Cancelled>| {
            s.cancel();
            for _ in 0..4 {
                s.spawn(async {
                    began.fetch_add(1, Ordering::SeqCst);
                    checkpoint().await?;
                    went_on.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                });
            }
            Ok(())
        });
        assert!(ended.on(&pool).await.is_ok());
        assert_eq!((began.into_inner(), went_on.into_inner()), (4, 0));
    });
}

// CT-043
#[test]
fn cancel_of_the_root_reaches_all_leaves_before_the_scope_returns() {
    everywhere(|pool| async move {
        let (resting, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        scope(async |root| {
            for _ in 0..2 {
                root.spawn(async {
                    scope(async |s| {
                        for _ in 0..2 {
                            s.spawn(async {
                                resting.fetch_add(1, Ordering::SeqCst);
                                let failed = rest::<()>().await.unwrap_err();
                                assert_eq!(failed.cause().text(), Some("root"));
                                yields(2).await;
                                told.fetch_add(1, Ordering::SeqCst);
                            });
                        }
                    })
                    .on(&pool)
                    .await;
                });
            }
            until(|| resting.load(Ordering::SeqCst) == 4).await;
            root.cancel_with("root");
        })
        .on(&pool)
        .await;
        assert_eq!(told.into_inner(), 4);
    });
}

// CT-044
#[test]
fn cancel_of_a_childs_inner_scope_stops_that_and_nothing_else() {
    everywhere(|pool| async move {
        let inner: Mutex<Option<CancelToken>> = Mutex::new(None);
        let sibling_went_on = AtomicUsize::new(0);
        let (stopped, later) = scope(async |s| {
            let child = s.spawn(async {
                let stopped = scope(async |s| {
                    let leaf = s.spawn(rest::<()>());
                    *inner.lock().unwrap() = Some(s.token());
                    (leaf.await.is_err(), checkpoint().await.is_err())
                });
                let stopped = stopped.on(&pool).await;
                (stopped, checkpoint().await.is_ok())
            });
            s.spawn(async {
                until(|| inner.lock().unwrap().is_some()).await;
                inner.lock().unwrap().as_ref().unwrap().cancel();
                checkpoint().await.unwrap();
                sibling_went_on.fetch_add(1, Ordering::SeqCst);
            });
            let ended = child.await;
            checkpoint().await.unwrap();
            ended
        })
        .on(&pool)
        .await;
        assert_eq!((stopped, later), ((true, true), true));
        assert_eq!(sibling_went_on.into_inner(), 1);
    });
}

// CT-045: the nearest that was cancelled itself absorbs, so the outer one is cancelled first here; in the other order
// the inner scope would absorb it.
#[test]
fn of_scopes_cancelled_together_the_outer_one_absorbs_the_cancellation() {
    everywhere(|pool| async move {
        let (resting, inner_passed_on) = (AtomicUsize::new(0), AtomicBool::new(false));
        let outer = try_scope(async |outer: TryScope<'_, Cancelled>| {
            let middle = try_scope(async |middle: TryScope<'_, Cancelled>| {
                let (token, resting, passed_on, pool) =
                    (middle.token(), &resting, &inner_passed_on, &pool);
                middle.spawn(async move {
                    let inner = try_scope(async |inner: TryScope<'_, Cancelled>| {
                        inner.spawn(async {
                            resting.fetch_add(1, Ordering::SeqCst);
                            rest::<()>().await
                        });
                        until(|| resting.load(Ordering::SeqCst) == 1).await;
                        token.cancel();
                        inner.cancel();
                        Ok(())
                    });
                    let ended = inner.on(pool).await;
                    passed_on.store(ended.is_err(), Ordering::SeqCst);
                    ended
                });
                Ok("middle")
            });
            let value = middle.on(&pool).await?;
            checkpoint().await?;
            outer.spawn(checkpoint());
            Ok(value)
        });
        assert_eq!(outer.on(&pool).await.unwrap(), "middle");
        assert!(inner_passed_on.into_inner());
    });
}

// CT-056
#[test]
fn busy_loop_with_a_checkpoint_stops_at_the_next_one() {
    everywhere(|pool| async move {
        let rounds = AtomicUsize::new(0);
        let ended = scope(async |s| {
            let busy = s.spawn(async {
                loop {
                    rounds.fetch_add(1, Ordering::SeqCst);
                    if let Err(cancelled) = checkpoint().await {
                        return (cancelled.cause().kind(), rounds.load(Ordering::SeqCst));
                    }
                }
            });
            until(|| rounds.load(Ordering::SeqCst) >= 3).await;
            busy.cancel();
            busy.await
        });
        let (kind, rounds) = ended.on(&pool).await;
        assert_eq!(kind, CauseKind::Requested);
        assert!(rounds >= 3);
    });
}

// CT-056: the deadline passes while nothing is awaited.
#[test]
fn deadline_that_passes_while_computing_stops_the_loop_at_the_next_checkpoint() {
    let clock = VirtualClock::new().panics_when_stuck();
    let rounds = clock.block_on(
        scope(async |_| {
            for round in 0.. {
                // A computation that takes a second.
                clock.advance(Duration::from_secs(1));
                if check().is_err() {
                    return round;
                }
            }
            unreachable!()
        })
        .timeout(Duration::from_secs(5)),
    );
    assert_eq!(rounds, 4, "in the fifth second");
    assert_eq!(clock.timers(), 0);
}

// also when the cancellation came from outside; a wish to stop refuses nobody.
#[test]
fn cancelled_scope_gives_a_child_back_with_its_captures_and_a_stopping_one_takes_it() {
    everywhere(|pool| async move {
        let token = CancelToken::new();
        let ran = AtomicUsize::new(0);
        let given_back = scope(async |s| {
            s.stop();
            let stopping = s.try_spawn(async { 7 }).expect("it takes children yet");
            assert_eq!(stopping.await, 7);
            token.cancel();
            let captured = vec![1, 2, 3];
            let address = captured.as_ptr().addr();
            let refused = s.try_spawn(async {
                ran.fetch_add(1, Ordering::SeqCst);
                captured
            });
            let refused = refused.map(drop).unwrap_err();
            assert_eq!(refused.why(), Why::Cancelled);
            let child = refused.into_inner();
            assert_eq!(ran.load(Ordering::SeqCst), 0);
            // It is whole: whoever wants to can run it.
            let captured = child.await;
            captured.as_ptr().addr() == address
        });
        assert!(given_back.token(&token).on(&pool).await);
        assert_eq!(ran.into_inner(), 1);
    });
}

type Nested<'a> = Pin<Box<dyn Future<Output = usize> + Send + 'a>>;

/// Scopes in scopes, each with a resting child beside the next level.
fn nest<'a>(levels: usize, pool: &'a Pool, told: &'a AtomicUsize) -> Nested<'a> {
    Box::pin(async move {
        if levels == 0 {
            return usize::from(rest::<()>().await.is_err());
        }
        scope(async |s| {
            s.spawn(async {
                if rest::<()>().await.is_err() {
                    told.fetch_add(1, Ordering::SeqCst);
                }
            });
            nest(levels - 1, pool, told).await
        })
        .on(pool)
        .await
    })
}

// CT-010: nested through bodies; through children it is in `conformance_scope.rs`.
#[test]
fn outermost_of_thousands_of_nested_scopes_is_cancelled_and_all_end() {
    const LEVELS: usize = 3_000;
    guarded(|| {
        let deep = std::thread::Builder::new().stack_size(256 << 20);
        let deep = deep.spawn(|| {
            let pool = Pool::builder().threads(0).build();
            let told = AtomicUsize::new(0);
            let innermost = block_on(
                scope(async |s| {
                    let nested = s.spawn(nest(LEVELS, &pool, &told));
                    yields(2).await;
                    assert_eq!(told.load(Ordering::SeqCst), 0);
                    s.cancel();
                    nested.await
                })
                .on(&pool),
            );
            assert_eq!((innermost, told.into_inner()), (1, LEVELS));
        });
        deep.unwrap().join().unwrap();
    });
}

// CT-038: a batch inside a cancelled child is carried down to, too.
#[test]
fn members_of_a_batch_in_a_cancelled_child_all_fail() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let failed = scope(async |s| {
            let child = s.spawn(async {
                let members = (0..10).map(|_| async {
                    resting.fetch_add(1, Ordering::SeqCst);
                    rest::<()>().await.is_err()
                });
                join_all(members).on(&pool).await
            });
            until(|| resting.load(Ordering::SeqCst) == 10).await;
            child.cancel();
            child.await
        });
        assert_eq!(failed.on(&pool).await, [true; 10]);
    });
}
