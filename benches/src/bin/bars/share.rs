//! Children worth sharing: how near to all cores, and how far from rayon.

use selvedge_benches::burst::Firer;
use selvedge_benches::load;
use selvedge_benches::runner::Contest;
use selvedge_benches::work::Work;

use super::Setting;
use selvedge_benches::report::{Bar, Report};

pub(crate) fn bars(setting: &Setting, report: &mut Report) {
    for micros in [0.25, 0.5, 1.0, 3.0, 5.0, 20.0, 100.0] {
        if report.wants("even") {
            even(setting, report, micros);
        }
    }
    for children in [2, 4] {
        if report.wants("few") {
            few(setting, report, children);
        }
    }
    if report.wants("heavy") {
        one_percent_heavy(setting, report);
    }
    if report.wants("burst") {
        burst(setting, report);
    }
}

fn even(setting: &Setting, report: &mut Report, micros: f64) {
    let n = (20_000.0 / micros.max(1.0)) as u64;
    let work = Work::micros(micros);
    let child = |i: u64| async move { work.done(i) };
    let fleet = &setting.fleet;
    let results = Contest::new(n as usize)
        .settled()
        .add("allowed", || load::ours(&fleet.ours, n, false, child))
        .add("inline", || load::ours(&fleet.ours, n, true, child))
        .add("rayon::scope", || {
            load::rayon_scope(&fleet.rayon, n, |i| work.done(i))
        })
        .add("bare threads", || {
            load::threads(fleet.threads, n, |i| work.done(i))
        })
        .run(setting.effort);
    report.rows(&format!("{n} children of {micros} us"), "a child", &results);
    let beside_rayon = if micros == 0.5 {
        Bar::AtMost(0.95)
    } else {
        Bar::Open
    };
    report.ratio(
        format!("even {micros} us: ours / rayon::scope"),
        results.ratio("allowed", "rayon::scope", 1.0),
        beside_rayon,
    );
    let perfect = if micros >= 3.0 {
        Bar::AtLeast(0.96)
    } else {
        Bar::Open
    };
    let scale = 1.0 / fleet.threads as f64;
    report.ratio(
        format!("even {micros} us: of perfect speed-up"),
        results.ratio("inline", "allowed", scale),
        perfect,
    );
    report.ratio(
        format!("even {micros} us: bare threads, of perfect"),
        results.ratio("inline", "bare threads", scale),
        Bar::Open,
    );
}

fn few(setting: &Setting, report: &mut Report, children: u64) {
    let work = Work::micros(1000.0);
    let child = |i: u64| async move { work.done(i) };
    let fleet = &setting.fleet;
    let results = Contest::new(1)
        .settled()
        .add("allowed", || {
            load::ours(&fleet.ours, children, false, child)
        })
        .add("inline", || load::ours(&fleet.ours, children, true, child))
        .add("rayon::scope", || {
            load::rayon_scope(&fleet.rayon, children, |i| work.done(i))
        })
        .add("bare threads", || {
            load::threads(fleet.threads, children, |i| work.done(i))
        })
        .run(setting.effort);
    report.rows(&format!("{children} children of 1 ms"), "a scope", &results);
    let turns = children.div_ceil(fleet.threads as u64) as f64;
    let scale = turns / children as f64;
    report.ratio(
        format!("few, {children} x 1 ms: of perfect speed-up"),
        results.ratio("inline", "allowed", scale),
        Bar::AtLeast(0.92),
    );
    report.ratio(
        format!("few, {children} x 1 ms: bare threads, of perfect"),
        results.ratio("inline", "bare threads", scale),
        Bar::Open,
    );
}

fn one_percent_heavy(setting: &Setting, report: &mut Report) {
    let n = 20_000;
    let heavy = Work::micros(100.0);
    let of = |i: u64| if i % 100 == 37 { heavy } else { Work::NONE };
    let child = |i: u64| async move { of(i).done(i) };
    let fleet = &setting.fleet;
    let results = Contest::new(20_000)
        .settled()
        .add("allowed", || load::ours(&fleet.ours, n, false, child))
        .add("inline", || load::ours(&fleet.ours, n, true, child))
        .add("rayon::scope", || {
            load::rayon_scope(&fleet.rayon, n, |i| of(i).done(i))
        })
        .run(setting.effort);
    report.rows(
        "20,000 children, 1 % of 100 us, the others free",
        "a child",
        &results,
    );
    report.ratio(
        "heavy 1 %: ours / rayon::scope",
        results.ratio("allowed", "rayon::scope", 1.0),
        Bar::AtMost(1.1),
    );
}

fn burst(setting: &Setting, report: &mut Report) {
    let work = Work::micros(20.0);
    let fleet = &setting.fleet;
    let firer = Firer::default();
    let results = Contest::new(1)
        .settled()
        .add("allowed", || firer.ours(&fleet.ours, 32, false, work))
        .add("inline", || firer.ours(&fleet.ours, 32, true, work))
        .add("FuturesUnordered", || firer.futures_unordered(32, work))
        .add("tokio::spawn", || firer.tokio_spawn(&fleet.tokio, 32, work))
        .run(setting.effort);
    report.rows(
        "a burst from another thread: 32 children of 20 us",
        "a burst",
        &results,
    );
    report.ratio(
        "burst: allowed / inline",
        results.ratio("allowed", "inline", 1.0),
        Bar::Open,
    );
    report.ratio(
        "burst: ours / tokio::spawn",
        results.ratio("allowed", "tokio::spawn", 1.0),
        Bar::Open,
    );
}
