//! What a debug build has to say keeps nobody waiting, although somebody may hold the lock of standard error while he
//! waits for the thread that says it. Each case runs in a process of its own.

mod common;

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::said::said_by;
use common::{on_helper, poll_times, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::time::sleep;
use selvedge_scope::{block_on, scope};

/// Runs the case with the lock of standard error held. What this process has said in the end; `None` inside. A watchdog
/// that says why it fails would wait for the same lock.
fn said_under_lock(name: &str, case: impl FnOnce()) -> Option<String> {
    said_by(name, || {
        let (over, is_over) = channel::<()>();
        std::thread::spawn(move || {
            if is_over.recv_timeout(Duration::from_secs(30)).is_err() {
                println!("hangs: somebody waits for the lock of standard error");
                std::process::abort();
            }
        });
        let lock = std::io::stderr().lock();
        case();
        drop(lock);
        over.send(()).unwrap();
    })
}

/// A scope that is reported when it is dropped.
fn midway() -> impl Future<Output = ()> {
    let mut whole = Box::pin(
        scope(async |s| {
            s.spawn(pending::<()>());
            pending::<()>().await;
        })
        .inline(),
    );
    assert!(poll_times(whole.as_mut(), 3).is_none());
    whole
}

#[track_caller]
fn assert_said(said: Option<String>, text: &str) {
    let Some(said) = said else { return };
    assert_eq!(said.contains(text), cfg!(debug_assertions), "{said}");
}

#[test]
fn owner_that_holds_standard_error_waits_for_no_report_of_a_helper() {
    let name = "owner_that_holds_standard_error_waits_for_no_report_of_a_helper";
    let said = said_under_lock(name, || {
        with(Lending::Forced, || {
            let whole = scope(async |s| {
                let drops = || async {
                    // Not for ever, should no helper come.
                    for _ in 0..10_000 {
                        if on_helper() {
                            break;
                        }
                        std::thread::yield_now();
                        yields(1).await;
                    }
                    drop(midway());
                };
                for handle in [s.spawn(drops()), s.spawn(drops()), s.spawn(drops())] {
                    handle.await;
                }
            });
            block_on(whole.on(&pool(1)));
        });
    });
    assert_said(said, "suspended midway");
}

#[test]
fn timer_waits_for_nobody_who_holds_standard_error() {
    /// Takes longer to wake than a waker may.
    struct Slow(Sender<()>);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            std::thread::sleep(Duration::from_millis(300));
            let _ = self.0.send(());
        }
    }
    let name = "timer_waits_for_nobody_who_holds_standard_error";
    let said = said_under_lock(name, || {
        let (woken, is_woken) = channel();
        let waker = Waker::from(Arc::new(Slow(woken)));
        let mut nap = pin!(sleep(Duration::from_millis(1)));
        let cx = &mut Context::from_waker(&waker);
        assert!(nap.as_mut().poll(cx).is_pending());
        is_woken.recv().unwrap();
        block_on(sleep(Duration::from_millis(1))).unwrap();
    });
    assert_said(said, "a waker must not block");
}
