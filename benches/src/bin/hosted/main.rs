//! What users run, on the runtimes they run it on, beside what they had: children that pass messages, an actor,
//! permits, timers, sockets; a scope in `block_on`, in a task, on a current-thread runtime, on smol and on the embedded
//! executor, beside `JoinSet`, `FuturesUnordered` and `join_all`.
//!
//! `cargo run --release -p selvedge-benches --bin hosted [--millis N] [FILTER…]`. Not a gate, as `bars` is none.

mod hosts;
mod loads;

use std::process::ExitCode;
use std::time::Duration;

use selvedge_benches::report::{Bar, Report};
use selvedge_benches::runner::{Contest, Effort};

use hosts::{HOSTS, Host, Way};
use loads::{LOADS, Load};

fn main() -> ExitCode {
    let mut filters = Vec::new();
    let mut effort = Effort {
        rounds: 5,
        time: Duration::from_millis(800),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--millis" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) => effort.time = Duration::from_millis(n),
                None => return usage(),
            },
            flag if flag.starts_with('-') => return usage(),
            _ => filters.push(arg),
        }
    }
    let mut report = Report::new(filters);
    for load in LOADS {
        for host in HOSTS {
            let name = format!("{}, {}", load.name(), host.name());
            let fits = host.is_tokio() || !load.needs_tokio();
            if fits && report.wants(&name) {
                contest(&name, load, host, effort, &mut report);
            }
        }
    }
    report.summary();
    ExitCode::SUCCESS
}

/// One load in one place, by all who can be there.
fn contest(name: &str, load: Load, host: Host, effort: Effort, report: &mut Report) {
    let seat = host.seat();
    let mut contest = Contest::new(load.units());
    let ways: Vec<Way> = Way::ALL
        .into_iter()
        .filter(|&way| host.takes(way))
        .collect();
    for &way in &ways {
        let seat = &seat;
        contest = contest.add(way.name(), move || seat.run(way, load));
    }
    let results = contest.run(effort);
    report.rows(name, "an operation", &results);
    for &way in ways.iter().filter(|&&way| way != Way::Scope) {
        let ratio = results.ratio("scope", way.name(), 1.0);
        report.ratio(
            format!("{name}: scope / {}", way.name()),
            ratio,
            Bar::AtMost(1.0),
        );
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: hosted [--millis N] [FILTER…]");
    ExitCode::from(2)
}
