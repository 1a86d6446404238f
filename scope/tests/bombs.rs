//! Destructors that panic beside an error, and wakers that keep one another: the error arrives all the same, nothing is
//! leaked, and no stack overflows.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use common::guarded;
use selvedge_cancel::{CancelToken, Cancelled};
use selvedge_scope::{JoinHandle, block_on, join_all, scope, try_scope};

/// A value whose destructor panics.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}

/// An error that is counted.
#[derive(Debug)]
struct Failure<'a>(&'a AtomicUsize, bool);

impl<'a> Failure<'a> {
    fn new(alive: &'a AtomicUsize) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(alive, false)
    }
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

static CUT: AtomicUsize = AtomicUsize::new(0);

impl From<Cancelled> for Failure<'_> {
    fn from(_: Cancelled) -> Self {
        CUT.fetch_add(1, Ordering::SeqCst);
        Self(&CUT, true)
    }
}

#[test]
fn error_of_a_child_arrives_beside_a_value_that_panics_in_its_drop() {
    let alive = AtomicUsize::new(0);
    let ended = block_on(try_scope(async |s| {
        s.spawn(async { Err::<(), _>(Failure::new(&alive)) });
        Ok::<Bomb, Failure<'_>>(Bomb)
    }));
    drop(ended.expect_err("a child has failed"));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let ended = block_on(
        try_scope(async |s| {
            for _ in 0..3 {
                s.spawn(async { Err::<(), _>(Failure::new(&alive)) });
            }
            Ok::<Bomb, Failure<'_>>(Bomb)
        })
        .all_errors(),
    );
    let errors = ended.expect_err("all have failed");
    assert_eq!(errors.others.len(), 2);
    drop(errors);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn cancellation_and_grace_arrive_beside_a_value_that_panics_in_its_drop() {
    let token = CancelToken::new();
    let ended = block_on(
        try_scope(async |s| {
            s.spawn(async {
                selvedge_cancel::cancelled().await;
                selvedge_cancel::check().map_err(Failure::from)
            });
            token.cancel();
            Ok::<Bomb, Failure<'_>>(Bomb)
        })
        .token(&token),
    );
    assert!(ended.expect_err("it was cancelled from outside").1);
    let short = Duration::from_millis(1);
    let ended = block_on(
        try_scope(async |s| {
            s.spawn_select_safe(selvedge_cancel::select_safe(async {
                Ok::<_, Failure<'_>>(())
            }));
            s.spawn(std::future::pending::<Result<(), Failure<'_>>>());
            s.cancel();
            Ok::<Bomb, Failure<'_>>(Bomb)
        })
        .grace(short),
    );
    assert!(ended.expect_err("the grace was over").1);
    let ended = block_on(
        scope(async |s| {
            s.spawn(std::future::pending::<()>());
            s.cancel();
            Bomb
        })
        .grace(short),
    );
    assert!(ended.is_err());
}

async fn forgets(mut before: Option<JoinHandle<'_, ()>>, first: &Mutex<Option<Waker>>) {
    let mut polls = 0;
    std::future::poll_fn(move |cx| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        match before.take() {
            None => *first.lock().unwrap() = Some(cx.waker().clone()),
            Some(before) => {
                let mut wait = before.cancel_and_wait();
                assert!(Pin::new(&mut wait).poll(cx).is_pending());
                // Its waker stays in the list of the child before, whose handle is dropped.
                std::mem::forget(wait);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn chain_of_waits_that_were_forgotten_goes_without_recursion() {
    guarded(|| {
        let first = Mutex::new(None);
        block_on(
            scope(async |s| {
                let mut before = None;
                for _ in 0..100_000 {
                    before = Some(s.spawn(forgets(before.take(), &first)));
                }
            })
            .inline(),
        );
        // The last reference to the first child, whose record has the last one to the second, and so on.
        drop(first.into_inner().unwrap());
    });
}

/// Processor time of this thread, where the system tells.
fn used() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// The grace is over while a helper is in a long poll, and mail comes: the owner sleeps, and takes no processor time.
#[test]
fn owner_that_waits_to_abort_sleeps_whatever_comes_in() {
    use common::{on_helper, pool};
    use selvedge_scope::lending::{Lending, with};
    use std::sync::atomic::AtomicBool;

    const LONG: Duration = Duration::from_millis(600);
    let Some(before) = used() else { return };
    let pool = pool(1);
    let slot = Mutex::new(None::<Waker>);
    let (long, out) = (AtomicBool::new(false), Mutex::new(None::<CancelToken>));
    let (slot, long, out) = (&slot, &long, &out);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            while !long.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            out.lock().unwrap().take().unwrap().cancel();
            std::thread::sleep(LONG / 6);
            // The grace is over by now.
            slot.lock().unwrap().take().unwrap().wake();
        });
        let ended = with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    s.spawn(std::future::poll_fn(move |cx| {
                        *slot.lock().unwrap() = Some(cx.waker().clone());
                        Poll::<()>::Pending
                    }));
                    let scope = s.clone();
                    s.spawn(std::future::poll_fn(move |cx| {
                        if !on_helper() || slot.lock().unwrap().is_none() {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        *out.lock().unwrap() = Some(scope.token());
                        long.store(true, Ordering::SeqCst);
                        std::thread::sleep(LONG);
                        Poll::Ready(())
                    }));
                    for _ in 0..3 {
                        s.spawn(std::future::poll_fn(move |cx| {
                            if long.load(Ordering::SeqCst) {
                                return Poll::Ready(());
                            }
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }));
                    }
                    std::future::pending::<()>().await;
                })
                .grace(Duration::from_millis(1))
                .on(&pool),
            )
        });
        assert!(ended.is_err());
    });
    let used = used().unwrap() - before;
    assert!(
        used < LONG / 3,
        "{used:?} of processor time in a wait of {LONG:?}"
    );
}

/// Futures that are dropped before any of them was polled, since the iterator panics that gives them: one by one, however many
/// of their destructors panic, and whether or not it says how many there are.
#[test]
fn futures_of_an_iterator_that_panics_are_dropped_one_by_one() {
    guarded(|| {
        let alive = &AtomicUsize::new(0);
        let make = |n| {
            assert!(n < 3, "the iterator");
            let held = (Failure::new(alive), Bomb);
            async move {
                let _held = held;
            }
        };
        for exact in [true, false] {
            let made = catch_unwind(AssertUnwindSafe(|| match exact {
                true => drop(join_all((0..4).map(make))),
                false => drop(join_all((0..4).filter(|_| true).map(make))),
            }));
            let raised = made.expect_err("it panics");
            assert_eq!(raised.downcast_ref::<&str>(), Some(&"the iterator"));
            assert_eq!(alive.load(Ordering::SeqCst), 0, "exact: {exact}");
        }
    });
}
