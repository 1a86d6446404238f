//! Pools that cannot start, are dropped in the middle of a window, or by one of their own threads. SOUNDNESS T21,
//! rule W3.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use common::{burn, guarded, guarded_for, on_helper, pool};
use corosensei::Coroutine;
use corosensei::stack::DefaultStack;
use selvedge_cancel::select_safe;
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join_all, scope};

// T21: the last handle of a rayon pool is dropped by a helper's job, and a pool is dropped while it is lent to.
#[test]
fn pool_dropped_in_the_middle_of_a_window_is_let_go() {
    guarded(|| {
        for _ in 0..50 {
            let rayon = Arc::new(
                rayon_core::ThreadPoolBuilder::new()
                    .num_threads(2)
                    .build()
                    .unwrap(),
            );
            let pool = Pool::from_rayon(rayon.clone());
            let own = common::pool(2);
            let ran = AtomicUsize::new(0);
            for pool in [pool, own] {
                let mut scoped = Box::pin(
                    scope(async |s| {
                        for _ in 0..16 {
                            s.spawn(async {
                                burn(Duration::from_micros(10));
                                ran.fetch_add(1, Ordering::SeqCst);
                            });
                        }
                    })
                    .on(&pool),
                );
                drop(pool);
                with(Lending::Forced, || {
                    while common::poll_once(scoped.as_mut()).is_pending() {}
                });
                drop(scoped);
            }
            drop(rayon);
            assert_eq!(ran.load(Ordering::SeqCst), 32);
        }
    });
}

// T21, W3: a pool that cannot start costs speed only. A child process with too little room for threads' stacks.
#[test]
fn pool_that_cannot_start_leaves_the_work_to_the_owner() {
    const INSIDE: &str = "SELVEDGE_TEST_NO_ROOM";
    if std::env::var_os(INSIDE).is_some() {
        let ran = AtomicUsize::new(0);
        let pool = pool(64);
        let asked = selvedge_scope::lending::help_counts();
        with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    for _ in 0..100 {
                        s.spawn(async {
                            assert!(!on_helper());
                            ran.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                })
                .on(&pool),
            )
        });
        assert_eq!(ran.load(Ordering::SeqCst), 100);
        let counts = selvedge_scope::lending::help_counts();
        assert!(counts.asks > asked.asks && counts.entries == asked.entries);
        println!("the owner did it all");
        return;
    }
    if std::env::var_os("ASAN_OPTIONS").is_some() || std::env::var_os("TSAN_OPTIONS").is_some() {
        // A sanitizer reserves more address space than the child process would have.
        return;
    }
    guarded_for(Duration::from_secs(60), || {
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 300000 && exec \"$0\" --exact pool_that_cannot_start_leaves_the_work_to_the_owner --nocapture --test-threads=1"])
            .arg(program)
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("the owner did it all"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

// W3, T21: dropping the last handle of a pool waits for nobody.
#[test]
fn dropping_a_pool_does_not_wait_for_its_threads() {
    guarded(|| {
        let pool = pool(2);
        with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    for _ in 0..16 {
                        s.spawn(async { burn(Duration::from_micros(20)) });
                    }
                })
                .on(&pool),
            )
        });
        let from = Instant::now();
        drop(pool);
        assert!(from.elapsed() < Duration::from_secs(5));
    });
}

