//! `.grace`: what is left of a cancelled scope when its time is over is dropped, once, and named. CT-069 with every
//! kind of rest; how shields end with it is in `limits_scope.rs`.

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use selvedge::cancel::cancelled;
use selvedge::testing::VirtualClock;
use selvedge::testing::lending::with;
use selvedge::time::sleep;
use selvedge::{CancelToken, Cancelled, CauseKind, Pool, TryScope, scope, try_scope};

use crate::{AppError, MODES, everywhere, guarded, rest, texts, until, yields};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs `test` on a virtual clock in each mode of lending, with no helper and with two.
fn on_clock(test: impl Fn(&VirtualClock, &Pool) + Send + 'static) {
    guarded(move || {
        for threads in [0, 2] {
            let pool = Pool::builder().threads(threads).build();
            for mode in MODES {
                println!("{mode:?}, {threads} helpers");
                let clock = VirtualClock::new();
                with(mode, || test(&clock, &pool));
                assert_eq!(clock.timers(), 0, "an entry is left in the timer");
            }
        }
    });
}

/// Counts its drop.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never ends, whatever is asked of it, and counts its drop.
async fn stubborn(drops: &AtomicUsize) {
    let _counted = Counted(drops);
    pending().await
}

// CT-069
#[test]
fn scope_with_a_grace_whose_members_end_in_time_gives_its_value() {
    on_clock(|clock, pool| {
        for cancels in [true, false] {
            let drops = AtomicUsize::new(0);
            let before = clock.now();
            let ended = clock.block_on(
                scope(async |s| {
                    for _ in 0..5 {
                        s.spawn(async {
                            let _counted = Counted(&drops);
                            if cancels {
                                cancelled().await;
                                yields(3).await;
                            }
                        });
                    }
                    if cancels {
                        s.cancel();
                    }
                    "value"
                })
                .grace(secs(3))
                .on(pool),
            );
            assert_eq!(ended.unwrap(), "value");
            assert_eq!(drops.into_inner(), 5);
            assert_eq!(clock.now(), before, "nothing waited for the grace");
        }
    });
}

// CT-069
#[test]
fn what_does_not_end_in_time_is_dropped_once_and_named() {
    on_clock(|clock, pool| {
        for body_ends in [true, false] {
            let (drops, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let before = clock.now();
            let cut = clock.block_on(
                scope(async |s| {
                    for name in ["warp", "weft"] {
                        let _named = s.spawn(stubborn(&drops)).name(name);
                    }
                    let _named = s
                        .spawn(async {
                            let _counted = Counted(&drops);
                            let _ = rest::<()>().await;
                            ended.fetch_add(1, Ordering::SeqCst);
                        })
                        .name("obedient");
                    let _counted = Counted(&drops);
                    yields(2).await;
                    s.cancel();
                    if !body_ends {
                        pending::<()>().await;
                    }
                })
                .grace(secs(3))
                .on(pool),
            );
            let cut = cut.unwrap_err();
            assert_eq!(cut.cause().kind(), CauseKind::GraceExpired);
            let text = cut.cause().text().expect("it names what was dropped");
            assert!(text.contains("warp") && text.contains("weft"), "{text}");
            assert!(!text.contains("obedient"), "{text}");
            assert_eq!(text.contains("the body"), !body_ends, "{text}");
            assert_eq!((drops.into_inner(), ended.into_inner()), (4, 1));
            assert_eq!(clock.now() - before, secs(3));
        }
    });
}

// CT-069: the value of a body that ended is not lost twice, nor kept.
#[test]
fn output_of_a_body_that_ended_is_dropped_once_when_a_child_is_cut() {
    on_clock(|clock, pool| {
        let (drops, outputs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cut = clock.block_on(
            scope(async |s| {
                s.spawn(stubborn(&drops));
                s.cancel();
                Counted(&outputs)
            })
            .grace(secs(1))
            .on(pool),
        );
        assert!(cut.map(drop).is_err());
        assert_eq!((drops.into_inner(), outputs.into_inner()), (1, 1));
    });
}

// CT-069: children that never rest are cut like others, wherever they are polled.
#[test]
fn busy_children_are_cut_by_an_abort_and_never_polled_again() {
    everywhere(|pool| async move {
        for _ in 0..3 {
            let (drops, began) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let token = CancelToken::new();
            let over = AtomicBool::new(false);
            let cut = scope(async |s| {
                for _ in 0..8 {
                    s.spawn(async {
                        let _counted = Counted(&drops);
                        began.fetch_add(1, Ordering::SeqCst);
                        loop {
                            yields(1).await;
                            assert!(!over.load(Ordering::SeqCst), "polled after its drop");
                        }
                    });
                }
                until(|| began.load(Ordering::SeqCst) == 8).await;
                std::thread::scope(|threads| {
                    threads.spawn(|| token.abort());
                });
                pending::<()>().await;
            });
            let cut = cut.token(&token).grace(secs(3600)).on(&pool).await;
            over.store(true, Ordering::SeqCst);
            assert_eq!(cut.unwrap_err().cause().kind(), CauseKind::GraceExpired);
            assert_eq!(drops.into_inner(), 8);
        }
    });
}

/// Panics when it is dropped.
struct Bomb<'a>(Counted<'a>);

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        let _ = &self.0;
        std::panic::resume_unwind(Box::new("a bomb"));
    }
}

