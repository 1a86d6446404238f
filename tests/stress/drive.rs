//! Which seeds run, for how long and in how many processes; the watchdog; and what is said when a fault is found. Not
//! what a seed does.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio, exit};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::less;
use crate::make::plan;
use crate::plan::Plan;
use crate::run::run;
use crate::world::{WORLD, hook, lock};

/// How many polls of other members of its scope a member that is ready may have to wait for, on one thread: two rounds
/// of the largest trees; the tests called `turns` have the exact bounds. Where members are lent, a thread that the
/// system stops with a ready member in its packet is no fault of the engine, so there the bound only finds those who
/// are never polled.
const TURNS: [u64; 2] = [4096, 1 << 20];
/// A seed that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// The seeds of a plain test run.
const FIXED: u64 = 400;

/// What the process is at, for the watchdog.
static NOW: Mutex<Option<(Instant, Arc<Plan>)>> = Mutex::new(None);

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

pub(crate) fn start() {
    if let Ok(seeds) = env::var("SELVEDGE_STRESS_WORKER") {
        worker(&seeds);
    } else if let Ok(seeds) = env::var("SELVEDGE_STRESS_SEED") {
        let times = number("SELVEDGE_STRESS_TIMES").unwrap_or(200);
        let (from, to) = match seeds.split_once("..") {
            Some((from, to)) => (from.parse(), to.parse()),
            None => (seeds.parse(), seeds.parse().map(|seed: u64| seed + 1)),
        };
        let (from, to) = (from.expect("a seed"), to.expect("a seed"));
        prepare();
        if env::var_os("SELVEDGE_STRESS_SHRINK").is_some() {
            return make_smaller(from, times);
        }
        (0..times).for_each(|_| (from..to).for_each(one));
    } else if let Ok(minutes) = env::var("SELVEDGE_STRESS_MINUTES") {
        parent(minutes.parse().expect("minutes are a number"));
    } else {
        prepare();
        (0..FIXED).for_each(one);
    }
}

/// Runs a seed, and ends the test if it finds a fault.
fn one(seed: u64) {
    if let Some((plan, fault)) = fault_of(seed, &less::asked()) {
        eprintln!("{}", report(&plan, &fault));
        panic!("the stress test found a fault: seed {seed}: {fault}");
    }
}

/// Runs a seed without some of its operations.
fn fault_of(seed: u64, less: &BTreeSet<usize>) -> Option<(Arc<Plan>, String)> {
    let turns = number("SELVEDGE_STRESS_TURNS").map_or(TURNS, |turns| [turns, TURNS[1]]);
    let mut plan = plan(seed);
    if !less.is_empty() {
        less::leave_out(&mut plan, less);
    }
    let plan = Arc::new(plan);
    *lock(&NOW) = Some((Instant::now(), plan.clone()));
    run(&plan, turns);
    *lock(&NOW) = None;
    WORLD.take_fault().map(|fault| (plan, fault))
}

/// Looks for a smaller tree with the same kind of fault.
fn make_smaller(seed: u64, times: u64) {
    let count = less::leave_out(&mut plan(seed), &BTreeSet::new());
    let kind = |fault: &str| fault.split([':', '(']).next().unwrap_or("").to_owned();
    let first = (0..times).find_map(|_| fault_of(seed, &less::asked()));
    let (_, first) = first.expect("the seed fails");
    let mut smallest = None;
    let less = less::shrink(count, |less| {
        let found = (0..times).find_map(|_| fault_of(seed, less));
        let found = found.filter(|(_, fault)| kind(fault) == kind(&first));
        let fails = found.is_some();
        smallest = found.or(smallest.take());
        fails
    });
    let (plan, fault) = smallest.expect("something can be left out");
    let text = format!("{plan:?}")
        .replace("Busy(0), ", "")
        .replace("Busy(0)", "");
    let less: Vec<_> = less.iter().map(ToString::to_string).collect();
    let less = less.join(",");
    eprintln!("{text}\nSELVEDGE_STRESS_LESS={less} {}", replay(seed));
    panic!("the stress test found a fault: {fault}");
}

fn report(plan: &Plan, fault: &str) -> String {
    let mut text = format!("{plan:?}\n");
    let _ = write!(
        text,
        "seed {}: {fault}\nreplay: {}",
        plan.seed,
        replay(plan.seed)
    );
    text
}

fn replay(seed: u64) -> String {
    let command = env::var("SELVEDGE_STRESS_REPLAY").unwrap_or_else(|_| {
        String::from("cargo test --profile stress --all-features --test stress -- --nocapture")
    });
    format!("SELVEDGE_STRESS_SEED={seed} {command}")
}

fn prepare() {
    std::panic::set_hook(Box::new(hook));
    let watch = || loop {
        std::thread::sleep(Duration::from_millis(200));
        let stuck = lock(&NOW)
            .clone()
            .filter(|(since, _)| since.elapsed() > PATIENCE);
        if let Some((_, plan)) = stuck {
            eprintln!("{}", report(&plan, "it does not end"));
            exit(3);
        }
    };
    std::thread::spawn(watch);
}

/// One of the processes of a long run: `FIRST:STEP:SECONDS`. It says each seed before it begins, since it may crash.
fn worker(seeds: &str) {
    let mut parts = seeds.split(':').map(|part| part.parse().expect("a number"));
    let mut next = || parts.next().expect("FIRST:STEP:SECONDS");
    let (first, step, seconds): (u64, u64, u64) = (next(), next(), next());
    prepare();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    while Instant::now() < end {
        println!("\nSEED {seed}");
        one(seed);
        seed += step;
    }
}

/// Starts a process for each core, and fails with the first that does.
fn parent(minutes: f64) {
    let processes = available_parallelism().map_or(1, usize::from) as u64;
    let seconds = (minutes * 60.0) as u64;
    // Each run takes other seeds.
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let first = number("SELVEDGE_STRESS_FIRST").unwrap_or(clock.as_secs() << 20);
    let start = |index: u64| {
        std::thread::spawn(move || {
            let program = env::current_exe().expect("it runs");
            let mut child = Command::new(program)
                .args(["--nocapture", "--test-threads", "1", "random_trees"])
                .env(
                    "SELVEDGE_STRESS_WORKER",
                    format!("{}:{processes}:{seconds}", first + index),
                )
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts again");
            let (mut last, mut count) = (None, 0);
            let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
            for line in lines.map_while(Result::ok) {
                if let Some(seed) = line.strip_prefix("SEED ") {
                    last = seed.parse::<u64>().ok();
                    count += 1;
                }
            }
            let status = child.wait().expect("it was started");
            if !status.success() {
                let seed = last.unwrap_or(first);
                eprintln!("\nseed {seed} failed ({status})\nreplay: {}", replay(seed));
                // The other processes end with this one's pipes.
                exit(1);
            }
            count
        })
    };
    let workers: Vec<_> = (0..processes).map(start).collect();
    let seeds: u64 = workers
        .into_iter()
        .map(|worker| worker.join().expect("it does not panic"))
        .sum();
    assert!(seeds > 0, "no seed was run");
    println!("{seeds} seeds in {minutes} minutes by {processes} processes: no fault");
}
