//! Many tasks with scopes that compute on one worker of tokio's: it comes round to its sockets and timers.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::guarded;
use common::hosts::{current, multi};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_scope::scope;
use tokio::runtime::Runtime;

const WINDOWS: usize = 240;

/// A scope that computes until so many windows have been opened, of its own and of others.
fn computes(windows: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + use<> {
    let (opened, until) = (windows.clone(), windows.clone());
    let all = scope(async move |s| {
        s.spawn(async move {
            while until.load(Ordering::SeqCst) < WINDOWS {
                common::burn(Duration::from_micros(100));
                selvedge_cancel::checkpoint().await.unwrap();
            }
        })
        .await;
    });
    let mut all = Box::pin(all.inline());
    poll_fn(move |cx| {
        opened.fetch_add(1, Ordering::SeqCst);
        all.as_mut().poll(cx)
    })
}

/// How often a timer fires beside `tasks`, each with so many scopes.
fn ticks(runtime: &Runtime, tasks: usize, scopes: usize) -> usize {
    let windows = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..tasks {
            let mut several: FuturesUnordered<_> =
                (0..scopes).map(|_| computes(&windows)).collect();
            all.push(tokio::spawn(async move {
                while several.next().await.is_some() {}
            }));
        }
        let ticker = tokio::spawn(async move {
            let mut ticks = 0;
            while windows.load(Ordering::SeqCst) < WINDOWS {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks += 1;
            }
            ticks
        });
        for task in all {
            task.await.unwrap();
        }
        ticker.await.unwrap()
    })
}

// The alarm of a wake that is put off took the windows of other tasks for a worker that somebody blocks, and its own wakes
// kept the worker from ever having nothing to do, which is when it looks.
#[test]
fn worker_looks_at_its_timers_between_rounds_of_windows() {
    guarded(|| {
        for runtime in [current(), multi(1)] {
            for (tasks, scopes) in [(3, 1), (6, 1), (1, 4)] {
                let ticks = ticks(&runtime, tasks, scopes);
                // One a round, but for the rounds in which it is found out how long they last; a worker that always has
                // somebody to poll looks after sixty windows.
                let rounds = WINDOWS / (tasks * scopes);
                assert!(
                    ticks >= rounds / 2,
                    "{ticks} ticks in {rounds} rounds of {tasks} tasks with {scopes} scopes each"
                );
            }
        }
    });
}
