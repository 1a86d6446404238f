//! Children of a kind that was cheap for long and becomes heavy: whoever is beside the scope waits for a few polls, which
//! are counted, and soon for no more than one.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::{Between, burn, guarded, guarded_for, on_helper, pool, yields};
use selvedge_scope::{Scope, block_on, join_all, scope};

/// Polls of children in one poll of the whole, before anything is learnt: those that a window makes before it first looks
/// at the clock, and those up to the next look. In the midst of a window it is one for which the budget has room still
/// when the clock is read, and sixteen up to the next look.
const UNKNOWING: usize = 17;

/// Runs `whole` beside somebody who is always ready, and says how many long polls were made at most between two of his
/// turns.
fn most_between(whole: impl Future<Output = ()>, polls: &AtomicUsize) -> usize {
    let mut between = Between::of(polls);
    let ended = AtomicBool::new(false);
    let beside = poll_fn(|cx| {
        between.turn();
        if ended.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let whole = async {
        whole.await;
        ended.store(true, Ordering::SeqCst);
    };
    // Not in a `block_on` of ours, where nobody is taken to be beside.
    futures::executor::block_on(async { futures::join!(beside, whole) });
    between.most()
}

#[test]
fn window_of_children_that_became_heavy_is_over_after_a_few() {
    guarded(|| {
        let (polls, heavy) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let whole = scope(async |s: Scope<'_>| {
            for _ in 0..200 {
                s.spawn(async {
                    for _ in 0..50 {
                        yields(1).await;
                    }
                    while !heavy.load(Ordering::SeqCst) {
                        yields(1).await;
                    }
                    polls.fetch_add(1, Ordering::SeqCst);
                    burn(Duration::from_millis(3));
                });
            }
            yields(2000).await;
            heavy.store(true, Ordering::SeqCst);
        });
        let most = most_between(whole.inline(), polls);
        assert!(most <= UNKNOWING, "{most} polls of 3 ms between two turns");
    });
}

#[test]
fn batch_whose_first_polls_became_heavy_is_over_after_a_few() {
    guarded(|| {
        let (polls, heavy) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let one = || async {
            if heavy.load(Ordering::SeqCst) {
                polls.fetch_add(1, Ordering::SeqCst);
                burn(Duration::from_millis(3));
            }
        };
        for _ in 0..100 {
            block_on(join_all((0..100).map(|_| one())).inline());
        }
        heavy.store(true, Ordering::SeqCst);
        let whole = async {
            join_all((0..100).map(|_| one())).inline().await;
        };
        let most = most_between(whole, polls);
        assert!(most <= UNKNOWING, "{most} polls of 3 ms between two turns");
    });
}

#[test]
fn small_scopes_whose_children_became_heavy_give_way_after_a_few() {
    guarded(|| {
        let (polls, heavy) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let whole = || {
            scope(async |s: Scope<'_>| {
                for _ in 0..40 {
                    s.spawn(async {
                        if heavy.load(Ordering::SeqCst) {
                            polls.fetch_add(1, Ordering::SeqCst);
                            burn(Duration::from_millis(3));
                        }
                    });
                }
            })
            .inline()
        };
        for _ in 0..200 {
            block_on(whole());
        }
        heavy.store(true, Ordering::SeqCst);
        let most = most_between(async { whole().await }, polls);
        assert!(most <= UNKNOWING, "{most} polls of 3 ms between two turns");
    });
}

/// How many polls helpers had, of a kind that was cheap and has become heavy, in scopes of one poll. Behind so many of another
/// kind, and with so many other scopes in each round, and before all of them.
fn helped_in_rounds(others: usize, between: usize, before: usize) -> usize {
    const CHEAP: usize = 400;
    const HEAVY: usize = 150;
    let pool = pool(2);
    let (helped, heavy) = (AtomicUsize::new(0), AtomicBool::new(false));
    let short = async || {
        scope(async |s: Scope<'_>| drop(s.spawn(async {})))
            .on(&pool)
            .await
    };
    let some = async || {
        scope(async |s: Scope<'_>| {
            for _ in 0..others {
                drop(s.spawn(async {}));
            }
            for _ in 0..6 {
                drop(s.spawn(async {
                    if heavy.load(Ordering::SeqCst) {
                        burn(Duration::from_millis(1));
                        helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                    }
                }));
            }
        })
        .on(&pool)
        .await;
    };
    block_on(async {
        for _ in 0..before {
            short().await;
        }
        for n in 0..CHEAP + HEAVY {
            heavy.store(n >= CHEAP, Ordering::SeqCst);
            for _ in 0..between {
                short().await;
            }
            some().await;
        }
    });
    helped.into_inner()
}

