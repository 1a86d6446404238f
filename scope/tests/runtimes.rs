//! The same scopes on every executor and thread they may meet: our own, futures', smol, tokio with one and many
//! threads, rayon workers. PROBLEMS 14, T11, T19 in part, L8; the peers that break on a current-thread runtime.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Count, Data, MODES, POOLS, burn, guarded, on_helper, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join_all, scope, try_scope};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The program that every executor runs: borrows, nesting, errors, panics, a scope dropped midway.
fn program(pool: Pool, count: Arc<Count>, ran: Arc<AtomicUsize>) -> Job {
    Box::pin(async move {
        let data = Data::new();
        let sum = scope(async |s| {
            let handles: Vec<_> = (0..20)
                .map(|i| {
                    let (one, data) = (count.one(), &data);
                    s.spawn_with(async move |s| {
                        let _one = one;
                        let below = s.spawn(async move {
                            yields(i % 3).await;
                            data.look();
                            1
                        });
                        let inner = scope(async |inner| {
                            inner
                                .spawn(async {
                                    yields(1).await;
                                    1
                                })
                                .await
                        })
                        .await;
                        below.await + inner
                    })
                })
                .collect();
            let mut sum = 0;
            for handle in handles {
                sum += handle.await;
            }
            sum
        })
        .on(&pool)
        .await;
        assert_eq!(sum, 40);
        assert_eq!(data.looks(), 20);
        let failed = try_scope(async |s| {
            let _one = count.one();
            s.spawn(async {
                yields(2).await;
                Err::<(), _>(7)
            });
            s.spawn(async {
                selvedge_cancel::cancelled().await;
                Ok(())
            });
            Ok::<(), i32>(())
        })
        .on(&pool)
        .await;
        assert_eq!(failed, Err(7));
        let all = join_all((0..50_usize).map(|i| async move {
            yields(i % 2).await;
            i
        }))
        .on(&pool)
        .await;
        assert_eq!(all.into_iter().sum::<usize>(), 49 * 25);
        {
            let mut dropped = Box::pin(
                scope(async |s| {
                    let one = count.one();
                    s.spawn(async move {
                        let _one = one;
                        common::never::<()>().await
                    });
                })
                .on(&pool),
            );
            assert!(futures::poll!(dropped.as_mut()).is_pending());
        }
        let slept = selvedge_scope::time::sleep(Duration::from_micros(200)).await;
        assert!(slept.is_ok());
        ran.fetch_add(1, Ordering::SeqCst);
    })
}

/// Every poll of the job lends in this way, whatever thread the executor polls it on.
fn in_mode(mode: Lending, mut job: Job) -> Job {
    Box::pin(std::future::poll_fn(move |cx| {
        with(mode, || job.as_mut().poll(cx))
    }))
}

fn on_every_pool(executor: impl Fn(Job) + Send + 'static) {
    guarded(move || {
        let (count, ran) = (Count::new(), Arc::new(AtomicUsize::new(0)));
        for mode in MODES {
            for threads in POOLS {
                for _ in 0..3 {
                    executor(in_mode(
                        mode,
                        program(pool(threads), count.clone(), ran.clone()),
                    ));
                }
            }
        }
        assert_eq!(ran.load(Ordering::SeqCst), 36);
        count.assert_settled("children");
    });
}

#[test]
fn scopes_run_on_the_embedded_executor() {
    on_every_pool(block_on);
}

#[test]
fn scopes_run_on_the_executor_of_futures() {
    on_every_pool(futures::executor::block_on);
}

#[test]
fn scopes_run_on_smol() {
    on_every_pool(|job| smol::block_on(async { smol::spawn(job).await }));
    on_every_pool(smol::block_on);
}

// PEERS: tokio-scoped, pin-scoped and async-scoped break here.
#[test]
fn scopes_run_on_a_current_thread_runtime_of_tokio() {
    on_every_pool(|job| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::spawn(job).await.unwrap() });
    });
}

