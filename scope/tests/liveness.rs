//! A scope that must get on: pools that wait for each other, wakes that must not be lost.
//! Not for what it does to memory.

mod common;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{MODES, burn, everywhere, guarded, on_helper, pool, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join_all, scope};

// V1, L1: user code holds a lock across `rayon::join` on the pool of its own; helpers live in ours.
#[test]
fn lock_held_across_rayon_join_does_not_meet_a_helper() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(2)
                .build()
                .unwrap(),
        );
        let lock = Arc::new(Mutex::new(0_usize));
        let ours = pool(2);
        for _ in 0..50 {
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    rayon.install(|| {
                        for _ in 0..20 {
                            let mut held = lock.lock().unwrap();
                            rayon_core::join(
                                || burn(Duration::from_micros(20)),
                                || burn(Duration::from_micros(20)),
                            );
                            *held += 1;
                        }
                    })
                });
                with(Lending::Forced, || {
                    block_on(
                        scope(async |s| {
                            for _ in 0..20 {
                                s.spawn(async { *lock.lock().unwrap() += 1 });
                            }
                        })
                        .on(&ours),
                    )
                });
            });
        }
        assert_eq!(*lock.lock().unwrap(), 50 * 40);
    });
}

// L1: a child holds a mutex across `rayon::join` on the very pool that helps; the waiting worker must not
// start another child on top.
#[test]
fn child_that_holds_a_lock_across_rayon_join_is_alone_on_its_thread() {
    guarded(|| {
        for threads in [1, 2, 4] {
            let rayon = Arc::new(
                rayon_core::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap(),
            );
            let pool = Pool::from_rayon(rayon.clone());
            let lock = Mutex::new(0);
            let on_worker = AtomicUsize::new(0);
            let mut rounds = 0;
            while rounds < 20 || on_worker.load(Ordering::Relaxed) == 0 {
                rounds += 1;
                with(Lending::Forced, || {
                    block_on(
                        scope(async |s| {
                            for _ in 0..16 {
                                s.spawn(async {
                                    let mut held = lock.lock().unwrap();
                                    if rayon_core::current_thread_index().is_some() {
                                        on_worker.fetch_add(1, Ordering::Relaxed);
                                        rayon_core::join(
                                            || burn(Duration::from_micros(5)),
                                            || burn(Duration::from_micros(5)),
                                        );
                                    }
                                    *held += 1;
                                });
                            }
                        })
                        .on(&pool),
                    )
                });
            }
            assert_eq!(*lock.lock().unwrap(), rounds * 16);
        }
    });
}

// V2, W9: the owner is the only worker of one pool, lends to another, and a child on a helper needs the first.
#[test]
fn child_on_a_helper_that_installs_on_the_owners_pool_is_served() {
    guarded(|| {
        let owners = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap(),
        );
        let lent = pool(1);
        let served = AtomicUsize::new(0);
        owners.clone().install(|| {
            with(Lending::Forced, || {
                while served.load(Ordering::Relaxed) < 10 {
                    block_on(
                        scope(async |s| {
                            for _ in 0..4 {
                                s.spawn(async {
                                    burn(Duration::from_micros(50));
                                    if on_helper() {
                                        owners.install(|| served.fetch_add(1, Ordering::Relaxed));
                                    }
                                });
                            }
                        })
                        .on(&lent),
                    );
                }
            });
        });
    });
}

// L3, W9: a child on a helper broadcasts to the pool whose worker waits for it.
#[test]
fn child_on_a_helper_that_broadcasts_reaches_the_waiting_owner() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(2)
                .build()
                .unwrap(),
        );
        let pool = Pool::from_rayon(rayon.clone());
        let served = AtomicUsize::new(0);
        rayon.clone().install(|| {
            let owner = rayon_core::current_thread_index();
            with(Lending::Forced, || {
                while served.load(Ordering::Relaxed) < 10 {
                    block_on(
                        scope(async |s| {
                            for _ in 0..4 {
                                s.spawn(async {
                                    burn(Duration::from_micros(50));
                                    if rayon_core::current_thread_index() != owner {
                                        served.fetch_add(
                                            rayon.broadcast(|_| 1).len(),
                                            Ordering::Relaxed,
                                        );
                                    }
                                });
                            }
                        })
                        .on(&pool),
                    );
                }
            });
        });
    });
}

