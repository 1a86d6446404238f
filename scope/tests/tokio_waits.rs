//! What the scope finds out of the runtime around it, and when: whether the poll has a budget, also if a member has changed
//! that for a while; whether the thread is a worker, whose other tasks a long wait has to hand over.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::hosts::{current, multi};
use common::{guarded, on_helper, pool};
use selvedge_scope::{Pool, Scope, block_on, scope};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, block_in_place, consume_budget, spawn_blocking};

const MS: Duration = Duration::from_millis(1);

/// Goes on for ever; yields when the budget is spent, if there is one.
async fn endless() {
    loop {
        consume_budget().await;
    }
}

/// Two long polls, of which the helper's is longer, so that the owner waits for it.
async fn long_wait(pool: &Pool, helped: &AtomicUsize, helps: Duration) {
    let two = scope(async |s| {
        for _ in 0..2 {
            drop(s.spawn_fn(|| {
                helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                sleep(if on_helper() { helps } else { MS });
            }));
        }
    });
    two.on(pool).heavy().await;
}

/// Runs `future` for so long.
async fn for_a_while(time: Duration, future: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(time) => {}
        () = future => {}
    }
}

// `block_in_place` on a thread that is in the runtime and no worker takes the budget away for the rest of the poll.
#[test]
fn budget_of_the_task_is_there_after_a_long_wait() {
    guarded(|| {
        let pool = &pool(1);
        for inside_a_task in [false, true] {
            let helped = Arc::new(AtomicUsize::new(0));
            for () in common::attempts() {
                let (pool, seen) = (pool.clone(), helped.clone());
                let work = async move {
                    let beside = async {
                        tokio::join!(long_wait(&pool, &seen, 20 * MS), endless());
                    };
                    for_a_while(50 * MS, beside).await;
                };
                let runtime = multi(2);
                match inside_a_task {
                    true => runtime.block_on(async { tokio::spawn(work).await.unwrap() }),
                    false => runtime.block_on(work),
                }
                if helped.load(Ordering::SeqCst) > 0 {
                    break;
                }
            }
            assert!(helped.load(Ordering::SeqCst) > 0);
        }
    });
}

// A child on the owner that begins to have an endless supply while the owner waits for a helper.
#[test]
fn budget_of_children_is_there_while_the_scope_waits_to_give_way() {
    guarded(|| {
        let pool = &pool(1);
        let open = Arc::new(Semaphore::new(0));
        let other = open.clone();
        let opens = std::thread::spawn(move || {
            sleep(30 * MS);
            other.add_permits(8);
        });
        multi(2).block_on(async {
            let all = scope(async |s| {
                for _ in 0..2 {
                    drop(s.spawn_fn(|| sleep(if on_helper() { 100 * MS } else { MS })));
                }
                for _ in 0..2 {
                    drop(s.spawn(async {
                        open.acquire().await.unwrap().forget();
                        endless().await;
                    }));
                }
            });
            for_a_while(200 * MS, all.on(pool).heavy()).await;
        });
        opens.join().unwrap();
    });
}

