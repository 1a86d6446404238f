//! Scopes that are over after a few short polls: nothing is lost on the straight way through their first window, and a
//! scope that is run in the memory of another one has nothing of it. What they allocate is in `tests/alloc_small.rs`.

mod common;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{attempts, guarded, message, on_helper, panic_of, poll_once, pool, yields};
use selvedge_cancel::{CancelToken, current};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, Scope, block_on, scope};

/// Often enough that the kinds are known, and that first windows of both sorts come.
const ROUNDS: usize = 100;

/// Waits for one wake, by a thread that has done so when the poll returns.
async fn woken_meanwhile() {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        thread::spawn(move || waker.wake()).join().unwrap();
        Poll::Pending
    })
    .await;
}

#[test]
fn wake_from_another_thread_in_the_first_poll_arrives() {
    guarded(|| {
        for _ in 0..ROUNDS {
            block_on(scope(async |_: Scope<'_>| woken_meanwhile().await));
            block_on(scope(async |s: Scope<'_>| {
                s.spawn(woken_meanwhile());
            }));
            block_on(scope(async |s: Scope<'_>| {
                let a = s.spawn(woken_meanwhile());
                let b = s.spawn(yields(3));
                a.await;
                b.await;
            }));
        }
    });
}

#[test]
fn child_that_another_thread_spawns_in_the_first_poll_is_run() {
    guarded(|| {
        let ran = AtomicUsize::new(0);
        for _ in 0..ROUNDS {
            block_on(scope(async |s: Scope<'_>| {
                let ran = &ran;
                thread::scope(|threads| {
                    threads.spawn(|| {
                        s.spawn(async move { ran.fetch_add(1, Ordering::SeqCst) });
                    });
                });
            }));
        }
        assert_eq!(ran.load(Ordering::SeqCst), ROUNDS);
    });
}

#[test]
fn cancel_from_another_thread_in_the_first_poll_arrives() {
    guarded(|| {
        for _ in 0..ROUNDS {
            let seen = block_on(scope(async |s: Scope<'_>| {
                let child = s.spawn(async {
                    while !is_cancelled() {
                        yields(1).await;
                    }
                    true
                });
                thread::scope(|threads| {
                    threads.spawn(|| s.cancel());
                });
                child.await
            }));
            assert!(seen);
        }
    });
}

/// Everybody who is ready has a turn before the body has its second.
#[test]
fn turns_are_those_of_any_window() {
    guarded(|| {
        for _ in 0..ROUNDS {
            let order = Mutex::new(Vec::new());
            let whole = scope(async |s: Scope<'_>| {
                let order = &order;
                for child in 1..=3 {
                    s.spawn(async move {
                        for _ in 0..3 {
                            order.lock().unwrap().push(child);
                            yields(1).await;
                        }
                    });
                }
                for _ in 0..3 {
                    order.lock().unwrap().push(0);
                    yields(1).await;
                }
            });
            block_on(whole.inline());
            let order = order.into_inner().unwrap();
            assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
        }
    });
}

/// As many polls as one looks at are those of many children too.
#[test]
fn what_is_left_goes_on_in_a_window() {
    guarded(|| {
        for _ in 0..ROUNDS {
            let sum = block_on(scope(async |s: Scope<'_>| {
                let children: Vec<_> = (0..100)
                    .map(|i| {
                        s.spawn(async move {
                            yields(i % 7).await;
                            i
                        })
                    })
                    .collect();
                let mut sum = 0;
                for child in children {
                    sum += child.await;
                }
                sum
            }));
            assert_eq!(sum, 99 * 100 / 2);
        }
    });
}

