//! The budget of a window is spent, and a helper is in a long poll: the poll of the scope cannot end before that does. What
//! other helpers bring meanwhile, and what becomes ready here, goes on (rule W9).
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
#[cfg(feature = "tokio")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::hosts::multi;
use common::{Signal, burn, guarded_for, on_helper, pool};
use selvedge_cancel::{cancelled, checkpoint};
use selvedge_scope::{Pool, Scope, block_on, scope};

/// So long a child waits for what comes soon, if it comes.
const MOST: Duration = Duration::from_secs(10);
const ROUNDS: usize = 24;
/// More than a budget of any executor's.
const LONG: Duration = Duration::from_millis(60);

/// What a helper brings whose child stops after the budget.
#[derive(Clone, Copy, Debug)]
enum News {
    /// The child is ready again.
    Again,
    /// Its end, for which the body waits.
    Body,
    /// The scope's cancellation, for which another child waits.
    Cancelled,
}

/// Two children meet on helpers; one is in one poll until what the other brings has been attended to. Whether both were on
/// helpers.
async fn brought(news: News, pool: &Pool) -> bool {
    let (attended, helpers, late) = (Signal::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    let (attended, helpers, late) = (&attended, &helpers, &late);
    // Only what a helper polls is in a thread's way that the owner does not need.
    let stays = async move || {
        if on_helper() {
            helpers.fetch_add(1, Ordering::SeqCst);
            late.fetch_add(usize::from(!attended.wait(MOST)), Ordering::SeqCst);
        }
    };
    let brings = async move |s: Scope<'_>| {
        helpers.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
        burn(LONG);
        match news {
            News::Again => {
                checkpoint().await.unwrap();
                attended.give();
            }
            News::Body => {}
            News::Cancelled => s.cancel(),
        }
    };
    scope(async |s| {
        drop(s.spawn(async move {
            cancelled().await;
            attended.give();
        }));
        drop(s.spawn(async { burn(Duration::from_millis(2)) }));
        drop(s.spawn(stays()));
        s.spawn(brings(s.clone())).await;
        if let News::Body = news {
            attended.give();
        }
        s.cancel();
    })
    .on(pool)
    .heavy()
    .await;
    assert_eq!(late.load(Ordering::SeqCst), 0, "{news:?}");
    helpers.load(Ordering::SeqCst) == 2
}

// The owner slept until the longest poll of a helper was over.
#[test]
fn what_a_helper_brings_is_attended_to_while_another_is_in_a_long_poll() {
    guarded_for(Duration::from_secs(240), || {
        let pool = pool(2);
        for news in [News::Again, News::Body, News::Cancelled] {
            for host in 0..3 {
                let mut both = 0;
                for _ in 0..200 {
                    let brought = brought(news, &pool);
                    both += u32::from(match host {
                        0 => block_on(brought),
                        1 => futures::executor::block_on(brought),
                        _ => multi(2).block_on(brought),
                    });
                    if both == 4 {
                        break;
                    }
                }
                assert!(both > 0, "{news:?}, {host}: never on two helpers");
            }
        }
    });
}

#[cfg(feature = "tokio")]
/// A body that yields to tokio while a helper is in one poll. Whether that was so.
async fn body_yields(pool: Pool) -> bool {
    let (attended, helped, late) = (
        Signal::default(),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    scope(async |s| {
        drop(s.spawn(async { burn(Duration::from_millis(6)) }));
        drop(s.spawn(async {
            if on_helper() {
                helped.store(true, Ordering::SeqCst);
                late.store(!attended.wait(MOST), Ordering::SeqCst);
            }
        }));
        checkpoint().await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
            burn(Duration::from_micros(100));
        }
        attended.give();
    })
    .on(&pool)
    .heavy()
    .await;
    assert!(!late.load(Ordering::SeqCst), "the body did not go on");
    helped.load(Ordering::SeqCst)
}