// No probe that panics: with `panic = "abort"` it would end the process, and it is told on standard error in any case.
#[test]
fn long_wait_that_is_no_workers_panics_nowhere() {
    guarded(|| {
        let panics = Arc::new(AtomicUsize::new(0));
        let seen = panics.clone();
        std::panic::set_hook(Box::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        let pool = &pool(1);
        let helped = Arc::new(AtomicUsize::new(0));
        for () in common::attempts() {
            let local = LocalSet::new();
            let (pool, seen) = (pool.clone(), helped.clone());
            let both = async move {
                long_wait(&pool, &seen, 10 * MS).await;
                let task = async move { long_wait(&pool, &seen, 10 * MS).await };
                tokio::task::spawn_local(task).await.unwrap();
            };
            multi(1).block_on(local.run_until(both));
            if helped.load(Ordering::SeqCst) > 1 {
                break;
            }
        }
        // Another runtime is entered than the one that polls.
        let entered = multi(1);
        let beside = Arc::new(AtomicUsize::new(0));
        for () in common::attempts() {
            current().block_on(async {
                let _inside = entered.enter();
                long_wait(pool, &beside, 10 * MS).await;
            });
            if beside.load(Ordering::SeqCst) > 1 {
                break;
            }
        }
        let before = panics.load(Ordering::SeqCst);
        // The same in a task, which enters it in each poll: it takes one try to find out.
        let beside = Arc::new(AtomicUsize::new(0));
        for () in common::attempts() {
            let (pool, seen, entered) = (pool.clone(), beside.clone(), entered.handle().clone());
            let mut wait = Box::pin(async move { long_wait(&pool, &seen, 10 * MS).await });
            let wait = poll_fn(move |cx| {
                let _inside = entered.enter();
                wait.as_mut().poll(cx)
            });
            current().block_on(async { tokio::spawn(wait).await.unwrap() });
            if beside.load(Ordering::SeqCst) > 3 {
                break;
            }
        }
        let refused = panics.load(Ordering::SeqCst) - before;
        drop(std::panic::take_hook());
        assert!(before == 0 && refused <= 1, "{before} and {refused} panics");
        assert!(helped.load(Ordering::SeqCst) > 0 && beside.load(Ordering::SeqCst) > 3);
    });
}

// What panics while the worker hands its tasks over, and is no doing of the worker's, is no reason to keep them for good.
#[test]
fn worker_hands_its_tasks_over_after_a_waker_has_panicked_at_it() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker's");
        }
    }
    guarded(|| {
        multi(1).block_on(async {
            let pool = &pool(1);
            let panicked = Arc::new(AtomicUsize::new(0));
            let seen = panicked.clone();
            std::panic::set_hook(Box::new(move |_| {
                seen.fetch_add(1, Ordering::SeqCst);
            }));
            for () in common::attempts() {
                let inside = Arc::new(AtomicBool::new(false));
                let (ours, entered) = (pool.clone(), inside.clone());
                let spoilt = async move {
                    let two = scope(async |s| {
                        for _ in 0..2 {
                            drop(s.spawn_fn(|| {
                                if on_helper() {
                                    entered.store(true, Ordering::SeqCst);
                                    return sleep(20 * MS);
                                }
                                sleep(3 * MS);
                                if entered.load(Ordering::SeqCst) {
                                    // The worker wakes it before it hands over.
                                    let waker = Waker::from(Arc::new(Panics));
                                    let mut cx = Context::from_waker(&waker);
                                    let _ = pin!(tokio::task::yield_now()).poll(&mut cx);
                                }
                            }));
                        }
                    });
                    two.on(&ours).heavy().await;
                };
                tokio::spawn(spoilt).await.unwrap();
                if panicked.load(Ordering::SeqCst) > 0 {
                    break;
                }
            }
            drop(std::panic::take_hook());
            assert!(panicked.load(Ordering::SeqCst) > 0, "it was not tried");
            let ticks = Arc::new(AtomicUsize::new(0));
            let count = ticks.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(MS).await;
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            for () in common::attempts() {
                let helped = Arc::new(AtomicUsize::new(0));
                let (ours, seen) = (pool.clone(), helped.clone());
                let before = ticks.load(Ordering::SeqCst);
                let count = ticks.clone();
                let long = async move {
                    long_wait(&ours, &seen, 200 * MS).await;
                    count.load(Ordering::SeqCst)
                };
                let ticked = tokio::spawn(long).await.unwrap() - before;
                if helped.load(Ordering::SeqCst) > 0 && ticked >= 5 {
                    return;
                }
            }
            panic!("the worker kept its tasks in each long wait");
        });
    });
}

// A thread for blocking work was in a `LocalSet`, and becomes a worker when another one blocks in place.
#[test]
fn worker_hands_its_tasks_over_whatever_its_thread_has_been_before() {
    guarded(|| {
        let pool = pool(1);
        let helped = Arc::new(AtomicUsize::new(0));
        multi(1).block_on(async move {
            let (ours, seen) = (pool.clone(), helped.clone());
            let handle = Handle::current();
            let local = move || {
                let local = LocalSet::new();
                handle.block_on(local.run_until(long_wait(&ours, &seen, 10 * MS)));
            };
            spawn_blocking(local).await.unwrap();
            for () in common::attempts() {
                let over = Arc::new(AtomicBool::new(false));
                let until = over.clone();
                let blocked = tokio::spawn(async move {
                    block_in_place(|| {
                        while !until.load(Ordering::SeqCst) {
                            sleep(MS);
                        }
                    });
                });
                tokio::time::sleep(20 * MS).await;
                let ticks = Arc::new(AtomicUsize::new(0));
                let (count, ours, seen) = (ticks.clone(), pool.clone(), helped.clone());
                let beat = tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(MS).await;
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
                let before = helped.load(Ordering::SeqCst);
                let long = async move { long_wait(&ours, &seen, 200 * MS).await };
                let ticked = {
                    let from = ticks.load(Ordering::SeqCst);
                    tokio::spawn(long).await.unwrap();
                    ticks.load(Ordering::SeqCst) - from
                };
                beat.abort();
                over.store(true, Ordering::SeqCst);
                blocked.await.unwrap();
                if helped.load(Ordering::SeqCst) > before {
                    assert!(ticked >= 5, "{ticked} ticks in the time of 200");
                    return;
                }
            }
            panic!("no helper came in time");
        });
    });
}