#[test]
fn scopes_run_on_a_multi_thread_runtime_of_tokio() {
    for workers in [1, 2, 4] {
        on_every_pool(move |job| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { tokio::spawn(job).await.unwrap() });
        });
    }
}

// T19 in part: inside a `LocalSet`, and inside `block_in_place`.
#[test]
fn scopes_run_in_a_local_set_and_in_block_in_place() {
    on_every_pool(|job| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            tokio::task::spawn_local(job).await.unwrap()
        });
    });
    on_every_pool(|job| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::spawn(async { tokio::task::block_in_place(|| block_on(job)) })
                .await
                .unwrap()
        });
    });
}

#[test]
fn scopes_run_on_a_rayon_worker() {
    for threads in [1, 2, 4] {
        on_every_pool(move |job| {
            let rayon = rayon_core::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            rayon.install(|| block_on(job));
        });
    }
}

#[test]
fn scopes_lend_to_the_rayon_pool_they_are_polled_on() {
    guarded(|| {
        let (count, ran) = (Count::new(), Arc::new(AtomicUsize::new(0)));
        for threads in [1, 2, 4] {
            let rayon = Arc::new(
                rayon_core::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap(),
            );
            for mode in MODES {
                for _ in 0..5 {
                    let job = program(Pool::from_rayon(rayon.clone()), count.clone(), ran.clone());
                    rayon.install(|| with(mode, || block_on(job)));
                }
            }
        }
        assert_eq!(ran.load(Ordering::SeqCst), 45);
        count.assert_settled("children");
    });
}

