//! What goes on while helpers are busy: the owner whose budget is spent, and threads of our pool that wait inside
//! `rayon::join`. Not for pools that wait for each other: that is `liveness.rs`.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Bell, burn, guarded, on_helper, pool};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, scope};

/// Longer than the budget of a window.
const LONG: Duration = Duration::from_millis(12);
/// So long a helper waits for what comes at once, if it comes.
const MOST: Duration = Duration::from_secs(20);

/// Two children meet, one of them on a helper; the other spends the budget, and then a third is woken, by it or by
/// a thread outside. The helper's poll ends when the third was polled, and no sooner: the owner waits for the
/// helper, and polls the third meanwhile.
fn woken_after_the_budget(pool: &Pool, outside: bool) {
    let (owner, barrier) = (std::thread::current().id(), Barrier::new(2));
    let (waker, woken) = (Mutex::new(None::<Waker>), AtomicBool::new(false));
    let wake = || {
        woken.store(true, Ordering::SeqCst);
        let waker = waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    let (to_thread, spent) = channel();
    let (to_helper, polled) = channel();
    let polled = Mutex::new(polled);
    let in_time = Mutex::new(None);
    std::thread::scope(|threads| {
        if outside {
            let wake = &wake;
            threads.spawn(move || {
                if spent.recv().is_ok() {
                    wake();
                }
            });
        }
        let third = || {
            let to_helper = to_helper.clone();
            let (waker, woken) = (&waker, &woken);
            poll_fn(move |cx| {
                *waker.lock().unwrap() = Some(cx.waker().clone());
                if woken.load(Ordering::SeqCst) {
                    to_helper.send(()).unwrap();
                    return Poll::Ready(());
                }
                Poll::Pending
            })
        };
        let meet = |to_thread: std::sync::mpsc::Sender<()>| {
            let (barrier, polled, in_time, wake) = (&barrier, &polled, &in_time, &wake);
            async move {
                barrier.wait();
                if std::thread::current().id() != owner {
                    let message = polled.lock().unwrap().recv_timeout(MOST);
                    *in_time.lock().unwrap() = Some(message.is_ok());
                } else {
                    burn(LONG);
                    if outside {
                        to_thread.send(()).unwrap();
                    } else {
                        wake();
                    }
                }
            }
        };
        let mut scoped = pin!(
            scope(async |s| {
                s.spawn(third());
                for _ in 0..2 {
                    s.spawn(meet(to_thread.clone()));
                }
            })
            .on(pool)
        );
        let (bell, parent) = Bell::new();
        let mut cx = Context::from_waker(&parent);
        // A window whose time is over before the two have met is made up for by another.
        while in_time.lock().unwrap().is_none() {
            let first = with(Lending::Forced, || scoped.as_mut().poll(&mut cx));
            assert!(first.is_pending() && bell.rung() > 0, "it gave way");
        }
        assert_eq!(*in_time.lock().unwrap(), Some(true), "polled meanwhile");
        let second = with(Lending::Forced, || scoped.as_mut().poll(&mut cx));
        assert!(second.is_ready());
    });
}

// W9, W5: a poll cannot end before the helpers' polls do. What is ready, or becomes so, goes on until then.
#[test]
fn child_woken_after_the_budget_is_polled_while_a_helper_is_busy() {
    guarded(|| {
        let pool = pool(1);
        for _ in 0..10 {
            woken_after_the_budget(&pool, false);
        }
    });
}

// W9, W5: the same, when the owner has gone to sleep perhaps.
#[test]
fn child_woken_from_outside_after_the_budget_is_polled_while_a_helper_is_busy() {
    guarded(|| {
        let pool = pool(1);
        for _ in 0..10 {
            woken_after_the_budget(&pool, true);
        }
    });
}

fn spin_until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

/// Locks, joins and waits: the thread that runs it waits inside `join` until `over`, holding the lock, and takes
/// what jobs there are; the other two threads of the pool do nothing else.
fn hold_across_join(lock: &Mutex<()>, held: &AtomicBool, over: &AtomicBool) {
    let (inner, stolen) = (AtomicBool::new(false), AtomicBool::new(false));
    rayon_core::join(
        || {
            // Another thread takes the other half: one that is in nobody's window.
            spin_until(&inner);
            spin_until(over);
        },
        || {
            inner.store(true, Ordering::SeqCst);
            let _held = lock.lock().unwrap();
            rayon_core::join(
                || spin_until(&stolen),
                || {
                    stolen.store(true, Ordering::SeqCst);
                    held.store(true, Ordering::SeqCst);
                    spin_until(over);
                },
            );
        },
    );
}

// L1, V1: a child calls `rayon::join` on our own pool, and a part of it, on a thread that is in no window, holds a
// lock while it waits in another `join`. That thread must not start as a helper of a second scope, whose children
// take the lock.
#[test]
fn thread_that_waits_in_join_under_a_lock_does_not_start_to_help() {
    guarded(|| {
        let pool = pool(3);
        for _ in 0..3 {
            let lock = Mutex::new(());
            let (held, over) = (AtomicBool::new(false), AtomicBool::new(false));
            let (ran, on_top) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    let barrier = Barrier::new(2);
                    with(Lending::Forced, || {
                        block_on(
                            scope(async |s| {
                                for _ in 0..2 {
                                    s.spawn(async {
                                        barrier.wait();
                                        if on_helper() {
                                            hold_across_join(&lock, &held, &over);
                                        }
                                    });
                                }
                            })
                            .on(&pool),
                        );
                    });
                });
                spin_until(&held);
                for _ in 0..100 {
                    with(Lending::Forced, || {
                        block_on(
                            scope(async |s| {
                                for _ in 0..4 {
                                    s.spawn(async {
                                        ran.fetch_add(1, Ordering::SeqCst);
                                        if on_helper() {
                                            // It would wait for itself.
                                            let taken = lock.try_lock();
                                            let ours =
                                                matches!(taken, Err(TryLockError::WouldBlock));
                                            on_top.fetch_add(usize::from(ours), Ordering::SeqCst);
                                        }
                                    });
                                }
                            })
                            .on(&pool),
                        );
                    });
                }
                over.store(true, Ordering::SeqCst);
            });
            assert_eq!(ran.load(Ordering::SeqCst), 400);
            assert_eq!(on_top.load(Ordering::SeqCst), 0, "began on top of the lock");
        }
        // The pool helps again: two children meet.
        let barrier = Barrier::new(2);
        with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    for _ in 0..2 {
                        s.spawn(async {
                            barrier.wait();
                        });
                    }
                })
                .on(&pool),
            );
        });
    });
}
