//! Small programs with several threads that `scripts/miri` runs: helpers that really enter, strangers that spawn and
//! wake, wakers that are dropped last on another thread. They run as ordinary tests too.
//! Not for what one thread can show, which is in `miri_scopes.rs`.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{Bell, Count, Data, Noisy, guarded_for, never, on_helper, panic_of, pool, yields};
use selvedge_cancel::{FutureCancelExt, select_safe};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, block_on, join_all, scope, shield, time, timeout, try_scope};

/// Miri is some hundred times slower than a processor.
const MOST: Duration = Duration::from_secs(if cfg!(miri) { 3600 } else { 60 });

/// Runs `test` with lending forced and a pool of two, until a helper has taken part (it counts what it did).
fn helped(test: impl Fn(&selvedge_scope::Pool) -> usize + Send + 'static) {
    guarded_for(MOST, move || {
        let pool = pool(2);
        for _ in 0..200 {
            if with(Lending::Forced, || test(&pool)) > 0 {
                return;
            }
        }
        panic!("no helper took part");
    });
}

async fn counted(helped: &AtomicUsize, times: usize) -> usize {
    let mut sum = 0;
    let into = &mut sum;
    for _ in 0..times {
        helped.fetch_add(usize::from(on_helper()), Ordering::Relaxed);
        yields(1).await;
        *into += 1;
    }
    *into
}

#[test]
fn helpers_poll_children_that_borrow_from_the_stack() {
    helped(|pool| {
        let helped = AtomicUsize::new(0);
        let data = Data::new();
        let opened = scope(async |s| {
            let handles: Vec<_> = (0..6)
                .map(|_| {
                    s.spawn(async {
                        let noisy = Noisy(&data);
                        let count = counted(&helped, 3).await;
                        drop(noisy);
                        count
                    })
                })
                .collect();
            let mut sum = 0;
            let into = &mut sum;
            for handle in handles {
                *into += handle.await;
            }
            *into
        });
        assert_eq!(block_on(opened.on(pool)), 18);
        assert_eq!(data.looks(), 6);
        helped.into_inner()
    });
}

#[test]
fn children_spawn_children_on_helpers() {
    helped(|pool| {
        let helped = &AtomicUsize::new(0);
        let count = &Count::new();
        let opened = scope(async |s| {
            for _ in 0..3 {
                drop(s.spawn_with(async |s: Scope<'_>| {
                    counted(helped, 1).await;
                    let one = count.one();
                    let deeper = s.spawn(async move {
                        counted(helped, 2).await;
                        one
                    });
                    let left = count.one();
                    drop(s.spawn(async move {
                        yields(1).await;
                        left
                    }));
                    drop(deeper.await);
                }));
            }
        });
        block_on(opened.on(pool));
        count.assert_settled("what the children of children held");
        helped.load(Ordering::Relaxed)
    });
}

#[test]
fn batches_are_polled_on_helpers() {
    helped(|pool| {
        let helped = AtomicUsize::new(0);
        let all = block_on(join_all((0..8).map(|n| counted(&helped, 1 + n % 3))).on(pool));
        assert_eq!(all.iter().sum::<usize>(), 15);
        helped.into_inner()
    });
}

#[test]
fn panics_and_cancellations_on_helpers() {
    helped(|pool| {
        let helped = &AtomicUsize::new(0);
        let text = panic_of(|| {
            block_on(
                scope(async |s| {
                    for n in 0..4 {
                        drop(s.spawn(async move {
                            counted(helped, 2).await;
                            assert_ne!(n, 2, "on purpose");
                            let kept = [n];
                            let held = &kept;
                            let _ = never::<()>().or_cancel().await;
                            assert!(!held.is_empty());
                        }));
                    }
                })
                .on(pool),
            )
        });
        assert!(text.contains("on purpose"));
        let failed = block_on(
            try_scope(async |s| {
                for n in 0..4 {
                    drop(s.spawn(async move {
                        counted(helped, 1).await;
                        if n == 1 {
                            return Err(String::from("on purpose"));
                        }
                        let _ = never::<()>().or_cancel().await;
                        Ok(())
                    }));
                }
                Ok(())
            })
            .on(pool),
        );
        assert_eq!(failed.unwrap_err(), "on purpose");
        let cut = block_on(
            scope(async |s| {
                let safe: Vec<_> = (0..3)
                    .map(|_| {
                        s.spawn_select_safe(select_safe(async {
                            counted(helped, 1).await;
                            never::<()>().await;
                        }))
                    })
                    .collect();
                yields(2).await;
                safe[0].cancel();
                s.cancel();
                let mut cut = 0;
                for handle in safe {
                    cut += usize::from(handle.await.is_err());
                }
                cut
            })
            .on(pool),
        );
        assert_eq!(cut, 3);
        helped.load(Ordering::Relaxed)
    });
}

