//! What somebody leaves behind in a poll who blocks in place, or who runs a foreign executor on a worker: no budget for
//! those polled after him, and wakes that nobody serves.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::sleep;
use std::time::Duration;

use common::hosts::multi;
use common::{attempts, burn, guarded, on_helper, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, Scope, block_on, scope};
use tokio::runtime::Handle;
use tokio::task::{block_in_place, coop, spawn_blocking, unconstrained, yield_now};

/// What a poll of a task of tokio's may do before it has to yield, and a little more.
const BUDGET: usize = 200;

/// How many operations of tokio's succeed in one poll; no more than ten budgets are tried.
async fn operations() -> usize {
    poll_fn(|cx| {
        let mut count = 0;
        while count < 10 * BUDGET {
            let Poll::Ready(one) = coop::poll_proceed(cx) else {
                break;
            };
            one.made_progress();
            count += 1;
        }
        Poll::Ready(count)
    })
    .await
}

/// Polls `future` in a mode of lending, whichever thread it is on.
async fn in_mode<F: Future>(lending: Lending, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| with(lending, || future.as_mut().poll(cx))).await
}

/// Children that block in place and others that ask for all that they may have, side by side on helpers.
async fn packets(pool: &Pool, most: &AtomicUsize, blocked: &AtomicUsize) {
    let work = scope(async |s: Scope<'_>| {
        for child in 0..400 {
            s.spawn(async move {
                for _ in 0..100 {
                    burn(Duration::from_nanos(700));
                    if child % 2 == 0 {
                        // Here this thread is lost to nobody.
                        if on_helper() {
                            block_in_place(|| blocked.fetch_add(1, Ordering::SeqCst));
                        }
                    } else if on_helper() {
                        most.fetch_max(operations().await, Ordering::SeqCst);
                    }
                    yields(1).await;
                }
            });
        }
    });
    work.on(pool).await;
}

#[test]
fn child_that_blocks_in_place_on_a_helper_takes_the_budget_of_nobody_else() {
    guarded(|| {
        let pool = Arc::new(pool(1));
        let (most, blocked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for () in attempts() {
            let (pool, most, blocked) = (pool.clone(), most.clone(), blocked.clone());
            let seen = blocked.clone();
            multi(1).block_on(async {
                let task = tokio::spawn(async move { packets(&pool, &most, &blocked).await });
                task.await.unwrap();
            });
            if seen.load(Ordering::SeqCst) > 500 {
                break;
            }
        }
        assert!(blocked.load(Ordering::SeqCst) > 500, "no helper came");
        let most = most.load(Ordering::SeqCst);
        assert!(most > 0 && most < BUDGET, "{most} operations in a poll");
    });
}

#[test]
fn helpers_have_budgets_although_the_body_has_blocked_in_place_in_main() {
    guarded(|| {
        let pool = pool(1);
        let (most, helped) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        for () in attempts() {
            let work = scope(async |s: Scope<'_>| {
                block_in_place(|| ());
                for _ in 0..6 {
                    s.spawn(async {
                        for _ in 0..10 {
                            if on_helper() {
                                helped.fetch_add(1, Ordering::SeqCst);
                                most.fetch_max(operations().await, Ordering::SeqCst);
                            }
                            yields(1).await;
                        }
                    });
                }
            });
            multi(1).block_on(in_mode(Lending::Forced, work.on(&pool)));
            if helped.load(Ordering::SeqCst) > 20 {
                break;
            }
        }
        assert!(helped.load(Ordering::SeqCst) > 20, "no helper came");
        let most = most.load(Ordering::SeqCst);
        assert!(most > 0 && most < BUDGET, "{most} operations in a poll");
    });
}

/// A waker that panics as long as it is armed.
struct Bomb(AtomicBool);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.load(Ordering::SeqCst), "a bomb among the wakers");
    }
}

