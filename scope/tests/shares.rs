//! Scopes in one task that are not busy for ever: each works for less than a budget, or is in a loop, or has scopes of its own.
//! Together they leave turns to those beside. Counted in polls that take 100 us.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::hosts::{current, multi};
use common::{Between, burn, guarded_for, yields};
use futures::future::join_all;
use selvedge_scope::{Scope, block_on, join, scope};
use tokio::task::coop;

const POLL: Duration = Duration::from_micros(100);
/// Such polls in a budget of 5 ms, and in what each window has in any case.
const BUDGET: usize = 50;
const LEAST: usize = 3;

#[derive(Default)]
struct Counts {
    polls: AtomicUsize,
    over: AtomicBool,
}

impl Counts {
    fn poll(&self) {
        self.polls.fetch_add(1, Ordering::SeqCst);
        burn(POLL);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// A scope with so many polls of work.
async fn works(counts: &Counts, polls: usize) {
    scope(async |s: Scope<'_>| {
        drop(s.spawn(async {
            for _ in 0..polls {
                counts.poll();
                yields(1).await;
            }
        }));
    })
    .inline()
    .await;
}

/// Runs `busy` as a task beside another one that has `turns`: the most polls between two of these.
fn most_between<F>(turns: usize, busy: impl Fn(Arc<Counts>) -> F) -> usize
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut most = 0;
    for runtime in [current(), multi(1)] {
        let counts = Arc::new(Counts::default());
        let busy = runtime.spawn(busy(Arc::clone(&counts)));
        let beside = Arc::clone(&counts);
        let gap = runtime.block_on(runtime.spawn(async move {
            let mut between = Between::of(&beside.polls);
            for _ in 0..turns {
                tokio::task::yield_now().await;
                between.turn();
            }
            beside.over.store(true, Ordering::SeqCst);
            between.most()
        }));
        most = most.max(gap.unwrap());
        busy.abort();
    }
    most
}

fn assert_shared(what: &str, scopes: usize, most: usize) {
    // Twice, since it is not known before the first round how many there are.
    let may = 2 * (BUDGET + scopes * LEAST) + 16;
    assert!(
        most <= may,
        "{what}: {most} polls between two turns, may be {may}"
    );
}

// None of them used up its window, and so nobody counted them: 54 ms in one poll.
#[test]
fn scopes_that_work_for_less_than_a_budget_share_one() {
    guarded_for(Duration::from_secs(120), || {
        const SCOPES: usize = 20;
        let most = most_between(60, |counts| async move {
            join_all((0..SCOPES).map(|_| works(&counts, 30))).await;
        });
        assert_shared("once", SCOPES, most);
        let most = most_between(60, |counts| async move {
            let rounds = async |_| {
                scope(async |s: Scope<'_>| {
                    drop(s.spawn(async {
                        while !counts.is_over() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            for _ in 0..40 {
                                counts.poll();
                                yields(1).await;
                            }
                        }
                    }));
                })
                .inline()
                .await;
            };
            join_all((0..SCOPES).map(rounds)).await;
        });
        assert_shared("by a timer", SCOPES, most);
    });
}

// A scope that had given way was not counted when it ended in its next poll: two of them for each loop.
#[test]
fn loops_of_scopes_of_some_milliseconds_share_a_budget() {
    guarded_for(Duration::from_secs(120), || {
        const LOOPS: usize = 40;
        let most = most_between(60, |counts| async move {
            let one = async |_| {
                while !counts.is_over() {
                    works(&counts, 30).await;
                }
            };
            join_all((0..LOOPS).map(one)).await;
        });
        assert_shared("loops", LOOPS, most);
    });
}

// Windows that open without a budget of tokio's had all of their time each, in each poll.
#[test]
fn scopes_without_a_budget_of_tokios_share_the_time_as_well() {
    guarded_for(Duration::from_secs(120), || {
        const SCOPES: usize = 20;
        let most = most_between(40, |counts| async move {
            // As receiving from a full channel does.
            let drains = poll_fn(|cx| {
                while let Poll::Ready(step) = coop::poll_proceed(cx) {
                    step.made_progress();
                    if !coop::has_budget_remaining() {
                        break;
                    }
                }
                Poll::<()>::Pending
            });
            let busy = async |_| {
                scope(async |s: Scope<'_>| {
                    for _ in 0..100 {
                        drop(s.spawn(async {
                            while !counts.is_over() {
                                counts.poll();
                                yields(1).await;
                            }
                        }));
                    }
                    pending::<()>().await;
                })
                .inline()
                .await;
            };
            futures::join!(drains, join_all((0..SCOPES).map(busy)));
        });
        assert_shared("without a budget", SCOPES, most);
    });
}

