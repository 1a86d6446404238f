//! A task that opens one scope after the other and never has to wait leaves turns to those beside it. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{MODES, burn, guarded, pool};
use futures::future::select;
use selvedge_cancel::checkpoint;
use selvedge_scope::{block_on, join, join_all, lending, scope};

const TURNS: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Inner {
    Scope,
    Join,
    JoinAll,
    /// A scope that computes, and one after it.
    Deep,
    /// Of two at once, one computes and rests, the other yields.
    Selected,
}

const ALL: [Inner; 5] = [
    Inner::Scope,
    Inner::Join,
    Inner::JoinAll,
    Inner::Deep,
    Inner::Selected,
];

async fn work() {
    burn(Duration::from_micros(20));
    // What yields in a nested scope is polled again in there.
    checkpoint().await.unwrap();
}

impl Inner {
    async fn run(self) {
        match self {
            Self::Scope => scope(async |s| drop(s.spawn(work()))).await,
            Self::Join => drop(join((work(), work())).await),
            Self::JoinAll => drop(join_all((0..3).map(|_| work())).await),
            Self::Deep => {
                let inner = async || scope(async |s| drop(s.spawn(work()))).await;
                scope(async |s| drop(s.spawn(inner()))).await;
            }
            Self::Selected => {
                let rests = scope(async |_| {
                    burn(Duration::from_micros(20));
                    pending::<()>().await
                });
                let yields = scope(async |_| checkpoint().await.unwrap());
                drop(select(pin!(rests), pin!(yields)).await);
            }
        }
    }
}

/// How many scopes were opened, one after the other, until a sibling has had its turns.
fn opened(inner: Inner) -> usize {
    const MOST: usize = 200_000;
    let pool = pool(1);
    let (opened, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    block_on(
        scope(async |s| {
            for _ in 0..2 {
                drop(s.spawn(async {
                    while !over.load(Ordering::SeqCst) && opened.load(Ordering::SeqCst) < MOST {
                        opened.fetch_add(1, Ordering::SeqCst);
                        inner.run().await;
                    }
                }));
            }
            for _ in 0..TURNS {
                checkpoint().await.unwrap();
            }
            over.store(true, Ordering::SeqCst);
        })
        .on(&pool),
    );
    opened.load(Ordering::SeqCst)
}

// Each of them has a budget of its own, and the next one is opened in the same poll of the task.
#[test]
fn scopes_in_a_loop_leave_turns_to_those_beside_their_task() {
    guarded(|| {
        for mode in MODES {
            for inner in ALL {
                let opened = lending::with(mode, || opened(inner));
                // A budget of 5 ms for the first, one for the others, and one for the last, of each of the two tasks, and a
                // window of the outer scope beside.
                let most = TURNS * 2 * 4 * 5000 / 20;
                assert!(
                    opened <= most,
                    "{mode:?}, {inner:?}: {opened} scopes for {TURNS} turns"
                );
            }
        }
    });
}

/// Opens a scope, or the like, whose child always yields; counts its turns until nobody counts any more.
async fn busy(inner: Inner, turns: &AtomicUsize, over: &AtomicBool) {
    let child = async || {
        while !over.load(Ordering::SeqCst) {
            turns.fetch_add(1, Ordering::SeqCst);
            work().await;
        }
    };
    match inner {
        Inner::Join => drop(join((child(), child())).await),
        Inner::JoinAll => drop(join_all((0..3).map(|_| child())).await),
        Inner::Scope | Inner::Deep | Inner::Selected => {
            scope(async |s| drop(s.spawn(child()))).await
        }
    }
}

// The third of them was refused in each poll of the member, for as long as the first two had something to do.
#[test]
fn scopes_side_by_side_in_one_member_all_have_turns() {
    const SCOPES: usize = 6;

    guarded(|| {
        let pool = pool(1);
        for mode in MODES {
            for inner in [Inner::Scope, Inner::Join, Inner::JoinAll] {
                let turns: [AtomicUsize; SCOPES] = Default::default();
                let over = AtomicBool::new(false);
                let all = turns.iter().map(|turns| busy(inner, turns, &over));
                let served = || turns.iter().all(|turns| turns.load(Ordering::SeqCst) > 20);
                let member = async {
                    let watch = async {
                        for _ in 0..200 {
                            if served() {
                                break;
                            }
                            checkpoint().await.unwrap();
                        }
                        over.store(true, Ordering::SeqCst);
                    };
                    // In their order, in each poll.
                    futures::join!(futures::future::join_all(all), watch);
                };
                lending::with(mode, || {
                    block_on(scope(async |s| drop(s.spawn(member))).on(&pool))
                });
                assert!(served(), "{mode:?}, {inner:?}: {turns:?}");
            }
        }
    });
}
