//! How work spreads over 1, 2, 4, 8, 16… threads: a scope, `par` over a range and over a stream, beside rayon and tokio
//! with as many threads each. Prints the parallel efficiency: the time on one thread without any of them, divided by the
//! number of threads and by the time that it took.
//!
//! `scale [--millis N] [MOST]`; `scripts/scale` builds it and runs it here. Each count up to the machine's cores, or
//! `MOST`. Not a gate.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use selvedge_benches::fleet::Fleet;
use selvedge_benches::runner::{Contest, Effort, Results};
use selvedge_benches::work::Work;
use selvedge_benches::{load, pipe};

/// Microseconds a child or an item takes, and how many there are.
const GRAINS: [(f64, u64); 4] = [(1.0, 20_000), (10.0, 5_000), (100.0, 1_000), (1000.0, 200)];

const ALONE: &str = "one thread alone";

fn main() -> ExitCode {
    let mut most = std::thread::available_parallelism().map_or(1, usize::from);
    let mut effort = Effort {
        rounds: 5,
        time: Duration::from_millis(400),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number = match arg.as_str() {
            "--millis" => args.next().and_then(|n| n.parse().ok()),
            other => other.parse().ok(),
        };
        match (arg.as_str(), number) {
            ("--millis", Some(n)) => effort.time = Duration::from_millis(n),
            (_, Some(n)) if n > 0 => most = usize::try_from(n).unwrap_or(usize::MAX),
            _ => {
                eprintln!("usage: scale [--millis N] [MOST]");
                return ExitCode::from(2);
            }
        }
    }
    let mut counts: Vec<usize> = std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|&n| n <= most)
        .collect();
    if counts.last() != Some(&most) {
        counts.push(most);
    }
    for threads in counts {
        let fleet = Fleet::new(Some(threads));
        println!("\n{threads} threads: efficiency, median of the rounds");
        for (micros, count) in GRAINS {
            show(&fleet, micros, count, effort);
        }
    }
    ExitCode::SUCCESS
}

fn show(fleet: &Fleet, micros: f64, count: u64, effort: Effort) {
    let work = Work::micros(micros);
    let ours = &fleet.ours;
    // Each counts as one, so that all contestants come to the same sum.
    let job = move |i| {
        black_box(work.done(i));
        1
    };
    let child = move |i| async move { job(i) };
    let results = Contest::new(usize::try_from(count).expect("they are few"))
        .settled()
        .add(ALONE, || (0..count).map(job).sum())
        .add("scope", || load::ours(ours, count, false, child))
        .add("rayon::scope", || {
            load::rayon_scope(&fleet.rayon, count, job)
        })
        .add("JoinSet", || load::join_set(&fleet.tokio, count, child))
        .add("par, range", || pipe::ours_range(ours, count, job))
        .add("par, stream", || pipe::ours_stream(ours, count, job))
        .add("par_iter", || pipe::par_iter(&fleet.rayon, count, job))
        .run(effort);
    print(&results, micros, count, fleet.threads);
}

fn print(results: &Results, micros: f64, count: u64, threads: usize) {
    print!("  {count:>6} of {micros:>4} us:");
    for row in results.rows.iter().filter(|row| row.name != ALONE) {
        let efficiency = results.ratio(ALONE, &row.name, 1.0 / threads as f64);
        print!("  {} {:.2}", row.name, efficiency.median);
    }
    println!();
}
