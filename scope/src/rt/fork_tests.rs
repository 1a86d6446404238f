//! Sleeps and limits in a child process made by `fork`, which has none of its parent's threads. Each test starts this
//! program again, so that no other test's threads are about, and forks there.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CancelToken, CauseKind, FutureCancelExt, Instant, ambient};

use super::{block_on, embedded};
use crate::time::sleep;
use crate::window::fork;
use crate::{scope, shield, timeout};

const INSIDE: &str = "SELVEDGE_TEST_FORK";
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// Runs the named test again in a process of its own. What it says comes from its child: it must be this.
#[track_caller]
fn again(test: &str, expected: &str) {
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, receive) = mpsc::channel();
    // The output ends when the last process that has its end is gone, the forked one too.
    let reader = thread::spawn(move || send.send(process.wait_with_output().unwrap().stdout));
    let said = receive.recv_timeout(Duration::from_secs(60));
    let said = said.unwrap_or_else(|_| panic!("the child process hangs"));
    reader.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(expected), "{said}");
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whatever needs a timer.
fn all_limits() {
    block_on(sleep(SHORT)).unwrap();
    assert!(block_on(timeout(SHORT, sleep(LONG))).is_err());
    assert!(block_on(scope(async |_| sleep(LONG).await).timeout(SHORT)).is_err());
    let later = scope(async |s| {
        s.set_deadline(Instant::now() + SHORT);
        sleep(LONG).await
    });
    assert!(block_on(later).is_err());
    let cut = scope(async |s| {
        s.cancel();
        shield(SHORT, sleep(LONG)).await.is_err()
    });
    assert!(block_on(cut));
    let graced = scope(async |s| {
        s.cancel();
        std::future::pending::<()>().await;
    });
    assert!(block_on(graced.grace(SHORT)).is_err());
    // Callbacks have threads of their own, also here.
    let (send, receive) = mpsc::channel();
    let cancelled = scope(async |s| {
        let guard = s.token().on_cancel(move |cause| {
            block_on(sleep(SHORT)).unwrap();
            send.send(cause.kind()).unwrap();
        });
        (sleep(LONG).await.is_err(), guard)
    });
    let (ended, guard) = block_on(cancelled.timeout(SHORT));
    assert!(ended);
    assert_eq!(receive.recv(), Ok(CauseKind::Deadline));
    drop(guard);
}

#[test]
fn child_process_has_sleeps_and_limits_of_its_own_after_its_parent_used_them() {
    const NAME: &str =
        "rt::fork_tests::child_process_has_sleeps_and_limits_of_its_own_after_its_parent_used_them";
    if !is_inside() {
        return again(NAME, "the grandchild as well");
    }
    all_limits();
    if fork() == 0 {
        all_limits();
        if fork() == 0 {
            all_limits();
            println!("the grandchild as well");
        }
        std::process::exit(0);
    }
}

#[test]
fn sleep_that_was_begun_before_the_fork_ends_in_both_processes() {
    const NAME: &str =
        "rt::fork_tests::sleep_that_was_begun_before_the_fork_ends_in_both_processes";
    if !is_inside() {
        return again(NAME, "the child too");
    }
    let mut forked = None;
    let slept = block_on(async {
        let mut nap = pin!(sleep(SHORT * 10));
        poll_fn(|cx| {
            if forked.is_none() {
                assert!(nap.as_mut().poll(cx).is_pending());
                // In the child nothing is polled again before the entry of the parent has fired.
                forked = Some(fork());
                return Poll::Pending;
            }
            nap.as_mut().poll(cx)
        })
        .await
    });
    slept.unwrap();
    if forked == Some(0) {
        println!("the child too");
        std::process::exit(0);
    }
}

#[test]
fn entries_from_before_the_fork_can_be_moved_and_taken_back_in_the_child() {
    const NAME: &str =
        "rt::fork_tests::entries_from_before_the_fork_can_be_moved_and_taken_back_in_the_child";
    if !is_inside() {
        return again(NAME, "moved and taken back");
    }
    let token = CancelToken::new();
    let outer = ambient::replace(Some(token.clone()));
    let mut naps = [Box::pin(sleep(LONG)), Box::pin(sleep(LONG))];
    let mut cx = Context::from_waker(Waker::noop());
    for nap in &mut naps {
        assert!(nap.as_mut().poll(&mut cx).is_pending());
    }
    let ticket = embedded().schedule(Instant::now() + LONG, Waker::noop());
    if fork() == 0 {
        let [mut first, second] = naps;
        drop(second);
        let (send, receive) = mpsc::channel();
        struct Rung(mpsc::Sender<()>);
        impl std::task::Wake for Rung {
            fn wake(self: std::sync::Arc<Self>) {
                let _ = self.0.send(());
            }
        }
        let waker = Waker::from(std::sync::Arc::new(Rung(send)));
        embedded().reset(ticket, Instant::now() + SHORT, &waker);
        drop(waker);
        receive.recv().unwrap();
        token.cancel();
        assert!(block_on(first.as_mut()).is_err());
        assert!(block_on(std::future::pending::<()>().or_cancel()).is_err());
        println!("moved and taken back");
        std::process::exit(0);
    }
    ambient::replace(outer);
}
