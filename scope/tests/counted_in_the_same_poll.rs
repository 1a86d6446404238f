//! How many children a scope has, and whether one has ended: what whoever asks next is told, in the same poll, from each
//! place.
#![cfg(not(selvedge_loom))]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PLACES, Place, attempts, guarded_for, on_a_thread, on_helper, pool, turn, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, block_on, scope};

fn assert_len(s: &Scope<'_>, len: usize) {
    assert_eq!((s.len(), s.is_empty()), (len, len == 0));
    on_a_thread(|| assert_eq!(s.len(), len));
}

/// A third child, which goes on until the third turn.
fn one_more<'env>(s: &Scope<'env>, turns: &'env AtomicUsize) {
    assert_len(s, 2);
    drop(s.spawn(async move {
        turn(turns, 3, false).await;
    }));
    assert_len(s, 3);
    turns.store(1, Ordering::SeqCst);
}

#[test]
fn spawned_and_ended_children_are_counted_by_whoever_asks_next() {
    guarded_for(Duration::from_secs(120), || {
        let (mut away, mut here) = (0, 0);
        for mode in [Lending::Never, Lending::Forced] {
            let pool = pool(if mode == Lending::Forced { 2 } else { 0 });
            for from in PLACES {
                for _ in 0..6 {
                    let helped = mode == Lending::Forced;
                    let turns = AtomicUsize::new(0);
                    let turns = &turns;
                    let ended_away = with(mode, || {
                        block_on(
                            scope(async |s| {
                                let what = format!("{from:?} {mode:?}");
                                // One that ends, and one that goes on to ask.
                                let first = s.spawn(async move {
                                    turn(turns, 1, helped).await;
                                    on_helper()
                                });
                                drop(s.spawn_with(async move |s| {
                                    if matches!(from, Place::Child | Place::Helper) {
                                        turn(turns, 0, helped && from == Place::Helper).await;
                                        one_more(&s, turns);
                                    }
                                    turn(turns, 2, false).await;
                                    assert_len(&s, 2);
                                    turns.store(3, Ordering::SeqCst);
                                }));
                                match from {
                                    Place::Body => one_more(&s, turns),
                                    Place::Thread => on_a_thread(|| one_more(&s, turns)),
                                    Place::Child | Place::Helper => {}
                                }
                                turn(turns, 1, false).await;
                                while !first.is_finished() {
                                    yields(1).await;
                                }
                                assert_eq!(s.len(), 2, "{what}");
                                turns.store(2, Ordering::SeqCst);
                                first.await
                            })
                            .on(&pool),
                        )
                    });
                    *(if ended_away { &mut away } else { &mut here }) += 1;
                }
            }
        }
        assert!(
            away > 0 && here > 0,
            "{away} on helpers, {here} on the owner"
        );
    });
}

// The owner has not heard of the end yet: it looks, in one poll of the body, until the handle knows.
#[test]
fn child_that_has_ended_on_a_helper_is_not_counted_before_the_owner_has_heard_of_it() {
    guarded_for(Duration::from_secs(120), || {
        let pool = pool(1);
        for () in attempts() {
            let stage = AtomicUsize::new(0);
            let counted = scope(async |s| {
                let stage = &stage;
                let ends = s.spawn(async move {
                    turn(stage, 0, true).await;
                    if on_helper() {
                        stage.store(1, Ordering::SeqCst);
                        while stage.load(Ordering::SeqCst) == 1 {
                            std::thread::yield_now();
                        }
                    }
                });
                // Several, so that each is now with the helper and now with the owner.
                for _ in 0..3 {
                    drop(s.spawn(turn(stage, 3, false)));
                }
                while stage.load(Ordering::SeqCst) == 0 && !ends.is_finished() {
                    yields(1).await;
                }
                let mut counted = false;
                if stage.load(Ordering::SeqCst) == 1 {
                    assert_eq!(s.len(), 4);
                    stage.store(2, Ordering::SeqCst);
                    while !ends.is_finished() {
                        std::thread::yield_now();
                    }
                    assert_len(&s, 3);
                    counted = true;
                }
                stage.store(3, Ordering::SeqCst);
                counted
            });
            if with(Lending::Forced, || block_on(counted.on(&pool))) {
                return;
            }
        }
        panic!("no helper ever held the child");
    });
}

/// Counts again and again until `until`, and lets others run in between; what it counts never goes the wrong way.
async fn count(s: &Scope<'_>, until: usize, may_follow: fn(&usize, &usize) -> bool) {
    let mut last = s.len();
    while last != until {
        for _ in 0..200 {
            let now = s.len();
            assert!(may_follow(&last, &now), "{now} after {last}");
            last = now;
        }
        yields(1).await;
    }
}

// The owner takes in what others spawned and ended: that is no moment at which one is counted twice, or not at all.
#[test]
fn count_only_rises_while_children_are_spawned_and_only_falls_while_they_end() {
    const MANY: usize = 300;
    guarded_for(Duration::from_secs(120), || {
        let pool = pool(2);
        let mut helped = 0;
        for _ in 0..20 {
            let (stage, away) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
            let counted = scope(async |s| {
                for _ in 0..2 {
                    drop(s.spawn_with(async move |s| {
                        turn(stage, 1, true).await;
                        for _ in 0..MANY {
                            drop(s.spawn(async move {
                                while stage.load(Ordering::SeqCst) < 2 {
                                    yields(1).await;
                                }
                                away.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                            }));
                            yields(1).await;
                        }
                        while stage.load(Ordering::SeqCst) < 3 {
                            yields(1).await;
                        }
                    }));
                }
                let watcher = s.spawn_with(async move |s| {
                    count(&s, 2 * MANY + 3, usize::le).await;
                    stage.fetch_add(1, Ordering::SeqCst);
                    count(&s, 3, usize::ge).await;
                    stage.store(3, Ordering::SeqCst);
                    count(&s, 1, usize::ge).await;
                });
                stage.store(1, Ordering::SeqCst);
                watcher.await;
            });
            with(Lending::Forced, || block_on(counted.on(&pool)));
            helped += away.load(Ordering::SeqCst);
        }
        assert!(helped > 0, "none has ended on a helper");
    });
}

// A spawn that comes as the scope ends is counted for a moment before it is refused, but nobody is told of it.
#[test]
fn scope_that_is_over_has_no_children_while_others_try_to_spawn_into_it() {
    guarded_for(Duration::from_secs(60), || {
        for _ in 0..5000 {
            let handle = std::sync::OnceLock::<Scope<'static>>::new();
            std::thread::scope(|threads| {
                for _ in 0..2 {
                    threads.spawn(|| {
                        let late = loop {
                            if let Some(late) = handle.get() {
                                break late;
                            }
                            std::hint::spin_loop();
                        };
                        (0..50).all(|_| late.try_spawn(async {}).is_ok())
                    });
                }
                let over = block_on(scope(async |s: Scope<'static>| {
                    let _ = handle.set(s.clone());
                    s
                }));
                for _ in 0..20 {
                    assert_eq!(over.len(), 0);
                }
            });
        }
    });
}
