//! What adaptive lending does: like scopes of heavy children are shared from the second on, cheap ones never.

mod common;

use std::hint::black_box;
use std::sync::Mutex;

use selvedge_scope::lending::{HelpCounts, help_counts};
use selvedge_scope::{Pool, block_on, scope};

/// The counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn work(rounds: u64) -> u64 {
    (0..rounds).fold(1, |sum, n| {
        black_box(sum ^ n).rotate_left(7).wrapping_mul(31)
    })
}

fn counted(run: impl FnOnce()) -> HelpCounts {
    let before = help_counts();
    run();
    let after = help_counts();
    let mut counts = HelpCounts::default();
    counts.asks = after.asks - before.asks;
    counts.packets = after.packets - before.packets;
    counts
}

#[test]
fn heavy_children_spawned_in_a_loop_are_shared_from_the_second_scope_on() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    common::guarded(|| {
        let pool = Pool::builder().threads(1).build();
        let run = || {
            block_on(
                scope(async |s| {
                    for _ in 0..400 {
                        s.spawn(async { black_box(work(20_000)) });
                    }
                })
                .on(&pool),
            );
        };
        run();
        // A scope of tens of milliseconds; one of a few must see the helper, whatever else runs here.
        let shared = (0..20).any(|_| counted(run).packets > 1);
        assert!(
            shared,
            "twenty scopes of heavy children and no packet taken"
        );
    });
}

/// In a debug build no child is cheap.
#[cfg(not(debug_assertions))]
#[test]
fn cheap_children_are_never_lent() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    common::guarded(|| {
        let pool = Pool::builder().threads(1).build();
        let run = || {
            for children in [2, 4, 8, 2000] {
                block_on(
                    scope(async |s| {
                        for n in 0..children {
                            s.spawn(async move { black_box(n) });
                        }
                    })
                    .on(&pool),
                );
            }
        };
        run();
        // The system may put this thread aside at any time, so the best of some runs counts.
        let fewest = (0..20).map(|_| counted(run).asks).min();
        assert_eq!(fewest, Some(0));
    });
}
