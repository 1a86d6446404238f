//! Wakers and callbacks that panic in their destructors or call back into the very token that lets them go: no lock
//! is held then, nothing comes out, and the others are served. Invariants T5, T7.
//! Not for what a request does to waiters that behave; that is `tree.rs`.
#![cfg(not(selvedge_loom))]

mod support;

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_cancel::{
    CancelToken, FutureCancelExt, Phase, Watching, ambient, select, select_safe,
};
use support::{Count, poll};

/// A waker that does something when it is woken, and when its last clone is dropped.
struct Biting {
    woken: Box<dyn Fn() + Send + Sync>,
    dropped: Box<dyn Fn() + Send + Sync>,
}

impl Wake for Biting {
    fn wake(self: Arc<Self>) {
        (self.woken)();
    }
}

impl Drop for Biting {
    fn drop(&mut self) {
        (self.dropped)();
    }
}

fn on_drop(bite: impl Fn() + Send + Sync + 'static) -> (Waker, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let waker = Biting {
        woken: Box::new(|| ()),
        dropped: Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            bite();
        }),
    };
    (Waker::from(Arc::new(waker)), dropped)
}

/// Runs `test` on a thread of its own, and fails if it does not end.
#[track_caller]
fn guarded(test: impl FnOnce() + Send + 'static) {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = send.send(());
    });
    match receive.recv_timeout(Duration::from_secs(60)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => thread.join().unwrap(),
    }
}

type Wait = Pin<Box<dyn Future<Output = ()>>>;

type Begin = fn(&CancelToken) -> Wait;
type End = fn(Wait, &CancelToken);

/// What registers a waker with a token, which is the current one.
const WAITS: [(&str, Begin); 4] = [
    ("cancelled", |token| {
        let wait = token.cancelled();
        Box::pin(async { drop(wait.await) })
    }),
    ("stopping", |token| Box::pin(token.stopping())),
    ("or_cancel", |_| {
        Box::pin(async { drop(pending::<()>().or_cancel().await) })
    }),
    ("select", |token| {
        let (one, two) = (token.stopping(), select_safe(pending()));
        Box::pin(select((one, two)))
    }),
];

/// What lets the waker go that a wait was polled with last.
const ENDS: [(&str, End); 4] = [
    ("dropped", |wait, _| drop(wait)),
    ("exchanged", |mut wait, _| {
        assert!(step(&mut wait, Waker::noop()).is_pending());
    }),
    ("cancelled", |wait, token| {
        token.cancel();
        drop(wait);
    }),
    ("unwound", |wait, _| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _wait = wait;
            panic!("the first");
        }));
        let first = caught.unwrap_err();
        assert_eq!(first.downcast_ref::<&str>(), Some(&"the first"));
    }),
];

fn step(wait: &mut Wait, waker: &Waker) -> Poll<()> {
    wait.as_mut().poll(&mut Context::from_waker(waker))
}

/// Runs every wait to every end, alone in its token's list and with one before it, with a waker that does `bite`
/// when it is dropped. `bite` gets the token.
fn everywhere(bite: impl Fn(&CancelToken) + Copy + Send + Sync + 'static) {
    guarded(move || {
        for (wait_name, wait) in WAITS {
            for (end_name, end) in ENDS {
                for others in [0, 1] {
                    let what = format!("{wait_name} {end_name} {others}");
                    let token = CancelToken::new();
                    let child = token.child();
                    let before = ambient::replace(Some(child.clone()));
                    let counts: Vec<_> = (0..others).map(|_| Count::new()).collect();
                    let mut before_us: Vec<_> = counts.iter().map(|_| child.cancelled()).collect();
                    for (one, count) in before_us.iter_mut().zip(&counts) {
                        assert!(poll(one, count).is_pending());
                    }
                    let of_waker = child.clone();
                    let (waker, dropped) = on_drop(move || bite(&of_waker));
                    let mut waiting = wait(&child);
                    assert!(step(&mut waiting, &waker).is_pending(), "{what}");
                    drop(waker);
                    assert_eq!(
                        dropped.load(Ordering::SeqCst),
                        0,
                        "{what}: it is in the list"
                    );
                    end(waiting, &token);
                    assert_eq!(dropped.load(Ordering::SeqCst), 1, "{what}");
                    token.cancel();
                    for count in counts {
                        assert_eq!(count.get(), 1, "{what}: the other is told");
                    }
                    ambient::replace(before);
                }
            }
        }
    });
}

