//! What does a child cost that does nothing, among ten thousand?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::load;

async fn no_op(i: u64) -> u64 {
    i
}

fn question(c: &mut Criterion) {
    let n = 10_000;
    let fleet = Fleet::new(None);
    let mut group = c.benchmark_group("no-op children");
    group.throughput(Throughput::Elements(n));
    group.bench_function("ours, dropped", |b| {
        b.iter(|| load::ours(&fleet.ours, n, false, no_op))
    });
    group.bench_function("ours, dropped, inline", |b| {
        b.iter(|| load::ours(&fleet.ours, n, true, no_op))
    });
    group.bench_function("ours, awaited", |b| {
        b.iter(|| load::ours_awaited(&fleet.ours, n, false, no_op))
    });
    group.bench_function("FuturesUnordered", |b| {
        b.iter(|| load::futures_unordered(n, no_op))
    });
    group.bench_function("futures-buffered", |b| {
        b.iter(|| load::buffered_unordered(n, no_op))
    });
    group.bench_function("moro", |b| b.iter(|| load::moro(n, no_op)));
    group.bench_function("tokio spawn", |b| {
        b.iter(|| load::tokio_spawn(&fleet.tokio, n, no_op))
    });
    group.bench_function("tokio JoinSet", |b| {
        b.iter(|| load::join_set(&fleet.tokio, n, no_op))
    });
    group.bench_function("async-scoped", |b| {
        b.iter(|| load::async_scoped(&fleet.tokio, n, no_op))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
