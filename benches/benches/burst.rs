//! How soon has a burst of wakes from another thread been worked off?

use criterion::Criterion;
use selvedge_benches::burst::Firer;
use selvedge_benches::fleet::Fleet;
use selvedge_benches::work::Work;

fn question(c: &mut Criterion) {
    let fleet = Fleet::new(None);
    let firer = Firer::default();
    for micros in [1.0, 20.0] {
        let work = Work::micros(micros);
        let mut group = c.benchmark_group(format!("a burst of 32 x {micros} us"));
        group.bench_function("ours", |b| {
            b.iter(|| firer.ours(&fleet.ours, 32, false, work))
        });
        group.bench_function("ours, inline", |b| {
            b.iter(|| firer.ours(&fleet.ours, 32, true, work))
        });
        group.bench_function("FuturesUnordered", |b| {
            b.iter(|| firer.futures_unordered(32, work))
        });
        group.bench_function("tokio spawn", |b| {
            b.iter(|| firer.tokio_spawn(&fleet.tokio, 32, work))
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
