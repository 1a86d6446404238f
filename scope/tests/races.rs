//! Threads against a scope: spawns that race with its end, questions asked from outside, handles that travel.
//! SOUNDNESS T7, T13; rules W7, W14.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use common::{Count, MODES, guarded, poll_once, pool, yields};
use selvedge_scope::lending::with;
use selvedge_scope::{Scope, block_on, scope};

/// Spawns until it has tried often enough; how many were refused.
fn spawn_against_the_end(
    count: &Arc<Count>,
    s: &Scope<'static>,
    start: &Barrier,
    ran: &'static AtomicUsize,
) -> usize {
    start.wait();
    let mut refused = 0;
    for _ in 0..20 {
        let one = count.one();
        let child = async move {
            let _one = one;
            yields(1).await;
            ran.fetch_add(1, Ordering::SeqCst);
        };
        if let Err(back) = s.try_spawn(child) {
            refused += 1;
            drop(back.into_inner());
        }
    }
    refused
}

// T7, M7: twenty spawns of another thread against the final `Ready`, and against `Drop`.
#[test]
fn spawn_that_races_with_the_end_is_run_dropped_or_refused() {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    guarded(|| {
        let pool = pool(2);
        for drops in [false, true] {
            let (mut accepted_seen, mut refused_seen, mut rounds) = (false, false, 0);
            while rounds < 400 || !(accepted_seen && refused_seen) {
                rounds += 1;
                let mode = MODES[rounds % 3];
                let count = Count::new();
                let before = RAN.load(Ordering::SeqCst);
                let start = Barrier::new(2);
                let kept: Mutex<Option<Scope<'static>>> = Mutex::new(None);
                let mut refused = 0;
                let mut scoped = Box::pin(
                    scope(|s: Scope<'static>| {
                        *kept.lock().unwrap() = Some(s);
                        yields(2 + rounds % 7)
                    })
                    .on(&pool),
                );
                let s = kept.lock().unwrap().take().unwrap();
                std::thread::scope(|threads| {
                    let racer = threads.spawn(|| spawn_against_the_end(&count, &s, &start, &RAN));
                    with(mode, || {
                        start.wait();
                        if drops {
                            let _ = poll_once(scoped.as_mut());
                            drop(scoped);
                        } else {
                            block_on(scoped);
                        }
                    });
                    refused = racer.join().unwrap();
                });
                let run = RAN.load(Ordering::SeqCst) - before;
                assert_eq!(count.made(), 20);
                count.assert_settled("children: run, refused or dropped");
                if drops {
                    assert!(run + refused <= 20);
                } else {
                    assert_eq!(
                        run + refused,
                        20,
                        "an accepted child of a scope that is awaited runs"
                    );
                }
                accepted_seen |= refused < 20;
                refused_seen |= refused > 0;
                assert!(
                    rounds < 100_000,
                    "accepted {accepted_seen}, refused {refused_seen}"
                );
            }
        }
    });
}

// T13, W14, D5: what a handle can be asked is asked by another thread all the time.
#[test]
fn questions_from_another_thread_are_answered_while_the_scope_works() {
    guarded(|| {
        let pool = pool(2);
        for mode in MODES {
            let asked = AtomicUsize::new(0);
            let stop = AtomicBool::new(false);
            std::thread::scope(|threads| {
                let (give, take) = std::sync::mpsc::channel::<Scope<'_>>();
                let (asked, stop) = (&asked, &stop);
                threads.spawn(move || {
                    let s = take.recv().unwrap();
                    while !stop.load(Ordering::SeqCst) {
                        assert!(s.len() <= 2_000);
                        assert!(!s.is_cancelled());
                        assert!(format!("{s:?}").contains("hammered"));
                        let _ = (s.is_empty(), s.token().is_cancelled());
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                    assert_eq!(s.len(), 0);
                });
                with(mode, || {
                    block_on(
                        scope(async |s| {
                            give.send(s.clone()).unwrap();
                            let mut rounds = 0;
                            while rounds < 5 || asked.load(Ordering::SeqCst) < 100 {
                                rounds += 1;
                                let handles: Vec<_> = (0..100)
                                    .map(|i| {
                                        s.spawn_with(async move |s| {
                                            s.spawn(yields(i % 3)).name("below");
                                            yields(1).await;
                                        })
                                        .name(format!("child {i}"))
                                    })
                                    .collect();
                                for handle in handles {
                                    let _ =
                                        (handle.id(), handle.is_finished(), format!("{handle:?}"));
                                    handle.await;
                                }
                            }
                        })
                        .on(&pool)
                        .name("hammered"),
                    )
                });
                stop.store(true, Ordering::SeqCst);
            });
            assert!(asked.load(Ordering::SeqCst) >= 100);
        }
    });
}

// A handle travels: it is awaited on another thread than its scope's, which ends or is dropped meanwhile.
#[test]
fn handle_awaited_on_another_thread_yields_or_says_what_happened() {
    guarded(|| {
        let pool = pool(1);
        let (mut yielded, mut dropped) = (0, 0);
        for round in 0..300 {
            let mode = MODES[round % 3];
            std::thread::scope(|threads| {
                let (give, take) =
                    std::sync::mpsc::channel::<selvedge_scope::JoinHandle<'_, usize>>();
                let waits = threads.spawn(move || {
                    take.iter()
                        .map(|handle| {
                            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                                block_on(handle)
                            }))
                            .ok()
                        })
                        .collect::<Vec<_>>()
                });
                let mut scoped = Box::pin(
                    scope(async |s| {
                        for i in 0..4 {
                            give.send(s.spawn(async move {
                                yields(i).await;
                                if round % 2 == 0 && i == 3 {
                                    common::never::<()>().await;
                                }
                                i
                            }))
                            .unwrap();
                        }
                        drop(give);
                    })
                    .on(&pool),
                );
                with(mode, || {
                    if round % 2 == 0 {
                        let _ = poll_once(scoped.as_mut());
                        drop(scoped);
                    } else {
                        block_on(scoped);
                    }
                });
                let results = waits.join().unwrap();
                assert_eq!(results.len(), 4);
                yielded += results.iter().flatten().count();
                dropped += results.iter().filter(|result| result.is_none()).count();
                if round % 2 == 1 {
                    assert_eq!(results, [Some(0), Some(1), Some(2), Some(3)]);
                } else {
                    assert_eq!(results[3], None);
                }
            });
        }
        assert!(yielded > 0 && dropped >= 150);
    });
}
