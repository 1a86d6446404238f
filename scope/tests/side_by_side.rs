//! Several scopes in one task, each of them busy: together they leave turns to those beside the task. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::hosts::{current, multi};
use common::{Between, MODES, burn, guarded_for, pool};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_cancel::checkpoint;
use selvedge_scope::{Pool, block_on, join_all, lending, scope};

const SCOPES: usize = 24;
/// What each is to have, and the turns of the neighbour in which it is to.
const TURNS: usize = 6;
const MOST: usize = 20_000;
/// Polls of 100 us in a budget of 5 ms, and in what a window has in any case.
const BUDGET: usize = 50;
const LEAST: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Polls whom it is woken for.
    Unordered,
    /// Polls all.
    All,
    /// As members of one `join_all` of ours.
    Members,
}

#[derive(Default)]
struct Counts {
    polls: AtomicUsize,
    over: AtomicBool,
    turns: [AtomicUsize; SCOPES],
}

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

async fn busy(counts: &Counts, n: usize, pool: &Pool) {
    scope(async |s| {
        drop(s.spawn(async {
            while !counts.over.load(Ordering::SeqCst) {
                counts.turns[n].fetch_add(1, Ordering::SeqCst);
                counts.polls.fetch_add(1, Ordering::SeqCst);
                burn(Duration::from_micros(100));
                checkpoint().await.unwrap();
            }
        }));
    })
    .on(pool)
    .await;
}

async fn all(way: Way, counts: Arc<Counts>) {
    let pool = pool(1);
    let scopes = (0..SCOPES).map(|n| -> Boxed<'_> { Box::pin(busy(&counts, n, &pool)) });
    match way {
        Way::Unordered => scopes.collect::<FuturesUnordered<_>>().collect().await,
        Way::All => drop(futures::future::join_all(scopes).await),
        Way::Members => drop(join_all(scopes).on(&pool).await),
    }
}

/// Has turns until each of the others has had some. The most polls of all of them between two of its own.
async fn neighbour(counts: &Counts) -> usize {
    let mut between = Between::of(&counts.polls);
    for _ in 0..MOST {
        checkpoint().await.unwrap();
        between.turn();
        let has_turns = |turns: &AtomicUsize| turns.load(Ordering::SeqCst) >= TURNS;
        if counts.turns.iter().all(has_turns) {
            break;
        }
    }
    counts.over.store(true, Ordering::SeqCst);
    between.most()
}

#[derive(Clone, Copy, Debug)]
enum Host {
    Current,
    Worker,
    BlockOn,
    /// Which tells its tasks apart by their wakers only.
    Smol,
    /// In a scope, beside a sibling.
    Nested,
}

impl Host {
    fn run(self, way: Way) -> (usize, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let (busy, beside) = (all(way, counts.clone()), counts.clone());
        let spawned = async move {
            let busy = tokio::spawn(busy);
            let gap = tokio::spawn(async move { neighbour(&beside).await });
            let gap = gap.await.unwrap();
            busy.await.unwrap();
            gap
        };
        let beside = counts.clone();
        let gap = match self {
            Self::Current => current().block_on(spawned),
            Self::Worker => multi(1).block_on(spawned),
            Self::BlockOn => {
                let busy = all(way, counts.clone());
                let both = async { futures::join!(neighbour(&beside), busy) };
                block_on(both).0
            }
            Self::Smol => {
                let executor = smol::Executor::new();
                let busy = executor.spawn(all(way, counts.clone()));
                let gap = executor.spawn(async move { neighbour(&beside).await });
                smol::block_on(executor.run(async {
                    let gap = gap.await;
                    busy.await;
                    gap
                }))
            }
            Self::Nested => {
                let busy = all(way, counts.clone());
                let nested = scope(async |s| {
                    drop(s.spawn(busy));
                    neighbour(&beside).await
                });
                block_on(nested.inline())
            }
        };
        (gap, counts)
    }
}

// Each of them had windows of 5 ms, all of which came before anybody else's turn.
#[test]
fn busy_scopes_in_one_task_have_the_time_of_one() {
    guarded_for(Duration::from_secs(240), || {
        for host in [
            Host::Current,
            Host::Worker,
            Host::BlockOn,
            Host::Smol,
            Host::Nested,
        ] {
            for way in [Way::Unordered, Way::All, Way::Members] {
                // Each has a waker of its own, and it is not known whose polls these are.
                let is_known = match host {
                    Host::Current | Host::Worker => cfg!(feature = "tokio"),
                    Host::Smol => false,
                    Host::BlockOn | Host::Nested => true,
                };
                if matches!(way, Way::Unordered) && !is_known {
                    continue;
                }
                for mode in MODES {
                    let (gap, counts) = lending::with(mode, || host.run(way));
                    // Eight budgets in our own `block_on`, of a helper too, a turn or two of each, and a packet.
                    let most = 2 * 8 * BUDGET + 2 * SCOPES * LEAST + 32;
                    assert!(
                        gap <= most,
                        "{host:?}, {way:?}, {mode:?}: {gap} polls between two turns"
                    );
                    let least = counts.turns.iter().map(|n| n.load(Ordering::SeqCst)).min();
                    assert!(
                        least >= Some(TURNS),
                        "{host:?}, {way:?}, {mode:?}: {:?}",
                        counts.turns
                    );
                }
            }
        }
    });
}
