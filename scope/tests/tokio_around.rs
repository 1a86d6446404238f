//! Runtimes of tokio's around, beside and inside what polls a scope: a foreign executor on a worker, our own `block_on`
//! with a runtime entered, one that is entered while children are spawned, and pools whose threads are in one.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::hosts::{BUDGET, HOSTS, Host, empty, filled, greedy};
use common::{attempts, burn, guarded, on_helper, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, scope};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;

/// The same where the budget is spent, and nobody asks for more.
#[test]
fn scope_in_a_foreign_executor_that_has_spent_the_budget_ends() {
    guarded(|| {
        for host in HOSTS {
            host.run(async {
                let mut messages = filled(BUDGET);
                let whole = scope(async |s| {
                    s.spawn(async move {
                        for _ in 0..BUDGET {
                            messages.recv().await.unwrap();
                        }
                        yields(3).await;
                    });
                    s.spawn(yields(10));
                });
                futures::executor::block_on(whole.inline());
            });
        }
    });
}

/// Notices and no budget, each time: the body has its turn in each poll all the same.
#[test]
fn body_has_turns_beside_somebody_who_spends_the_budget_and_gives_notice() {
    guarded(|| {
        for host in HOSTS {
            host.run(async move {
                let semaphore = Semaphore::new(10);
                let turns = AtomicUsize::new(0);
                let mut greedy = pin!(greedy(&semaphore, &turns));
                let handle = std::sync::Mutex::new(None);
                let whole = scope(async |s| {
                    *handle.lock().unwrap() = Some(s.clone());
                    yields(20).await;
                });
                let mut whole = pin!(whole.inline());
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    let _ = greedy.as_mut().poll(cx);
                    if let Some(s) = &*handle.lock().unwrap() {
                        s.set_deadline(selvedge_cancel::Instant::now() + Duration::from_secs(3600));
                    }
                    whole.as_mut().poll(cx)
                })
                .await;
                assert!(polls <= 50, "{host:?}: {polls} polls");
            });
        }
    });
}

