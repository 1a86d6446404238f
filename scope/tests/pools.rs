//! Pools that cannot start, are dropped in the middle of a window, or by one of their own threads. SOUNDNESS T21,
//! rule W3.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{burn, guarded, guarded_for, on_helper, pool};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, scope};

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
