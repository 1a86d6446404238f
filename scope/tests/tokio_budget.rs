//! Tokio's budget of 128 operations a poll of a task: a scope gives way once it is spent, so that nobody is polled in
//! vain; it goes on with a new one; and a helper has one as well, so that a child with an endless supply yields there.
//! Counted, on each of tokio's runtimes.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::hosts::{BUDGET, HOSTS, current, empty, filled, greedy};
use common::{burn, guarded, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{join, scope};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{consume_budget, yield_now};

/// Counts the polls of a future.
async fn counted(polls: &AtomicUsize, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await;
}

#[test]
fn child_that_has_spent_the_budget_is_not_polled_in_vain() {
    guarded(|| {
        for host in HOSTS {
            let polls = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&polls);
            host.run(async move {
                scope(async |s| drop(s.spawn(counted(&seen, empty(filled(100 * BUDGET))))))
                    .inline()
                    .await;
            });
            let polls = polls.load(Ordering::Relaxed);
            // One for each budget, and one more where it was spent at the end of a poll.
            assert!((100..=250).contains(&polls), "{host:?}: {polls} polls");
        }
    });
}

#[test]
fn children_with_full_channels_take_linear_time() {
    guarded(|| {
        for host in HOSTS {
            for children in [100, 1000] {
                let polls = Arc::new(AtomicUsize::new(0));
                let seen = Arc::clone(&polls);
                host.run(async move {
                    scope(async |s| {
                        for _ in 0..children {
                            s.spawn(counted(&seen, empty(filled(100))));
                        }
                    })
                    .inline()
                    .await;
                });
                let polls = polls.load(Ordering::Relaxed);
                assert!(
                    polls <= 3 * children,
                    "{host:?}: {polls} polls of {children}"
                );
            }
        }
    });
}

#[test]
fn members_of_a_join_and_of_a_nested_scope_are_not_polled_in_vain() {
    guarded(|| {
        for host in HOSTS {
            let polls = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&polls);
            host.run(async move {
                let (send, mut receive) = mpsc::channel(16);
                let sends = async {
                    for n in 0..10_000_usize {
                        send.send(n).await.unwrap();
                    }
                    drop(send);
                };
                let receives = async {
                    while receive.recv().await.is_some() {}
                    scope(async |s| drop(s.spawn(counted(&seen, empty(filled(50 * BUDGET))))))
                        .await;
                };
                join((counted(&seen, sends), counted(&seen, receives))).await;
            });
            let polls = polls.load(Ordering::Relaxed);
            // Each fills the channel, or empties it, in a poll: some 1,300, and no more again for the budget.
            assert!(polls <= 6_000, "{host:?}: {polls} polls");
        }
    });
}

/// The others are not starved by one who computes and lets others run, and who needs no budget.
#[test]
fn child_with_a_channel_has_a_budget_a_turn_beside_one_who_computes() {
    guarded(|| {
        for host in HOSTS {
            let rounds = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&rounds);
            host.run(async move {
                scope(async |s| {
                    let busy = s.spawn_with(async |s| {
                        while !s.is_cancelled() {
                            burn(Duration::from_micros(20));
                            seen.fetch_add(1, Ordering::Relaxed);
                            yields(1).await;
                        }
                    });
                    let reads = s.spawn(empty(filled(200 * BUDGET)));
                    reads.await;
                    s.cancel();
                    busy.await;
                })
                .inline()
                .await;
            });
            let rounds = rounds.load(Ordering::Relaxed);
            assert!(rounds <= 1000, "{host:?}: {rounds} rounds for 200 budgets");
        }
    });
}

/// The rest of a future that takes no budget is polled once a turn, and ends the whole.
#[test]
fn child_with_an_endless_supply_yields_on_a_helper_too() {
    for mode in [Lending::Adaptive, Lending::Forced] {
        for host in HOSTS {
            guarded(move || {
                with(mode, || {
                    host.run(async move {
                        let pool = pool(2);
                        let semaphore = Semaphore::new(10);
                        let turns = AtomicUsize::new(0);
                        let whole = scope(async |s| {
                            s.spawn(greedy(&semaphore, &turns));
                            s.spawn(greedy(&semaphore, &turns));
                        });
                        let mut whole = Box::pin(whole.on(&pool));
                        // As in a `select!`: it ends only if each poll of the scope does.
                        let mut polls = 0;
                        poll_fn(|cx| {
                            polls += 1;
                            assert!(whole.as_mut().poll(cx).is_pending());
                            if turns.load(Ordering::Relaxed) > 10 * BUDGET && polls > 3 {
                                return Poll::Ready(());
                            }
                            Poll::Pending
                        })
                        .await;
                        std::mem::drop(selvedge_cancel::select_safe(whole));
                    });
                });
            });
        }
    }
}