#[test]
fn waker_that_panics_when_it_is_let_go_of_hurts_nobody() {
    everywhere(|_| panic!("a waker's drop"));
}

#[test]
fn waker_that_waits_on_the_same_token_when_it_is_let_go_of_does_not_deadlock() {
    everywhere(|token| {
        let mut again = token.cancelled();
        let _ = Pin::new(&mut again).poll(&mut Context::from_waker(Waker::noop()));
        drop(token.on_cancel(|_| ()));
        drop(token.child().cancelled());
        let _ = token.cause();
    });
}

#[test]
fn waker_that_cancels_the_same_token_when_it_is_let_go_of_does_not_deadlock() {
    everywhere(CancelToken::cancel);
}

#[test]
fn waker_that_panics_in_wake_or_drop_takes_the_call_from_no_other() {
    for at in 0..4 {
        for in_drop in [false, true] {
            let token = CancelToken::new();
            let bite = move |is_it: bool| move || assert!(!is_it, "a waker's bite");
            let evil = Biting {
                woken: Box::new(bite(!in_drop)),
                dropped: Box::new(bite(in_drop)),
            };
            let mut evil = Some(Waker::from(Arc::new(evil)));
            let count = Count::new();
            let mut waits: Vec<_> = (0..4).map(|_| token.cancelled()).collect();
            for (i, wait) in waits.iter_mut().enumerate() {
                if i == at {
                    let waker = evil.take().unwrap();
                    let mut cx = Context::from_waker(&waker);
                    assert!(Pin::new(wait).poll(&mut cx).is_pending());
                } else {
                    assert!(poll(wait, &count).is_pending());
                }
            }
            let called = Count::new();
            let noted = Arc::clone(&called);
            let guard = token.on_cancel(move |_| noted.add());
            token.cancel();
            assert_eq!((count.get(), called.get()), (3, 1), "{at} {in_drop}");
            drop(guard);
        }
    }
}

#[test]
fn token_that_is_freed_with_wakers_in_its_list_drops_each_by_itself() {
    for watchers in 1..4 {
        let token = CancelToken::new();
        let all: Vec<_> = (0..watchers)
            .map(|_| {
                let (evil, dropped) = on_drop(|| panic!("a waker's drop"));
                let watching = token.watch_phase(&evil, Phase::Cancelled);
                assert!(matches!(watching, Watching::At(_)));
                dropped
            })
            .collect();
        assert!(
            all.iter()
                .all(|dropped| dropped.load(Ordering::SeqCst) == 0)
        );
        // A child may be the last to hold it, on another thread.
        let child = token.child();
        drop(token);
        std::thread::spawn(move || drop(child)).join().unwrap();
        assert!(
            all.iter()
                .all(|dropped| dropped.load(Ordering::SeqCst) == 1)
        );
    }
}

/// Counts its drop, then panics.
struct Bomb(Arc<Count>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        panic!("a destructor");
    }
}

#[test]
fn callbacks_that_panic_when_they_are_taken_back_may_do_so_in_an_unwinding() {
    let (token, count) = (CancelToken::new(), Count::new());
    let guards: Vec<_> = (0..3)
        .map(|_| {
            let bomb = Bomb(Arc::clone(&count));
            token.on_cancel(move |_| {
                let _bomb = &bomb;
            })
        })
        .collect();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _guards = guards;
        panic!("the first");
    }));
    let first = caught.unwrap_err();
    assert_eq!(first.downcast_ref::<&str>(), Some(&"the first"));
    assert_eq!(count.get(), 3);
    token.cancel();
}

#[test]
fn select_that_is_dropped_drops_every_arm_whatever_panics() {
    for unwinding in [false, true] {
        let count = Count::new();
        let arm = || {
            let bomb = Bomb(Arc::clone(&count));
            select_safe(Box::pin(async move {
                let _bomb = bomb;
                pending::<()>().await;
            }))
        };
        let mut both = Box::pin(select((arm(), arm())));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(both.as_mut().poll(&mut cx).is_pending());
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _both = both;
            assert!(!unwinding, "the first");
        }));
        let first = caught.unwrap_err();
        let want = if unwinding {
            "the first"
        } else {
            "a destructor"
        };
        assert_eq!(first.downcast_ref::<&str>(), Some(&want));
        assert_eq!(count.get(), 2, "{unwinding}");
    }
}
