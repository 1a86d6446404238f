//! `handle.cancel()` and `cancel_and_wait()`: what a cancelled child has below it, and who may wait how for its end.
//! Whether its error counts as a failure is tested in the root package.

mod common;

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use common::{
    Bell, Count, burn, everywhere, guarded, on_helper, panic_of, poll_once, pool, yields,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge_cancel::{Cancelled, CauseKind, FutureCancelExt, cancelled, check, checkpoint};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::time::sleep;
use selvedge_scope::{JoinHandle, Scope, block_on, join_all, scope, shield_unbounded, timeout};

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

async fn rest() -> Result<(), Cancelled> {
    pending().or_cancel().await
}

// handle.cancel() reaches what hangs below the child, and nothing beside it.
#[test]
fn cancel_reaches_scopes_below_the_child_and_not_its_siblings() {
    everywhere(|mode, pool| {
        let (resting, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sibling_stopped = AtomicBool::new(false);
        let leaf = async || {
            resting.fetch_add(1, Ordering::SeqCst);
            let stopped = rest().await;
            told.fetch_add(1, Ordering::SeqCst);
            stopped
        };
        let stopped = block_on(
            scope(async |s| {
                let child = s.spawn(async {
                    let nested = scope(async |s| {
                        s.spawn(async { leaf().await });
                        s.spawn(async {
                            let innermost = scope(async |s| s.spawn(async { leaf().await }).await);
                            innermost.on(pool).await
                        });
                        leaf().await
                    });
                    let stopped = nested.on(pool).await;
                    (stopped, check())
                });
                let sibling = s.spawn(async {
                    let mut waiting = pin!(rest());
                    until(|| told.load(Ordering::SeqCst) == 3).await;
                    let again = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx)));
                    sibling_stopped.store(again.await.is_ready(), Ordering::SeqCst);
                });
                until(|| resting.load(Ordering::SeqCst) == 3).await;
                child.cancel();
                sibling.await;
                assert!(!s.is_cancelled() && check().is_ok());
                child.await
            })
            .on(pool),
        );
        let kinds = [stopped.0, stopped.1].map(|end| end.unwrap_err().cause().kind());
        assert_eq!(kinds, [CauseKind::Requested; 2], "{mode:?}");
        assert_eq!(told.into_inner(), 3);
        assert!(!sibling_stopped.into_inner());
    });
}

#[test]
fn cancel_reaches_through_a_time_out_and_is_not_one() {
    everywhere(|mode, pool| {
        let resting = AtomicBool::new(false);
        let ended = block_on(
            scope(async |s| {
                let child = s.spawn(timeout(Duration::from_secs(3600), async {
                    timeout(Duration::MAX, async {
                        resting.store(true, Ordering::SeqCst);
                        sleep(Duration::from_secs(3600)).await
                    })
                    .await
                }));
                until(|| resting.load(Ordering::SeqCst)).await;
                yields(3).await;
                child.cancel();
                child.await
            })
            .on(pool),
        );
        let slept = ended.expect("the outer limit").expect("the inner limit");
        let kind = slept.unwrap_err().cause().kind();
        assert_eq!(kind, CauseKind::Requested, "{mode:?}");
    });
}

#[test]
fn cancel_reaches_the_members_of_a_batch_and_of_a_batch_in_that() {
    everywhere(|mode, pool| {
        let resting = AtomicUsize::new(0);
        let stopped = block_on(
            scope(async |s| {
                let child = s.spawn(async {
                    let members = (0..4).map(|_| async {
                        let inner = (0..3).map(|_| async {
                            resting.fetch_add(1, Ordering::SeqCst);
                            rest().await.is_err()
                        });
                        join_all(inner).on(pool).await
                    });
                    join_all(members).on(pool).await
                });
                until(|| resting.load(Ordering::SeqCst) == 12).await;
                child.cancel();
                child.await
            })
            .on(pool),
        );
        assert_eq!(stopped.concat(), [true; 12], "{mode:?}");
    });
}

// The leaves are polled with wakers of their own, so they have to register at the child's token.
#[test]
fn cancel_reaches_leaves_that_are_polled_with_foreign_wakers() {
    everywhere(|mode, pool| {
        for whole in [false, true] {
            let resting = AtomicUsize::new(0);
            let stopped = block_on(
                scope(async |s| {
                    let child = s.spawn(async {
                        let leaves: FuturesUnordered<_> = (0..20)
                            .map(|n| {
                                let resting = &resting;
                                async move {
                                    resting.fetch_add(1, Ordering::SeqCst);
                                    match n % 4 {
                                        0 => rest().await.is_err(),
                                        1 => sleep(Duration::from_secs(3600)).await.is_err(),
                                        2 => {
                                            cancelled().await;
                                            true
                                        }
                                        _ => {
                                            let inner = scope(async |_| rest().await);
                                            inner.await.is_err()
                                        }
                                    }
                                }
                            })
                            .collect();
                        leaves.collect::<Vec<_>>().await
                    });
                    until(|| resting.load(Ordering::SeqCst) == 20).await;
                    // They rest by now, each with its own waker.
                    yields(3).await;
                    if whole {
                        s.cancel();
                    } else {
                        child.cancel();
                    }
                    child.await
                })
                .on(pool),
            );
            assert_eq!(stopped, [true; 20], "{mode:?} {whole}");
        }
    });
}

