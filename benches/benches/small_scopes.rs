//! What does a whole scope of two to eight cheap children cost?

use criterion::{Criterion, Throughput};
use selvedge_benches::fleet::Fleet;
use selvedge_benches::load;

async fn no_op(i: u64) -> u64 {
    i
}

fn question(c: &mut Criterion) {
    let n = 1000;
    let fleet = Fleet::new(None);
    let mut group = c.benchmark_group("small scopes");
    group.throughput(Throughput::Elements(n));
    for k in [2, 4, 8] {
        group.bench_function(format!("ours, {k}"), |b| {
            b.iter(|| load::small_scopes(&fleet.ours, n, k, false, no_op))
        });
        group.bench_function(format!("ours, inline, {k}"), |b| {
            b.iter(|| load::small_scopes(&fleet.ours, n, k, true, no_op))
        });
        group.bench_function(format!("FuturesUnordered, {k}"), |b| {
            b.iter(|| load::small_unordered(n, k, no_op))
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    question(&mut criterion);
    criterion.final_summary();
}