// A sample was of the first kind only, and every sixteenth window took one: where each round has two, always in the same.
#[test]
fn kind_that_became_heavy_is_learnt_in_small_scopes_whatever_is_beside_it() {
    guarded_for(Duration::from_secs(240), || {
        for others in [0, 1, 3] {
            for between in [0, 1, 3] {
                for before in [0, 1] {
                    // Each on a thread that has opened no scope yet.
                    let helped = guarded(move || helped_in_rounds(others, between, before));
                    assert!(
                        helped >= 50,
                        "behind {others}, with {between} between and {before} before: {helped} polls"
                    );
                }
            }
        }
    });
}

/// Goes on until it is told to stop; each poll is long, or short. `KIND` makes types of it.
async fn steps<const KIND: u8>(long: bool, polls: &AtomicUsize, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        if long {
            polls.fetch_add(1, Ordering::SeqCst);
            // More than the budget of a window.
            burn(Duration::from_millis(6));
        }
        yields(1).await;
    }
}

/// The most long polls in one poll of a scope of so many short children, and of long ones of this kind behind them, when all is
/// known of them.
fn most_in_a_poll<const KIND: u8>(short: usize) -> usize {
    const POLLS: usize = 150;
    let (polls, over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let whole = scope(async |s: Scope<'_>| {
        for _ in 0..short {
            drop(s.spawn(steps::<0>(false, polls, over)));
        }
        for _ in 0..60 {
            drop(s.spawn(steps::<KIND>(true, polls, over)));
        }
    });
    let mut whole = pin!(whole.inline());
    let (mut made, mut most) = (0, 0);
    futures::executor::block_on(poll_fn(|cx| {
        polls.store(0, Ordering::SeqCst);
        let polled = whole.as_mut().poll(cx);
        made += 1;
        if made > POLLS / 3 {
            most = most.max(polls.load(Ordering::SeqCst));
        }
        over.store(made >= POLLS, Ordering::SeqCst);
        polled
    }));
    most
}

// A stretch of many short polls said that the clock need not be read for as many of those behind it: sixteen to sixty long ones,
// though they were known to be so; and where both were of one type, in each round anew.
#[test]
fn long_ones_behind_many_short_ones_are_few_in_a_poll_of_the_scope() {
    guarded_for(Duration::from_secs(240), || {
        for short in [200, 3000] {
            let most = guarded(move || most_in_a_poll::<1>(short));
            assert!(most <= 2, "{short}, two types: {most} long polls in one");
            let most = guarded(move || most_in_a_poll::<0>(short));
            assert!(most <= 6, "{short}, one type: {most} long polls in one");
        }
    });
}

// The body of a kind that was short was timed in one window of sixteen, and its cost grew twofold with each.
#[test]
fn body_whose_polls_become_long_has_a_few_of_them_in_a_poll_of_the_scope() {
    guarded_for(Duration::from_secs(240), || {
        let polls = &AtomicUsize::new(0);
        let mut whole = pin!(scope(async |_| {
            for _ in 0..8 {
                yields(500).await;
                for _ in 0..20 {
                    polls.fetch_add(1, Ordering::SeqCst);
                    burn(Duration::from_millis(6));
                    yields(1).await;
                }
            }
        }));
        let mut many = Vec::new();
        futures::executor::block_on(poll_fn(|cx| {
            polls.store(0, Ordering::SeqCst);
            let polled = whole.as_mut().poll(cx);
            many.extend(Some(polls.load(Ordering::SeqCst)).filter(|&polls| polls > 4));
            polled
        }));
        // The first time nobody can know.
        let few = many.len() <= 1 && many.iter().all(|&polls| polls <= 13);
        assert!(few, "so many long polls in one: {many:?}");
    });
}