// The closure never rests: it learns of the cancellation because it asks.
#[test]
fn closure_that_loops_on_a_helper_hears_of_a_cancel_by_another_thread() {
    guarded(|| {
        let pool = pool(2);
        let (mut by_handle, mut by_scope) = (0, 0);
        while by_handle < 3 || by_scope < 3 {
            let whole = by_handle >= 3;
            let looping = AtomicBool::new(false);
            let kept = Mutex::new(None);
            let (kind, helped) = std::thread::scope(|threads| {
                threads.spawn(|| {
                    while !looping.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    let kept = kept.lock().unwrap();
                    let (child, s): &(Arc<JoinHandle<'_, _>>, Scope<'_>) = kept.as_ref().unwrap();
                    if whole { s.cancel() } else { child.cancel() }
                });
                with(Lending::Forced, || {
                    let ended = scope(async |s| {
                        for _ in 0..3 {
                            s.spawn(async { burn(Duration::from_micros(200)) });
                        }
                        let mut kept = kept.lock().unwrap();
                        let child = s.spawn_fn(|| {
                            let helped = on_helper();
                            looping.store(true, Ordering::SeqCst);
                            loop {
                                if let Err(cancelled) = check() {
                                    return (cancelled.cause().kind(), helped);
                                }
                            }
                        });
                        *kept = Some((Arc::new(child), s.clone()));
                        s.spawn(async { burn(Duration::from_micros(200)) });
                    });
                    block_on(ended.on(&pool));
                });
                let (child, _) = kept.lock().unwrap().take().unwrap();
                let child = Arc::into_inner(child).expect("nobody else has it");
                block_on(child)
            });
            assert_eq!(kind, CauseKind::Requested);
            by_handle += usize::from(helped && !whole);
            by_scope += usize::from(helped && whole);
        }
    });
}

// CT-052, with threads: those wait outside of the scope, with an executor of their own.
#[test]
fn several_tasks_and_threads_wait_for_one_end_and_all_return_after_it() {
    everywhere(|mode, pool| {
        let (cleaned, waiting, returned) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let wait = async |child: Arc<JoinHandle<'_, ()>>| {
            let mut gone = child.cancel_and_wait();
            let mut also = gone.clone();
            let first = std::future::poll_fn(|cx| {
                let _ = Pin::new(&mut also).poll(cx);
                Poll::Ready(Pin::new(&mut gone).poll(cx).is_pending())
            });
            assert!(first.await, "the child waits for four who wait");
            waiting.fetch_add(1, Ordering::SeqCst);
            gone.await;
            also.await;
            assert!(cleaned.load(Ordering::SeqCst) && child.is_finished());
            returned.fetch_add(1, Ordering::SeqCst);
        };
        let kept: Mutex<Option<Arc<JoinHandle<'_, ()>>>> = Mutex::new(None);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let child = loop {
                        if let Some(child) = kept.lock().unwrap().clone() {
                            break child;
                        }
                        std::thread::yield_now();
                    };
                    futures::executor::block_on(wait(child));
                });
            }
            block_on(
                scope(async |s| {
                    let child = Arc::new(s.spawn(async {
                        cancelled().await;
                        until(|| waiting.load(Ordering::SeqCst) == 4).await;
                        yields(9).await;
                        cleaned.store(true, Ordering::SeqCst);
                    }));
                    *kept.lock().unwrap() = Some(child.clone());
                    let others = [wait(child.clone()), wait(child)];
                    join_all(others).inline().await;
                })
                .on(pool),
            );
        });
        assert_eq!(returned.load(Ordering::SeqCst), 4, "{mode:?}");
    });
}

#[test]
fn wait_for_a_child_that_has_ended_returns_at_once_and_changes_nothing() {
    everywhere(|mode, pool| {
        let value = block_on(
            scope(async |s| {
                let child = s.spawn(async { 7 });
                until(|| child.is_finished()).await;
                assert!(
                    poll_once(pin!(child.cancel_and_wait())).is_ready(),
                    "{mode:?}"
                );
                assert!(poll_once(pin!(child.cancel_and_wait())).is_ready());
                assert!(checkpoint().await.is_ok());
                child.await
            })
            .on(pool),
        );
        assert_eq!(value, 7);
    });
}