// What tokio has put off wakes the body on this very thread, when the worker begins to wait.
#[cfg(feature = "tokio")]
#[test]
fn body_that_yields_to_tokio_goes_on_while_a_helper_is_in_a_long_poll() {
    guarded_for(Duration::from_secs(120), || {
        for workers in [1, 2] {
            let (pool, runtime) = (pool(1), multi(workers));
            let mut helped = 0;
            for _ in 0..10 {
                let round = runtime.spawn(body_yields(pool.clone()));
                helped += u32::from(runtime.block_on(round).unwrap());
            }
            assert!(helped > 0, "{workers} workers: never on a helper");
        }
    });
}

/// In each round the body is in one poll until all children have had a turn in it. How often it was in two of them in one poll
/// of the scope, and how often somebody had none.
fn long_polls_of_the_body(children: usize) -> (usize, usize) {
    let pool = pool(2);
    let (over, polls, late) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let turns: Vec<_> = (0..children).map(|_| AtomicUsize::new(0)).collect();
    let counts = || turns.iter().map(|turns| turns.load(Ordering::SeqCst));
    let whole = scope(async |s| {
        for turns in &turns {
            drop(s.spawn(async {
                while !over.load(Ordering::SeqCst) {
                    turns.fetch_add(1, Ordering::SeqCst);
                    checkpoint().await.unwrap();
                }
            }));
        }
        for _ in 0..ROUNDS {
            polls.fetch_add(1, Ordering::SeqCst);
            let before: Vec<_> = counts().collect();
            let from = Instant::now();
            burn(LONG);
            let all_served = || counts().zip(&before).all(|(now, before)| now > *before);
            while !all_served() && from.elapsed() < 3 * LONG {
                std::thread::yield_now();
            }
            late.fetch_add(usize::from(!all_served()), Ordering::SeqCst);
            checkpoint().await.unwrap();
        }
        over.store(true, Ordering::SeqCst);
    });
    let mut whole = pin!(whole.on(&pool));
    let mut twice = 0;
    futures::executor::block_on(poll_fn(|cx| {
        polls.store(0, Ordering::SeqCst);
        let polled = whole.as_mut().poll(cx);
        twice += usize::from(polls.load(Ordering::SeqCst) > 1);
        polled
    }));
    (twice, late.load(Ordering::SeqCst))
}

// While the helpers were about to leave, the owner began the next poll of the body, in which nobody was helped.
#[test]
fn nothing_long_is_begun_while_helpers_are_about_to_leave() {
    guarded_for(Duration::from_secs(120), || {
        for children in [10, 200] {
            let (twice, late) = long_polls_of_the_body(children);
            assert!(
                twice <= ROUNDS / 3 && late <= ROUNDS / 3,
                "{children}: in {ROUNDS} rounds {twice} twice in a poll, {late} without all served"
            );
        }
    });
}

