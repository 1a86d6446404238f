//! What does a wake cost in a scope of a thousand waiting children?

use std::time::Duration;

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::quiet;

fn sum(times: u64, run: impl Fn() -> f64) -> Duration {
    let nanos: f64 = (0..times).map(|_| run()).sum();
    Duration::from_nanos(nanos as u64)
}

fn question(c: &mut Criterion) {
    let n = 1000;
    let fleet = Fleet::new(None);
    let mut group = c.benchmark_group("quiet scopes");
    group.throughput(Throughput::Elements(n as u64));
    group.bench_function("ours", |b| {
        b.iter_custom(|times| sum(times, || quiet::ours(&fleet.ours, n, false)))
    });
    group.bench_function("ours, inline", |b| {
        b.iter_custom(|times| sum(times, || quiet::ours(&fleet.ours, n, true)))
    });
    group.bench_function("FuturesUnordered", |b| {
        b.iter_custom(|times| sum(times, || quiet::futures_unordered(n)))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
