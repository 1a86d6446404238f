//! Counts that user code can raise end the process before they wrap (rule W13, SOUNDNESS T3, M3).
//!
//! Needs a build with `--cfg selvedge_small_counts`, where the limit is a thousand: see `scripts/small-counts`.
//! Each case runs in a child process, which must abort and not return.
#![cfg(selvedge_small_counts)]

mod common;

use std::future::poll_fn;
use std::process::Command;
use std::task::Poll;

use selvedge_scope::{block_on, scope};

const INSIDE: &str = "SELVEDGE_TEST_SMALL_COUNTS";

/// Runs the named test of this program again in a child process, and returns how it ended and what it said.
fn again(name: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().is_none(), text)
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A child clones its waker that often and forgets the clones.
fn forget_clones(times: usize) {
    block_on(scope(async |s| {
        s.spawn(poll_fn(move |cx| {
            for _ in 0..times {
                std::mem::forget(cx.waker().clone());
            }
            Poll::Ready(())
        }));
    }));
}

#[test]
fn forgotten_waker_clones_beyond_the_limit_abort() {
    if is_inside() {
        println!("began");
        forget_clones(2_000);
        println!("survived");
        return;
    }
    let (aborted, said) = again("forgotten_waker_clones_beyond_the_limit_abort");
    assert!(
        aborted && said.contains("began") && !said.contains("survived"),
        "{said}"
    );
}

#[test]
fn forgotten_waker_clones_below_the_limit_do_no_harm() {
    if is_inside() {
        forget_clones(900);
        println!("survived");
        return;
    }
    let (aborted, said) = again("forgotten_waker_clones_below_the_limit_do_no_harm");
    assert!(!aborted && said.contains("survived"), "{said}");
}

// Clones that come and go never reach the limit, however many there are.
#[test]
fn waker_clones_that_are_dropped_do_not_add_up() {
    block_on(scope(async |s| {
        s.spawn(poll_fn(|cx| {
            for _ in 0..10_000 {
                drop(cx.waker().clone());
            }
            Poll::Ready(())
        }));
    }));
}
