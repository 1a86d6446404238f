//! The first scope of a process: eight tasks of 50 ms of work, of a kind that nothing is known of, in each of the ways
//! that have them; how long it takes beside the best possible, which is half of their sum on two threads.
//!
//! `for way in scope spawn_fn join join_all par rayon; do target/release/first $way; done`. A process for each way, since
//! what is learnt of a kind stays.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use selvedge::{IntoPar, block_on, join_all, scope};

const TASKS: u32 = 8;
const WORK: Duration = Duration::from_millis(50);

/// Computes for so long.
fn work(seed: u32) -> u64 {
    let from = Instant::now();
    let mut x = u64::from(seed) | 1;
    while from.elapsed() < WORK {
        for _ in 0..1000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
    }
    std::hint::black_box(x)
}

fn main() -> ExitCode {
    let way = std::env::args().nth(1).unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = || match way.as_str() {
        "scope" => block_on(scope(async |s| {
            for seed in 0..TASKS {
                s.spawn(async move { work(seed) });
            }
        })),
        "spawn_fn" => block_on(scope(async |s| {
            for seed in 0..TASKS {
                s.spawn_fn(move || work(seed));
            }
        })),
        "join_all" => drop(block_on(join_all(
            (0..TASKS).map(|seed| async move { work(seed) }),
        ))),
        "join" => {
            let both = |seed: u32| async move {
                for n in 0..TASKS / 2 {
                    work(seed + n);
                }
            };
            block_on(selvedge::join((both(0), both(9))));
        }
        "par" => {
            block_on((0..TASKS).into_par().map(work).sum::<u64>());
        }
        "rayon" => rayon::scope(|s| {
            for seed in 0..TASKS {
                s.spawn(move |_| {
                    std::hint::black_box(work(seed));
                });
            }
        }),
        _ => {}
    };
    if way.is_empty() {
        eprintln!("usage: first scope|spawn_fn|join_all|join|par|rayon");
        return ExitCode::from(2);
    }
    let best = WORK * TASKS / u32::try_from(threads.min(TASKS as usize)).unwrap_or(1);
    for what in ["first", "second"] {
        let from = Instant::now();
        run();
        let took = from.elapsed();
        println!(
            "{way}, {what}: {took:.1?}, {:.2} of the best possible",
            took.as_secs_f64() / best.as_secs_f64()
        );
    }
    ExitCode::SUCCESS
}
