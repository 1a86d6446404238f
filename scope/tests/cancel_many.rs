//! Cancellations of very many, and of those that registered nowhere: a scope's own poll tells its children.

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{Count, guarded, pool, yields};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_cancel::{CancelToken, Cancelled, FutureCancelExt, select_safe};
use selvedge_scope::lending::with;
use selvedge_scope::time::sleep;
use selvedge_scope::{JoinHandle, TryScope, block_on, scope, try_scope};

const MANY: usize = if cfg!(debug_assertions) {
    20_000
} else {
    100_000
};

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

async fn rest() -> Result<(), Cancelled> {
    pending().or_cancel().await
}

#[test]
fn very_many_children_at_rest_all_end_when_their_scope_is_cancelled() {
    guarded(|| {
        for threads in [0, 2] {
            let pool = pool(threads);
            for mode in common::MODES {
                let (resting, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let token = CancelToken::new();
                let ended = with(mode, || {
                    block_on(
                        try_scope(async |s: TryScope<'_, Cancelled>| {
                            for _ in 0..MANY {
                                s.spawn(async {
                                    resting.fetch_add(1, Ordering::SeqCst);
                                    let stopped = rest().await;
                                    told.fetch_add(1, Ordering::SeqCst);
                                    stopped
                                });
                            }
                            until(|| resting.load(Ordering::SeqCst) == MANY).await;
                            assert_eq!(told.load(Ordering::SeqCst), 0);
                            token.cancel();
                            rest().await
                        })
                        .token(&token)
                        .on(&pool),
                    )
                });
                assert!(ended.is_err(), "passed on");
                assert_eq!(told.into_inner(), MANY, "{mode:?}");
            }
        }
    });
}

/// Half of them are cancelled one by one, from another thread, and half with their scope.
#[test]
fn very_many_children_cancelled_one_by_one_end_alone() {
    guarded(|| {
        let pool = pool(2);
        for mode in common::MODES {
            let (resting, told, count) = (AtomicUsize::new(0), AtomicUsize::new(0), Count::new());
            with(mode, || {
                block_on(
                    scope(async |s| {
                        let handles: Vec<_> = (0..MANY / 4)
                            .map(|n| {
                                let (one, resting, told) = (count.one(), &resting, &told);
                                let child = async move {
                                    let _one = one;
                                    resting.fetch_add(1, Ordering::SeqCst);
                                    let _ = rest().await;
                                    told.fetch_add(1, Ordering::SeqCst);
                                };
                                if n % 4 == 0 {
                                    drop(s.spawn_select_safe(select_safe(child)));
                                    return None;
                                }
                                Some(s.spawn(child))
                            })
                            .collect();
                        until(|| resting.load(Ordering::SeqCst) == MANY / 4).await;
                        std::thread::scope(|threads| {
                            threads.spawn(|| {
                                for handle in handles.iter().flatten().step_by(2) {
                                    handle.cancel();
                                }
                            });
                        });
                        for handle in handles.into_iter().flatten().step_by(2) {
                            handle.await;
                        }
                        // Of four, one is select-safe, and of the other three every second was asked.
                        assert_eq!(told.load(Ordering::SeqCst), MANY * 3 / 32);
                        s.cancel();
                    })
                    .on(&pool),
                );
            });
            assert_eq!(told.into_inner(), MANY * 3 / 16, "{mode:?}");
            count.assert_settled("one by one");
        }
    });
}

/// Nobody has to wait for the time that they would have slept.
#[test]
fn sleeping_children_wake_at_once() {
    guarded(|| {
        let began = Instant::now();
        let asleep = AtomicUsize::new(0);
        let woken = block_on(scope(async |s| {
            let children: Vec<_> = (0..1000_u64)
                .map(|n| {
                    let asleep = &asleep;
                    s.spawn(async move {
                        asleep.fetch_add(1, Ordering::SeqCst);
                        sleep(Duration::from_secs(3600 + n)).await.is_err()
                    })
                })
                .collect();
            until(|| asleep.load(Ordering::SeqCst) == 1000).await;
            s.cancel();
            let mut woken = 0;
            for child in children {
                woken += usize::from(child.await);
            }
            woken
        }));
        assert_eq!(woken, 1000);
        assert!(began.elapsed() < Duration::from_secs(60));
    });
}

