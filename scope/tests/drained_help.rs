//! A helper is in one long poll, and the budget of the window is spent: other helpers come meanwhile for what is done with soon.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::hosts::{current, multi};
use common::{burn, guarded_for, on_helper, pool};
use selvedge_cancel::checkpoint;
use selvedge_scope::{Pool, Scope, block_on, scope};

/// So long a poll waits for what comes soon, if it comes.
const MOST: Duration = Duration::from_secs(5);
/// More than a budget of any executor's.
const LONG: Duration = Duration::from_millis(60);
const ROUNDS: usize = 40;

/// Whether that came while the thread waited.
fn comes(it: impl Fn() -> bool) -> bool {
    let from = Instant::now();
    while !it() {
        if from.elapsed() > MOST {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

#[derive(Clone, Copy, Debug)]
enum Host {
    BlockOn,
    Current,
    Task,
}

impl Host {
    fn run(self, future: impl Future<Output = Option<bool>> + Send + 'static) -> Option<bool> {
        match self {
            Self::BlockOn => block_on(future),
            Self::Current => current().block_on(future),
            Self::Task => {
                let runtime = multi(1);
                runtime.block_on(runtime.spawn(future)).unwrap()
            }
        }
    }
}

/// Every host, until it was as the test wants it a few times. `None`: it was not.
fn on_each_host<F: Future<Output = Option<bool>> + Send + 'static>(test: impl Fn(Pool) -> F) {
    for host in [Host::BlockOn, Host::Current, Host::Task] {
        let pool = pool(3);
        let (mut seen, mut late) = (0, 0);
        for _ in 0..ROUNDS {
            if let Some(in_time) = host.run(test(pool.clone())) {
                seen += 1;
                late += usize::from(!in_time);
            }
            if seen == 4 {
                break;
            }
        }
        assert!(seen > 0, "{host:?}: never on a helper");
        // The system may have put aside a thread that is wanted.
        assert!(late * 4 <= seen, "{host:?}: {late} of {seen} late");
    }
}

/// What the test is about is happening, and what it has come to.
#[derive(Default)]
struct Round {
    is_test: AtomicBool,
    over: AtomicBool,
    /// Somebody is in his long poll on a helper.
    is_long: AtomicBool,
    seen: AtomicBool,
    late: AtomicBool,
    /// What he waits for in there.
    polls: AtomicUsize,
    /// Of the short one.
    turns: AtomicUsize,
}

impl Round {
    /// In one poll, always a long one: on a helper, until others have had so many polls.
    async fn long(&self, polls: usize) {
        burn(Duration::from_millis(2));
        let is_first = || !self.is_long.swap(true, Ordering::SeqCst);
        if !self.is_test.load(Ordering::SeqCst) || !on_helper() || self.is_over() || !is_first() {
            return;
        }
        burn(LONG);
        let before = self.polls.load(Ordering::SeqCst);
        let has_polls = comes(|| self.polls.load(Ordering::SeqCst) > before + polls);
        self.seen.store(has_polls, Ordering::SeqCst);
        self.over.store(true, Ordering::SeqCst);
    }

    /// Opens such ones until one of them was on a helper.
    async fn try_until_seen<'env>(&'env self, s: &Scope<'env>, polls: usize) {
        for n in 0..100 {
            self.is_test.store(n > 30, Ordering::SeqCst);
            let some = [(); 3].map(|()| s.spawn(self.long(polls)));
            for one in some {
                one.await;
            }
            if self.is_over() {
                break;
            }
        }
        self.over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Somebody is in one poll on a helper until helpers have polled others twenty times after the budget was spent. Whether
/// they have.
async fn others_are_helped(pool: Pool) -> Option<bool> {
    let round = &Round::default();
    scope(async |s| {
        for _ in 0..8 {
            drop(s.spawn(async move {
                while !round.is_over() {
                    round
                        .polls
                        .fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    checkpoint().await.unwrap();
                }
            }));
        }
        round.try_until_seen(&s, 20).await;
    })
    .on(&pool)
    .await;
    let is_seen = round.is_long.load(Ordering::SeqCst);
    is_seen.then(|| round.seen.load(Ordering::SeqCst))
}

// From the end of the budget on, all others were polled by the owner alone, for as long as that took.
#[test]
fn others_are_helped_while_one_is_in_a_long_poll_on_a_helper() {
    guarded_for(Duration::from_secs(300), || on_each_host(others_are_helped));
}

/// The same, until another long one has had four polls; in each of these somebody who is short is to have a turn. Whether he had
/// one each time.
async fn short_one_is_served(pool: Pool) -> Option<bool> {
    let round = &Round::default();
    scope(async |s| {
        drop(s.spawn(async move {
            while !round.is_over() {
                let before = round.turns.load(Ordering::SeqCst);
                burn(Duration::from_millis(3));
                if round.is_long.load(Ordering::SeqCst) && !round.is_over() {
                    let served = comes(|| round.turns.load(Ordering::SeqCst) > before);
                    round.late.fetch_or(!served, Ordering::SeqCst);
                }
                round.polls.fetch_add(1, Ordering::SeqCst);
                checkpoint().await.unwrap();
            }
        }));
        drop(s.spawn(async move {
            while !round.is_over() {
                round.turns.fetch_add(1, Ordering::SeqCst);
                checkpoint().await.unwrap();
            }
        }));
        round.try_until_seen(&s, 4).await;
    })
    .on(&pool)
    .await;
    let is_seen = round.is_long.load(Ordering::SeqCst);
    is_seen.then(|| round.seen.load(Ordering::SeqCst) && !round.late.load(Ordering::SeqCst))
}

// The owner began another long poll, in which nobody could come, beside two idle threads.
#[test]
fn short_one_is_served_while_a_helper_and_the_owner_are_in_long_polls() {
    guarded_for(Duration::from_secs(300), || {
        on_each_host(short_one_is_served)
    });
}

/// The only helper is in a long poll until each of some short ones has had ten turns, beside a body that yields on and on. Whether
/// they have.
async fn short_ones_have_turns(short: usize) -> Option<bool> {
    let pool = &pool(1);
    let (over, seen) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let served = &AtomicBool::new(false);
    let turns: &Vec<_> = &(0..short).map(|_| AtomicUsize::new(0)).collect();
    let long = async move |is_test: bool| {
        burn(Duration::from_millis(2));
        if is_test && on_helper() {
            burn(LONG);
            let counts = || turns.iter().map(|turns| turns.load(Ordering::SeqCst));
            let before: Vec<_> = counts().collect();
            let all = comes(|| {
                counts()
                    .zip(&before)
                    .all(|(now, before)| now >= before + 10)
            });
            served.store(all, Ordering::SeqCst);
            seen.store(true, Ordering::SeqCst);
        }
    };
    scope(async |s| {
        for turns in turns {
            drop(s.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    turns.fetch_add(1, Ordering::SeqCst);
                    checkpoint().await.unwrap();
                }
            }));
        }
        for n in 0..200 {
            let one = s.spawn(long(n > 30));
            while !one.is_finished() {
                checkpoint().await.unwrap();
            }
            if seen.load(Ordering::SeqCst) {
                break;
            }
        }
        over.store(true, Ordering::SeqCst);
    })
    .on(pool)
    .await;
    let is_seen = seen.load(Ordering::SeqCst);
    is_seen.then(|| served.load(Ordering::SeqCst))
}

// With each turn of the body the one whose turn came next went behind all others, and it was always the same.
#[test]
fn each_short_one_has_turns_beside_a_body_that_yields() {
    guarded_for(Duration::from_secs(300), || {
        for short in [2, 3, 5, 17] {
            on_each_host(|_| short_ones_have_turns(short));
        }
    });
}
