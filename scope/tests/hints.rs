//! `heavy` and `cheap`: what they change is when help is asked for, which is counted. Alone in its binary, because the
//! counter counts the whole process.
#![cfg(not(selvedge_loom))]

mod common;

use common::{guarded, pool};
use selvedge_scope::lending::help_counts;
use selvedge_scope::{Pool, block_on, join_all, scope};

/// A kind of future for each number, so that nothing is known of it.
async fn kind<const N: usize>() -> usize {
    std::hint::black_box(N)
}

/// How often `run` asks for help.
fn asks(run: impl FnOnce()) -> u64 {
    let before = help_counts().asks;
    run();
    help_counts().asks - before
}

/// Makes a kind known, and cheap.
fn learn<const N: usize>(pool: &Pool) {
    for _ in 0..50 {
        block_on(
            scope(async |s| {
                for _ in 0..40 {
                    s.spawn(kind::<N>());
                }
            })
            .on(pool)
            .cheap(),
        );
    }
}

// One after the other, because both are counted.
#[test]
fn hints_are_about_speed_only() {
    hints_say_when_help_is_asked_for();
    heavy_children_that_are_cheap_are_all_run();
}

fn hints_say_when_help_is_asked_for() {
    guarded(|| {
        let pool = &pool(1);
        // Nothing is known: two of them are reason enough to ask, unless somebody knows better.
        macro_rules! two {
            ($N:literal, $($hint:ident)?) => {
                asks(|| {
                    block_on(
                        scope(async |s| {
                            s.spawn(kind::<$N>());
                            s.spawn(kind::<$N>());
                        })
                        .on(pool)
                        $(.$hint())?,
                    )
                })
            };
        }
        assert!(two!(0,) > 0);
        assert_eq!(two!(1, cheap), 0);

        // Known to be cheap: no help, unless somebody knows better.
        // (The first poll of all is believed, and the system may have put this thread aside then.)
        assert!((0..100).any(|_| {
            learn::<2>(pool);
            two!(2,) == 0
        }));
        assert!(two!(2, heavy) > 0);

        // The first hint of a scope stays.
        let both = scope(async |s| {
            s.spawn(kind::<3>());
            s.spawn(kind::<3>());
        });
        assert_eq!(asks(|| block_on(both.on(pool).cheap().heavy())), 0);

        // Of one kind of child, by its handle.
        let cheap = scope(async |s| {
            s.spawn(kind::<4>()).cheap();
            s.spawn(kind::<4>()).cheap();
        });
        assert_eq!(asks(|| block_on(cheap.on(pool))), 0);
        let heavy = scope(async |s| {
            s.spawn(kind::<5>()).heavy();
            s.spawn(kind::<5>()).heavy();
        });
        assert!(asks(|| block_on(heavy.on(pool).cheap())) > 0);
        // What is known stays.
        let known = scope(async |s| {
            s.spawn(kind::<2>()).heavy();
            s.spawn(kind::<2>()).heavy();
        });
        assert_eq!(asks(|| block_on(known.on(pool))), 0);

        let all = |heavy: bool| {
            let all = join_all([kind::<2>(), kind::<2>()]).on(pool);
            asks(|| {
                let outputs = block_on(if heavy { all.heavy() } else { all.cheap() });
                assert_eq!(outputs, [2, 2]);
            })
        };
        assert!(all(true) > 0);
        assert_eq!(all(false), 0);
    });
}

fn heavy_children_that_are_cheap_are_all_run() {
    guarded(|| {
        let pool = &pool(1);
        let sum = block_on(
            scope(async |s| {
                let handles: Vec<_> = (0..5000).map(|_| s.spawn(kind::<7>())).collect();
                let mut sum = 0;
                for handle in handles {
                    sum += handle.await;
                }
                sum
            })
            .on(pool)
            .heavy(),
        );
        assert_eq!(sum, 35_000);
    });
}