/// Runs tokio's timers and sockets in children; how many of them began on a helper.
#[cfg(feature = "tokio")]
async fn tokio_io(pool: &Pool) -> usize {
    let helped = AtomicUsize::new(0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    scope(async |s| {
        s.spawn(async {
            for _ in 0..4 {
                let (stream, _) = listener.accept().await.unwrap();
                stream.writable().await.unwrap();
                assert_eq!(stream.try_write(b"warp").unwrap(), 4);
            }
        });
        for _ in 0..4 {
            s.spawn(async {
                burn(Duration::from_micros(50));
                helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                tokio::time::sleep(Duration::from_micros(100)).await;
                let mut bytes = [0; 4];
                loop {
                    stream.readable().await.unwrap();
                    if let Ok(read) = stream.try_read(&mut bytes) {
                        assert_eq!((read, &bytes), (4, b"warp"));
                        break;
                    }
                }
            });
        }
    })
    .on(pool)
    .await;
    helped.load(Ordering::SeqCst)
}

// PROBLEMS 14, L8: a scope on its own pool inside a tokio program; tokio's I/O and timers work on helpers.
#[cfg(feature = "tokio")]
#[test]
fn tokio_io_works_in_children_on_helpers() {
    guarded(|| {
        for multi in [false, true] {
            let mut builder = if multi {
                tokio::runtime::Builder::new_multi_thread()
            } else {
                tokio::runtime::Builder::new_current_thread()
            };
            let runtime = builder.enable_all().build().unwrap();
            let pool = pool(2);
            let mut helped = 0;
            while helped == 0 {
                helped = with(Lending::Forced, || runtime.block_on(tokio_io(&pool)));
            }
        }
    });
}

// T11, W8: the context is that of the window a helper is in: the scope moves from one runtime to another.
#[cfg(feature = "tokio")]
#[test]
fn scope_that_moves_to_another_runtime_takes_the_new_one_to_helpers() {
    guarded(|| {
        let runtimes: Vec<_> = (0..2)
            .map(|_| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
            })
            .collect();
        let pool = pool(2);
        let (right, helped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let window = AtomicUsize::new(0);
        while helped.load(Ordering::SeqCst) < 20 {
            let mut scoped = Box::pin(
                scope(async |s| {
                    for _ in 0..8 {
                        let (right, helped, window, ids) = (
                            &right,
                            &helped,
                            &window,
                            [runtimes[0].handle().id(), runtimes[1].handle().id()],
                        );
                        s.spawn(async move {
                            for _ in 0..6 {
                                burn(Duration::from_micros(20));
                                let here = ids[window.load(Ordering::SeqCst) % 2];
                                assert_eq!(tokio::runtime::Handle::current().id(), here);
                                right.fetch_add(1, Ordering::SeqCst);
                                helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                                // Until the next window: woken from outside.
                                let mut first = true;
                                std::future::poll_fn(|cx| {
                                    if std::mem::take(&mut first) {
                                        KEPT.lock().unwrap().push(cx.waker().clone());
                                        return std::task::Poll::Pending;
                                    }
                                    std::task::Poll::Ready(())
                                })
                                .await;
                            }
                        });
                    }
                })
                .on(&pool),
            );
            for turn in 0..100 {
                let _runtime = runtimes[turn % 2].enter();
                window.store(turn, Ordering::SeqCst);
                let ready = with(Lending::Forced, || {
                    common::poll_once(scoped.as_mut()).is_ready()
                });
                KEPT.lock()
                    .unwrap()
                    .drain(..)
                    .for_each(std::task::Waker::wake);
                if ready {
                    // Six windows at least: one whose time is over is made up for by another.
                    assert!(turn >= 6);
                    break;
                }
            }
        }
        assert!(right.load(Ordering::SeqCst) >= 48);
    });
}

#[cfg(feature = "tokio")]
static KEPT: std::sync::Mutex<Vec<std::task::Waker>> = std::sync::Mutex::new(Vec::new());

// W8: a cancel of the scope is seen by its children on helpers, and not by what runs beside it.
#[test]
fn helpers_see_the_token_of_the_window_they_are_in() {
    guarded(|| {
        let pool = pool(2);
        let helped = AtomicUsize::new(0);
        while helped.load(Ordering::SeqCst) == 0 {
            with(Lending::Forced, || {
                block_on(
                    scope(async |outer| {
                        for cancelled in [false, true] {
                            let (pool, helped) = (&pool, &helped);
                            outer.spawn(async move {
                                scope(async |s| {
                                    if cancelled {
                                        s.cancel();
                                    }
                                    for _ in 0..8 {
                                        s.spawn(async {
                                            burn(Duration::from_micros(20));
                                            assert_eq!(
                                                selvedge_cancel::check().is_err(),
                                                cancelled
                                            );
                                            helped.fetch_add(
                                                usize::from(on_helper()),
                                                Ordering::SeqCst,
                                            );
                                        });
                                    }
                                })
                                .on(pool)
                                .await;
                                assert!(selvedge_cancel::check().is_ok());
                            });
                        }
                    })
                    .on(&pool),
                );
            });
        }
    });
}

// W8: a child leaves a runtime entered for good on a helper. What the helper takes off is not on top any more, and
// tokio panics; the pool's thread, and with it the process, lives on, and so does the scope.
#[cfg(feature = "tokio")]
#[test]
fn child_that_leaves_a_runtime_entered_on_a_helper_ends_nobody() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap(),
        );
        let pool = Pool::from_rayon(rayon.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (owner, entered) = (std::thread::current().id(), AtomicUsize::new(0));
        let _runtime = runtime.enter();
        let barrier = std::sync::Barrier::new(2);
        with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    for _ in 0..2 {
                        s.spawn(async {
                            barrier.wait();
                            if std::thread::current().id() != owner {
                                std::mem::forget(tokio::runtime::Handle::current().enter());
                                entered.fetch_add(1, Ordering::SeqCst);
                            }
                        });
                    }
                })
                .on(&pool),
            );
        });
        assert_eq!(entered.load(Ordering::SeqCst), 1, "a helper entered it");
        // The only thread of the pool is alive, and has left the window.
        assert_eq!(rayon.install(|| 7), 7);
    });
}