/// Polls what is inside with a waker of its own, so that a scope's poll tells it nothing.
struct Foreign<F>(F);

impl<F: Future + Unpin> Future for Foreign<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let outer = cx.waker().clone();
        let own = futures::task::waker(std::sync::Arc::new(Forward(outer)));
        Pin::new(&mut self.0).poll(&mut Context::from_waker(&own))
    }
}

struct Forward(Waker);

impl futures::task::ArcWake for Forward {
    fn wake_by_ref(forward: &std::sync::Arc<Self>) {
        forward.0.wake_by_ref();
    }
}

#[test]
fn leaves_polled_by_foreign_wakers_register_in_bodies_children_and_further_down() {
    guarded(|| {
        for threads in [0, 2] {
            let pool = pool(threads);
            for mode in common::MODES {
                let resting = AtomicUsize::new(0);
                let leaf = async || {
                    resting.fetch_add(1, Ordering::SeqCst);
                    Foreign(Box::pin(rest())).await.is_err()
                };
                let told = with(mode, || {
                    block_on(
                        scope(async |s| {
                            let child = s.spawn(async { leaf().await });
                            let deeper = s.spawn(async {
                                scope(async |s| {
                                    let many: FuturesUnordered<_> =
                                        (0..10).map(|_| leaf()).collect();
                                    let child = s.spawn(async { leaf().await });
                                    let many = many.collect::<Vec<_>>().await;
                                    (many == [true; 10], child.await)
                                })
                                .on(&pool)
                                .await
                            });
                            let mut own = pin!(leaf());
                            let own_waits = futures::poll!(own.as_mut()).is_pending();
                            until(|| resting.load(Ordering::SeqCst) == 13).await;
                            yields(3).await;
                            s.cancel();
                            (own_waits, own.await, child.await, deeper.await)
                        })
                        .on(&pool),
                    )
                });
                assert_eq!(told, (true, true, true, (true, true)), "{mode:?}");
            }
        }
    });
}

// What is cancelled already is not cancelled again: neither does it keep the body from its turn, nor is anything kept of it.
#[test]
fn children_of_a_cancelled_scope_that_cancel_each_other_on_and_on_let_the_body_have_its_turn() {
    static POLLS: AtomicUsize = AtomicUsize::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    static WAKERS: Mutex<Vec<Waker>> = Mutex::new(Vec::new());

    guarded(|| {
        let handles = Arc::new(Mutex::new(Vec::<JoinHandle<'static, ()>>::new()));
        block_on(
            scope(async |s| {
                for n in 0..2 {
                    let both = handles.clone();
                    // It never wakes itself: the other one has it polled again, if anybody.
                    let child = s.spawn(poll_fn(move |cx| {
                        WAKERS.lock().unwrap().push(cx.waker().clone());
                        POLLS.fetch_add(1, Ordering::SeqCst);
                        if OVER.load(Ordering::SeqCst) {
                            return Poll::Ready(());
                        }
                        if let Some(other) = both.lock().unwrap().get(1 - n) {
                            other.cancel();
                        }
                        Poll::Pending
                    }));
                    handles.lock().unwrap().push(child);
                }
                s.cancel();
                for _ in 0..3 {
                    let before = POLLS.load(Ordering::SeqCst);
                    yields(1).await;
                    let between = POLLS.load(Ordering::SeqCst) - before;
                    assert!(between <= 256, "{between} polls of two children");
                }
                OVER.store(true, Ordering::SeqCst);
                // A request of their own wakes nobody any more.
                for wake in WAKERS.lock().unwrap().drain(..) {
                    wake.wake();
                }
            })
            .inline(),
        );
        handles.lock().unwrap().clear();
    });
}
