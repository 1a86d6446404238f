//! Leaf futures whose surroundings change between two polls, and children that were placed after a cancellation:
//! a leaf registers nowhere while its scope carries cancellations down to it, so it has to notice when that ends.

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{Count, everywhere, guarded, poll_times, pool, yields};
use selvedge_cancel::{Cancelled, FutureCancelExt, select_safe};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::time::sleep;
use selvedge_scope::{JoinHandle, TryScope, block_on, join, join_all, scope, timeout, try_scope};

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

async fn rest() -> Result<(), Cancelled> {
    pending().or_cancel().await
}

/// Hands a wake-up on, as combinators of other people do.
struct Forward(Waker);

impl Wake for Forward {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

/// Polls with the task's own waker and a foreign one in turn, up to that many changes.
fn polled_in_turn<F: Future>(
    mut leaf: Pin<&mut F>,
    changes: &AtomicUsize,
    most: usize,
    cx: &Context<'_>,
) -> Poll<F::Output> {
    let foreign = Waker::from(Arc::new(Forward(cx.waker().clone())));
    loop {
        let done = changes.load(Ordering::SeqCst);
        let waker = if done % 2 == 0 { cx.waker() } else { &foreign };
        let polled = leaf.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_ready() || done >= most {
            return polled;
        }
        changes.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Handle,
    Scope,
    Thread,
}

#[test]
fn leaf_that_is_polled_with_own_and_foreign_wakers_in_turn_is_told_after_any_of_them() {
    everywhere(|mode, pool| {
        for most in 0..4 {
            for who in [Who::Handle, Who::Scope, Who::Thread] {
                let changes = AtomicUsize::new(0);
                let told = block_on(
                    scope(async |s| {
                        let child = s.spawn(async {
                            let mut leaf = pin!(rest());
                            poll_fn(|cx| polled_in_turn(leaf.as_mut(), &changes, most, cx)).await
                        });
                        until(|| changes.load(Ordering::SeqCst) == most).await;
                        yields(3).await;
                        match who {
                            Who::Handle => child.cancel(),
                            Who::Scope => s.cancel(),
                            Who::Thread => {
                                let token = s.token();
                                std::thread::spawn(move || token.cancel()).join().unwrap();
                            }
                        }
                        child.await
                    })
                    .on(pool),
                );
                assert!(told.is_err(), "{mode:?} {most} {who:?}");
            }
        }
    });
}

/// A leaf belongs to the task that polled it last, and is cancelled with that one.
#[test]
fn leaf_that_was_handed_to_another_child_is_cancelled_with_that_one() {
    everywhere(|mode, pool| {
        for giver_first in [false, true] {
            let seen = AtomicBool::new(false);
            block_on(
                scope(async |s| {
                    let (give, given) = futures_channel::oneshot::channel();
                    let giver = s.spawn(async {
                        let mut leaf = Box::pin(rest());
                        poll_fn(|cx| {
                            assert!(leaf.as_mut().poll(cx).is_pending());
                            Poll::Ready(())
                        })
                        .await;
                        give.send(leaf).ok().expect("somebody takes it");
                        rest().await
                    });
                    let taker = s.spawn(async {
                        let mut leaf = given.await.unwrap();
                        poll_fn(|cx| {
                            let polled = leaf.as_mut().poll(cx);
                            seen.store(true, Ordering::SeqCst);
                            polled
                        })
                        .await
                    });
                    until(|| seen.load(Ordering::SeqCst)).await;
                    let (one, other) = if giver_first {
                        (giver, taker)
                    } else {
                        (taker, giver)
                    };
                    one.cancel();
                    assert!(one.await.is_err());
                    yields(5).await;
                    assert!(!other.is_finished(), "{mode:?} {giver_first}");
                    other.cancel();
                    assert!(other.await.is_err());
                })
                .on(pool),
            );
        }
    });
}

/// Where a scope hangs is decided at its first poll.
#[test]
fn scope_made_in_a_body_and_polled_in_a_child_is_cancelled_with_the_child() {
    everywhere(|mode, pool| {
        let resting = AtomicUsize::new(0);
        let (told, around) = block_on(
            scope(async |s| {
                let inner = scope(async |inner| {
                    inner
                        .spawn(async {
                            resting.fetch_add(1, Ordering::SeqCst);
                            rest().await
                        })
                        .await
                });
                let child = s.spawn(inner);
                until(|| resting.load(Ordering::SeqCst) == 1).await;
                child.cancel();
                (child.await, s.is_cancelled())
            })
            .on(pool),
        );
        assert!(told.is_err(), "{mode:?}");
        assert!(!around, "{mode:?}");
    });
}

/// One of the things that a child may be inside of when its handle cancels it.
async fn nested(kind: usize) -> bool {
    const MOST: Duration = Duration::MAX;
    match kind {
        0 => matches!(timeout(MOST, rest()).await, Ok(Err(_))),
        1 => {
            let inner = scope(async |s| s.spawn(sleep(MOST)).await);
            matches!(timeout(MOST, inner).await, Ok(Err(_)))
        }
        2 => {
            let timed = timeout(Duration::ZERO, rest());
            let (first, second) = futures::join!(rest(), timed);
            first.is_err() && second.is_err()
        }
        3 => {
            let each = join_all((0..3).map(|_| rest())).await;
            each.iter().all(Result::is_err)
        }
        _ => {
            let (first, second) = join((sleep(MOST), rest())).await;
            first.is_err() && second.is_err()
        }
    }
}

#[test]
fn child_that_is_inside_limits_scopes_and_batches_is_cancelled_by_its_handle() {
    const KINDS: usize = 5;
    everywhere(|mode, pool| {
        let begun = AtomicUsize::new(0);
        block_on(
            scope(async |s| {
                let children: Vec<_> = (0..KINDS * 2)
                    .map(|index| {
                        let begun = &begun;
                        s.spawn(async move {
                            begun.fetch_add(1, Ordering::SeqCst);
                            nested(index % KINDS).await
                        })
                    })
                    .collect();
                until(|| begun.load(Ordering::SeqCst) == KINDS * 2).await;
                yields(5).await;
                for child in &children {
                    child.cancel();
                }
                for (index, child) in children.into_iter().enumerate() {
                    assert!(child.await, "{mode:?} {}", index % KINDS);
                }
                assert!(!s.is_cancelled());
            })
            .on(pool),
        );
    });
}

/// The chunk that children are placed in was told, by the walk that tells them of the cancellation, how many of its
/// places were unused; it was not told when they were used after all. Children in those were never dropped.
#[test]
fn children_placed_after_a_cancellation_are_told_and_dropped_with_their_scope() {
    for (before, after) in [(2, 8), (1, 1), (3, 200), (64, 64)] {
        let (count, wakers) = (Count::new(), Mutex::new(Vec::new()));
        let mut waiting = Box::pin(select_safe(scope(async |s| {
            let spawn = || {
                let (one, wakers) = (count.one(), &wakers);
                s.spawn(async move {
                    let _one = one;
                    common::park_in::<()>(wakers).await;
                });
            };
            for _ in 0..before {
                spawn();
            }
            yields(1).await;
            s.cancel();
            yields(1).await;
            for _ in 0..after {
                spawn();
            }
            pending::<()>().await;
        })));
        assert!(poll_times(waiting.as_mut(), 4).is_none());
        assert!(wakers.lock().unwrap().len() >= before + after, "all rest");
        drop(waiting);
        for waker in wakers.into_inner().unwrap() {
            waker.wake();
        }
        assert_eq!(count.made(), before + after);
        count.assert_settled("children");
    }
}

/// Threads wait for the end of a child whose scope runs, or is dropped, on another.
#[test]
fn threads_that_wait_for_an_end_return_when_the_scope_ends_or_is_dropped() {
    guarded(|| {
        for round in 0..60 {
            let mut kept: Option<JoinHandle<'static, Result<(), Cancelled>>> = None;
            let waiting = scope(|s| {
                kept = Some(s.spawn(rest()));
                async {}
            });
            let child = kept.expect("the closure was called");
            let ends = AtomicUsize::new(0);
            std::thread::scope(|threads| {
                for _ in 0..2 {
                    threads.spawn(|| {
                        block_on(child.cancel_and_wait());
                        ends.fetch_add(1, Ordering::SeqCst);
                    });
                }
                if round % 3 == 0 {
                    drop(waiting);
                } else {
                    block_on(waiting);
                }
            });
            assert!(child.is_finished());
            assert_eq!(ends.into_inner(), 2);
        }
    });
}

/// The body passes the end of a failed child on while that fails on a helper: it is not a failure of its own.
#[test]
fn body_that_passes_on_what_a_failed_child_left_is_not_among_the_errors() {
    guarded(|| {
        let pool = pool(1);
        for round in 0..200 {
            let failing = try_scope(
                async |s: TryScope<'_, Box<dyn std::error::Error + Send + Sync>>| {
                    let mut child = s.spawn(async move {
                        common::burn(Duration::from_micros(round % 50));
                        Err::<(), _>("failed".into())
                    });
                    // Asks again and again, so as not to miss the moment.
                    poll_fn(|cx| {
                        for _ in 0..1000 {
                            if let Poll::Ready(ended) = Pin::new(&mut child).poll(cx) {
                                return Poll::Ready(ended);
                            }
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await?;
                    Ok(())
                },
            );
            let ended = with(Lending::Forced, || block_on(failing.on(&pool).all_errors()));
            let errors = ended.expect_err("the child failed");
            assert_eq!(errors.primary.error.to_string(), "failed");
            assert!(errors.others.is_empty(), "round {round}: {errors:?}");
        }
    });
}
