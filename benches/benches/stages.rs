//! What does an item cost in an async stage that waits once?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::pipe;
use selvedge_benches::work::yield_once;

fn question(c: &mut Criterion) {
    let (n, in_flight) = (2000, 64);
    let fleet = Fleet::new(None);
    let f = move |i: u64| async move {
        yield_once().await;
        i
    };
    let mut group = c.benchmark_group("async stages");
    group.throughput(Throughput::Elements(n));
    group.sample_size(30);
    group.bench_function("par().then()", |b| {
        b.iter(|| pipe::ours_then(&fleet.ours, n, in_flight, f))
    });
    group.bench_function("buffer_unordered of tokio tasks", |b| {
        b.iter(|| pipe::buffer_unordered(&fleet.tokio, n, in_flight, f))
    });
    group.bench_function("buffer_unordered, one thread", |b| {
        b.iter(|| pipe::buffer_unordered_alone(n, in_flight, f))
    });
    group.bench_function("for_each_concurrent, one thread", |b| {
        b.iter(|| pipe::for_each_concurrent(n, in_flight, f))
    });
    group.bench_function("par-stream", |b| {
        b.iter(|| pipe::par_stream(&fleet.tokio, n, f))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