/// Spawns so many that the scope lends in the middle of it, of a kind that is worth it.
fn spawn_many<'env, F: Future<Output = T> + Send + 'env, T: Send + 'env>(
    s: &Scope<'env>,
    child: impl Fn() -> F,
) {
    for _ in 0..64 {
        drop(s.spawn(child()).heavy());
    }
}

// What the helpers have is what the scope's polls have, whatever the one that spawns is inside of for a moment.
#[test]
fn helpers_have_a_budget_although_who_spawns_has_none_for_a_moment() {
    guarded(|| {
        let pool = &pool(1);
        for way in 0..3 {
            let pool = pool.clone();
            let work = async move {
                let all = scope(async |s| match way {
                    0 => block_in_place(|| spawn_many(&s, endless)),
                    1 => block_on(async { spawn_many(&s, endless) }),
                    _ => tokio::task::unconstrained(async { spawn_many(&s, endless) }).await,
                });
                for_a_while(30 * MS, all.on(&pool)).await;
            };
            multi(2).block_on(async { tokio::spawn(work).await.unwrap() });
        }
    });
}

#[test]
fn children_may_block_although_who_spawns_is_in_a_runtime_for_a_moment() {
    guarded(|| {
        let pool = &pool(1);
        let ended = Arc::new(AtomicUsize::new(0));
        let (ours, count) = (pool.clone(), ended.clone());
        let blocking = move || {
            let blocks = async || {
                sleep(MS);
                Handle::current().block_on(tokio::time::sleep(MS));
                count.fetch_add(1, Ordering::SeqCst);
            };
            let all = scope(async |s| {
                Handle::current().block_on(async { spawn_many(&s, blocks) });
            });
            futures::executor::block_on(all.on(&ours));
        };
        multi(2).block_on(async { spawn_blocking(blocking).await.unwrap() });
        assert_eq!(ended.load(Ordering::SeqCst), 64);
    });
}

// A runtime that somebody drives below our own `block_on` is no less one.
#[test]
fn runtime_below_our_block_on_has_its_budget_and_its_turns() {
    guarded(|| {
        let pool = &pool(1);
        block_on(async {
            let all = scope(async |s| {
                for _ in 0..4 {
                    drop(s.spawn(endless()));
                }
            });
            current().block_on(for_a_while(50 * MS, all.on(pool).heavy()));
        });
        // A ticker beside children that compute and yield.
        let ticks = Arc::new(AtomicUsize::new(0));
        let (count, pool) = (ticks.clone(), pool.clone());
        block_on(async {
            current().block_on(async move {
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(MS).await;
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
                let end = Instant::now() + 400 * MS;
                let busy = scope(async move |s| {
                    for _ in 0..3 {
                        drop(s.spawn(async move {
                            while Instant::now() < end {
                                selvedge_cancel::checkpoint().await.unwrap();
                            }
                        }));
                    }
                });
                tokio::spawn(async move { busy.on(&pool).await })
                    .await
                    .unwrap();
            });
        });
        let ticks = ticks.load(Ordering::SeqCst);
        assert!(ticks >= 8, "{ticks} ticks in the time of 80 windows");
    });
}

// Windows that last longer than a wake may be put off for. The alarm of that rang in each of them, so that the runtime
// polled the scope at once and never looked at its timers.
#[test]
fn ticker_beside_a_scope_with_long_polls_is_served_between_them() {
    guarded(|| {
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = ticks.clone();
        let runtime = current();
        runtime.block_on(async move {
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(MS).await;
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            let long = scope(async |s| {
                for _ in 0..2 {
                    drop(s.spawn(async {
                        for _ in 0..20 {
                            sleep(12 * MS);
                            selvedge_cancel::checkpoint().await.unwrap();
                        }
                    }));
                }
            });
            // A task of its own: what `block_on` polls itself is not in the queue that goes first.
            let long = tokio::spawn(async { long.inline().await });
            long.await.unwrap();
        });
        // Forty windows, at most two of them without a look.
        let ticks = ticks.load(Ordering::SeqCst);
        assert!(ticks >= 10, "{ticks} ticks in forty windows");
    });
}
