//! A task that opens one scope after the other and never has to wait leaves turns to those beside it. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::hosts::Host;
use common::{Between, MODES, burn, guarded, pool};
use futures::future::select;
use selvedge_cancel::checkpoint;
use selvedge_scope::lending::Lending;
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
                let _ = select(pin!(rests), pin!(yields)).await;
            }
        }
    }
}

/// Where the whole is polled.
#[derive(Clone, Copy, Debug)]
enum Around {
    BlockOn,
    Tokio(Host),
}

const AROUND: [Around; 4] = [
    Around::BlockOn,
    Around::Tokio(Host::Main),
    Around::Tokio(Host::Task),
    Around::Tokio(Host::Current),
];

impl Around {
    fn run(self, mode: Lending, whole: impl Future<Output = ()> + Send + 'static) {
        let mut whole = Box::pin(whole);
        // In this mode on whichever thread it is polled.
        let whole = poll_fn(move |cx| lending::with(mode, || whole.as_mut().poll(cx)));
        match self {
            Self::BlockOn => block_on(whole),
            Self::Tokio(host) => host.run(whole),
        }
    }
}

/// How many scopes were opened, one after the other, until a sibling has had its turns.
fn opened(inner: Inner, mode: Lending, around: Around) -> usize {
    const MOST: usize = 200_000;
    let pool = pool(1);
    let counts = Arc::new((AtomicUsize::new(0), AtomicBool::new(false)));
    let all = counts.clone();
    around.run(mode, async move {
        let (opened, over) = &*all;
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
        .on(&pool)
        .await;
    });
    counts.0.load(Ordering::SeqCst)
}

// Each of them has a budget of its own, and the next one is opened in the same poll of the task.
#[test]
fn scopes_in_a_loop_leave_turns_to_those_beside_their_task() {
    guarded(|| {
        for (mode, around) in MODES
            .into_iter()
            .flat_map(|mode| AROUND.map(|at| (mode, at)))
        {
            for inner in ALL {
                let opened = opened(inner, mode, around);
                // A budget of 5 ms for the first, one for the others, and one for the last, of each of the two tasks, and a
                // window of the outer scope beside.
                let most = TURNS * 2 * 4 * 5000 / 20;
                assert!(
                    opened <= most,
                    "{around:?}, {mode:?}, {inner:?}: {opened} scopes for {TURNS} turns"
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
        for (mode, around) in MODES
            .into_iter()
            .flat_map(|mode| AROUND.map(|at| (mode, at)))
        {
            for inner in [Inner::Scope, Inner::Join, Inner::JoinAll] {
                let turns = Arc::new([const { AtomicUsize::new(0) }; SCOPES]);
                let served = |turns: &[AtomicUsize; SCOPES]| {
                    turns.iter().all(|turns| turns.load(Ordering::SeqCst) > 20)
                };
                let all = turns.clone();
                around.run(mode, async move {
                    let over = AtomicBool::new(false);
                    let each = all.iter().map(|turns| busy(inner, turns, &over));
                    let each: Vec<_> = each.collect();
                    let watch = async {
                        for _ in 0..200 {
                            if served(&all) {
                                break;
                            }
                            checkpoint().await.unwrap();
                        }
                        over.store(true, Ordering::SeqCst);
                    };
                    // In their order, in each poll.
                    let member = async {
                        futures::join!(futures::future::join_all(each), watch);
                    };
                    scope(async |s| drop(s.spawn(member))).on(&pool(1)).await;
                });
                assert!(served(&turns), "{around:?}, {mode:?}, {inner:?}: {turns:?}");
            }
        }
    });
}

/// Scopes in scopes, and in the innermost one who computes and yields until it is over.
fn deep(depth: usize, inner: Inner, work: Arc<Work>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            while !work.over.load(Ordering::SeqCst) {
                work.polls.fetch_add(1, Ordering::SeqCst);
                burn(Duration::from_millis(1));
                checkpoint().await.unwrap();
            }
            return;
        }
        let next = deep(depth - 1, inner, work);
        match inner {
            Inner::JoinAll => drop(join_all([next]).await),
            _ => scope(async |s| drop(s.spawn(next))).await,
        }
    })
}

#[derive(Default)]
struct Work {
    polls: AtomicUsize,
    over: AtomicBool,
}

// Each of them went on for eight budgets, and the one around it polled it again as often.
#[test]
fn scopes_in_scopes_go_on_alone_for_no_longer_than_one() {
    guarded(|| {
        for inner in [Inner::Scope, Inner::JoinAll] {
            for depth in 1..=4 {
                let work = Arc::new(Work::default());
                let neighbour = async {
                    let mut between = Between::of(&work.polls);
                    for _ in 0..TURNS {
                        checkpoint().await.unwrap();
                        between.turn();
                    }
                    work.over.store(true, Ordering::SeqCst);
                    between.most()
                };
                let deep = deep(depth, inner, work.clone());
                let ((), most) = block_on(async { futures::join!(deep, neighbour) });
                assert!(
                    most <= 50,
                    "{inner:?}, {depth} deep: {most} polls of 1 ms between two turns"
                );
            }
        }
    });
}
