//! Children too cheap to share: what a child costs, and what being allowed to lend costs when it is pointless.

use selvedge_benches::load;
use selvedge_benches::quiet;
use selvedge_benches::runner::Contest;
use selvedge_benches::work::yield_once;
use selvedge_scope::lending::help_counts;

use super::Setting;
use selvedge_benches::report::{Bar, Report};

async fn no_op(i: u64) -> u64 {
    i
}

async fn yielding(i: u64) -> u64 {
    yield_once().await;
    i
}

pub(crate) fn bars(setting: &Setting, report: &mut Report) {
    if report.wants("no-op") {
        no_op_children(setting, report);
    }
    if report.wants("join_all") {
        join_all(setting, report);
    }
    if report.wants("yield-once") {
        yield_once_children(setting, report);
    }
    for children in [2, 4, 8] {
        if report.wants("small") {
            small_scopes(setting, report, children);
        }
    }
    if report.wants("quiet") {
        quiet_scope(setting, report);
    }
}

/// Children of a kind that nothing is known of are shared before the first poll, once a kind: each load is run once
/// before asks are counted.
fn asked(report: &mut Report, what: &str, before: u64) {
    let asks = help_counts().asks - before;
    report.count(
        format!("{what}: helpers asked"),
        asks as f64,
        Bar::AtMost(0.0),
    );
}

fn no_op_children(setting: &Setting, report: &mut Report) {
    let n = 10_000;
    let fleet = &setting.fleet;
    load::ours(&fleet.ours, n, false, no_op);
    load::ours_awaited(&fleet.ours, n, false, no_op);
    let asks = help_counts().asks;
    let results = Contest::new(10_000)
        .add("dropped", || load::ours(&fleet.ours, n, false, no_op))
        .add("dropped, inline", || {
            load::ours(&fleet.ours, n, true, no_op)
        })
        .add("awaited", || {
            load::ours_awaited(&fleet.ours, n, false, no_op)
        })
        .add("awaited, inline", || {
            load::ours_awaited(&fleet.ours, n, true, no_op)
        })
        .add("FuturesUnordered", || load::futures_unordered(n, no_op))
        .add("futures-buffered", || load::buffered_unordered(n, no_op))
        .run(setting.effort);
    asked(report, "no-op", asks);
    report.rows("10,000 no-op children", "a child", &results);
    let to = "FuturesUnordered";
    report.ratio(
        "no-op: dropped / FuturesUnordered",
        results.ratio("dropped", to, 1.0),
        Bar::AtMost(0.4),
    );
    report.ratio(
        "no-op: awaited / FuturesUnordered",
        results.ratio("awaited", to, 1.0),
        Bar::AtMost(0.65),
    );
    report.ratio(
        "no-op: dropped / inline",
        results.ratio("dropped", "dropped, inline", 1.0),
        Bar::AtMost(1.06),
    );
    report.ratio(
        "no-op: awaited / inline",
        results.ratio("awaited", "awaited, inline", 1.0),
        Bar::AtMost(1.06),
    );

    let results = Contest::new(10_000)
        .add("awaited", || {
            load::ours_awaited(&fleet.ours, n, false, no_op)
        })
        .add("JoinSet", || load::join_set(&fleet.tokio, n, no_op))
        .add("tokio::spawn", || load::tokio_spawn(&fleet.tokio, n, no_op))
        .add("async-scoped", || {
            load::async_scoped(&fleet.tokio, n, no_op)
        })
        .run(setting.effort);
    report.rows("10,000 no-op children, tokio", "a child", &results);
    report.ratio(
        "no-op: awaited / JoinSet",
        results.ratio("awaited", "JoinSet", 1.0),
        Bar::AtMost(0.1),
    );
}

fn join_all(setting: &Setting, report: &mut Report) {
    let n = 10_000;
    let results = Contest::new(10_000)
        .add("ours", || load::join_all(n, no_op))
        .add("futures-buffered", || load::join_all_buffered(n, no_op))
        .add("futures-concurrency", || {
            load::join_all_concurrency(n, no_op)
        })
        .add("futures", || load::join_all_futures(n, no_op))
        .run(setting.effort);
    report.rows("join_all of 10,000 no-op futures", "a child", &results);
    report.ratio(
        "join_all: ours / futures-buffered",
        results.ratio("ours", "futures-buffered", 1.0),
        Bar::AtMost(0.8),
    );
}

fn yield_once_children(setting: &Setting, report: &mut Report) {
    let n = 10_000;
    let fleet = &setting.fleet;
    load::ours(&fleet.ours, n, false, yielding);
    let asks = help_counts().asks;
    let results = Contest::new(10_000)
        .add("dropped", || load::ours(&fleet.ours, n, false, yielding))
        .add("dropped, inline", || {
            load::ours(&fleet.ours, n, true, yielding)
        })
        .add("FuturesUnordered", || load::futures_unordered(n, yielding))
        .add("futures-buffered", || load::buffered_unordered(n, yielding))
        .run(setting.effort);
    asked(report, "yield-once", asks);
    report.rows("10,000 children that yield once", "a child", &results);
    report.ratio(
        "yield-once: allowed / inline",
        results.ratio("dropped", "dropped, inline", 1.0),
        Bar::AtMost(1.06),
    );
}

fn small_scopes(setting: &Setting, report: &mut Report, children: u64) {
    let n = 4000;
    let fleet = &setting.fleet;
    load::small_scopes(&fleet.ours, n, children, false, no_op);
    let asks = help_counts().asks;
    let results = Contest::new(4000)
        .add("allowed", || {
            load::small_scopes(&fleet.ours, n, children, false, no_op)
        })
        .add("inline", || {
            load::small_scopes(&fleet.ours, n, children, true, no_op)
        })
        .add("FuturesUnordered", || {
            load::small_unordered(n, children, no_op)
        })
        .run(setting.effort);
    asked(report, &format!("small scopes of {children}"), asks);
    report.rows(
        &format!("scopes of {children} no-op children"),
        "a scope",
        &results,
    );
    report.ratio(
        format!("small scopes of {children}: allowed / inline"),
        results.ratio("allowed", "inline", 1.0),
        Bar::AtMost(1.06),
    );
}

fn quiet_scope(setting: &Setting, report: &mut Report) {
    let fleet = &setting.fleet;
    let _ = quiet::ours(&fleet.ours, 1000, false);
    let asks = help_counts().asks;
    let results = Contest::new(1000)
        .add_part("allowed", || quiet::ours(&fleet.ours, 1000, false))
        .add_part("inline", || quiet::ours(&fleet.ours, 1000, true))
        .add_part("FuturesUnordered", || quiet::futures_unordered(1000))
        .run(setting.effort);
    asked(report, "quiet", asks);
    report.rows(
        "1,000 waiting children, one wake at a time",
        "a wake",
        &results,
    );
    report.ratio(
        "quiet: allowed / inline",
        results.ratio("allowed", "inline", 1.0),
        Bar::AtMost(1.06),
    );
}