// A long wait hands the worker's tasks over, and tokio wakes whoever has yielded, before it does so.
#[test]
fn waker_that_panics_in_a_long_wait_ends_the_wait_and_nothing_else() {
    guarded(|| {
        let bomb = Arc::new(Bomb(AtomicBool::new(true)));
        let waker = Waker::from(bomb.clone());
        let pool = pool(1);
        let task = async move {
            // The worker has it for later.
            let yielded = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            assert!(yielded.is_pending());
            let helped = AtomicUsize::new(0);
            let two = scope(async |s: Scope<'_>| {
                for _ in 0..2 {
                    s.spawn_fn(|| {
                        helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                        sleep(Duration::from_millis(if on_helper() { 200 } else { 50 }));
                    });
                }
            });
            two.on(&pool).heavy().await;
            bomb.0.store(false, Ordering::SeqCst);
            helped.into_inner()
        };
        let helped = multi(1).block_on(async { tokio::spawn(task).await });
        assert_eq!(helped.unwrap(), 1, "the helper has ended one of them");
    });
}

/// An executor of somebody's, on a worker of tokio's: it blocks the thread until it is woken.
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn bell() -> (Arc<Bell>, Receiver<()>) {
    let (send, receive) = channel();
    (Arc::new(Bell(send)), receive)
}

/// Runs `polled` inside a task whose budget is spent.
fn in_a_spent_task<R: Send + 'static>(polled: impl FnOnce() -> R + Send + 'static) -> R {
    let spent = async move {
        let mut polled = Some(polled);
        poll_fn(|cx| {
            while let Poll::Ready(one) = coop::poll_proceed(cx) {
                one.made_progress();
            }
            let polled = polled.take().expect("it is polled once");
            Poll::Ready(polled())
        })
        .await
    };
    multi(1).block_on(async { tokio::spawn(spent).await.unwrap() })
}

