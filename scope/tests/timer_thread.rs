//! Code of users that a deadline reaches: it may take long, block, sleep and panic, and delays nobody. What is left on
//! the timer's thread are wakers, and a debug build says so when one is slow.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::Future;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{burn, guarded};
use selvedge_cancel::{CauseKind, OnCancel, cancelled};
use selvedge_scope::time::sleep;
use selvedge_scope::{block_on, scope, timeout};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);
/// Long enough for a function to be left before it is over: on a busy machine, too. Afterwards it would be called at once.
const LIMIT: Duration = Duration::from_millis(50);

/// Ends a scope by its deadline, with this function to be called then. The guard comes back, unused.
fn end_by_deadline(called: impl FnOnce() + Send + 'static) -> OnCancel {
    let limited = scope(async |s| {
        let guard = s.token().on_cancel(move |cause| {
            assert_eq!(cause.kind(), CauseKind::Deadline);
            called();
        });
        cancelled().await;
        guard
    });
    block_on(limited.timeout(LIMIT))
}

#[test]
fn callback_of_a_deadline_that_blocks_delays_neither_sleeps_nor_limits() {
    guarded(|| {
        let (entered, has_entered) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (left, has_left) = mpsc::channel();
        let _guard = end_by_deadline(move || {
            entered
                .send(thread::current().name().map(str::to_owned))
                .unwrap();
            released.recv().unwrap();
            left.send(()).unwrap();
        });
        let name = has_entered.recv().unwrap();
        assert_eq!(name.as_deref(), Some("selvedge-cancel"));
        // The function blocks by now, and goes on doing so.
        block_on(sleep(SHORT)).unwrap();
        assert!(block_on(timeout(SHORT, sleep(LONG))).is_err());
        assert!(has_left.try_recv().is_err());
        release.send(()).unwrap();
        has_left.recv().unwrap();
    });
}

#[test]
fn callback_of_a_deadline_may_sleep_and_have_limits() {
    guarded(|| {
        let (send, receive) = mpsc::channel();
        let _guard = end_by_deadline(move || {
            block_on(sleep(SHORT)).unwrap();
            let late = block_on(timeout(SHORT, sleep(LONG))).is_err();
            send.send(late).unwrap();
        });
        assert!(receive.recv().unwrap());
    });
}

// A moment that has passed when it is set is found by the thread that sets it, and acted upon before that goes on.
#[test]
fn callback_of_a_deadline_that_has_passed_when_it_is_set_may_wait_for_who_set_it() {
    guarded(|| {
        let (both, set) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (in_callback, in_scope) = (both.clone(), set.clone());
        let limited = scope(async |s| {
            let guard = s.token().on_cancel(move |_| {
                in_scope.wait();
                in_callback.wait();
            });
            s.set_deadline(selvedge_cancel::Instant::now());
            assert!(s.is_cancelled());
            set.wait();
            guard
        });
        let _guard = block_on(limited);
        both.wait();
    });
}

#[test]
fn callbacks_of_many_deadlines_that_wait_for_each_other_all_get_there() {
    const MANY: usize = 24;

    guarded(|| {
        // Each waits for all others: none may stand behind another.
        let barrier = Arc::new(Barrier::new(MANY + 1));
        let guards: Vec<_> = (0..MANY)
            .map(|_| {
                let barrier = barrier.clone();
                end_by_deadline(move || {
                    barrier.wait();
                })
            })
            .collect();
        barrier.wait();
        drop(guards);
    });
}

#[test]
fn callbacks_that_a_deadline_reaches_are_each_called_once_although_some_panic() {
    guarded(|| {
        let called = Arc::new(AtomicUsize::new(0));
        let (send, receive) = mpsc::channel();
        let limited = scope(async |s| {
            let guards: Vec<_> = (0..100)
                .map(|n| {
                    let (called, send) = (called.clone(), send.clone());
                    s.token().on_cancel(move |_| {
                        called.fetch_add(1, Ordering::SeqCst);
                        assert!(n % 10 != 0, "a callback that panics");
                        send.send(()).unwrap();
                    })
                })
                .collect();
            cancelled().await;
            guards
        });
        let guards = block_on(limited.timeout(LIMIT));
        for _ in 0..90 {
            receive.recv().unwrap();
        }
        drop(send);
        // The other ends went with the functions, those that panicked too.
        drop(guards);
        assert!(receive.recv().is_err());
        assert_eq!(called.load(Ordering::SeqCst), 100);
        block_on(sleep(SHORT)).unwrap();
    });
}