/// Under our own `block_on` a child may block on the runtime that is entered beside it, on a helper as on the owner.
#[test]
fn children_under_our_block_on_may_block_on_helpers() {
    guarded(|| {
        let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
            let pool = pool(2);
            let count = AtomicUsize::new(0);
            with(mode, || {
                selvedge_scope::block_on(
                    scope(async |s| {
                        for _ in 0..50 {
                            s.spawn(async {
                                burn(Duration::from_micros(100));
                                yields(1).await;
                                tokio::runtime::Handle::current().block_on(async {});
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    })
                    .on(&pool),
                );
            });
            assert_eq!(count.into_inner(), 50, "{mode:?}");
        }
    });
}

/// The body enters another runtime while it spawns: what is lent meanwhile is none of that.
#[test]
fn children_that_are_lent_while_another_runtime_is_entered_are_in_their_own() {
    guarded(|| {
        for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
            Host::Task.run(async move {
                let mut whole = pin!(async {
                    let own = tokio::runtime::Handle::current().id();
                    let other = Builder::new_current_thread().build().unwrap();
                    let pool = pool(2);
                    scope(async |s| {
                        let _entered = other.enter();
                        for _ in 0..64 {
                            s.spawn(async {
                                burn(Duration::from_micros(100));
                                assert_eq!(tokio::runtime::Handle::current().id(), own);
                            });
                        }
                    })
                    .on(&pool)
                    .await;
                    other.shutdown_background();
                });
                poll_fn(|cx| with(mode, || whole.as_mut().poll(cx))).await;
            });
        }
    });
}

/// Threads of a pool that are inside a runtime themselves, or have one entered: they have no budget of their own.
#[test]
fn pool_whose_threads_are_in_a_runtime_changes_nothing() {
    guarded(|| {
        let entered = Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let handle = entered.handle().clone();
        let pool = selvedge_scope::Pool::builder()
            .threads(1)
            .start_handler(move |_| std::mem::forget(Box::leak(Box::new(handle.clone())).enter()))
            .build();
        for mode in [Lending::Adaptive, Lending::Forced] {
            let pool = pool.clone();
            Host::Task.run(async move {
                let mut whole = pin!(async {
                    scope(async |s| {
                        for _ in 0..8 {
                            s.spawn(empty(filled(5 * BUDGET)));
                        }
                    })
                    .on(&pool)
                    .await;
                });
                poll_fn(|cx| with(mode, || whole.as_mut().poll(cx))).await;
            });
        }
    });
}

/// Our own `block_on` inside a task: there is no new budget before the task's poll ends, and that waits for this.
#[test]
fn nested_block_on_ends_although_the_budget_around_it_is_spent() {
    guarded(|| {
        for host in HOSTS {
            host.run(async { block_on(empty(filled(3 * BUDGET))) });
            for lending in [Lending::Never, Lending::Forced] {
                let pool = pool(1);
                host.run(async move {
                    let permits = &Semaphore::new(1);
                    let children = scope(async |s| {
                        for _ in 0..3 * BUDGET {
                            drop(s.spawn(async move {
                                block_on(async { drop(permits.acquire().await.unwrap()) });
                            }));
                        }
                    });
                    let mut children = pin!(children.on(&pool));
                    poll_fn(|cx| with(lending, || children.as_mut().poll(cx))).await;
                });
            }
        }
    });
}

/// Whoever may block on the runtime where the scope is polled may do so on a helper.
#[test]
fn children_may_block_on_a_runtime_that_is_only_entered() {
    async fn work(pool: &Pool) -> usize {
        let blocks = async || {
            assert_eq!(Handle::current().block_on(async { 1 }), 1);
            yields(1).await;
            usize::from(on_helper())
        };
        let children = scope(async |s| {
            let children: Vec<_> = (0..20).map(|_| s.spawn(blocks())).collect();
            let mut helped = 0;
            for child in children {
                helped += child.await;
            }
            helped
        });
        let mut children = pin!(children.on(pool));
        poll_fn(|cx| with(Lending::Forced, || children.as_mut().poll(cx))).await
    }
    guarded(|| {
        let multi = || Builder::new_multi_thread().worker_threads(1).build();
        let runtime = multi().unwrap();
        let pool = &pool(1);
        let helped = |run: &dyn Fn() -> usize| assert!(attempts().any(|()| run() > 0));
        {
            let _inside = runtime.enter();
            helped(&|| block_on(work(pool)));
            helped(&|| futures::executor::block_on(work(pool)));
        }
        helped(&|| {
            let pool = pool.clone();
            let blocking = move || futures::executor::block_on(work(&pool));
            runtime.block_on(async { tokio::task::spawn_blocking(blocking).await.unwrap() })
        });
        helped(&|| {
            let pool = pool.clone();
            let in_place = async move {
                tokio::task::block_in_place(|| futures::executor::block_on(work(&pool)))
            };
            runtime.block_on(async { tokio::spawn(in_place).await.unwrap() })
        });
    });
}

/// A waker that bites when the worker wakes it, later and with nothing around it that catches.
#[test]
fn waker_that_panics_does_not_end_the_runtime_when_the_scope_yields() {
    struct Bites(Waker);
    impl Wake for Bites {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
            panic!("a waker");
        }
    }
    guarded(|| {
        for host in [Host::Current, Host::Main, Host::Task] {
            host.run(async {
                let steps = async {
                    for _ in 0..20 {
                        burn(Duration::from_millis(1));
                        yields(1).await;
                    }
                };
                let mut scoped = pin!(scope(async |s| s.spawn(steps).await).inline());
                poll_fn(|cx| {
                    let waker = Waker::from(Arc::new(Bites(cx.waker().clone())));
                    scoped.as_mut().poll(&mut Context::from_waker(&waker))
                })
                .await;
            });
        }
    });
}
