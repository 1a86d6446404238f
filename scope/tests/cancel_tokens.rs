//! `.token(&token)`: a scope under a token besides what it is inside of, and the tokens that scopes and children
//! show. Either is enough to stop, cancel or abort; nothing of a scope that is over stays with the token.

mod common;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Bell, Count, everywhere, poll_once, yields};
use selvedge_cancel::{
    CancelToken, Cancelled, CauseKind, FutureCancelExt, Phase, cancelled, check, current, stopping,
};
use selvedge_scope::{TryScope, block_on, scope, shield_unbounded, timeout, try_scope};

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

async fn rest() -> Result<(), Cancelled> {
    pending().or_cancel().await
}

/// Which of the tokens that a scope is under is asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    First,
    Second,
    Around,
    Own,
}

const EACH: [Asked; 4] = [Asked::First, Asked::Second, Asked::Around, Asked::Own];

/// Runs a scope with one child under two tokens, inside of another scope, and asks one of them.
fn under_one_of_three(
    asked: Asked,
    phase: Phase,
    child: impl AsyncFn(&AtomicUsize) -> bool,
    pool: &selvedge_scope::Pool,
) -> (bool, [Phase; 3])
where
{
    let tokens = [CancelToken::new(), CancelToken::new()];
    let around = CancelToken::new();
    let resting = AtomicUsize::new(0);
    let ended = block_on(
        scope(async |_| {
            let inner = scope(async |s| {
                let mut child = pin!(child(&resting));
                let own = s.token();
                let ask = async {
                    until(|| resting.load(Ordering::SeqCst) == 1).await;
                    let token = match asked {
                        Asked::First => &tokens[0],
                        Asked::Second => &tokens[1],
                        Asked::Around => &around,
                        Asked::Own => &own,
                    };
                    match phase {
                        Phase::Stopping => token.stop(),
                        Phase::Cancelled => token.cancel(),
                        _ => token.abort(),
                    }
                };
                futures::join!(child.as_mut(), ask).0
            });
            inner.token(&tokens[0]).token(&tokens[1]).on(pool).await
        })
        .token(&around),
    );
    (
        ended,
        [&tokens[0], &tokens[1], &around].map(CancelToken::phase),
    )
}

#[test]
fn scope_under_tokens_is_stopped_cancelled_and_aborted_by_either_and_by_nobody_else() {
    everywhere(|mode, pool| {
        for asked in EACH {
            for phase in [Phase::Stopping, Phase::Cancelled, Phase::Aborting] {
                let told = format!("{mode:?} {asked:?} {phase}");
                let (ended, after) = under_one_of_three(
                    asked,
                    phase,
                    async |resting| {
                        resting.fetch_add(1, Ordering::SeqCst);
                        match phase {
                            Phase::Stopping => {
                                stopping().await;
                                check().is_ok()
                            }
                            Phase::Cancelled => rest().await.is_err(),
                            _ => shield_unbounded(rest()).await.is_err(),
                        }
                    },
                    pool,
                );
                assert!(ended, "{told}");
                let expected = |is_it: bool| if is_it { phase } else { Phase::Running };
                let expected = [
                    expected(matches!(asked, Asked::First)),
                    expected(matches!(asked, Asked::Second)),
                    expected(matches!(asked, Asked::Around)),
                ];
                assert_eq!(after, expected, "{told}: it does not go the other way");
            }
        }
    });
}

#[test]
fn children_at_rest_are_told_when_a_followed_token_is_cancelled_by_a_thread() {
    everywhere(|mode, pool| {
        let token = CancelToken::new();
        let resting = AtomicUsize::new(0);
        let texts = std::thread::scope(|threads| {
            threads.spawn(|| {
                while resting.load(Ordering::SeqCst) < 6 {
                    std::thread::yield_now();
                }
                token.cancel_with("by a thread");
            });
            block_on(
                scope(async |s| {
                    let children: Vec<_> = (0..6)
                        .map(|_| {
                            s.spawn(async {
                                resting.fetch_add(1, Ordering::SeqCst);
                                let stopped = rest().await.unwrap_err();
                                stopped.cause().text().map(str::to_owned)
                            })
                        })
                        .collect();
                    let mut texts = Vec::new();
                    for child in children {
                        texts.extend(child.await);
                    }
                    texts
                })
                .token(&token)
                .on(pool),
            )
        });
        assert_eq!(texts, ["by a thread"; 6], "{mode:?}");
    });
}

// DESIGN: "own or outer": a token given to a scope is something outside of it.
#[test]
fn scope_under_a_token_that_was_cancelled_already_starts_and_fails_at_once() {
    everywhere(|mode, pool| {
        let token = CancelToken::new();
        token.cancel_with("before");
        let began = AtomicUsize::new(0);
        let ended = block_on(
            try_scope(async |s: TryScope<'_, Cancelled>| {
                s.spawn(async {
                    began.fetch_add(1, Ordering::SeqCst);
                    rest().await
                });
                assert!(s.is_cancelled());
                Ok(())
            })
            .token(&token)
            .on(pool),
        );
        let cancelled = ended.expect_err("it was not cancelled by itself");
        assert_eq!(cancelled.cause().text(), Some("before"), "{mode:?}");
        assert_eq!(began.into_inner(), 1);
        // One that only stops works.
        let token = CancelToken::new();
        token.stop();
        let worked = block_on(
            scope(async |s| {
                let child = s.spawn(async {
                    stopping().await;
                    check().is_ok()
                });
                s.is_stopping() && !s.is_cancelled() && child.await
            })
            .token(&token)
            .on(pool),
        );
        assert!(worked, "{mode:?}");
    });
}