// What was learnt of a burst was forgotten before the next one: up to 62 of 200 long polls in one poll of the scope (release).
#[test]
fn kind_that_is_long_in_bursts_is_kept_in_mind() {
    const CHILDREN: usize = 200;
    const BETWEEN: usize = 20_000 / CHILDREN;
    guarded_for(Duration::from_secs(120), || {
        let polls = &AtomicUsize::new(0);
        let bursts = |bursts: usize| {
            let whole = scope(async |s: Scope<'_>| {
                for _ in 0..CHILDREN {
                    drop(s.spawn(async move {
                        for _ in 0..bursts {
                            yields(BETWEEN).await;
                            polls.fetch_add(1, Ordering::SeqCst);
                            burn(Duration::from_millis(2));
                            yields(1).await;
                        }
                    }));
                }
            });
            most_between(whole.inline(), polls)
        };
        bursts(2);
        let most = bursts(8);
        assert!(most <= UNKNOWING, "{most} polls of 2 ms between two turns");
    });
}

// None of those stretches was of one kind, so nothing was learnt of them: six long polls in each of the first polls of the scope
// (release).
#[test]
fn one_of_two_kinds_in_turns_that_becomes_heavy_is_found_out() {
    guarded_for(Duration::from_secs(120), || {
        let (polls, heavy) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let over = &AtomicBool::new(false);
        let whole = scope(async |s: Scope<'_>| {
            for _ in 0..100 {
                drop(s.spawn(async {
                    while !over.load(Ordering::SeqCst) {
                        yields(1).await;
                    }
                }));
                drop(s.spawn(async {
                    while !over.load(Ordering::SeqCst) {
                        if heavy.load(Ordering::SeqCst) {
                            polls.fetch_add(1, Ordering::SeqCst);
                            burn(Duration::from_millis(6));
                        }
                        yields(1).await;
                    }
                }));
            }
        });
        let mut whole = pin!(whole.inline());
        let (mut made, mut many) = (0, Vec::new());
        futures::executor::block_on(poll_fn(|cx| {
            let before = polls.load(Ordering::SeqCst);
            heavy.store(made >= 40, Ordering::SeqCst);
            let polled = whole.as_mut().poll(cx);
            made += 1;
            if made > 41 {
                many.push(polls.load(Ordering::SeqCst) - before);
            }
            over.store(made >= 90, Ordering::SeqCst);
            polled
        }));
        let late = many.iter().skip(4).take(40).filter(|polls| **polls > 2);
        assert!(late.count() == 0, "long polls in each poll: {many:?}");
    });
}

// After a short one, sixteen were polled before the next look at the clock: 8 to 15 long ones in every second poll of the scope.
#[test]
fn polls_that_are_short_and_long_by_turns_are_few_in_a_poll_of_the_scope() {
    const LONG: usize = 60;
    guarded_for(Duration::from_secs(120), || {
        for (children, short, long) in [(1, 1, 1), (1, 1, 5), (1, 4, 4), (2, 2, 1)] {
            for joined in [false, true] {
                let polls = &AtomicUsize::new(0);
                let one = || async {
                    while polls.load(Ordering::SeqCst) < LONG {
                        yields(short).await;
                        for _ in 0..long {
                            polls.fetch_add(1, Ordering::SeqCst);
                            burn(Duration::from_millis(2));
                            yields(1).await;
                        }
                    }
                };
                let all = async {
                    if joined {
                        join_all((0..children).map(|_| one())).inline().await;
                        return;
                    }
                    let whole = scope(async |s: Scope<'_>| {
                        (0..children).for_each(|_| drop(s.spawn(one())));
                    });
                    whole.inline().await;
                };
                let mut all = pin!(all);
                let mut many = Vec::new();
                futures::executor::block_on(poll_fn(|cx| {
                    let before = polls.load(Ordering::SeqCst);
                    let polled = all.as_mut().poll(cx);
                    many.push(polls.load(Ordering::SeqCst) - before);
                    polled
                }));
                let late = many.iter().skip(6).filter(|polls| **polls > 5).count();
                let what = format!("{children} of {short} short, {long} long, joined: {joined}");
                assert!(late <= 1, "{what}: {many:?}");
            }
        }
    });
}
