//! Every bar that this project has set itself, measured beside its peers: the ratio, the bar, met or missed.
//!
//! `cargo run --release -p selvedge-benches --bin bars [--threads N] [FILTER…]`. Bars whose name contains a
//! filter are run, or all. Not a gate: numbers of a busy machine say little, so it always exits with zero.

mod cheap;
mod items;
mod share;

use std::process::ExitCode;
use std::time::Duration;

use selvedge_benches::fleet::Fleet;
use selvedge_benches::report::Report;
use selvedge_benches::runner::Effort;

/// What a group of bars is given.
struct Setting {
    fleet: Fleet,
    effort: Effort,
}

fn main() -> ExitCode {
    let mut threads = None;
    let mut filters = Vec::new();
    let mut effort = Effort {
        rounds: 21,
        time: Duration::from_millis(800),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) if n > 0 => threads = Some(n),
                _ => return usage(),
            },
            "--millis" => match args.next().and_then(|n| n.parse().ok()) {
                Some(n) => effort.time = Duration::from_millis(n),
                None => return usage(),
            },
            flag if flag.starts_with('-') => return usage(),
            _ => filters.push(arg),
        }
    }
    let setting = Setting {
        fleet: Fleet::new(threads),
        effort,
    };
    let mut report = Report::new(filters);
    println!("{} threads", setting.fleet.threads);
    cheap::bars(&setting, &mut report);
    share::bars(&setting, &mut report);
    items::bars(&setting, &mut report);
    report.summary();
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: bars [--threads N] [--millis N] [FILTER…]");
    ExitCode::from(2)
}