#[test]
fn waker_that_panics_when_a_sleep_drops_it_reaches_nobody() {
    struct Bomb(Arc<AtomicUsize>);

    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("a waker that is dropped");
        }
    }

    guarded(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        {
            let mut nap = pin!(sleep(LONG));
            let waker = Waker::from(Arc::new(Bomb(dropped.clone())));
            assert!(
                nap.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            drop(waker);
            assert_eq!(dropped.load(Ordering::SeqCst), 0, "the timer has one");
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

// A waker whose destructor comes back to the timer, which must hold no lock then.
#[test]
fn waker_that_uses_the_timer_when_it_is_dropped_does_not_deadlock() {
    struct Again(Arc<Mutex<Vec<bool>>>);

    impl Wake for Again {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Again {
        fn drop(&mut self) {
            let slept = block_on(sleep(SHORT)).is_ok();
            self.0.lock().unwrap().push(slept);
        }
    }

    guarded(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for is_moved in [false, true] {
            let mut nap = pin!(sleep(LONG));
            let waker = Waker::from(Arc::new(Again(seen.clone())));
            assert!(
                nap.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            drop(waker);
            if is_moved {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(nap.as_mut().poll(&mut cx).is_pending());
            }
        }
        assert_eq!(*seen.lock().unwrap(), [true, true]);
    });
}

#[cfg(debug_assertions)]
#[test]
fn slow_waker_is_reported_once_and_a_quick_one_is_not() {
    const INSIDE: &str = "SELVEDGE_TEST_SLOW_WAKER";

    struct Slow(Duration, Mutex<mpsc::Sender<()>>);

    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            burn(self.0);
            let _ = self.1.lock().unwrap().send(());
        }
    }

    if let Some(millis) = std::env::var_os(INSIDE) {
        let millis = millis.to_str().unwrap().parse().unwrap();
        let (send, receive) = mpsc::channel();
        for _ in 0..2 {
            let slow = Slow(Duration::from_millis(millis), Mutex::new(send.clone()));
            let mut nap = pin!(sleep(SHORT));
            let waker = Waker::from(Arc::new(slow));
            assert!(
                nap.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            receive.recv().unwrap();
        }
        // The timer is past both when it has served somebody else.
        block_on(sleep(SHORT)).unwrap();
        return;
    }
    for (millis, reports) in [(0, 0), (300, 1)] {
        let process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "slow_waker_is_reported_once_and_a_quick_one_is_not",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(INSIDE, millis.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = guarded(move || process.wait_with_output().unwrap());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said.matches("a waker must not block").count(),
            reports,
            "{said}"
        );
    }
}

/// A function whose guard is a local of the body that the cancellation ends: it is called all the same.
#[test]
fn function_is_called_although_its_guard_goes_with_the_cancelled_body() {
    guarded(|| {
        let called = Arc::new(AtomicUsize::new(0));
        for _ in 0..20 {
            let seen = Arc::clone(&called);
            let limited = scope(async |s| {
                let _guard = s.token().on_cancel(move |_| {
                    seen.fetch_add(1, Ordering::SeqCst);
                });
                sleep(LONG).await.is_err()
            });
            assert!(block_on(limited.timeout(LIMIT)));
        }
        while called.load(Ordering::SeqCst) < 20 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn function_on_a_scope_that_is_opened_after_the_deadline_may_wait_for_its_body() {
    guarded(|| {
        let late = async {
            let _ = sleep(Duration::MAX).await;
            let opened = scope(|s| {
                let (tell, told) = mpsc::channel::<()>();
                let guard = s.token().on_cancel(move |_| {
                    let _ = told.recv();
                });
                async move {
                    let _ = sleep(Duration::MAX).await;
                    drop((tell, guard));
                }
            });
            opened.await;
        };
        assert!(block_on(timeout(SHORT, late)).is_ok());
    });
}
