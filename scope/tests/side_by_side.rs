//! Several scopes in one task, each of them busy: together they leave turns to those beside the task. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::hosts::{current, multi};
use common::{Between, MODES, burn, guarded_for, pool};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_cancel::checkpoint;
use selvedge_scope::lending::Lending;
use selvedge_scope::{Pool, block_on, join_all, lending, scope};

const SCOPES: usize = 24;
/// What each is to have, while all of them have so many. How often the neighbour has a turn meanwhile says nothing: while the scopes
/// wait for a helper he has as many as he likes.
const TURNS: usize = 6;
const MOST: usize = 200 * SCOPES;
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
    /// As leaves of a tree: scopes that join two at each level.
    Tree,
    /// Scopes that spawn two.
    Spawned,
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

/// Some of them as leaves.
fn tree<'a>(counts: &'a Counts, some: Range<usize>, spawns: bool, pool: &'a Pool) -> Boxed<'a> {
    Box::pin(async move {
        if some.len() == 1 {
            return busy(counts, some.start, pool).await;
        }
        let middle = some.start + some.len() / 2;
        let two =
            [some.start..middle, middle..some.end].map(|some| tree(counts, some, spawns, pool));
        scope(async |s| {
            if spawns {
                return two.map(|one| drop(s.spawn(one))).into_iter().collect();
            }
            let [left, right] = two;
            let ((), ()) = futures::join!(left, right);
        })
        .on(pool)
        .await;
    })
}

async fn all(way: Way, counts: Arc<Counts>) {
    let pool = pool(1);
    let scopes = (0..SCOPES).map(|n| -> Boxed<'_> { Box::pin(busy(&counts, n, &pool)) });
    match way {
        Way::Unordered => scopes.collect::<FuturesUnordered<_>>().collect().await,
        Way::All => drop(futures::future::join_all(scopes).await),
        Way::Members => drop(join_all(scopes).on(&pool).await),
        Way::Tree => tree(&counts, 0..SCOPES, false, &pool).await,
        Way::Spawned => tree(&counts, 0..SCOPES, true, &pool).await,
    }
}

/// Has turns until each of the others has had some. The most polls of all of them between two of its own.
async fn neighbour(counts: &Counts) -> usize {
    let mut between = Between::of(&counts.polls);
    while counts.polls.load(Ordering::SeqCst) < MOST {
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
            for way in [
                Way::Unordered,
                Way::All,
                Way::Members,
                Way::Tree,
                Way::Spawned,
            ] {
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
                    let budgets = match host {
                        Host::BlockOn | Host::Nested => 8,
                        Host::Current | Host::Worker | Host::Smol => 2,
                    };
                    let most = 2 * budgets * BUDGET + 4 * SCOPES * LEAST + 32;
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

/// Turns of each, up to so many of all together.
fn turns_of_each(way: Way, host: Host, tasks: usize) -> Vec<Vec<usize>> {
    const EACH: usize = 150;
    async fn some(way: Way, counts: Arc<Counts>, polls: usize) -> Vec<usize> {
        let stops = async {
            while counts.polls.load(Ordering::SeqCst) < polls {
                checkpoint().await.unwrap();
            }
            counts.over.store(true, Ordering::SeqCst);
        };
        futures::join!(stops, all(way, counts.clone()));
        counts
            .turns
            .iter()
            .map(|n| n.load(Ordering::SeqCst))
            .collect()
    }
    let one = move || some(way, Arc::default(), SCOPES * EACH);
    let spawned = async move {
        let all: Vec<_> = (0..tasks).map(|_| tokio::spawn(one())).collect();
        let mut turns = Vec::new();
        for one in all {
            turns.push(one.await.unwrap());
        }
        turns
    };
    match host {
        Host::Current => current().block_on(spawned),
        Host::Worker => multi(1).block_on(spawned),
        Host::BlockOn | Host::Smol => vec![block_on(one())],
        Host::Nested => {
            let nested = scope(async |s| s.spawn(one()).await);
            vec![block_on(nested.inline())]
        }
    }
}

// The first in order had 79 turns for one of each other, and so it was again as soon as a thread had two such tasks.
#[test]
fn like_scopes_side_by_side_have_like_turns() {
    guarded_for(Duration::from_secs(240), || {
        for (host, tasks) in [
            (Host::BlockOn, 1),
            (Host::Nested, 1),
            (Host::Current, 1),
            (Host::Current, 3),
            (Host::Worker, 3),
        ] {
            if cfg!(not(feature = "tokio")) && matches!(host, Host::Current | Host::Worker) {
                continue;
            }
            for way in [Way::Unordered, Way::All] {
                let turns = lending::with(Lending::Never, || turns_of_each(way, host, tasks));
                for turns in turns {
                    let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
                    // Before it is known how many there are the first one goes on alone.
                    let first = 8 * BUDGET;
                    assert!(
                        *most <= 2 * least + first,
                        "{host:?}, {way:?}, {tasks} tasks: {turns:?}"
                    );
                }
            }
        }
    });
}

// Each had all the time of a window, for which its ready siblings waited.
#[test]
fn sibling_of_scopes_that_are_busy_has_turns() {
    guarded_for(Duration::from_secs(120), || {
        for host in [Host::BlockOn, Host::Current] {
            let counts = &Counts::default();
            let pool = &pool(0);
            let whole = scope(async |s| {
                for n in 0..SCOPES {
                    drop(s.spawn(busy(counts, n, pool)));
                }
                s.spawn(neighbour(counts)).await
            });
            let gap = match host {
                Host::Current => current().block_on(async { whole.inline().await }),
                _ => block_on(whole.inline()),
            };
            // Looks at the clock come after each poll, but not where a window knows what polls cost.
            let most = 4 * SCOPES * LEAST + BUDGET;
            assert!(gap <= most, "{host:?}: {gap} polls between two turns");
        }
    });
}
