//! Parallel streams: items shared by lanes, beside rayon and beside a task an item.

use selvedge_benches::pipe;
use selvedge_benches::runner::Contest;
use selvedge_benches::work::{Work, yield_once};

use super::Setting;
use selvedge_benches::report::{Bar, Report};

pub(crate) fn bars(setting: &Setting, report: &mut Report) {
    for micros in [0.0, 0.05, 0.5, 5.0] {
        if report.wants("par") {
            par(setting, report, micros);
        }
    }
    if report.wants("stages") {
        stages(setting, report);
    }
}

fn par(setting: &Setting, report: &mut Report, micros: f64) {
    let n = (10_000.0 / f64::max(micros, 0.2)) as u64;
    let work = Work::micros(micros);
    let f = |i: u64| work.done(i) & 1;
    let fleet = &setting.fleet;
    let results = Contest::new(n as usize)
        .settled()
        .add("stream.par()", || pipe::ours_stream(&fleet.ours, n, f))
        .add("range.into_par()", || pipe::ours_range(&fleet.ours, n, f))
        .add("sequential", || pipe::sequential(n, f))
        .add("par_iter", || pipe::par_iter(&fleet.rayon, n, f))
        .add("par_bridge", || pipe::par_bridge(&fleet.rayon, n, f))
        .run(setting.effort);
    report.rows(
        &format!("par: {n} items of {micros} us"),
        "an item",
        &results,
    );
    let judged = |bar| {
        if micros >= 0.5 {
            Bar::AtMost(bar)
        } else {
            Bar::Open
        }
    };
    let ratio = |of| results.ratio(of, "par_iter", 1.0);
    report.ratio(
        format!("par {micros} us: stream / par_iter"),
        ratio("stream.par()"),
        judged(1.05),
    );
    report.ratio(
        format!("par {micros} us: range / par_iter"),
        ratio("range.into_par()"),
        judged(1.03),
    );
}

fn stages(setting: &Setting, report: &mut Report) {
    let n = 5000;
    let in_flight = 64;
    let f = |i: u64| async move {
        yield_once().await;
        i & 1
    };
    let fleet = &setting.fleet;
    let results = Contest::new(5000)
        .settled()
        .add("par().then()", || {
            pipe::ours_then(&fleet.ours, n, in_flight, f)
        })
        .add("buffer_unordered + spawn", || {
            pipe::buffer_unordered(&fleet.tokio, n, in_flight, f)
        })
        .add("buffer_unordered, one thread", || {
            pipe::buffer_unordered_alone(n, in_flight, f)
        })
        .add("for_each_concurrent, one thread", || {
            pipe::for_each_concurrent(n, in_flight, f)
        })
        .run(setting.effort);
    report.rows(
        "async stages that yield once, 64 in flight",
        "an item",
        &results,
    );
    let ratio = results.ratio("par().then()", "buffer_unordered + spawn", 1.0);
    report.ratio(
        "stages: ours / buffer_unordered + spawn",
        ratio,
        Bar::AtMost(0.2),
    );

    // par-stream needs microseconds an item, so it gets fewer of them.
    let n = 500;
    let results = Contest::new(500)
        .settled()
        .add("par().then()", || {
            pipe::ours_then(&fleet.ours, n, in_flight, f)
        })
        .add("par-stream", || pipe::par_stream(&fleet.tokio, n, f))
        .run(setting.effort);
    report.rows(
        "async stages that yield once, 500 items",
        "an item",
        &results,
    );
    let ratio = results.ratio("par().then()", "par-stream", 1.0);
    report.ratio("stages: ours / par-stream", ratio, Bar::Open);
}