/// So many such rounds at most, in a task of a runtime with one worker, until a helper has taken part in four of them. It does so
/// in one at least.
#[cfg(feature = "tokio")]
fn helped_in_rounds<F>(most: usize, round: impl Fn(Pool) -> F + Send + 'static)
where
    F: Future<Output = bool> + Send + 'static,
{
    guarded_for(Duration::from_secs(240), move || {
        let (pool, runtime) = (pool(1), multi(1));
        let mut helped = 0;
        for _ in 0..most {
            let round = runtime.spawn(round(pool.clone()));
            helped += u32::from(runtime.block_on(round).unwrap());
            if helped == 4 {
                break;
            }
        }
        assert!(helped > 0, "never on a helper");
    });
}

/// Children that yield, and one in a poll on a helper that lasts until a task beside the scope has had a turn. Whether it was on
/// a helper.
#[cfg(feature = "tokio")]
async fn waits_for_a_neighbour(pool: Pool) -> bool {
    #[derive(Default)]
    struct Round {
        helps: AtomicBool,
        late: AtomicBool,
        over: AtomicBool,
        attended: Signal,
    }

    let round = Arc::new(Round::default());
    let neighbour = tokio::spawn({
        let round = round.clone();
        async move {
            while !round.over.load(Ordering::SeqCst) {
                if round.helps.load(Ordering::SeqCst) {
                    round.attended.give();
                }
                tokio::task::yield_now().await;
            }
        }
    });
    scope(async |s| {
        drop(s.spawn(async {
            for _ in 0..50 {
                if !on_helper() {
                    checkpoint().await.unwrap();
                }
            }
            if on_helper() {
                round.helps.store(true, Ordering::SeqCst);
                // The neighbour may be having a turn just now, on another worker.
                let late = !round.attended.wait(MOST);
                round.late.store(late, Ordering::SeqCst);
            }
            round.over.store(true, Ordering::SeqCst);
        }));
        for _ in 0..8 {
            drop(s.spawn(async {
                while !round.over.load(Ordering::SeqCst) {
                    burn(Duration::from_micros(50));
                    checkpoint().await.unwrap();
                }
            }));
        }
    })
    .on(&pool)
    .heavy()
    .await;
    neighbour.await.unwrap();
    assert!(!round.late.load(Ordering::SeqCst), "nobody had a turn");
    round.helps.load(Ordering::SeqCst)
}

// Where the scope itself had something to do all the time, its worker kept its other tasks until the helper had left.
#[cfg(feature = "tokio")]
#[test]
fn tasks_beside_a_scope_that_waits_for_a_helper_and_is_busy_have_turns() {
    helped_in_rounds(100, waits_for_a_neighbour);
}

/// Two children that are known to take long, one of them in a poll on a helper that lasts until a task beside the scope has had a
/// turn. Whether it was on a helper.
#[cfg(feature = "tokio")]
async fn waits_for_a_neighbour_beside_a_long_one(pool: Pool) -> bool {
    #[derive(Default)]
    struct Round {
        known: AtomicBool,
        helps: AtomicBool,
        late: AtomicBool,
        early: AtomicBool,
        over: AtomicBool,
        attended: Signal,
    }

    async fn long(round: &Round) {
        if !round.known.load(Ordering::SeqCst) {
            std::thread::sleep(4 * LONG);
        } else if on_helper() {
            round.helps.store(true, Ordering::SeqCst);
            let late = !round.attended.wait(MOST);
            round.late.store(late, Ordering::SeqCst);
        } else if round.helps.load(Ordering::SeqCst) {
            let early = !round.attended.wait(Duration::ZERO);
            round.early.store(early, Ordering::SeqCst);
        }
    }

    let round = Arc::new(Round::default());
    let opened = scope(async |s| drop(s.spawn(long(&round))));
    opened.inline().await;
    round.known.store(true, Ordering::SeqCst);
    let neighbour = tokio::spawn({
        let round = round.clone();
        async move {
            while !round.over.load(Ordering::SeqCst) {
                if round.helps.load(Ordering::SeqCst) {
                    round.attended.give();
                }
                tokio::task::yield_now().await;
            }
        }
    });
    scope(async |s| {
        drop(s.spawn(async { burn(LONG) }));
        drop(s.spawn(long(&round)));
        drop(s.spawn(long(&round)));
    })
    .on(&pool)
    .heavy()
    .await;
    round.over.store(true, Ordering::SeqCst);
    neighbour.await.unwrap();
    assert!(!round.late.load(Ordering::SeqCst), "nobody had a turn");
    assert!(
        !round.early.load(Ordering::SeqCst),
        "the owner has waited without letting others move"
    );
    round.helps.load(Ordering::SeqCst)
}

// Where the scope had something to do that it left for later, the worker slept and kept its other tasks.
#[cfg(feature = "tokio")]
#[test]
fn tasks_beside_a_scope_that_waits_for_a_helper_before_it_begins_something_long_have_turns() {
    helped_in_rounds(40, waits_for_a_neighbour_beside_a_long_one);
}
