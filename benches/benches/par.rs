//! How far are lanes over a stream or a range from rayon's parallel iterators?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::pipe;
use selvedge_benches::work::Work;

fn question(c: &mut Criterion) {
    let fleet = Fleet::new(None);
    for micros in [0.0, 0.05, 0.5, 5.0] {
        let n = (10_000.0 / f64::max(micros, 0.2)) as u64;
        let work = Work::micros(micros);
        let f = move |i: u64| work.done(i) & 1;
        let mut group = c.benchmark_group(format!("items of {micros} us"));
        group.throughput(Throughput::Elements(n));
        group.bench_function("stream.par()", |b| {
            b.iter(|| pipe::ours_stream(&fleet.ours, n, f))
        });
        group.bench_function("range.into_par()", |b| {
            b.iter(|| pipe::ours_range(&fleet.ours, n, f))
        });
        group.bench_function("one thread", |b| b.iter(|| pipe::sequential(n, f)));
        group.bench_function("rayon par_iter", |b| {
            b.iter(|| pipe::par_iter(&fleet.rayon, n, f))
        });
        group.bench_function("rayon par_bridge", |b| {
            b.iter(|| pipe::par_bridge(&fleet.rayon, n, f))
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
