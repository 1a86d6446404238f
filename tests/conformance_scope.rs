//! `CONFORMANCE.md`, lifetime of a scope and panics: CT-001 to CT-011, CT-031 to CT-036, X-09, X-10.
//! Each test carries the number of its case. Errors are in `conformance_errors.rs`.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use selvedge::cancel::{cancelled, check};
use selvedge::{CauseKind, Pool, Scope, block_on, scope, try_scope};

async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn pools() -> Vec<Pool> {
    [0, 1, 2, 4]
        .map(|threads| Pool::builder().threads(threads).build())
        .into()
}

/// What `f` panicked with.
fn payload_of<R>(f: impl FnOnce() -> R) -> Box<dyn std::any::Any + Send> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => payload,
    }
}

// CT-001
#[test]
fn scope_returns_after_both_children_with_the_value_of_its_body() {
    for pool in pools() {
        let done = Mutex::new(Vec::new());
        let value = block_on(
            scope(async |s| {
                for i in 0..2 {
                    let done = &done;
                    s.spawn(async move {
                        yields(5).await;
                        done.lock().unwrap().push(i);
                    });
                }
                assert!(done.lock().unwrap().is_empty(), "the body ends first");
                "body"
            })
            .on(&pool),
        );
        assert_eq!(value, "body");
        assert_eq!(done.into_inner().unwrap().len(), 2);
    }
}

// CT-002
#[test]
fn outer_scope_waits_for_the_whole_subtree() {
    for pool in pools() {
        let done = AtomicUsize::new(0);
        block_on(
            scope(async |s| {
                s.spawn(async {
                    scope(async |inner| {
                        inner.spawn(async {
                            scope(async |innermost| {
                                innermost.spawn(async {
                                    yields(9).await;
                                    done.fetch_add(1, Ordering::SeqCst)
                                });
                            })
                            .on(&pool)
                            .await;
                            done.fetch_add(1, Ordering::SeqCst)
                        });
                    })
                    .on(&pool)
                    .await;
                    done.fetch_add(1, Ordering::SeqCst)
                });
            })
            .on(&pool),
        );
        assert_eq!(done.into_inner(), 3);
    }
}

/// A child that must never run.
async fn unreachable_child() {
    unreachable!("it was refused");
}

// CT-004, X-11 in part
#[test]
fn handle_kept_past_the_end_refuses_and_gives_the_child_back() {
    for fails in [false, true] {
        let kept: Mutex<Option<Scope<'static>>> = Mutex::new(None);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            block_on(
                scope(async |s: Scope<'static>| {
                    *kept.lock().unwrap() = Some(s);
                    assert!(!fails, "the body fails");
                })
                .name("ended"),
            )
        }));
        assert_eq!(ended.is_err(), fails);
        let s = kept.into_inner().unwrap().unwrap();
        let captured = String::from("captured");
        let child = async move {
            unreachable_child().await;
            drop(captured)
        };
        let refused = s.try_spawn(child).map(drop).unwrap_err();
        // A scope that failed is cancelled as well as ended; either answer is true of it.
        assert!(fails || refused.why() == selvedge::Why::Closed);
        drop(refused.into_inner());
        let payload = payload_of(|| s.spawn(unreachable_child()));
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(
            text.contains("`ended`") && text.contains("has ended"),
            "{text}"
        );
    }
}

// CT-004 for `try_scope`, X-11: cancelled
#[test]
fn cancelled_scope_gives_children_back_and_takes_plain_spawns() {
    let ran = AtomicUsize::new(0);
    let result = block_on(try_scope(async |s| {
        s.cancel();
        let refused = s
            .try_spawn(async {
                unreachable_child().await;
                Ok::<_, u8>(())
            })
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.why(), selvedge::Why::Cancelled);
        s.spawn(async {
            assert!(
                check().is_err(),
                "it starts, and fails at its first cancellable operation"
            );
            ran.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        Ok(5)
    }));
    assert_eq!((result, ran.into_inner()), (Ok(5), 1));
}

type Nested<'a> = std::pin::Pin<Box<dyn Future<Output = usize> + Send + 'a>>;

fn nest(levels: usize, pool: &Pool) -> Nested<'_> {
    Box::pin(async move {
        if levels == 0 {
            cancelled().await;
            return 0;
        }
        scope(async |s| s.spawn(nest(levels - 1, pool)).await + 1)
            .on(pool)
            .await
    })
}

// CT-010: several thousand; the stack of the polling thread is what nesting costs.
#[test]
fn deeply_nested_scopes_cancelled_at_the_root_all_end() {
    const LEVELS: usize = 3_000;
    let big = std::thread::Builder::new().stack_size(256 << 20).spawn(|| {
        let pool = Pool::builder().threads(0).build();
        let mut polled = false;
        let depth = block_on(
            scope(async |s| {
                let deep = s.spawn(nest(LEVELS, &pool));
                yields(1).await;
                polled = true;
                s.cancel();
                deep.await
            })
            .on(&pool),
        );
        assert!(polled);
        assert_eq!(depth, LEVELS);
    });
    big.unwrap().join().unwrap();
}

