//! How near to all cores do children come that all cost the same, 0.25 to 100 us?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::load;
use selvedge_benches::work::Work;

fn question(c: &mut Criterion) {
    let fleet = Fleet::new(None);
    for micros in [0.25, 0.5, 1.0, 3.0, 10.0, 100.0] {
        let n = (5000.0 / f64::max(micros, 1.0)) as u64;
        let work = Work::micros(micros);
        let child = move |i: u64| async move { work.done(i) };
        let job = |i: u64| work.done(i);
        let mut group = c.benchmark_group(format!("children of {micros} us"));
        group.throughput(Throughput::Elements(n));
        group.bench_function("ours", |b| {
            b.iter(|| load::ours(&fleet.ours, n, false, child))
        });
        group.bench_function("ours, inline", |b| {
            b.iter(|| load::ours(&fleet.ours, n, true, child))
        });
        group.bench_function("rayon::scope", |b| {
            b.iter(|| load::rayon_scope(&fleet.rayon, n, job))
        });
        group.bench_function("tokio JoinSet", |b| {
            b.iter(|| load::join_set(&fleet.tokio, n, child))
        });
        group.bench_function("async-scoped", |b| {
            b.iter(|| load::async_scoped(&fleet.tokio, n, child))
        });
        group.bench_function("bare threads", |b| {
            b.iter(|| load::threads(fleet.threads, n, job))
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