// W10: what a waker keeps of a scope that is over is not the pool. So what the pool's handlers hold goes where the last
// handle of the pool is dropped, and not where the last waker is, which may be a timer's thread.
#[test]
fn waker_that_outlives_its_scope_keeps_no_pool() {
    /// Says on which thread it is dropped.
    struct Captured(Arc<Mutex<Option<ThreadId>>>);
    impl Drop for Captured {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(std::thread::current().id());
        }
    }
    async fn keep(wakers: &Mutex<Vec<Waker>>) {
        std::future::poll_fn(|cx| {
            wakers.lock().unwrap().push(cx.waker().clone());
            std::task::Poll::Ready(())
        })
        .await;
    }
    fn run(pool: &Pool, wakers: &Mutex<Vec<Waker>>, how: &str) {
        match how {
            "a join" => drop(block_on(join_all([keep(wakers), keep(wakers)]).on(pool))),
            "a scope" => {
                let whole = scope(async |s| {
                    s.spawn(keep(wakers));
                    keep(wakers).await;
                });
                block_on(whole.on(pool));
            }
            _ => {
                let whole = scope(async |s| {
                    s.spawn(keep(wakers));
                    keep(wakers).await;
                    common::never::<()>().await;
                });
                let mut whole = std::pin::pin!(select_safe(whole.on(pool)));
                assert!(common::poll_once(whole.as_mut()).is_pending());
            }
        }
    }
    guarded(|| {
        with(Lending::Never, || {
            for how in ["a scope", "a join", "a dropped scope"] {
                let dropped = Arc::new(Mutex::new(None));
                let captured = Captured(dropped.clone());
                let builder = Pool::builder().threads(1);
                let pool = builder
                    .start_handler(move |_| {
                        let _captured = &captured;
                    })
                    .build();
                let wakers = Mutex::new(Vec::new());
                run(&pool, &wakers, how);
                assert!(!wakers.lock().unwrap().is_empty(), "{how}: no waker");
                assert_eq!(*dropped.lock().unwrap(), None, "{how}");
                drop(pool);
                let here = Some(std::thread::current().id());
                assert_eq!(*dropped.lock().unwrap(), here, "{how}: kept by a waker");
            }
        });
    });
}

/// How many of some children are polled on helpers.
fn helped(pool: &Pool) -> usize {
    let helped = AtomicUsize::new(0);
    let children = (0..40).map(|_| async {
        burn(Duration::from_millis(1));
        helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
    });
    block_on(join_all(children).on(pool).heavy());
    helped.into_inner()
}

// A job that a thread takes while it is on a coroutine's stack, above its own, was taken for the lowest of all; whatever
// came from the main loop was "on top" of that, and helped nobody, for the rest of the process.
#[test]
fn jobs_taken_on_another_stack_leave_the_others_alone() {
    static INSIDE: AtomicBool = AtomicBool::new(false);
    static OVER: AtomicBool = AtomicBool::new(false);

    guarded(|| {
        // Before any thread of the pool, and so above theirs.
        let stack = Mutex::new(Some(DefaultStack::new(1 << 20).unwrap()));
        let pool = pool(1);
        assert!(helped(&pool) > 0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !INSIDE.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                helped(&pool);
                OVER.store(true, Ordering::SeqCst);
            });
            let on_a_coroutine = || {
                let stack = stack.lock().unwrap().take();
                let Some(stack) = stack.filter(|_| on_helper()) else {
                    return;
                };
                let mut coroutine = Coroutine::<(), (), (), _>::with_stack(stack, move |_, ()| {
                    INSIDE.store(true, Ordering::SeqCst);
                    while !OVER.load(Ordering::SeqCst) {
                        rayon_core::yield_now();
                    }
                });
                coroutine.resume(());
            };
            while !INSIDE.load(Ordering::SeqCst) {
                let children = (0..40).map(|_| async {
                    if on_helper() {
                        on_a_coroutine();
                    }
                    burn(Duration::from_millis(1));
                });
                block_on(join_all(children).on(&pool).heavy());
            }
        });
        assert!(helped(&pool) > 0, "the same pool");
        assert!(helped(&common::pool(1)) > 0, "another one");
    });
}

#[test]
fn jobs_that_a_start_handler_takes_leave_the_others_alone() {
    guarded(|| {
        let pool = Pool::builder().threads(1).start_handler(|_| {
            let from = std::time::Instant::now();
            while from.elapsed() < Duration::from_millis(200) {
                rayon_core::yield_now();
            }
        });
        let pool = pool.build();
        for _ in 0..8 {
            helped(&pool);
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(helped(&pool) > 0);
    });
}