// CT-069
#[test]
fn panicking_destructor_at_the_end_of_a_grace_keeps_none_from_being_dropped_and_is_raised() {
    on_clock(|clock, pool| {
        for in_body in [true, false] {
            let drops = AtomicUsize::new(0);
            let raised = catch_unwind(AssertUnwindSafe(|| {
                clock.block_on(
                    scope(async |s| {
                        for n in 0..5 {
                            let drops = &drops;
                            s.spawn(async move {
                                let counted = Counted(drops);
                                if n % 2 == 1 {
                                    let _bomb = Bomb(counted);
                                    pending::<()>().await;
                                } else {
                                    pending::<()>().await;
                                    drop(counted);
                                }
                            });
                        }
                        let counted = Counted(&drops);
                        yields(1).await;
                        s.cancel();
                        if in_body {
                            let _bomb = Bomb(counted);
                            pending::<()>().await;
                        } else {
                            pending::<()>().await;
                            drop(counted);
                        }
                    })
                    .grace(secs(1))
                    .on(pool),
                )
            }));
            let payload = raised.expect_err("the panic is raised");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"a bomb"));
            assert_eq!(drops.into_inner(), 6);
        }
    });
}

// CT-069
#[test]
fn failure_in_a_try_scope_stays_the_result_when_its_grace_is_over() {
    on_clock(|clock, pool| {
        let drops = AtomicUsize::new(0);
        let failed = try_scope(async |s: TryScope<'_, AppError>| {
            s.spawn(async {
                stubborn(&drops).await;
                Ok(())
            });
            s.spawn(async {
                yields(2).await;
                Err::<(), _>(AppError::Real("failed"))
            });
            Ok(())
        });
        let failed = failed.grace(secs(2)).on(pool).all_errors();
        let errors = clock.block_on(failed).unwrap_err();
        assert_eq!((texts(&errors), drops.into_inner()), (vec!["failed"], 1));
        assert_eq!(clock.elapsed(), secs(2));
    });
}

// CT-069
#[test]
fn expired_grace_of_a_try_scope_without_a_failure_is_its_error() {
    on_clock(|clock, pool| {
        for body_ends in [true, false] {
            let drops = AtomicUsize::new(0);
            let cut = try_scope(async |s: TryScope<'_, AppError>| {
                let _named = s
                    .spawn(async {
                        stubborn(&drops).await;
                        Ok(())
                    })
                    .name("warp");
                s.spawn(async { Ok(rest::<()>().await?) });
                yields(1).await;
                s.cancel();
                if !body_ends {
                    pending::<()>().await;
                }
                Ok(())
            });
            let cut = clock.block_on(cut.grace(secs(2)).on(pool).all_errors());
            let errors = cut.unwrap_err();
            assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
            let AppError::Cancelled(cut) = errors.into_primary() else {
                panic!("another error");
            };
            assert_eq!(cut.cause().kind(), CauseKind::GraceExpired);
            let text = cut.cause().text().unwrap();
            assert!(text.contains("warp"), "{text}");
            assert_eq!(text.contains("the body"), !body_ends, "{text}");
            assert_eq!(drops.into_inner(), 1);
        }
    });
}