#[test]
fn foreign_executor_on_a_worker_is_soon_woken_at_once() {
    guarded(|| {
        let late = in_a_spent_task(|| {
            let mut whole = pin!(scope(async |_: Scope<'_>| yields(100).await).inline());
            let (bell, rung) = bell();
            let waker = Waker::from(bell);
            let mut late = 0;
            loop {
                let polled = whole.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_ready() {
                    return late;
                }
                if rung.try_recv().is_err() {
                    late += 1;
                    rung.recv().unwrap();
                }
                while rung.try_recv().is_ok() {}
            }
        });
        assert!(late <= 6, "{late} of 100 wakes did not come in the poll");
    });
}

#[test]
fn wakes_that_nobody_serves_are_not_put_off_again_and_again() {
    guarded(|| {
        let kept = in_a_spent_task(|| {
            let mut whole = pin!(scope(async |_: Scope<'_>| yields(1000).await).inline());
            let (bell, _rung) = bell();
            let waker = Waker::from(bell.clone());
            let mut most = 0;
            // Somebody else wakes it all the time.
            while whole
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                most = most.max(Arc::strong_count(&bell));
            }
            most
        });
        assert!(kept < 10, "{kept} wakers at a time");
    });
}

/// Says whether a helper took part in it: four children that each wait for another thread to have one of them.
async fn is_helped(pool: &Pool) -> bool {
    let helped = AtomicUsize::new(0);
    let four = scope(async |s: Scope<'_>| {
        for _ in 0..4 {
            s.spawn(async {
                for _ in 0..50 {
                    helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                    burn(Duration::from_micros(100));
                    yields(1).await;
                }
            });
        }
    });
    four.on(pool).heavy().await;
    helped.into_inner() > 0
}

/// The same in a scope in a scope.
async fn is_helped_inside(pool: &Pool) -> bool {
    scope(async |_: Scope<'_>| is_helped(pool).await).await
}

#[test]
fn nested_scopes_have_helpers_wherever_a_runtime_is_entered() {
    guarded(|| {
        let pool = pool(1);
        let runtime = multi(2);
        let often = |run: &dyn Fn() -> bool| attempts().any(|()| run());
        let inside = || {
            let pool = pool.clone();
            async move { is_helped_inside(&pool).await }
        };
        assert!(
            often(&|| runtime.block_on(inside())),
            "a poll of the runtime"
        );
        assert!(often(
            &|| runtime.block_on(async { tokio::spawn(inside()).await.unwrap() })
        ));
        assert!(often(&|| {
            let _entered = runtime.enter();
            block_on(inside())
        }));
        assert!(often(&|| {
            let _entered = runtime.enter();
            futures::executor::block_on(inside())
        }));
        let elsewhere = |run: fn(Pool) -> bool| {
            let pool = pool.clone();
            runtime.block_on(async { spawn_blocking(move || run(pool)).await.unwrap() })
        };
        assert!(often(&|| elsewhere(|pool| block_on(is_helped_inside(
            &pool
        )))));
        assert!(often(&|| {
            let task =
                |pool: Pool| async move { block_in_place(|| block_on(is_helped_inside(&pool))) };
            runtime.block_on(async { tokio::spawn(task(pool.clone())).await.unwrap() })
        }));
        assert!(often(&|| {
            let task = |pool: Pool| async move {
                scope(async |_: Scope<'_>| unconstrained(is_helped(&pool)).await).await
            };
            runtime.block_on(async { tokio::spawn(task(pool.clone())).await.unwrap() })
        }));
    });
}

// Where a task has left the runtime it may block on it, and so may the children of a scope that it runs there.
#[test]
fn children_of_a_scope_below_block_in_place_may_block_on_the_runtime() {
    guarded(|| {
        let pool = pool(1);
        let helped = Arc::new(AtomicUsize::new(0));
        for () in attempts() {
            let (pool, seen) = (pool.clone(), helped.clone());
            let outer = async move {
                let (pool, seen) = (&pool, &*seen);
                let all = scope(async |s: Scope<'_>| {
                    for _ in 0..4 {
                        s.spawn(async {
                            burn(Duration::from_micros(300));
                            block_in_place(|| block_on(below(pool, seen)));
                        });
                    }
                });
                all.on(pool).heavy().await;
            };
            multi(2).block_on(async { tokio::spawn(outer).await.unwrap() });
            if helped.load(Ordering::SeqCst) > 20 {
                return;
            }
        }
        panic!("no helper came");
    });

    async fn below(pool: &Pool, helped: &AtomicUsize) {
        let all = scope(async |s: Scope<'_>| {
            for _ in 0..10 {
                s.spawn(async {
                    burn(Duration::from_micros(300));
                    helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                    Handle::current().block_on(async {});
                });
            }
        });
        all.on(pool).heavy().await;
    }
}

// What is put off when a runtime's `block_on` returns is dropped, and was taken for one that is still to come.
#[test]
fn wake_that_was_put_off_and_lost_is_not_waited_for() {
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut whole = pin!(scope(async |_: Scope<'_>| yields(usize::MAX).await).inline());
        let (bell, rung) = bell();
        let waker = Waker::from(bell);
        let mut poll = || {
            let polled = whole.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        };
        for _ in 0..20 {
            runtime.block_on(async { poll() });
            while rung.try_recv().is_ok() {}
            let rings = runtime.block_on(async {
                poll();
                // A look at what was put off.
                yield_now().await;
                rung.try_recv().is_ok()
            });
            assert!(rings, "nobody wakes the task");
        }
    });
}

// A look at the clock of the scope inside, below the runtime's `block_on`, asked whose polls those of the scope around are, and
// took them for the runtime's: its helpers worked inside that then, where nobody may block on it.
#[test]
fn scope_that_another_executor_polls_may_have_another_below_a_runtimes_block_on() {
    guarded(|| {
        let runtime = multi(1);
        let handle = &runtime.handle().clone();
        let _entered = runtime.enter();
        let pool = &pool(2);
        let helped = &AtomicUsize::new(0);
        for _ in 0..20 {
            let outer = scope(async |s| {
                handle.block_on(
                    scope(async |s| {
                        for _ in 0..40 {
                            drop(s.spawn(async { burn(Duration::from_micros(100)) }));
                        }
                    })
                    .on(pool),
                );
                for _ in 0..8 {
                    drop(s.spawn(async {
                        burn(Duration::from_millis(1));
                        helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                        assert_eq!(handle.block_on(async { 7 }), 7);
                    }));
                }
            });
            futures::executor::block_on(outer.on(pool).into_future());
        }
        assert!(helped.load(Ordering::SeqCst) > 0, "never on a helper");
    });
}