/// Opens a scope in which two children wait a while for each other; whether they met, on two threads.
fn two_meet(pool: Option<&Pool>) -> bool {
    let here = std::thread::current().id();
    let (inside, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let scoped = scope(async |s| {
        for _ in 0..2 {
            s.spawn(async {
                inside.fetch_add(1, Ordering::SeqCst);
                let from = Instant::now();
                while inside.load(Ordering::SeqCst) < 2
                    && from.elapsed() < Duration::from_millis(50)
                {
                    std::thread::yield_now();
                }
                met.fetch_add(
                    usize::from(std::thread::current().id() != here),
                    Ordering::SeqCst,
                );
            });
        }
    });
    with(Lending::Forced, || {
        block_on(match pool {
            Some(pool) => scoped.on(pool),
            None => scoped,
        });
    });
    met.load(Ordering::SeqCst) > 0
}

// W9: on the worker of a foreign rayon pool a scope lends only if `.on` says so.
#[test]
fn scope_on_a_foreign_rayon_worker_stays_inline_by_default() {
    guarded(|| {
        let foreign = rayon_core::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let pool = pool(1);
        foreign.install(|| {
            assert!(!two_meet(None));
            while !two_meet(Some(&pool)) {}
        });
    });
}

// L2: parking inside a poll must not eat the wake-up of an executor made of `thread::park`.
#[test]
fn owner_that_waits_for_helpers_leaves_the_threads_park_token_alone() {
    guarded(|| {
        let pool = pool(1);
        for _ in 0..200 {
            with(Lending::Forced, || {
                struct Unpark(std::thread::Thread);
                impl std::task::Wake for Unpark {
                    fn wake(self: Arc<Self>) {
                        self.0.unpark();
                    }
                }
                let fired = Arc::new(AtomicBool::new(false));
                let mut waiting: Option<std::thread::JoinHandle<()>> = None;
                let mut beside = pin!(poll_fn(|cx| {
                    if fired.load(Ordering::SeqCst) {
                        return Poll::Ready(());
                    }
                    let (fired, waker) = (fired.clone(), cx.waker().clone());
                    waiting.get_or_insert_with(|| {
                        std::thread::spawn(move || {
                            burn(Duration::from_micros(30));
                            fired.store(true, Ordering::SeqCst);
                            waker.wake();
                        })
                    });
                    Poll::Pending
                }));
                let mut scoped = pin!(
                    scope(async |s| {
                        for _ in 0..4 {
                            s.spawn(async { burn(Duration::from_micros(80)) });
                        }
                    })
                    .on(&pool)
                );
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                let mut cx = Context::from_waker(&waker);
                let (mut one, mut two) = (false, false);
                while !(one && two) {
                    one = one || beside.as_mut().poll(&mut cx).is_ready();
                    two = two || scoped.as_mut().poll(&mut cx).is_ready();
                    if !(one && two) {
                        std::thread::park();
                    }
                }
            });
        }
    });
}

// PEERS, moro: a child spawns or ends late while its sibling is idle; no wake is lost.
#[test]
fn late_spawn_beside_an_idle_sibling_is_run() {
    everywhere(|_, pool| {
        for _ in 0..20 {
            let (give, take) = futures_channel::oneshot::channel::<u32>();
            let got = block_on(
                scope(async |s| {
                    let idle = s.spawn(async { take.await.unwrap() });
                    s.spawn_with(async |s| {
                        yields(3).await;
                        s.spawn_with(async |s| {
                            yields(3).await;
                            s.spawn(async move {
                                yields(3).await;
                                give.send(7).unwrap();
                            });
                        });
                    });
                    idle.await
                })
                .on(pool),
            );
            assert_eq!(got, 7);
        }
    });
}

// W9, W3: the owner's thread is the only worker of the pool it lends to; nobody can come, nothing waits.
#[test]
fn owner_on_the_only_worker_of_its_pool_gets_on_alone() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap(),
        );
        let pool = Pool::from_rayon(rayon.clone());
        for mode in MODES {
            let sum: usize = rayon.install(|| {
                with(mode, || {
                    block_on(async {
                        join_all((0..50).map(|i| async move {
                            yields(2).await;
                            i
                        }))
                        .on(&pool)
                        .await
                        .into_iter()
                        .sum()
                    })
                })
            });
            assert_eq!(sum, 49 * 50 / 2);
        }
    });
}

// PROBLEMS 13 in part, L1: `block_on` of a scope inside a child of the same one-thread pool ends.
#[test]
fn nested_block_on_in_a_child_of_a_one_thread_pool_ends() {
    guarded(|| {
        let pool = pool(1);
        let began = Instant::now();
        for mode in MODES {
            let sum = with(mode, || {
                block_on(
                    scope(async |s| {
                        let mut sum = 0;
                        let handles: Vec<_> = (0..8)
                            .map(|i| {
                                s.spawn_fn({
                                    let pool = &pool;
                                    move || {
                                        block_on(
                                            scope(async |s| {
                                                s.spawn(async move {
                                                    yields(2).await;
                                                    i
                                                })
                                                .await
                                            })
                                            .on(pool),
                                        )
                                    }
                                })
                            })
                            .collect();
                        for handle in handles {
                            sum += handle.await;
                        }
                        sum
                    })
                    .on(&pool),
                )
            });
            assert_eq!(sum, 28);
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    });
}

// A barrier between two children shows that two threads are inside at once, hence that a helper came.
#[test]
fn two_children_that_wait_for_each_other_meet_on_owner_and_helper() {
    guarded(|| {
        let pool = pool(1);
        let barrier = Barrier::new(2);
        with(Lending::Forced, || {
            block_on(
                scope(async |s| {
                    s.spawn(async {
                        barrier.wait();
                    });
                    s.spawn(async {
                        barrier.wait();
                    });
                })
                .on(&pool),
            );
        });
    });
}

/// The body holds a re-entrant lock across its awaits; heavy children take the same lock.
fn lock_held_by_the_body(inline: bool) -> usize {
    let printed = AtomicUsize::new(0);
    let pool = pool(1);
    let out = std::io::stderr().lock();
    with(Lending::Forced, || {
        let scoped = scope(async |s| {
            for _ in 0..2 {
                s.spawn(async {
                    burn(Duration::from_millis(1));
                    drop(std::io::stderr().lock());
                    printed.fetch_add(1, Ordering::SeqCst);
                });
            }
        })
        .on(&pool);
        block_on(if inline { scoped.inline() } else { scoped });
    });
    drop(out);
    printed.load(Ordering::SeqCst)
}

// T18, V3: a lock that is re-entrant on the owner's thread, held around the scope. On a helper the child waits
// for the owner, who waits for the helper. No engine can mend it; `.inline()` is the remedy.
#[test]
#[ignore = "V3 hangs by design: it shows the price of lending"]
fn reentrant_lock_held_around_a_scope_hangs_when_children_are_lent() {
    while lock_held_by_the_body(false) == 2 {}
}

// T18, V3: the twin.
#[test]
fn reentrant_lock_held_around_an_inline_scope_is_taken_again() {
    guarded(|| assert_eq!(lock_held_by_the_body(true), 2));
}