/// A scope that finds itself as every scope does at first.
fn like_new(what: &str) {
    let over = block_on(scope(async |s: Scope<'static>| s));
    let spawned = catch_unwind(AssertUnwindSafe(|| drop(over.spawn(async {}))));
    assert!(spawned.is_err(), "{what}: a spawn that nobody runs");
    drop(over);
    let outcome = block_on(scope(async |s: Scope<'_>| {
        assert!(s.is_empty(), "{what}: children");
        assert!(!s.is_cancelled() && !s.is_stopping(), "{what}: cancelled");
        assert!(!is_cancelled(), "{what}: the body is cancelled");
        assert_eq!(current().deadline(), None, "{what}: a deadline");
        assert!(s.token().own_cause().is_none(), "{what}: a cause");
        let child = s.spawn(async {
            yields(2).await;
            (is_cancelled(), 7)
        });
        assert_eq!(s.len(), 1, "{what}: not counted");
        let late = s.spawn(yields(5));
        let value = child.await;
        late.await;
        value
    }));
    assert_eq!(outcome, (false, 7), "{what}: the child");
}

#[test]
fn scope_has_nothing_of_the_one_before() {
    guarded(|| {
        for _ in 0..20 {
            block_on(scope(async |s: Scope<'_>| s.cancel()));
            like_new("cancelled by its body");

            let outer = CancelToken::new();
            block_on(scope(async |_: Scope<'_>| outer.cancel()).token(&outer));
            like_new("cancelled from outside");

            block_on(scope(async |s: Scope<'_>| s.stop()));
            like_new("stopped");

            let panic = panic_of(|| {
                block_on(scope(async |s: Scope<'_>| {
                    s.spawn(async { panic!("a child") });
                }));
            });
            assert_eq!(panic, "a child");
            like_new("panicked");

            let panic = catch_unwind(|| block_on(scope(async |_: Scope<'_>| panic!("a body"))));
            assert_eq!(message(&*panic.unwrap_err()), "a body");
            like_new("body panicked");

            let limited = scope(async |_: Scope<'_>| ())
                .timeout(Duration::from_secs(3600))
                .inline()
                .name("limited");
            block_on(limited);
            like_new("limited");
            assert!(name_in_reports().starts_with("the body of the scope opened at"));
            block_on(scope(async |_: Scope<'_>| ()).inline());
            let pool = pool(1);
            assert!(
                attempts().any(|()| runs_on_helpers(&pool)),
                "inline, as the one before"
            );

            block_on(scope(async |s: Scope<'_>| {
                s.set_deadline(selvedge_cancel::Instant::now() + Duration::from_secs(3600));
            }));
            like_new("limited while it ran");

            block_on(scope(async |_: Scope<'_>| current().child().cancel()));
            like_new("with a token for its body");

            block_on(scope(async |s: Scope<'_>| {
                let child = s.spawn(async { current().cancelled().await });
                child.cancel();
            }));
            like_new("with a child cancelled");

            let mut dropped = Box::pin(scope(async |s: Scope<'_>| {
                s.spawn(pending::<()>());
                pending::<()>().await;
            }));
            assert!(poll_once(dropped.as_mut()).is_pending());
            drop(dropped);
            like_new("dropped");

            drop(scope(async |s: Scope<'_>| s.cancel()));
            like_new("never polled");

            block_on(
                scope(async |s: Scope<'_>| {
                    for _ in 0..4 {
                        s.spawn(yields(1));
                    }
                })
                .heavy()
                .on(&pool),
            );
            like_new("lent");
        }
    });
}

/// What a cause says of a scope whose body panics.
fn name_in_reports() -> String {
    let text = Mutex::new(String::new());
    let whole = scope(async |s: Scope<'_>| {
        s.spawn(async {
            current().cancelled().await;
            let cause = current().cause().unwrap();
            cause.text().unwrap().clone_into(&mut text.lock().unwrap());
        });
        yields(3).await;
        panic!("somebody");
    });
    panic_of(|| block_on(whole));
    text.into_inner().unwrap()
}

fn runs_on_helpers(pool: &Pool) -> bool {
    let helped = AtomicUsize::new(0);
    let whole = scope(async |s: Scope<'_>| {
        for _ in 0..8 {
            s.spawn(async { helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst) });
        }
    });
    with(Lending::Forced, || block_on(whole.on(pool)));
    helped.into_inner() > 0
}

fn is_cancelled() -> bool {
    current().is_cancelled()
}

#[test]
fn waker_of_a_scope_that_is_over_wakes_nobody() {
    guarded(|| {
        for _ in 0..ROUNDS {
            let (body, child) = (Mutex::new(None), Mutex::new(None));
            let leave = |place: &Mutex<Option<Waker>>, cx: &mut Context<'_>| {
                *place.lock().unwrap() = Some(cx.waker().clone());
                Poll::Ready(())
            };
            block_on(scope(async |s: Scope<'_>| {
                s.spawn(poll_fn(|cx| leave(&child, cx)));
                poll_fn(|cx| leave(&body, cx)).await;
            }));
            let polls = AtomicUsize::new(0);
            let mut next = pin!(scope(async |s: Scope<'_>| {
                let polls = &polls;
                s.spawn(poll_fn(move |_| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    Poll::<()>::Pending
                }));
                pending::<()>().await;
            }));
            let (bell, waker) = common::Bell::new();
            let mut cx = Context::from_waker(&waker);
            assert!(next.as_mut().poll(&mut cx).is_pending());
            let before = polls.load(Ordering::SeqCst);
            for waker in [body, child] {
                waker.into_inner().unwrap().unwrap().wake();
            }
            assert_eq!(bell.rung(), 0, "the next scope was woken");
            assert!(next.as_mut().poll(&mut cx).is_pending());
            assert_eq!(polls.load(Ordering::SeqCst), before);
        }
    });
}

/// More scopes in one another than are kept, on several threads that hand their last references around.
#[test]
fn scopes_in_one_another_on_many_threads() {
    fn nested(
        depth: usize,
        left: Arc<Mutex<Vec<Waker>>>,
    ) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            scope(async move |s: Scope<'_>| {
                let a = s.spawn(nested(depth - 1, Arc::clone(&left)));
                poll_fn(|cx| {
                    let mut left = left.lock().unwrap();
                    left.push(cx.waker().clone());
                    if left.len() > 20 {
                        left.drain(..10).for_each(Waker::wake);
                    }
                    Poll::Ready(())
                })
                .await;
                yields(depth % 3).await;
                a.await + 1
            })
            .await
        })
    }
    guarded(|| {
        let left = Arc::new(Mutex::new(Vec::new()));
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for depth in (0..200).map(|i| i % 9) {
                        assert_eq!(block_on(nested(depth, Arc::clone(&left))), depth + 1);
                    }
                });
            }
        });
    });
}