// CT-011
#[test]
fn results_come_back_in_spawn_order() {
    for pool in pools() {
        let finished = Mutex::new(Vec::new());
        let results = block_on(
            scope(async |s| {
                let handles: Vec<_> = (0..20_usize)
                    .map(|i| {
                        let finished = &finished;
                        s.spawn(async move {
                            yields((20 - i) * 2).await;
                            finished.lock().unwrap().push(i);
                            i * i
                        })
                    })
                    .collect();
                let mut results = Vec::new();
                for handle in handles {
                    results.push(handle.await);
                }
                results
            })
            .on(&pool)
            .inline(),
        );
        assert!(results.into_iter().eq((0..20).map(|i| i * i)));
        let finished = finished.into_inner().unwrap();
        assert_eq!(finished.len(), 20);
        assert!(!finished.is_sorted(), "they ended in another order");
    }
}

// CT-031
#[test]
fn panic_of_a_child_is_raised_after_the_others_have_ended() {
    for pool in pools() {
        let ended = AtomicUsize::new(0);
        let payload = payload_of(|| {
            block_on(
                scope(async |s| {
                    for i in 0..6 {
                        let ended = &ended;
                        s.spawn(async move {
                            yields(i).await;
                            if i == 1 {
                                std::panic::panic_any(i);
                            }
                            yields(5).await;
                            ended.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                })
                .on(&pool),
            )
        });
        assert_eq!(payload.downcast_ref::<usize>(), Some(&1));
        assert_eq!(ended.into_inner(), 5);
    }
}

// CT-032
#[test]
fn siblings_observe_cancellation_and_end_before_the_panic_continues() {
    for pool in pools() {
        let seen = Mutex::new(Vec::new());
        let payload = payload_of(|| {
            block_on(
                try_scope(async |s| {
                    for _ in 0..2 {
                        s.spawn(async {
                            let cause = cancelled().await;
                            yields(3).await;
                            seen.lock().unwrap().push(cause.kind());
                            Ok::<_, ()>(())
                        });
                    }
                    s.spawn(async {
                        yields(2).await;
                        if true {
                            panic!("third")
                        }
                        Ok(())
                    });
                    Ok(())
                })
                .on(&pool),
            )
        });
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"third"));
        assert_eq!(seen.into_inner().unwrap(), [CauseKind::SiblingPanicked; 2]);
    }
}

// CT-036, in what exists: a pool whose helpers ran panicking children goes on helping.
#[test]
fn pool_goes_on_after_many_panicking_tasks() {
    let pool = Pool::builder().threads(1).build();
    let mut raised = 0;
    for _ in 0..50 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            block_on(
                scope(async |s| {
                    for _ in 0..4 {
                        s.spawn(async {
                            yields(1).await;
                            panic!("one of many")
                        });
                    }
                })
                .on(&pool),
            )
        }));
        raised += usize::from(result.is_err());
    }
    assert_eq!(raised, 50);
    let sum = block_on(
        scope(async |s| {
            let handles: Vec<_> = (0..100)
                .map(|i| {
                    s.spawn(async move {
                        yields(1).await;
                        i
                    })
                })
                .collect();
            let mut sum = 0;
            for handle in handles {
                sum += handle.await;
            }
            sum
        })
        .on(&pool),
    );
    assert_eq!(sum, 4_950);
}

//
#[test]
fn child_with_a_borrow_of_a_local_ends_before_it_when_the_body_panics() {
    for pool in pools() {
        let ended = AtomicUsize::new(0);
        let payload = payload_of(|| {
            let mut local = [0_u32; 8];
            block_on(
                scope(async |s| {
                    for slot in &mut local {
                        let ended = &ended;
                        s.spawn(async move {
                            while check().is_ok() {
                                *slot += 1;
                                yields(1).await;
                            }
                            ended.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                    yields(3).await;
                    panic!("the body");
                })
                .on(&pool),
            );
            assert!(local.iter().all(|slot| *slot > 0));
        });
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"the body"));
        assert_eq!(ended.into_inner(), 8);
    }
}

// what the API hands out is leaked, each in turn; no child runs on.
#[test]
fn leaked_scope_handle_or_token_lets_no_child_outlive_its_borrow() {
    for pool in pools() {
        let polls = AtomicUsize::new(0);
        let data = AtomicUsize::new(0);
        {
            let mut opened = Box::pin(
                scope(async |s| {
                    std::mem::forget((s.clone(), s.token()));
                    std::mem::forget(s.spawn(async {
                        loop {
                            data.fetch_add(1, Ordering::SeqCst);
                            yields(1).await;
                        }
                    }));
                    pending::<()>().await;
                })
                .on(&pool),
            );
            polls.fetch_add(
                usize::from(
                    opened
                        .as_mut()
                        .poll(&mut Context::from_waker(Waker::noop()))
                        .is_pending(),
                ),
                Ordering::SeqCst,
            );
            std::mem::forget(opened);
        }
        let before = data.load(Ordering::SeqCst);
        assert!(before > 0 && polls.into_inner() == 1);
        block_on(
            scope(async |s| {
                s.spawn(yields(50));
            })
            .on(&pool),
        );
        assert_eq!(data.into_inner(), before, "nobody polls a forgotten scope");
    }
}

// CT-009 in part: cancelled from outside, a scope waits for its children first.
#[test]
fn scope_cancelled_from_outside_waits_for_its_children() {
    let ended = AtomicUsize::new(0);
    block_on(scope(async |outer| {
        let mut inner = pin!(scope(async |s| {
            for _ in 0..3 {
                s.spawn(async {
                    cancelled().await;
                    yields(4).await;
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        }));
        assert!(futures::poll!(inner.as_mut()).is_pending());
        outer.cancel();
        inner.await;
        assert_eq!(ended.load(Ordering::SeqCst), 3);
    }));
}