#[test]
fn nested_scopes_lend_from_helpers() {
    helped(|pool| {
        let helped = &AtomicUsize::new(0);
        let inner = async || {
            let data = [1, 2, 3];
            let sum = scope(async |s| {
                let handles: Vec<_> = data
                    .iter()
                    .map(|n| {
                        s.spawn(async move {
                            counted(helped, 1).await;
                            *n
                        })
                    })
                    .collect();
                let mut sum = 0;
                for handle in handles {
                    sum += handle.await;
                }
                sum
            });
            sum.on(pool).await
        };
        let opened = scope(async |s| {
            let a = s.spawn(inner());
            let b = s.spawn(inner());
            a.await + b.await + inner().await
        });
        assert_eq!(block_on(opened.on(pool)), 18);
        helped.load(Ordering::Relaxed)
    });
}

#[test]
fn strangers_spawn_wake_cancel_and_await() {
    guarded_for(MOST, || {
        let data = Data::new();
        let answered = block_on(scope(async |s| {
            let (send, receive) = channel();
            let stranger = s.clone();
            let data = &data;
            let waits = s.spawn(async move {
                let mut sent = false;
                std::future::poll_fn(|cx| {
                    if std::mem::replace(&mut sent, true) {
                        return Poll::Ready(());
                    }
                    send.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                })
                .await;
            });
            yields(1).await;
            let waker = receive.recv().unwrap();
            let handle = thread::scope(|t| {
                let spawner = t.spawn(move || {
                    stranger.spawn(async {
                        data.look();
                        yields(1).await;
                        5
                    })
                });
                t.spawn(move || waker.wake());
                spawner.join().unwrap()
            });
            waits.await;
            let forgotten = s.spawn(async { never::<()>().or_cancel().await.is_err() });
            yields(1).await;
            thread::scope(|t| {
                t.spawn(|| forgotten.cancel());
            });
            assert!(forgotten.await);
            handle.await
        }));
        assert_eq!(answered, 5);
        assert_eq!(data.looks(), 1);
    });
}

#[test]
fn wakers_are_woken_and_dropped_last_on_other_threads() {
    guarded_for(MOST, || {
        for ends in [true, false] {
            let slot: &'static Mutex<Vec<Waker>> = Box::leak(Box::default());
            let (bell, waker) = Bell::new();
            {
                let rests = || {
                    let mut rested = false;
                    std::future::poll_fn(move |cx| {
                        if std::mem::replace(&mut rested, true) {
                            return Poll::Ready(());
                        }
                        slot.lock().unwrap().push(cx.waker().clone());
                        Poll::Pending
                    })
                };
                let mut opened = pin!(scope(async |s| {
                    let child = s.spawn(rests());
                    let batch = s.spawn(async move { join_all((0..2).map(|_| rests())).await });
                    rests().await;
                    child.await;
                    batch.await;
                }));
                let mut cx = Context::from_waker(&waker);
                while slot.lock().unwrap().len() < 4 {
                    assert!(opened.as_mut().poll(&mut cx).is_pending());
                }
                let kept = slot.lock().unwrap().clone();
                let late = thread::spawn(move || {
                    for waker in &kept {
                        waker.wake_by_ref();
                    }
                    kept
                });
                if ends {
                    while opened.as_mut().poll(&mut cx).is_pending() {
                        thread::yield_now();
                    }
                }
                let kept = late.join().unwrap();
                thread::spawn(move || {
                    thread::yield_now();
                    kept.into_iter().for_each(Waker::wake);
                });
            }
            // All wakes may have come while it was polled.
            assert!(ends || bell.rung() > 0);
            let left = std::mem::take(&mut *slot.lock().unwrap());
            thread::spawn(move || drop(left)).join().unwrap();
        }
    });
}

#[test]
fn limits_pass_on_the_timer_thread() {
    guarded_for(MOST, || {
        let short = Duration::from_millis(2);
        let polls = AtomicUsize::new(0);
        block_on(async {
            assert!(time::sleep(short).await.is_ok());
            let late = timeout(short, async {
                let kept = [1, 2, 3];
                let held = &kept;
                time::sleep(Duration::from_secs(3600)).await?;
                Ok::<_, selvedge_cancel::Cancelled>(held.len())
            });
            assert!(matches!(late.await, Err(_) | Ok(Err(_))));
            let cut = scope(async |s| {
                let child = s.spawn(async {
                    let kept = [1, 2, 3];
                    let held = &kept;
                    polls.fetch_add(1, Ordering::Relaxed);
                    shield(short, async {
                        let inner = [1];
                        let first = &inner[0];
                        let _ = time::sleep(short).await;
                        *first
                    })
                    .await;
                    never::<()>().or_cancel().await.map_err(|_| held.len())
                });
                child.await
            });
            assert_eq!(cut.timeout(short).await, Err(3));
            let graced = scope(async |s| {
                drop(s.spawn(never::<()>()));
                s.cancel();
            });
            assert!(graced.grace(short).await.is_err());
        });
        assert_eq!(polls.into_inner(), 1);
    });
}
