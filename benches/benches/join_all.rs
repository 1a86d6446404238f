//! What does joining ten thousand like futures cost?

use criterion::{Criterion, Throughput};
use selvedge_benches::load;

async fn no_op(i: u64) -> u64 {
    i
}

fn question(c: &mut Criterion) {
    let n = 10_000;
    let mut group = c.benchmark_group("join_all");
    group.throughput(Throughput::Elements(n));
    group.bench_function("ours", |b| b.iter(|| load::join_all(n, no_op)));
    group.bench_function("futures", |b| b.iter(|| load::join_all_futures(n, no_op)));
    group.bench_function("futures-buffered", |b| {
        b.iter(|| load::join_all_buffered(n, no_op))
    });
    group.bench_function("futures-concurrency", |b| {
        b.iter(|| load::join_all_concurrency(n, no_op))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
