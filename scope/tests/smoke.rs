//! A first look at every way a child can run: inline, lent, nested, woken late, failing.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join, join_all, scope, try_join_all, try_scope};

const MODES: [Lending; 3] = [Lending::Never, Lending::Adaptive, Lending::Forced];

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

#[test]
fn many_children_all_run_once() {
    for mode in MODES {
        for threads in [0, 1, 2, 4] {
            let pool = Pool::builder().threads(threads).build();
            for n in [0, 1, 2, 5, 100, 3000] {
                let ran = AtomicUsize::new(0);
                let sum = with(mode, || {
                    block_on(
                        scope(async |s| {
                            let handles: Vec<_> = (0..n)
                                .map(|i| {
                                    let ran = &ran;
                                    s.spawn(async move {
                                        yields(i % 4).await;
                                        ran.fetch_add(1, Ordering::Relaxed);
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
                    )
                });
                assert_eq!(sum, n * n.saturating_sub(1) / 2, "{mode:?} {threads}");
                assert_eq!(ran.load(Ordering::Relaxed), n);
            }
        }
    }
}

#[test]
fn children_spawn_children_on_helpers() {
    for mode in MODES {
        let pool = Pool::builder().threads(2).build();
        for _ in 0..50 {
            let ran = AtomicUsize::new(0);
            with(mode, || {
                block_on(
                    scope(async |s| {
                        for _ in 0..20 {
                            s.spawn_with(async |s| {
                                for _ in 0..20 {
                                    s.spawn(async {
                                        yields(2).await;
                                        ran.fetch_add(1, Ordering::Relaxed);
                                    });
                                }
                                scope(async |inner| {
                                    for _ in 0..5 {
                                        inner.spawn(async {
                                            ran.fetch_add(1, Ordering::Relaxed);
                                        });
                                    }
                                })
                                .await;
                            });
                        }
                    })
                    .on(&pool),
                );
            });
            assert_eq!(ran.load(Ordering::Relaxed), 20 * 25);
        }
    }
}

#[test]
fn joins_keep_order() {
    for mode in MODES {
        let all = with(mode, || {
            block_on(join_all((0..500).map(|i| async move {
                yields(i % 3).await;
                i
            })))
        });
        assert!(all.iter().copied().eq(0..500));
        let three = with(mode, || {
            block_on(join((async { 1 }, async { "two" }, async {
                yields(3).await;
                3.0
            })))
        });
        assert_eq!(three, (1, "two", 3.0));
        let failed = with(mode, || {
            block_on(try_join_all(
                (0..50).map(|i| async move { if i == 7 { Err(i) } else { Ok(i) } }),
            ))
        });
        assert_eq!(failed, Err(7));
    }
}

#[test]
fn first_error_is_the_result() {
    for mode in MODES {
        let result = with(mode, || {
            block_on(try_scope(async |s| {
                for i in 0..10 {
                    s.spawn(async move { if i == 3 { Err(i) } else { Ok(()) } });
                }
                Ok(())
            }))
        });
        assert_eq!(result, Err(3));
    }
}

#[test]
fn wakes_from_another_thread_arrive() {
    for mode in MODES {
        for _ in 0..100 {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..10)
                .map(|_| futures_channel::oneshot::channel::<usize>())
                .unzip();
            let total = std::thread::scope(|threads| {
                threads.spawn(move || {
                    for (i, sender) in senders.into_iter().enumerate() {
                        sender.send(i).unwrap();
                    }
                });
                with(mode, || {
                    block_on(scope(async |s| {
                        let handles: Vec<_> = receivers
                            .into_iter()
                            .map(|r| s.spawn(async move { r.await.unwrap() }))
                            .collect();
                        let mut total = 0;
                        for handle in handles {
                            total += handle.await;
                        }
                        total
                    }))
                })
            });
            assert_eq!(total, 45);
        }
    }
}
