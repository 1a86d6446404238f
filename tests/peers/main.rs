//! What the suites of other runtimes and parallel libraries ask, asked of us: who gets turns, sources
//! that are always ready, work that opens work, futures that may not move, values without a size,
//! long types. Each module is one question. What our own design promises is tested elsewhere.
#![cfg(feature = "testing")]

#[path = "../common/mod.rs"]
mod common;

mod drops;
mod long;
mod nested;
mod pinned;
mod tokio_sources;
mod turns;

use std::future::poll_fn;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::Poll;
use std::time::Duration;

use selvedge::Pool;
use selvedge::testing::lending::{Lending, with};

/// A hang fails this test and does not stop the others.
#[track_caller]
fn guarded(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let run = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match is_done.recv_timeout(Duration::from_secs(90)) {
        Err(RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => run.join().unwrap_or_else(|e| std::panic::resume_unwind(e)),
    }
}

/// Every mode of lending, with pools of no, one and two threads.
#[track_caller]
fn everywhere(test: impl Fn(&str, &Pool) + Send + 'static) {
    guarded(move || {
        for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
            for threads in [0, 1, 2] {
                let pool = Pool::builder().threads(threads).build();
                with(mode, || {
                    test(&format!("{mode:?}, {threads} helpers"), &pool)
                });
            }
        }
    });
}

/// Yields that many times.
async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