/// Somebody in the same task has spent the budget before the scope is polled, each time.
#[test]
fn scope_goes_on_beside_somebody_who_spends_the_budget_first() {
    guarded(|| {
        for host in HOSTS {
            host.run(async move {
                let semaphore = Semaphore::new(10);
                let turns = AtomicUsize::new(0);
                let mut greedy = pin!(greedy(&semaphore, &turns));
                let count = AtomicUsize::new(0);
                let whole = scope(async |s| {
                    for _ in 0..100 {
                        s.spawn(async {
                            yields(3).await;
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
                let mut whole = pin!(whole.inline());
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    let _ = greedy.as_mut().poll(cx);
                    whole.as_mut().poll(cx)
                })
                .await;
                assert_eq!(count.load(Ordering::Relaxed), 100);
                // Whoever is ready has one turn a poll at least.
                assert!(polls <= 10, "{host:?}: {polls} polls");
            });
        }
    });
}

/// A waker in between does not hide it: a helper's child that yields is found by the owner.
#[test]
fn pipeline_on_helpers_and_owner_passes_every_message() {
    guarded(|| {
        for host in HOSTS {
            with(Lending::Forced, || {
                host.run(async move {
                    let pool = pool(2);
                    let sum = AtomicUsize::new(0);
                    scope(async |s| {
                        let (first, mut next) = mpsc::channel(8);
                        s.spawn(async move {
                            for n in 0..2_000_usize {
                                first.send(n).await.unwrap();
                            }
                        });
                        for _ in 0..3 {
                            let (to, after) = mpsc::channel(8);
                            let mut from = std::mem::replace(&mut next, after);
                            s.spawn(async move {
                                while let Some(n) = from.recv().await {
                                    to.send(n).await.unwrap();
                                }
                            });
                        }
                        while let Some(n) = next.recv().await {
                            sum.fetch_add(n, Ordering::Relaxed);
                        }
                    })
                    .on(&pool)
                    .await;
                    assert_eq!(sum.into_inner(), 2_000 * 1_999 / 2);
                });
            });
        }
    });
}

/// What a helper's child calls is inside the runtime, whichever flavour, and its timers and tasks work.
#[test]
fn children_on_helpers_are_inside_the_runtime() {
    guarded(|| {
        for host in HOSTS {
            with(Lending::Forced, || {
                host.run(async move {
                    let pool = pool(2);
                    scope(async |s| {
                        for n in 0..20_u32 {
                            s.spawn(async move {
                                yields(2).await;
                                let spawned = tokio::spawn(async move { n });
                                assert_eq!(spawned.await.unwrap(), n);
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            });
                        }
                    })
                    .on(&pool)
                    .await;
                });
            });
        }
    });
}

/// Whoever yields for long lets the runtime look at its timers: on a current-thread runtime a worker would look at them
/// after 61 polls of the scope only, each of which lasts for its budget.
#[test]
fn timer_beside_a_scope_that_computes_is_served_between_its_polls() {
    guarded(|| {
        for (task, helpers) in [(false, 0), (false, 2), (true, 0), (true, 2)] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let ticks = Arc::new(AtomicUsize::new(0));
            let polls = Arc::new(AtomicUsize::new(0));
            let (ticked, polled) = (Arc::clone(&ticks), Arc::clone(&polls));
            let whole = async move {
                let ticker = tokio::spawn(async move {
                    let mut every = tokio::time::interval(Duration::from_millis(5));
                    loop {
                        every.tick().await;
                        ticked.fetch_add(1, Ordering::SeqCst);
                    }
                });
                let pool = pool(helpers);
                let whole = scope(async |s| {
                    for _ in 0..4 {
                        s.spawn(async {
                            for _ in 0..100 {
                                burn(Duration::from_millis(1));
                                tokio::task::yield_now().await;
                            }
                        });
                    }
                });
                counted(&polled, whole.on(&pool)).await;
                ticker.abort();
            };
            if task {
                runtime.block_on(async { tokio::spawn(whole).await.unwrap() });
            } else {
                runtime.block_on(whole);
            }
            let (ticks, polls) = (ticks.load(Ordering::SeqCst), polls.load(Ordering::SeqCst));
            // One at each look, and a look after each poll of the scope, of which there are two in 100 ms at least.
            assert!(
                ticks >= 20,
                "task: {task}, {helpers} helpers: {ticks} ticks, {polls} polls"
            );
        }
    });
}

/// Another executor blocks tokio's worker, which never comes to look at what was put off.
#[test]
fn scope_in_a_foreign_executor_on_a_worker_ends() {
    guarded(|| {
        for host in HOSTS {
            host.run(async {
                let whole = scope(async |s| {
                    for _ in 0..4 {
                        s.spawn(async {
                            for _ in 0..30 {
                                burn(Duration::from_micros(500));
                                yields(1).await;
                            }
                        });
                    }
                });
                futures::executor::block_on(whole.inline());
            });
        }
    });
}

// Each wake that was put off took one of the 128 operations of the poll.
#[test]
fn scopes_that_give_way_leave_the_budget_of_their_task_to_those_beside_them() {
    guarded(|| {
        current().block_on(async {
            const POLLS: usize = 12;
            let polls = Arc::new(AtomicUsize::new(0));
            let until = polls.clone();
            let computes = || {
                let until = until.clone();
                let scope = scope(async move |s| {
                    drop(s.spawn(async move {
                        while until.load(Ordering::SeqCst) < POLLS {
                            selvedge_cancel::checkpoint().await.unwrap();
                        }
                    }));
                });
                Some(Box::pin(scope.inline()))
            };
            let mut scopes: Vec<_> = (0..140).map(|_| computes()).collect();
            let mut beside = Box::pin(async {
                loop {
                    consume_budget().await;
                    yield_now().await;
                }
            });
            let mut turns = 0;
            let task = poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                for place in &mut scopes {
                    let ended =
                        (place.as_mut()).is_some_and(|scope| scope.as_mut().poll(cx).is_ready());
                    if ended {
                        *place = None;
                    }
                }
                turns += usize::from(tokio::task::coop::has_budget_remaining());
                let _: Poll<()> = beside.as_mut().poll(cx);
                match scopes.iter().all(Option::is_none) {
                    true => Poll::Ready((turns, polls.load(Ordering::SeqCst))),
                    false => Poll::Pending,
                }
            });
            let (turns, polls) = tokio::spawn(task).await.unwrap();
            assert_eq!(turns, polls, "turns of the neighbour, polls of the task");
        });
    });
}
