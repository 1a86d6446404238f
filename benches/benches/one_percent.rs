//! What if one child in a hundred is heavy and the others are free?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::load;
use selvedge_benches::work::Work;

fn question(c: &mut Criterion) {
    let n = 20_000;
    let fleet = Fleet::new(None);
    let heavy = Work::micros(100.0);
    let of = move |i: u64| if i % 100 == 37 { heavy } else { Work::NONE };
    let child = move |i: u64| async move { of(i).done(i) };
    let mut group = c.benchmark_group("one percent heavy");
    group.throughput(Throughput::Elements(n));
    group.sample_size(30);
    group.bench_function("ours", |b| {
        b.iter(|| load::ours(&fleet.ours, n, false, child))
    });
    group.bench_function("ours, inline", |b| {
        b.iter(|| load::ours(&fleet.ours, n, true, child))
    });
    group.bench_function("rayon::scope", |b| {
        b.iter(|| load::rayon_scope(&fleet.rayon, n, |i| of(i).done(i)))
    });
    group.bench_function("tokio JoinSet", |b| {
        b.iter(|| load::join_set(&fleet.tokio, n, child))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
