//! Many tasks with scopes that compute on one worker of tokio's: it comes round to its sockets and timers.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::guarded_for;
use common::hosts::{current, multi};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_scope::scope;
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, consume_budget, unconstrained};

/// Work of the length of so many windows, in pieces.
const WINDOWS: usize = 120;
const PIECE: Duration = Duration::from_micros(100);
const PIECES: usize = WINDOWS * 50;

/// A scope that computes until so much has been done, by itself and by others.
fn computes(pieces: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + use<> {
    let done = pieces.clone();
    let all = scope(async move |s| {
        s.spawn(async move {
            while done.fetch_add(1, Ordering::SeqCst) < PIECES {
                common::burn(PIECE);
                selvedge_cancel::checkpoint().await.unwrap();
            }
        })
        .await;
    });
    all.inline()
}

/// What is beside the scopes in each task.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    /// The task goes without tokio's budget; or the first one does.
    Unconstrained,
    OneUnconstrained,
    /// Somebody who yields by tokio's budget.
    Endless,
    /// Somebody who uses more of the budget in each poll than in the last.
    Greedy,
    /// The tasks are in a `LocalSet`.
    LocalSet,
    /// Each poll of the task polls all of its scopes.
    Joined,
}

/// A task of so many scopes.
async fn task(pieces: Arc<AtomicUsize>, scopes: usize, beside: Beside) {
    if let Beside::Joined = beside {
        let all = (0..scopes).map(|_| computes(&pieces));
        return drop(futures::future::join_all(all).await);
    }
    let mut several: FuturesUnordered<_> = (0..scopes).map(|_| computes(&pieces)).collect();
    let several = async { while several.next().await.is_some() {} };
    let is_over = || pieces.load(Ordering::SeqCst) >= PIECES;
    match beside {
        Beside::Endless => {
            let endless = async {
                while !is_over() {
                    consume_budget().await;
                }
            };
            futures::join!(endless, several);
        }
        Beside::Greedy => {
            let mut uses = 0;
            let greedy = poll_fn(|cx| {
                uses = (uses + 1) % 100;
                for _ in 0..uses {
                    let _ = pin!(consume_budget()).poll(cx);
                }
                Poll::<()>::Pending
            });
            futures::future::select(greedy, pin!(several)).await;
        }
        _ => several.await,
    }
}

/// How often the worker looks at its timers and finds some that have fired, of one each millisecond.
async fn looks(pieces: Arc<AtomicUsize>) -> usize {
    let mut timers: FuturesUnordered<_> = (1..10_000)
        .map(|ms| tokio::time::sleep(Duration::from_millis(ms)))
        .collect();
    let mut looks = 0;
    poll_fn(|cx| {
        let mut fired = 0;
        while let Poll::Ready(Some(())) = timers.poll_next_unpin(cx) {
            fired += 1;
        }
        looks += usize::from(fired > 0);
        match pieces.load(Ordering::SeqCst) >= PIECES {
            true => Poll::Ready(looks),
            false => Poll::Pending,
        }
    })
    .await
}

/// How often that is beside `tasks`, each with so many scopes.
fn looks_beside(runtime: &Runtime, tasks: usize, scopes: usize, beside: Beside) -> usize {
    let pieces = Arc::new(AtomicUsize::new(0));
    let all = async {
        let mut all = Vec::new();
        for number in 0..tasks {
            let task = task(pieces.clone(), scopes, beside);
            all.push(match beside {
                Beside::OneUnconstrained if number > 0 => tokio::spawn(task),
                Beside::Unconstrained | Beside::OneUnconstrained => {
                    tokio::spawn(unconstrained(task))
                }
                Beside::LocalSet => tokio::task::spawn_local(task),
                _ => tokio::spawn(task),
            });
        }
        let looks = tokio::spawn(looks(pieces.clone()));
        for task in all {
            task.await.unwrap();
        }
        looks.await.unwrap()
    };
    match beside {
        Beside::LocalSet => LocalSet::new().block_on(runtime, all),
        _ => runtime.block_on(all),
    }
}

// The alarm of a wake that is put off took the windows of other tasks for a worker that somebody blocks, and its own wakes
// kept the worker from ever having nothing to do, which is when it looks. Then it told them apart by tokio's budget, which
// not every task has, and which others use too.
#[test]
fn worker_looks_at_its_timers_between_rounds_of_windows() {
    // More than twenty seconds of work.
    guarded_for(Duration::from_secs(240), || {
        let all = [
            Beside::Nothing,
            Beside::Unconstrained,
            Beside::OneUnconstrained,
            Beside::Endless,
            Beside::Greedy,
            Beside::LocalSet,
            Beside::Joined,
        ];
        for beside in all {
            for (number, runtime) in [current(), multi(1)].iter().enumerate() {
                if number > 0 && matches!(beside, Beside::LocalSet) {
                    // Its `block_on` is no worker.
                    continue;
                }
                for (tasks, scopes) in [(3, 1), (6, 1), (1, 4)] {
                    let looks = looks_beside(runtime, tasks, scopes, beside);
                    // One a round; a worker that always has somebody to poll looks after sixty windows.
                    let rounds = WINDOWS / (tasks * scopes);
                    assert!(
                        looks >= rounds / 2,
                        "{beside:?}, {number}: {looks} looks in {rounds} rounds of {tasks} tasks with {scopes} scopes each"
                    );
                }
            }
        }
    });
}