// For each member's scope the thread forgot one of those in the task, which had the whole time then.
#[test]
fn scopes_whose_members_have_scopes_are_known_in_their_task() {
    guarded_for(Duration::from_secs(120), || {
        const SCOPES: usize = 32;
        let most = most_between(60, |counts| async move {
            let counts = &counts;
            let whole = async |_| {
                scope(async |s: Scope<'_>| {
                    for _ in 0..64 {
                        drop(s.spawn(async {
                            scope(async |s: Scope<'_>| {
                                for _ in 0..20 {
                                    drop(s.spawn(async {
                                        while !counts.is_over() {
                                            counts.poll();
                                            yields(1).await;
                                        }
                                    }));
                                }
                            })
                            .inline()
                            .await;
                        }));
                    }
                })
                .inline()
                .await;
            };
            join_all((0..SCOPES).map(whole)).await;
        });
        assert_shared("scopes in scopes", SCOPES, most);
    });
}

// Each member had the time of a whole budget for its loop.
#[test]
fn members_that_open_scopes_in_loops_share_the_time_of_their_window() {
    guarded_for(Duration::from_secs(120), || {
        const LOOPS: usize = 64;
        let counts = &Counts::default();
        let most = current().block_on(async {
            scope(async |s: Scope<'_>| {
                for _ in 0..LOOPS {
                    drop(s.spawn(async {
                        while !counts.is_over() {
                            works(counts, 1).await;
                        }
                    }));
                }
                s.spawn(async {
                    let mut between = Between::of(&counts.polls);
                    for _ in 0..20 {
                        yields(1).await;
                        between.turn();
                    }
                    counts.over.store(true, Ordering::SeqCst);
                    between.most()
                })
                .await
            })
            .inline()
            .await
        });
        assert_shared("loops of members", LOOPS, most);
    });
}

/// Computes for 1.5 ms.
fn leaf(counts: &Counts) {
    for _ in 0..LEAF {
        counts.poll();
    }
}

const LEAF: usize = 15;

/// A walk that opens two scopes at each step, one after the other.
fn walk(
    counts: Arc<Counts>,
    leaves: usize,
    joins: bool,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if leaves < 2 {
            return leaf(&counts);
        }
        for some in [leaves / 2, leaves - leaves / 2] {
            let next = walk(Arc::clone(&counts), some, joins);
            if joins {
                join((next,)).await;
            } else {
                scope(async |s: Scope<'_>| drop(s.spawn(next))).await;
            }
        }
    })
}

// The time of those in a row began with the second, and no level has a third: all of it was one poll.
#[test]
fn recursion_with_two_scopes_at_each_level_leaves_turns() {
    guarded_for(Duration::from_secs(120), || {
        for joins in [false, true] {
            for _ in 0..2 {
                let most = most_between(40, |counts| walk(counts, 96, joins));
                // A level may begin its first one.
                let may = 2 * (BUDGET + LEAF * 7) + 16;
                assert!(most <= may, "{most} polls between two turns, may be {may}");
            }
        }
    });
}

// A poll that was known to be long was not looked at when it was the last one, and counted as short: 29 of these.
#[test]
fn joins_of_a_long_one_in_a_row_leave_turns() {
    guarded_for(Duration::from_secs(120), || {
        for _ in 0..2 {
            let most = most_between(40, |counts| async move {
                for _ in 0..96 {
                    join((async { leaf(&counts) },)).await;
                }
            });
            assert_shared("joins", 2 * LEAF / LEAST, most);
        }
    });
}

/// How often a scope that works for half a millisecond gives way.
async fn gives_way(at: impl Fn() -> Rest) -> usize {
    let mut gave_way = 0;
    for n in 0..60 {
        at().await;
        let counts = Counts::default();
        let mut one = pin!(works(&counts, 5));
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            one.as_mut().poll(cx)
        })
        .await;
        gave_way += usize::from(n >= 20 && polls > 1);
    }
    gave_way
}

type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

// What earlier scopes of the task had used was counted for ever: each one gave way after 250 us.
#[test]
fn scope_that_is_alone_has_its_whole_window() {
    guarded_for(Duration::from_secs(120), || {
        let rests = || -> Rest { Box::pin(tokio::time::sleep(Duration::from_millis(2))) };
        let yields = || -> Rest { Box::pin(tokio::task::yield_now()) };
        for runtime in [current(), multi(1)] {
            let run = |rest: fn() -> Rest| runtime.block_on(runtime.spawn(gives_way(rest)));
            let gave_way = [run(rests).unwrap(), run(yields).unwrap()];
            // Each tenth does, since the thread cannot tell that others had turns.
            assert!(gave_way.iter().all(|&n| n <= 15), "{gave_way:?} of 40");
        }
        let mut several = 0;
        for _ in 0..40 {
            let counts = Counts::default();
            let mut polls = 0;
            let mut all = pin!(works(&counts, 10));
            block_on(poll_fn(|cx| {
                polls += 1;
                all.as_mut().poll(cx)
            }));
            several += usize::from(polls > 1);
        }
        assert!(several <= 2, "{several} of 40 calls of block_on");
    });
}
