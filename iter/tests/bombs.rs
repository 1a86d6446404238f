//! Destructors that panic beside an error or a result: the error arrives, and nothing is leaked or ends the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use selvedge_iter::IntoPar;
use selvedge_scope::block_on;

/// Panics in its drop, or does not.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "a destructor");
    }
}

/// An error that is counted.
#[derive(Debug)]
struct Failure<'a>(&'a AtomicUsize);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An item, or the failure of the fiftieth.
fn item(alive: &AtomicUsize, n: u32, bombs: u32) -> Result<Bomb, Failure<'_>> {
    if n == 50 {
        alive.fetch_add(1, Ordering::SeqCst);
        return Err(Failure(alive));
    }
    Ok(Bomb(n < bombs))
}

#[test]
fn error_arrives_beside_items_that_panic_in_their_drop() {
    for bombs in [0, 1, 2, 50] {
        let alive = &AtomicUsize::new(0);
        let items = || (0..100_u32).into_par().map(|n| item(alive, n, bombs));
        let collected: Result<Vec<Bomb>, _> = block_on(items().try_collect());
        drop(collected.err().expect("the fiftieth has failed"));
        let reduced = block_on(items().try_reduce(
            || Bomb(false),
            |left, right| {
                std::mem::forget(right);
                Ok(left)
            },
        ));
        drop(reduced.err().expect("the fiftieth has failed"));
        assert_eq!(alive.load(Ordering::SeqCst), 0, "{bombs} bombs");
    }
}

/// An item that is counted.
struct Item<'a>(&'a AtomicUsize);

impl Drop for Item<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn result_is_dropped_if_a_closure_panics_in_its_drop() {
    let alive = &AtomicUsize::new(0);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let bomb = Bomb(true);
        let items = (0..100_u32).into_par().map(move |_| {
            let _bomb = &bomb;
            alive.fetch_add(1, Ordering::SeqCst);
            Item(alive)
        });
        block_on(items.collect::<Vec<_>>())
    }));
    assert!(ended.is_err());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// Of gathered items that are dropped, each is: the first panic is raised when all are gone.
#[test]
fn items_of_a_pipeline_that_panics_are_all_dropped() {
    let alive = &AtomicUsize::new(0);
    struct Both<'a>(#[allow(dead_code)] Item<'a>, #[allow(dead_code)] Bomb);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let items = (0..100_u32).into_par().map(|n| {
            assert!(n < 60, "an item");
            alive.fetch_add(1, Ordering::SeqCst);
            Both(Item(alive), Bomb(n % 3 == 0))
        });
        drop(block_on(items.collect::<Vec<_>>()));
    }));
    assert!(ended.is_err());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// A batch that is under way when an item of it fails: the rest of it is dropped, and bites. (What was never taken is
/// dropped with the source, that is by a `Vec` of the standard library, in which two such destructors end the process.)
#[test]
fn error_arrives_beside_items_of_its_batch_that_panic_in_their_drop() {
    let items: Vec<_> = (0..25).map(|n| (n, Bomb(n > 7))).collect();
    let run = items.into_par().batch(25).map(|(n, bomb)| {
        // Those that are worked on do not bite.
        std::mem::forget(bomb);
        if n == 7 { Err(n) } else { Ok(n) }
    });
    let collected: Result<Vec<_>, _> = block_on(run.try_collect());
    assert_eq!(collected, Err(7));
}
