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
use selvedge_scope::{block_on, join_all, scope, try_scope};

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

/// Takes some time in one poll; the counter tells of it.
async fn kid(time: Duration, polls: &AtomicUsize) {
    polls.fetch_add(1, Ordering::SeqCst);
    if !time.is_zero() {
        burn(time);
    }
}

/// The most children that were polled in one window.
fn most_in_a_window(polls: &AtomicUsize, future: impl Future) -> usize {
    let (mut future, mut most) = (pin!(future), 0);
    loop {
        let before = polls.load(Ordering::SeqCst);
        let ended = common::poll_once(future.as_mut()).is_ready();
        most = most.max(polls.load(Ordering::SeqCst) - before);
        if ended {
            return most;
        }
    }
}

const BIG: Duration = Duration::from_millis(2);

// W5: children of which it is known that they are big, a few of which fill the budget of a window (5 ms).
#[test]
fn window_of_children_known_to_be_big_keeps_its_budget() {
    guarded(|| {
        let polls = AtomicUsize::new(0);
        let run = |kids: usize| {
            let polls = &polls;
            let scoped = scope(async move |s| {
                for _ in 0..kids {
                    s.spawn(kid(BIG, polls));
                }
            });
            most_in_a_window(polls, scoped.inline())
        };
        // The first time it learns.
        run(32);
        let most = run(40);
        assert_eq!(polls.load(Ordering::SeqCst), 72);
        assert!(most <= 8, "{most} big children in one window");
    });
}

// W5: the like for a batch, whose children were cheap until now: it finds out within one stretch.
#[test]
fn batch_of_children_that_turn_out_big_keeps_its_budget() {
    guarded(|| {
        let polls = AtomicUsize::new(0);
        let run = |kids: usize, time| {
            let batch = join_all((0..kids).map(|_| kid(time, &polls))).inline();
            most_in_a_window(&polls, batch)
        };
        for _ in 0..20 {
            run(2000, Duration::ZERO);
        }
        let most = run(100, BIG / 2);
        assert_eq!(polls.load(Ordering::SeqCst), 40_100);
        assert!(most <= 48, "{most} children in one window");
        let most = run(40, BIG);
        assert!(most <= 8, "{most} children in one window, when it is known");
    });
}