#[test]
fn child_that_waits_for_its_own_end_panics_and_says_so() {
    everywhere(|mode, pool| {
        let told = panic_of(|| {
            block_on(
                scope(async |s| {
                    type Slot<'a> = Arc<Mutex<Option<JoinHandle<'a, ()>>>>;
                    let slot: Slot<'_> = Arc::default();
                    let own = slot.clone();
                    let child = s.spawn(async move {
                        until(|| own.lock().unwrap().is_some()).await;
                        let handle = own.lock().unwrap().take().unwrap();
                        handle.cancel_and_wait().await;
                    });
                    *slot.lock().unwrap() = Some(child.name("ouroboros"));
                })
                .on(pool),
            )
        });
        assert!(told.contains("its own end"), "{mode:?}: {told}");
        assert!(told.contains("ouroboros"), "{told}");
    });
}

#[test]
fn wait_in_a_scope_that_is_dropped_ends_with_it() {
    everywhere(|mode, pool| {
        let count = Count::new();
        let resting = AtomicBool::new(false);
        let kept = Mutex::new(None);
        let mut dropped = Box::pin(
            scope(async |s| {
                let one = count.one();
                let child = s.spawn(async {
                    let _one = one;
                    resting.store(true, Ordering::SeqCst);
                    shield_unbounded(pending::<()>()).await;
                });
                *kept.lock().unwrap() = Some(child);
                pending::<()>().await;
            })
            .on(pool),
        );
        while !resting.load(Ordering::SeqCst) {
            assert!(poll_once(dropped.as_mut()).is_pending());
        }
        let child = kept.lock().unwrap().take().unwrap();
        {
            let mut gone = pin!(child.cancel_and_wait());
            let (bell, waker) = Bell::new();
            let mut cx = Context::from_waker(&waker);
            assert!(gone.as_mut().poll(&mut cx).is_pending());
            assert!(poll_once(dropped.as_mut()).is_pending(), "it is shielded");
            assert_eq!(bell.rung(), 0);
            // Nobody said that this may be dropped midway, and it is reported.
            drop(dropped);
            assert!(bell.rung() > 0, "{mode:?}: whoever waits is told");
            assert!(gone.as_mut().poll(&mut cx).is_ready());
            assert!(poll_once(pin!(child.cancel_and_wait())).is_ready());
        }
        count.assert_settled("dropped");
        let told = panic_of(|| block_on(child));
        assert!(told.contains("dropped with its scope"), "{told}");
    });
}

/// A request that is made before the child's first poll, also to a child that asks for nothing.
#[test]
fn child_cancelled_before_it_begins_begins_and_fails_at_its_first_operation() {
    everywhere(|mode, pool| {
        let began = AtomicUsize::new(0);
        let ends = block_on(
            scope(async |s| {
                let children: Vec<_> = (0..20)
                    .map(|n| {
                        let began = &began;
                        let child = s.spawn(async move {
                            began.fetch_add(1, Ordering::SeqCst);
                            if n % 2 == 0 {
                                return true;
                            }
                            // On a helper it may have passed before the cancel.
                            until(|| check().is_err()).await;
                            checkpoint().await.is_err()
                        });
                        child.cancel();
                        child
                    })
                    .collect();
                join_all(children).inline().await
            })
            .on(pool),
        );
        assert_eq!(ends, [true; 20], "{mode:?}");
        assert_eq!(began.into_inner(), 20);
    });
}

/// Handles cancel in turn, from destructors too, and the cancellation of a child that panics is not in the way.
#[test]
fn cancel_from_a_destructor_and_of_a_child_that_panics_then() {
    struct Cancels<'a>(Option<JoinHandle<'a, ()>>);
    impl Drop for Cancels<'_> {
        fn drop(&mut self) {
            if let Some(handle) = self.0.take() {
                handle.cancel();
            }
        }
    }
    everywhere(|mode, pool| {
        let told = AtomicUsize::new(0);
        let raised = catch_unwind(AssertUnwindSafe(|| {
            block_on(
                scope(async |s| {
                    let last = s.spawn(async {
                        let failed = rest().await;
                        told.fetch_add(usize::from(failed.is_err()), Ordering::SeqCst);
                        std::panic::resume_unwind(Box::new("cancelled"));
                    });
                    let middle = Cancels(Some(last));
                    let told = &told;
                    let middle = s.spawn(async move {
                        let _middle = middle;
                        let failed = rest().await;
                        told.fetch_add(usize::from(failed.is_err()), Ordering::SeqCst);
                    });
                    middle.cancel();
                    middle.await;
                })
                .on(pool),
            );
        }));
        let payload = raised.expect_err("the child panicked");
        assert_eq!(
            payload.downcast_ref::<&str>(),
            Some(&"cancelled"),
            "{mode:?}"
        );
        assert_eq!(told.into_inner(), 2);
    });
}
