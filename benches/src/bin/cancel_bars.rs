//! Our cancel tokens beside those of tokio-util, in one run: what a node costs, what it costs to reach one,
//! to ask, and to check at an await.
//!
//! `cargo run --release -p selvedge-benches --bin cancel_bars [WORD…]`; with words, only rows whose name has
//! one. Ratios are medians of the ratios of each round. Not a test: it prints what is missed and goes on.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use selvedge::{CancelToken, FutureCancelExt, block_on, scope};
use selvedge_benches::runner::{Contest, Effort};
use tokio_util::sync::CancellationToken;

/// Name, bar, and what is timed.
type Row = (&'static str, f64, fn() -> Contest<'static>);

const NODES: usize = 100_000;

/// Pending once, and ready when polled again; wakes nobody, for whoever polls it knows.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Times one part of the work; what is needed before and left after it is no part of the question.
fn timed(part: impl FnOnce()) -> f64 {
    let start = Instant::now();
    part();
    start.elapsed().as_nanos() as f64
}

fn make<'a>() -> Contest<'a> {
    let (ours, theirs) = (CancelToken::new(), CancellationToken::new());
    let others: Vec<_> = (0..16).map(|_| theirs.child_token()).collect();
    Contest::new(NODES)
        .add("ours", move || {
            for _ in 0..NODES {
                black_box(ours.child());
            }
            NODES as u64
        })
        .add("tokio-util", move || {
            black_box(&others);
            for _ in 0..NODES {
                black_box(theirs.child_token());
            }
            NODES as u64
        })
}

fn reach<'a>() -> Contest<'a> {
    Contest::new(NODES)
        .add_part("ours", || {
            let root = CancelToken::new();
            let children: Vec<_> = (0..NODES).map(|_| root.child()).collect();
            timed(|| {
                root.cancel();
                assert!(children.iter().all(CancelToken::is_cancelled));
            })
        })
        .add_part("tokio-util", || {
            let root = CancellationToken::new();
            let children: Vec<_> = (0..NODES).map(|_| root.child_token()).collect();
            timed(|| {
                root.cancel();
                assert!(children.iter().all(CancellationToken::is_cancelled));
            })
        })
}

fn reach_waiting<'a>() -> Contest<'a> {
    fn wait<F: Future>(future: F) -> Pin<Box<F>> {
        let mut future = Box::pin(future);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        future
    }
    Contest::new(NODES)
        .add_part("ours", || {
            let root = CancelToken::new();
            let waits: Vec<_> = (0..NODES).map(|_| wait(root.child().cancelled())).collect();
            let time = timed(|| root.cancel());
            black_box(waits);
            time
        })
        .add_part("tokio-util", || {
            let root = CancellationToken::new();
            let waits: Vec<_> = (0..NODES)
                .map(|_| wait(root.child_token().cancelled_owned()))
                .collect();
            let time = timed(|| root.cancel());
            black_box(waits);
            time
        })
}

fn ask<'a>() -> Contest<'a> {
    let ours = CancelToken::new();
    let theirs = CancellationToken::new();
    let (our_child, their_child) = (ours.child(), theirs.child_token());
    Contest::new(NODES)
        .add("ours", move || {
            black_box(&ours);
            (0..NODES)
                .map(|_| u64::from(black_box(&our_child).is_cancelled()))
                .sum()
        })
        .add("tokio-util", move || {
            black_box(&theirs);
            (0..NODES)
                .map(|_| u64::from(black_box(&their_child).is_cancelled()))
                .sum()
        })
}

/// Both in a child of a scope of ours: for ours that is the point, and the other does not mind. The child
/// polls the work again as soon as it is pending, so that no scheduling is measured.
fn check<'a>() -> Contest<'a> {
    fn in_a_child<F: Future<Output = ()> + Send>(work: F) -> f64 {
        block_on(scope(async |s| {
            s.spawn(async {
                let mut work = pin!(work);
                let run = |cx: &mut Context<'_>| {
                    Poll::Ready(timed(|| while work.as_mut().poll(cx).is_pending() {}))
                };
                poll_fn(run).await
            })
            .await
        }))
    }
    let theirs = CancellationToken::new();
    Contest::new(NODES)
        .add_part("ours", || {
            in_a_child(async {
                for _ in 0..NODES {
                    Once(false).or_cancel().await.expect("nobody cancels");
                }
            })
        })
        .add_part("tokio-util", move || {
            in_a_child(async {
                for _ in 0..NODES {
                    let checked = theirs.run_until_cancelled(Once(false));
                    checked.await.expect("nobody cancels");
                }
            })
        })
        .add_part("unchecked", || {
            in_a_child(async {
                for _ in 0..NODES {
                    Once(black_box(false)).await;
                }
            })
        })
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let effort = Effort {
        rounds: 31,
        time: Duration::from_secs(2),
    };
    let rows: [Row; 5] = [
        ("create and drop a child", 0.5, make),
        ("reach a node and ask it", 0.5, reach),
        ("reach a node that is waited on", 0.5, reach_waiting),
        ("is_cancelled of a running child", 1.0, ask),
        ("checked await", 0.2, check),
    ];
    for (name, bar, contest) in rows {
        if !words.is_empty() && !words.iter().any(|word| name.contains(&**word)) {
            continue;
        }
        let results = contest().run(effort);
        let ratio = results.ratio("ours", "tokio-util", 1.0);
        println!("\n{name} (ns each; {} rounds)", results.rounds);
        for row in &results.rows {
            println!(
                "  {:<12} {:>8.1}   fastest {:>8.1}",
                row.name,
                row.median(),
                row.fastest()
            );
        }
        let verdict = if ratio.median <= bar {
            "kept"
        } else {
            "MISSED"
        };
        println!(
            "  ratio {:.2} ({:.2} to {:.2}), bar {bar}: {verdict}",
            ratio.median, ratio.low, ratio.high
        );
    }
}
