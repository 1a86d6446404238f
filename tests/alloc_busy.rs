//! What a program gathers that goes on for long, in bytes, counted: by scopes that ask threads for help which are busy,
//! and by children that are cancelled one by one. Alone in its binary, because the counter counts the whole process.

mod common;

use std::alloc::System;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;

use common::on_helper;
use selvedge::cancel::check;
use selvedge::{Cancelled, Pool, block_on, cancel, scope, try_scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
fn bytes() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// What `times` more of something leave behind.
fn gathered(times: usize, mut once: impl FnMut()) -> isize {
    // What is made once, and what grows by doubling.
    (0..times).for_each(|_| once());
    let before = bytes();
    (0..times).for_each(|_| once());
    bytes() - before
}

/// A pool of one thread, which is busy until something is sent.
fn busy_pool() -> (Pool, mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let pool = Pool::builder().threads(1).build();
    let (release, released) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let theirs = pool.clone();
    let keeper = std::thread::spawn(move || {
        let released = std::sync::Mutex::new(released);
        let is_kept = AtomicBool::new(false);
        while !is_kept.load(SeqCst) {
            let two = scope(async |s| {
                for _ in 0..2 {
                    drop(s.spawn_fn(|| {
                        if on_helper() {
                            is_kept.store(true, SeqCst);
                            tell.send(()).unwrap();
                            let _ = released.lock().unwrap().recv();
                        } else {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                    }));
                }
            });
            block_on(two.on(&theirs).heavy());
        }
    });
    told.recv().unwrap();
    (pool, release, keeper)
}

#[test]
fn nothing_is_gathered_by_what_goes_on_for_long() {
    let (pool, release, keeper) = busy_pool();
    // Scopes that are over piled up behind the thread.
    let left = gathered(2_000, || {
        let four = scope(async |s| {
            for _ in 0..4 {
                drop(s.spawn_fn(|| ()));
            }
        });
        block_on(four.on(&pool).heavy());
    });
    assert!(left < 4_096, "{left} bytes of scopes that are over");
    release.send(()).unwrap();
    keeper.join().unwrap();

    // Errors of children that were cancelled alone, and handled, were kept until the scope's end.
    let ended: Result<_, Cancelled> = block_on(try_scope(async |s| {
        let mut left = 0;
        for round in 0..2 {
            let before = bytes();
            for _ in 0..2_000 {
                let handle = s.spawn(async {
                    cancel::cancelled().await;
                    check()?;
                    Ok(())
                });
                handle.cancel();
                let _ = handle.await;
            }
            if round == 1 {
                left = bytes() - before;
            }
        }
        Ok(left)
    }));
    let left = ended.unwrap();
    assert!(left < 4_096, "{left} bytes of children that are over");
}
