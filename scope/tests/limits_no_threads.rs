//! Sleeps and limits where the timer's thread cannot be started, and in the destructors of thread-locals: each works.
//! What must not have threads runs in a process of its own, where none can be had.
#![cfg(not(selvedge_loom))]

mod common;

use std::cell::RefCell;
use std::future::pending;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use common::guarded;
use selvedge_cancel::{CauseKind, FutureCancelExt, Instant, check, deadline};
use selvedge_scope::time::sleep;
use selvedge_scope::{block_on, scope, shield, timeout, timeout_at, try_scope};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

/// Every limit there is, with something inside that only the limit ends.
fn all_limits_fire() {
    block_on(sleep(SHORT)).unwrap();
    assert!(block_on(timeout(SHORT, sleep(LONG))).is_err());
    assert!(
        block_on(timeout_at(
            Instant::now() + SHORT,
            pending::<()>().or_cancel()
        ))
        .is_err()
    );
    let kind = |result: Result<(), selvedge_cancel::Cancelled>| result.unwrap_err().cause().kind();
    let limited = scope(async |_| sleep(LONG).await).timeout(SHORT);
    assert_eq!(kind(block_on(limited)), CauseKind::Deadline);
    let limited = scope(async |_| sleep(LONG).await).deadline(Instant::now() + SHORT);
    assert_eq!(kind(block_on(limited)), CauseKind::Deadline);
    let tried = try_scope(async |s| {
        s.spawn(async { pending::<()>().or_cancel().await });
        pending::<()>().or_cancel().await
    });
    assert!(block_on(tried.timeout(SHORT)).is_err());
    let moved = scope(async |s| {
        s.set_deadline(Instant::now() + SHORT);
        pending::<()>().or_cancel().await
    });
    assert_eq!(kind(block_on(moved)), CauseKind::Deadline);
    let stopped = scope(async |s| {
        s.stop();
        pending::<()>().or_cancel().await
    });
    assert_eq!(
        kind(block_on(stopped.stop_within(SHORT))),
        CauseKind::Deadline
    );
    let graced = scope(async |s| {
        s.cancel();
        pending::<()>().await;
    });
    let cut = block_on(graced.grace(SHORT));
    assert_eq!(cut.unwrap_err().cause().kind(), CauseKind::GraceExpired);
    let shielded = scope(async |s| {
        s.cancel();
        shield(SHORT, pending::<()>().or_cancel()).await.is_err()
    });
    assert!(block_on(shielded));
    // Many at once, each inside another.
    let nested = timeout(
        LONG,
        timeout(LONG, timeout(SHORT, timeout(LONG, sleep(LONG)))),
    );
    assert!(block_on(nested).unwrap().unwrap().is_err());
    let callbacks = scope(async |s| {
        let (send, receive) = mpsc::channel();
        let guards: Vec<_> = (0..3)
            .map(|n| {
                let send = send.clone();
                s.token().on_cancel(move |_| send.send(n).unwrap())
            })
            .collect();
        let _ = sleep(LONG).await;
        let mut called = [(); 3].map(|()| receive.recv().unwrap());
        called.sort_unstable();
        drop(guards);
        called
    });
    assert_eq!(block_on(callbacks.timeout(SHORT)), [0, 1, 2]);
}

/// Two threads enter something in the timer at once. Who came while the other tried to start its thread was told nothing
/// of the failure, and waited for ever.
#[cfg(all(unix, target_pointer_width = "64"))]
fn waits_that_begin_together_end() {
    let ways: [fn(); 2] = [
        || block_on(sleep(SHORT)).unwrap(),
        || assert!(block_on(timeout(SHORT, pending::<()>().or_cancel())).is_err()),
    ];
    for round in 0..20 {
        let barrier = Arc::new(Barrier::new(2));
        let both = [round % 2, round / 2 % 2].map(|way| {
            let barrier = Arc::clone(&barrier);
            let wait = move || {
                barrier.wait();
                ways[way]();
            };
            let thread = thread::Builder::new().stack_size(256 << 10);
            thread.spawn(wait).unwrap()
        });
        for thread in both {
            thread.join().unwrap();
        }
    }
}

#[cfg(all(unix, target_pointer_width = "64"))]
#[test]
fn limits_fire_where_no_thread_can_be_started() {
    const INSIDE: &str = "SELVEDGE_TEST_NO_THREADS";
    if std::env::var_os(INSIDE).is_some() {
        assert!(
            thread::Builder::new().spawn(|| ()).is_err(),
            "a thread could be had"
        );
        all_limits_fire();
        waits_that_begin_together_end();
        println!("all have fired");
        return;
    }
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits_fire_where_no_thread_can_be_started"])
        .args(["--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        // No machine has room for such a stack, so no thread starts.
        .env("RUST_MIN_STACK", (1_u64 << 50).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = guarded(move || process.wait_with_output().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("all have fired"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a function when its thread ends.
struct AtTheEnd(Option<Box<dyn FnOnce() + Send>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

#[test]
fn limits_fire_in_the_destructors_of_thread_locals_too() {
    thread_local!(static FIRST: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) });
    thread_local!(static LAST: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) });

    guarded(|| {
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let at_the_end = |place: &'static str| {
                let send = send.clone();
                AtTheEnd(Some(Box::new(move || {
                    all_limits_fire();
                    let known = scope(async |s| {
                        assert!(deadline().is_some());
                        s.cancel();
                        s.spawn(async { check().is_err() }).await && check().is_err()
                    });
                    assert!(block_on(known.timeout(LONG)));
                    send.send(place).unwrap();
                })))
            };
            // One destructor is registered before everything that we have, and one after it: whichever order the
            // platform has, one of them runs after ours.
            FIRST.set(at_the_end("first"));
            all_limits_fire();
            LAST.set(at_the_end("last"));
        })
        .join()
        .unwrap();
        let mut ended: Vec<_> = receive.iter().collect();
        ended.sort_unstable();
        assert_eq!(ended, ["first", "last"]);
    });
}