#[test]
fn scope_that_was_dropped_or_has_ended_is_not_woken_by_its_token_any_more() {
    everywhere(|mode, pool| {
        for ends in [true, false] {
            let token = CancelToken::new();
            let (bell, waker) = Bell::new();
            let count = Count::new();
            {
                let one = count.one();
                let mut waiting = Box::pin(
                    scope(async |s| {
                        s.spawn(async {
                            let _one = one;
                            if !ends {
                                selvedge_cancel::select_safe(rest()).await.unwrap();
                            }
                        });
                        if !ends {
                            pending::<()>().await;
                        }
                    })
                    .token(&token)
                    .on(pool),
                );
                let mut cx = Context::from_waker(&waker);
                let mut polled = Poll::Pending;
                for _ in 0..100 {
                    polled = waiting.as_mut().poll(&mut cx);
                    if polled.is_ready() {
                        break;
                    }
                }
                assert_eq!(polled.is_ready(), ends, "{mode:?}");
                // Dropping the wait itself is fine here, and says so.
                drop(selvedge_cancel::select_safe(waiting));
            }
            let before = bell.rung();
            token.cancel();
            token.abort();
            assert_eq!(bell.rung(), before, "{mode:?} {ends}");
            count.assert_settled("followed");
        }
    });
}

/// The tokens that are shown to children and bodies are as good as the handle.
#[test]
fn token_that_a_child_shows_stops_that_child_whoever_cancels_it() {
    everywhere(|mode, pool| {
        for by_thread in [true, false] {
            let shown: Mutex<Option<CancelToken>> = Mutex::new(None);
            let (stopped, around) = block_on(
                scope(async |s| {
                    let child = s.spawn(async {
                        *shown.lock().unwrap() = Some(current());
                        let stopped = rest().await;
                        (stopped.is_err(), check().is_err())
                    });
                    until(|| shown.lock().unwrap().is_some()).await;
                    yields(3).await;
                    let token = shown.lock().unwrap().take().unwrap();
                    if by_thread {
                        std::thread::scope(|threads| {
                            threads.spawn(|| token.cancel());
                        });
                    } else {
                        s.spawn(async move { token.cancel() }).await;
                    }
                    (child.await, check().is_ok())
                })
                .on(pool),
            );
            assert_eq!((stopped, around), ((true, true), true), "{mode:?}");
        }
    });
}

#[test]
fn child_that_cancels_its_own_token_wakes_its_other_arm_and_ends_its_time_outs() {
    everywhere(|mode, pool| {
        let (stopped, inner) = block_on(
            scope(async |s| {
                let child = s.spawn(async {
                    let arm = async {
                        yields(2).await;
                        current().cancel();
                    };
                    futures::join!(rest(), arm).0
                });
                let limited = s.spawn(timeout(Duration::MAX, async {
                    // What is shown in there is the limit's own token.
                    let shown = current();
                    let arm = async {
                        yields(2).await;
                        shown.cancel();
                    };
                    futures::join!(rest(), arm).0
                }));
                (child.await.is_err(), limited.await)
            })
            .on(pool),
        );
        assert!(stopped, "{mode:?}");
        assert!(inner.expect("no time-out").is_err());
    });
}

#[test]
fn body_shows_the_scopes_token_and_a_child_its_own() {
    everywhere(|_, pool| {
        block_on(
            scope(async |s| {
                assert!(current().is_same(&s.token()));
                let shown = s.spawn(async { current() }).await;
                assert!(!shown.is_same(&s.token()));
                shown.cancel();
                assert!(check().is_ok(), "that is the child's");
                current().cancel();
                assert!(s.is_cancelled());
                assert_eq!(cancelled().await.kind(), CauseKind::Requested);
            })
            .on(pool),
        );
    });
}

#[test]
fn try_scope_under_a_token_passes_its_cancellation_on_and_absorbs_its_own() {
    everywhere(|mode, pool| {
        for own in [true, false] {
            let token = CancelToken::new();
            let resting = AtomicUsize::new(0);
            let ended = block_on(
                try_scope(async |s: TryScope<'_, Cancelled>| {
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        rest().await
                    });
                    until(|| resting.load(Ordering::SeqCst) == 1).await;
                    if own {
                        s.cancel()
                    } else {
                        token.cancel()
                    }
                    Ok("value")
                })
                .token(&token)
                .on(pool),
            );
            assert_eq!(ended.is_ok(), own, "{mode:?}");
        }
    });
}

/// Polled by hand, it is told when its token is cancelled, and once is enough.
#[test]
fn scope_at_rest_is_woken_once_by_its_token() {
    let token = CancelToken::new();
    let (bell, waker) = Bell::new();
    let mut waiting = pin!(scope(async |s| s.spawn(rest()).await).token(&token));
    let mut cx = Context::from_waker(&waker);
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let before = bell.rung();
    token.cancel();
    token.cancel();
    assert_eq!(bell.rung(), before + 1);
    let Poll::Ready(ended) = waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it was told");
    };
    assert!(ended.is_err());
    assert!(poll_once(pin!(token.cancelled())).is_ready());
}
