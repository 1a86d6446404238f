//! Polls that must end: budgets of children, bodies and helpers, and deadlines.
//! Not for pools that wait for each other: that is `liveness.rs`.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Bell, burn, everywhere, guarded, on_helper, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{block_on, scope, try_scope};

/// A poll of `future` ends, though it never will: then something beside it can run.
fn one_poll_ends(future: impl Future<Output = ()>) {
    let (bell, waker) = Bell::new();
    let mut future = pin!(future);
    for poll in 1..=3 {
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        assert!(
            bell.rung() >= poll,
            "a poll that gave way has woken its parent"
        );
    }
}

// L9, W5: a child that yields for ever.
#[test]
fn child_that_wakes_itself_for_ever_lets_polls_end() {
    everywhere(|_, pool| {
        one_poll_ends(
            scope(async |s| {
                s.spawn(async { yields(usize::MAX).await });
            })
            .on(pool),
        );
    });
}

// V4: a body that yields for ever.
#[test]
fn body_that_wakes_itself_for_ever_lets_polls_end() {
    everywhere(|_, pool| {
        one_poll_ends(scope(async |_| yields(usize::MAX).await).on(pool));
    });
}

/// Wakes the other side and waits to be woken by it.
async fn ping_pong(mine: &Mutex<Option<Waker>>, other: &Mutex<Option<Waker>>) {
    poll_fn(|cx| {
        *mine.lock().unwrap() = Some(cx.waker().clone());
        if let Some(waker) = other.lock().unwrap().take() {
            waker.wake();
        }
        Poll::Pending
    })
    .await
}

// V4: two children that wake each other for ever.
#[test]
fn children_that_wake_each_other_for_ever_let_polls_end() {
    everywhere(|_, pool| {
        let (a, b) = (Mutex::new(None), Mutex::new(None));
        one_poll_ends(
            scope(async |s| {
                s.spawn(ping_pong(&a, &b));
                s.spawn(ping_pong(&b, &a));
            })
            .on(pool),
        );
    });
}

// V4: body and child.
#[test]
fn body_and_child_that_wake_each_other_for_ever_let_polls_end() {
    everywhere(|_, pool| {
        let (a, b) = (Mutex::new(None), Mutex::new(None));
        one_poll_ends(
            scope(async |s| {
                s.spawn(ping_pong(&a, &b));
                ping_pong(&b, &a).await;
            })
            .on(pool),
        );
    });
}

// V5, W5: a helper obeys the budget while its owner is asleep. The two children meet, so that one of them is
// on the helper; it stays there for ever, in polls that are longer than the owner spins.
#[test]
fn heavy_child_that_yields_for_ever_on_a_helper_lets_polls_end() {
    guarded(|| {
        let pool = pool(1);
        for _ in 0..3 {
            let barrier = Barrier::new(2);
            let helped = AtomicUsize::new(0);
            with(Lending::Forced, || {
                one_poll_ends(
                    scope(async |s| {
                        for _ in 0..2 {
                            s.spawn(async {
                                barrier.wait();
                                while on_helper() || helped.load(Ordering::SeqCst) > 0 {
                                    helped.fetch_add(1, Ordering::SeqCst);
                                    burn(Duration::from_micros(300));
                                    yields(1).await;
                                }
                            });
                        }
                    })
                    .on(&pool),
                );
            });
            assert!(
                helped.load(Ordering::SeqCst) > 3,
                "the helper polled it again and again"
            );
        }
    });
}

// T17, V4: a timer beside the scope fires, on tokio and on our own executor.
#[test]
fn timer_beside_an_endless_scope_fires() {
    guarded(|| {
        let endless = || {
            scope(async |s| {
                s.spawn(async { yields(usize::MAX).await });
                yields(usize::MAX).await;
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let timed = runtime
            .block_on(async { tokio::time::timeout(Duration::from_millis(20), endless()).await });
        assert!(timed.is_err());
        let sleep = pin!(selvedge_scope::time::sleep(Duration::from_millis(20)));
        let endless = pin!(endless());
        let either = block_on(futures::future::select(endless, sleep));
        assert!(matches!(either, futures::future::Either::Right(_)));
    });
}

// The deadline of a scope whose body has ended already still reaches its children.
#[test]
fn deadline_after_the_body_ended_cancels_the_children() {
    everywhere(|_, pool| {
        block_on(
            scope(async |s| {
                s.spawn(async { selvedge_cancel::cancelled().await });
            })
            .on(pool)
            .timeout(Duration::from_millis(2)),
        );
    });
}

// A deadline that passes while the window is open is not lost.
#[test]
fn deadline_during_a_long_poll_cancels_the_children() {
    everywhere(|_, pool| {
        for long in [50, 400, 1500, 3000] {
            block_on(
                scope(async |s| {
                    s.spawn(async move { burn(Duration::from_micros(long)) });
                    selvedge_cancel::cancelled().await;
                })
                .on(pool)
                .timeout(Duration::from_micros(700)),
            );
            block_on(
                try_scope(async |s| {
                    s.spawn(async move {
                        burn(Duration::from_micros(long));
                        selvedge_cancel::cancelled().await;
                        Ok::<_, ()>(())
                    });
                    Ok(())
                })
                .on(pool)
                .timeout(Duration::from_micros(700)),
            )
            .unwrap();
        }
    });
}