// CT-069: nested scopes go with the child that they are in.
#[test]
fn nested_scopes_of_what_is_cut_are_dropped_with_it() {
    on_clock(|clock, pool| {
        let (drops, resting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cut = clock.block_on(
            scope(async |s| {
                for _ in 0..2 {
                    s.spawn(async {
                        scope(async |s| {
                            for _ in 0..3 {
                                s.spawn(async {
                                    resting.fetch_add(1, Ordering::SeqCst);
                                    stubborn(&drops).await;
                                });
                            }
                            stubborn(&drops).await;
                        })
                        .on(pool)
                        .await;
                    });
                }
                until(|| resting.load(Ordering::SeqCst) == 6).await;
                s.cancel();
            })
            .grace(secs(4))
            .on(pool),
        );
        assert!(cut.is_err());
        assert_eq!(drops.into_inner(), 2 * 4);
        assert_eq!(clock.elapsed(), secs(4));
    });
}

// CT-069: the cancellation comes from the scope around, which has no grace of its own and waits.
#[test]
fn grace_counts_from_an_outer_cancellation_and_ends_only_its_own_scope() {
    on_clock(|clock, pool| {
        let (drops, resting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let kind = clock.block_on(
            scope(async |outer| {
                let inner = outer.spawn(async {
                    let inner = scope(async |s| {
                        s.spawn(async {
                            resting.fetch_add(1, Ordering::SeqCst);
                            stubborn(&drops).await;
                        });
                        s.spawn(stubborn(&drops));
                    });
                    let cut = inner.grace(secs(5)).on(pool).await;
                    cut.map_err(|cut| cut.cause().kind())
                });
                until(|| resting.load(Ordering::SeqCst) == 1).await;
                sleep(secs(2)).await.unwrap();
                outer.cancel();
                inner.await
            })
            .on(pool),
        );
        assert_eq!(kind, Err(CauseKind::GraceExpired));
        assert_eq!(drops.into_inner(), 2);
        assert_eq!(clock.elapsed(), secs(2 + 5));
    });
}

// CT-069: what is passed on of a scope that was cut is its error, not a live cancellation of the scope around.
#[test]
fn expired_grace_passed_on_by_a_child_fails_the_scope_around_that_was_not_cancelled() {
    on_clock(|clock, pool| {
        let drops = AtomicUsize::new(0);
        let around = try_scope(async |s: TryScope<'_, Cancelled>| {
            s.spawn(async {
                let cut = scope(async |s| {
                    s.cancel();
                    stubborn(&drops).await;
                });
                cut.grace(secs(1)).on(pool).await
            });
            Ok(())
        });
        let failed = clock.block_on(around.on(pool));
        let kind = failed.map_err(|cut| cut.cause().kind());
        assert_eq!(kind, Err(CauseKind::GraceExpired));
        assert_eq!(drops.into_inner(), 1);
    });
}

/// The future is dropped once with everything in it, also when nobody polls the scope to the end of its grace.
#[test]
fn scope_dropped_within_its_grace_leaves_no_timer_and_drops_its_members() {
    on_clock(|clock, pool| {
        let drops = AtomicUsize::new(0);
        clock.block_on(async {
            let mut cut = Box::pin(
                scope(async |s| {
                    s.spawn(stubborn(&drops));
                    yields(1).await;
                    s.cancel();
                    stubborn(&drops).await;
                })
                .grace(secs(9))
                .on(pool),
            );
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                assert!(cut.as_mut().poll(cx).is_pending());
                cx.waker().wake_by_ref();
                if polls < 5 || clock.timers() == 0 {
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(())
            })
            .await;
            assert_eq!(clock.timers(), 1, "the end of the grace");
        });
        assert_eq!(drops.into_inner(), 2);
        assert_eq!(clock.elapsed(), secs(0));
    });
}
// CT-069: two graces, the sooner of which ends the inner scope, and the outer goes on from there.
#[test]
fn grace_of_an_inner_scope_ends_it_before_the_outers_and_the_outer_ends_well() {
    on_clock(|clock, pool| {
        for (outer, inner, inner_first) in [(9, 2, true), (2, 9, false)] {
            let drops = AtomicUsize::new(0);
            let inner_cut = Mutex::new(None);
            let before = clock.now();
            let ended = clock.block_on(
                scope(async |s| {
                    s.spawn(async {
                        let cut = scope(async |s| {
                            s.spawn(stubborn(&drops));
                            stubborn(&drops).await;
                        });
                        let cut = cut.grace(secs(inner)).on(pool).await;
                        *inner_cut.lock().unwrap() = Some(cut.is_err());
                    });
                    sleep(secs(1)).await.unwrap();
                    s.cancel();
                })
                .grace(secs(outer))
                .on(pool),
            );
            assert_eq!(drops.into_inner(), 2);
            assert_eq!(clock.now() - before, secs(1 + outer.min(inner)));
            let inner_cut = inner_cut.into_inner().unwrap();
            if inner_first {
                assert_eq!((ended.is_ok(), inner_cut), (true, Some(true)));
            } else {
                // The end of the outer's grace is that of the inner's, too; one of them does the dropping.
                assert_eq!(ended.is_ok(), inner_cut == Some(true));
            }
        }
    });
}

// CT-069: the grace is over in the very moment in which the last one ended.
#[test]
fn scope_whose_members_have_all_ended_when_its_grace_is_over_gives_its_value() {
    everywhere(|pool| async move {
        for tries in [false, true] {
            let token = CancelToken::new();
            let aborted = AtomicUsize::new(0);
            let last = async {
                until(|| token.is_cancelled()).await;
                token.abort();
                aborted.fetch_add(1, Ordering::SeqCst);
            };
            let ended = if tries {
                let ended = try_scope(async |s: TryScope<'_, Cancelled>| {
                    s.spawn(async {
                        last.await;
                        Ok(())
                    });
                    s.cancel();
                    token.cancel();
                    Ok("value")
                });
                ended.token(&token).grace(secs(3600)).on(&pool).await
            } else {
                let ended = scope(async |s| {
                    s.spawn(last);
                    token.cancel();
                    "value"
                });
                ended.token(&token).grace(secs(3600)).on(&pool).await
            };
            assert_eq!(aborted.into_inner(), 1);
            assert_eq!(ended.unwrap(), "value", "try_scope: {tries}");
        }
    });
}
