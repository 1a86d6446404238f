//! Values without a size: what is made is dropped, once, also when a sibling panics, since there is no
//! address by which a second drop would be found out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use selvedge::{Pool, block_on, join, join_all, par_iter, prelude::*};

use super::{everywhere, yields};

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Has no size, and counts. One test uses it, so one count will do.
struct Nothing;

const _: () = assert!(size_of::<Nothing>() == 0);

impl Nothing {
    fn new() -> Self {
        MADE.fetch_add(1, SeqCst);
        Self
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

/// Runs it, and checks whether it panicked as it should and what it left.
#[track_caller]
fn settled(what: &str, least: usize, panics: bool, run: impl FnOnce()) {
    let before = MADE.load(SeqCst);
    let out = catch_unwind(AssertUnwindSafe(run));
    assert_eq!(out.is_err(), panics, "{what}");
    let made = MADE.load(SeqCst);
    assert!(made - before >= least, "{what}: {} made", made - before);
    assert_eq!(made, DROPPED.load(SeqCst), "{what}: made and dropped");
}

/// Holds one over some turns and gives another.
async fn member(turns: usize, panics: bool) -> Nothing {
    let held = Nothing::new();
    yields(turns).await;
    assert!(!panics, "on purpose");
    drop(held);
    Nothing::new()
}

fn every_kind(what: &str, pool: &Pool, panics: bool) {
    let at = |n| panics && n == 5;
    settled(what, 10, panics, || {
        block_on(
            scope(async |s| {
                let mut kept = Vec::new();
                for n in 0..10 {
                    let handle = s.spawn(member(n % 4, at(n)));
                    // Outputs that are awaited, kept in a handle, and dropped with it.
                    match n % 3 {
                        0 => drop(handle),
                        1 => kept.push(handle),
                        _ if panics => kept.push(handle),
                        _ => drop(handle.await),
                    }
                }
                kept.into_iter().next().unwrap().await
            })
            .on(pool),
        );
    });
    settled(what, 10, panics, || {
        drop(block_on(
            join_all((0..10).map(|n| member(n % 4, at(n)))).on(pool),
        ));
    });
    settled(what, 3, panics, || {
        drop(block_on(join((
            member(3, false),
            member(1, at(5)),
            member(0, false),
        ))));
    });
    settled(what, 10, panics, || {
        let items = (0..10)
            .into_par()
            .on(pool)
            .then(async |n| member(n % 4, at(n)).await);
        drop(block_on(items.collect::<Vec<_>>()));
    });
    settled(what, if panics { 6 } else { 10 }, panics, || {
        let items = par_iter(std::iter::repeat_with(Nothing::new).take(10).enumerate());
        let items = items.on(pool).map(|(n, nothing)| {
            assert!(!at(n), "on purpose");
            nothing
        });
        drop(block_on(items.collect::<Vec<_>>()));
    });
    settled(what, 10, panics, || {
        let all: Vec<Nothing> = std::iter::repeat_with(Nothing::new).take(10).collect();
        let count = AtomicUsize::new(0);
        let items = all.into_par().on(pool).fold(Vec::new, |mut kept, nothing| {
            assert!(!at(count.fetch_add(1, SeqCst)), "on purpose");
            kept.push(nothing);
            kept
        });
        drop(block_on(items.reduce(Vec::new, |mut a, b| {
            a.extend(b);
            a
        })));
    });
}

#[test]
fn values_without_a_size_are_dropped_once_each() {
    everywhere(|what, pool| {
        every_kind(what, pool, false);
        every_kind(what, pool, true);
    });
}
