//! Runs one load again and again, for a profiler: `profile LOAD ROUNDS`, as in
//! `valgrind --tool=callgrind target/release/profile no-op 20`. Measures nothing itself.

use std::future::ready;
use std::process::ExitCode;
use std::time::Duration;

use selvedge::{Pool, Scope, block_on, scope};
use selvedge_benches::work::yield_once;
use selvedge_benches::{load, quiet};

async fn no_op(i: u64) -> u64 {
    i
}

async fn yielding(i: u64) -> u64 {
    yield_once().await;
    i
}

const LONG: Duration = Duration::from_secs(3600);

/// A thousand of them, one after the other.
fn many(one: impl AsyncFn()) -> u64 {
    block_on(async {
        for _ in 0..1000 {
            one().await;
        }
    });
    1000
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let rounds: u64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(20);
    let pool = Pool::global();
    let run: &dyn Fn() -> u64 = match name.as_str() {
        "no-op" => &|| load::ours(&pool, 10_000, false, no_op),
        "no-op-inline" => &|| load::ours(&pool, 10_000, true, no_op),
        "no-op-awaited" => &|| load::ours_awaited(&pool, 10_000, false, no_op),
        "no-op-unordered" => &|| load::futures_unordered(10_000, no_op),
        "yield" => &|| load::ours(&pool, 10_000, false, yielding),
        "yield-unordered" => &|| load::futures_unordered(10_000, yielding),
        "small-2" => &|| load::small_scopes(&pool, 4000, 2, false, no_op),
        // By the learnt cost it depends on the clock which way a scope goes.
        "small-2-hinted" => &|| {
            many(async || {
                let two = scope(async |s: Scope<'_>| {
                    drop(s.spawn(ready(1)));
                    drop(s.spawn(ready(2)));
                });
                two.cheap().await;
            })
        },
        "small-8" => &|| load::small_scopes(&pool, 4000, 8, false, no_op),
        "small-2-unordered" => &|| load::small_unordered(4000, 2, no_op),
        "empty" => &|| many(async || scope(async |_| ()).await),
        "join-ready" => {
            &|| many(async || assert_eq!(selvedge::join((ready(1), ready(2))).await, (1, 2)))
        }
        "join-ready-futures" => {
            &|| many(async || assert_eq!(futures::join!(ready(1), ready(2)), (1, 2)))
        }
        "timeout-ready" => &|| many(async || drop(selvedge::timeout(LONG, ready(1)).await)),
        "quiet" => &|| quiet::ours(&pool, 1000, false) as u64,
        "join-all" => &|| load::join_all(10_000, no_op),
        _ => {
            eprintln!("no load is called {name:?}; see src/bin/profile.rs");
            return ExitCode::from(2);
        }
    };
    for _ in 0..rounds {
        std::hint::black_box(run());
    }
    ExitCode::SUCCESS
}
