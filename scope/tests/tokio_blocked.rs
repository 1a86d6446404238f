//! A scope on a worker of tokio's that somebody blocks in another executor: the wake that it has put off never comes.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::guarded;
use common::hosts::{current, multi};
use futures::executor::block_on;
use selvedge_scope::scope;
use tokio::task::{LocalSet, unconstrained};

const WINDOWS: u32 = 20;
/// Much longer than a wait that ends by the alarm.
const STALL: Duration = Duration::from_millis(100);

/// How long nobody was polled, each time.
type Waits = Arc<Mutex<Vec<Duration>>>;

/// A scope that computes for so many windows.
fn computes(windows: u32, waits: &Waits) -> impl Future<Output = ()> + Send + use<> {
    let waits = waits.clone();
    let all = scope(async move |s| {
        s.spawn(async move {
            for _ in 0..50 * windows {
                common::burn(Duration::from_micros(100));
                let from = Instant::now();
                selvedge_cancel::checkpoint().await.unwrap();
                waits.lock().unwrap().push(from.elapsed());
            }
        })
        .await;
    });
    all.inline()
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    LocalSet,
    RunUntil,
    Joined,
    /// Polled by turns with and without the task's budget.
    ByTurns,
    /// Short scopes one after another, on a worker that has seen long rounds.
    AfterLongRounds,
}

async fn long_rounds() {
    let busy = tokio::spawn(async {
        for _ in 0..8 {
            std::thread::sleep(4 * STALL);
            tokio::task::yield_now().await;
        }
    });
    tokio::spawn(computes(6, &Waits::default())).await.unwrap();
    busy.abort();
}

async fn drive(way: Way, waits: Waits) {
    if let Way::AfterLongRounds = way {
        long_rounds().await;
    }
    let blocked = async move {
        let one = computes(WINDOWS, &waits);
        match way {
            Way::Plain => block_on(one),
            Way::LocalSet => {
                let local = LocalSet::new();
                local.spawn_local(one);
                block_on(local);
            }
            Way::RunUntil => block_on(LocalSet::new().run_until(async {
                tokio::task::spawn_local(one).await.unwrap();
            })),
            Way::Joined => {
                let all = (0..4).map(|_| computes(WINDOWS / 4, &waits));
                block_on(futures::future::join_all(all));
            }
            Way::ByTurns => {
                let (mut one, mut turn) = (Box::pin(one), 0);
                block_on(poll_fn(|cx| {
                    turn += 1;
                    match turn % 2 {
                        0 => pin!(unconstrained(one.as_mut())).poll(cx),
                        _ => one.as_mut().poll(cx),
                    }
                }));
            }
            Way::AfterLongRounds => {
                for _ in 0..WINDOWS / 2 {
                    block_on(computes(2, &waits));
                }
            }
        }
    };
    tokio::spawn(blocked).await.unwrap();
}

// The alarm took the worker for one that goes on with its tasks where the polls of the one task had different budgets, and
// waited for longer and longer, up to 320 ms after each window.
#[test]
fn scope_in_another_executor_on_a_worker_goes_on_soon() {
    guarded(|| {
        let ways = [
            Way::Plain,
            Way::LocalSet,
            Way::RunUntil,
            Way::Joined,
            Way::ByTurns,
            Way::AfterLongRounds,
        ];
        for way in ways {
            for runtime in [current(), multi(1)] {
                let waits = Waits::default();
                runtime.block_on(drive(way, waits.clone()));
                let waits = waits.lock().unwrap();
                let stalls = waits.iter().filter(|wait| **wait >= STALL).count();
                // The system may put a thread aside for as long now and then.
                assert!(stalls <= 2, "{way:?}: {stalls} stalls");
            }
        }
    });
}
