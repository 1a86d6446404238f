//! Destructors that panic beside an error or a result: the error arrives, and nothing is leaked or ends the process.

use std::future::{Future, Ready, poll_fn};
use std::iter::Sum;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use selvedge_iter::IntoPar;
use selvedge_scope::{Pool, block_on};

/// Panics in its drop, or does not.
#[derive(Debug)]
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
        drop(collected.expect_err("the fiftieth has failed"));
        let reduced = block_on(items().try_reduce(
            || Bomb(false),
            |left, right| {
                std::mem::forget(right);
                Ok(left)
            },
        ));
        drop(reduced.expect_err("the fiftieth has failed"));
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

/// Items that nobody works on any more, in a batch that is under way and in the source: they bite when they are dropped.
#[test]
fn error_arrives_beside_items_that_were_never_begun_and_panic_in_their_drop() {
    for bombs in [8..9, 8..50, 49..50, 90..91, 90..100] {
        for batch in [1, 25, 100] {
            let items = || -> Vec<_> { (0..100).map(|n| (n, Bomb(bombs.contains(&n)))).collect() };
            let work = |(n, bomb): (i32, Bomb)| {
                // Those that are worked on do not bite.
                std::mem::forget(bomb);
                if n == 7 { Err(n) } else { Ok(n) }
            };
            let run = items().into_par().batch(batch).map(work);
            let collected: Result<Vec<_>, _> = block_on(run.try_collect());
            assert_eq!(collected, Err(7), "{bombs:?} in batches of {batch}");
            let run = items().into_par().then(async |item| work(item));
            let collected: Result<Vec<_>, _> = block_on(run.try_collect());
            assert_eq!(collected, Err(7), "{bombs:?}, asynchronous");
            let run = items()
                .into_par()
                .batch(batch)
                .try_for_each(|item| work(item).map(drop));
            assert_eq!(block_on(run), Err(7), "{bombs:?} in batches of {batch}");
        }
    }
}

/// The same where a stage panics: that is what is raised, and the process goes on.
#[test]
fn panic_of_a_stage_arrives_beside_items_that_were_never_begun_and_panic_in_their_drop() {
    for bombs in [8..9, 8..50, 90..91, 90..100] {
        for batch in [1, 25, 100] {
            let items: Vec<_> = (0..100).map(|n| (n, Bomb(bombs.contains(&n)))).collect();
            let run = items.into_par().batch(batch).for_each(|(n, bomb)| {
                std::mem::forget(bomb);
                assert!(n != 7, "a stage");
            });
            let raised = catch_unwind(AssertUnwindSafe(|| block_on(run))).expect_err("it panics");
            let text = raised.downcast_ref::<&str>();
            assert_eq!(text, Some(&"a stage"), "{bombs:?} in batches of {batch}");
        }
    }
}

/// Where the order is given up, a lane that comes to its end after another has failed hands nothing on that its stages keep.
#[test]
fn error_arrives_beside_an_accumulator_that_panics_in_its_drop() {
    const MOST: Duration = Duration::from_secs(20);

    for _ in 0..10 {
        let pool = Pool::builder().threads(1).build();
        let (begun, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wait_for = |number: &AtomicUsize, least: usize| {
            let from = Instant::now();
            while number.load(Ordering::SeqCst) < least && from.elapsed() < MOST {
                std::thread::yield_now();
            }
        };
        let items = (0..2_u32).into_par().unordered().batch(1).on(&pool);
        let runs = items.heavy().fold(
            || Bomb(true),
            |run, _| {
                match begun.fetch_add(1, Ordering::SeqCst) {
                    0 => wait_for(&begun, 2),
                    _ => wait_for(&failed, 1),
                }
                run
            },
        );
        let out: Result<(), &str> = block_on(runs.try_for_each(|run| {
            std::mem::forget(run);
            // The lane fails after this, so it may be too early for the other one; not each time.
            failed.fetch_add(1, Ordering::SeqCst);
            Err("it failed")
        }));
        assert_eq!(out, Err("it failed"));
    }
}

/// A sum that a bomb makes.
struct Sums(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

impl Sum<u32> for Sums {
    fn sum<I: Iterator<Item = u32>>(items: I) -> Self {
        items.for_each(drop);
        Self(Bomb(true))
    }
}

impl Sum<Self> for Sums {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.for_each(std::mem::forget);
        Self(Bomb(true))
    }
}

// The accumulator was dropped by the unwinding itself, which ends the process, unless the stage panicked at the first item
// of a batch.
#[test]
fn stage_that_panics_is_heard_beside_an_accumulator_that_panics_in_its_drop() {
    let alone = &Pool::builder().threads(0).build();
    for batch in [1, 100] {
        for ordered in [true, false] {
            let items = || {
                let items = (0..100_u32).into_par().batch(batch).on(alone);
                let items = if ordered { items } else { items.unordered() };
                items.map(|n| {
                    assert!(n != 57, "a stage");
                    n
                })
            };
            let bombs = || items().map(|_| Bomb(true));
            let forget = |left, right| {
                std::mem::forget(left);
                right
            };
            let heard = |run: &mut dyn FnMut()| {
                let payload =
                    catch_unwind(AssertUnwindSafe(run)).expect_err("a stage has panicked");
                assert_eq!(
                    payload.downcast_ref(),
                    Some(&"a stage"),
                    "{batch}, {ordered}"
                );
            };
            heard(&mut || {
                let runs = items().fold(|| Bomb(true), |run, _| run);
                block_on(runs.for_each(std::mem::forget));
            });
            heard(&mut || {
                let runs = items().try_fold(|| Bomb(true), |run, _| Ok::<_, u32>(run));
                block_on(runs.for_each(std::mem::forget));
            });
            heard(&mut || std::mem::forget(block_on(bombs().reduce_with(forget))));
            heard(&mut || std::mem::forget(block_on(items().sum::<Sums>())));
            heard(&mut || std::mem::forget(block_on(bombs().collect::<Vec<_>>())));
        }
    }
}

/// Ends at once, and panics in its drop.
fn gives<T>(output: T) -> impl Future<Output = T> + Send
where
    T: Send,
{
    let (bomb, mut output) = (Bomb(true), Some(output));
    poll_fn(move |_| {
        let _bomb = &bomb;
        Poll::Ready(output.take().expect("polled once"))
    })
}

/// Waits for ever, and panics in its drop.
fn waits() -> impl Future<Output = bool> + Send {
    let bomb = Bomb(true);
    poll_fn(move |_| {
        let _bomb = &bomb;
        Poll::Pending
    })
}

#[track_caller]
fn assert_panics<T>(run: impl FnOnce() -> T) {
    let ended = catch_unwind(AssertUnwindSafe(|| std::mem::forget(run())));
    assert!(ended.is_err(), "a destructor's panic is raised");
}

// Each of these ended the process.
#[test]
fn future_and_item_that_both_panic_in_their_drop() {
    let forget = |bomb: Bomb| std::mem::forget(bomb);
    // At the end of the lane's round, and where the next stage begins, one that waits or not.
    let items = || (0..1).into_par().then(|_| gives(Bomb(true)));
    assert_panics(|| block_on(items().collect::<Vec<_>>()));
    assert_panics(|| block_on(items().then(async |bomb| forget(bomb)).count()));
    assert_panics(|| block_on(items().for_each(forget)));
    assert_panics(|| block_on(items().for_each(async |bomb| forget(bomb))));
    let kept = || items().then_filter(|_| std::future::ready(true));
    assert_panics(|| block_on(kept().for_each(forget)));
    // While a verdict is awaited.
    assert_panics(|| {
        let items = (0..1)
            .into_par()
            .map(|_| Bomb(true))
            .then_filter(|_| waits());
        let mut waiting = Box::pin(items.for_each(forget));
        let polled = waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        drop(waiting);
    });
    // And where it cannot be asked for.
    assert_panics(|| {
        let items = (0..1).into_par().map(|_| Bomb(true));
        block_on(
            items
                .then_filter(|_| -> Ready<bool> { panic!("a stage") })
                .for_each(forget),
        );
    });
}

// And so did these.
#[test]
fn closure_that_panics_beside_an_item_that_panics_in_its_drop() {
    fn panics<T>() -> T {
        panic!("a stage")
    }

    let items = || (0..1).into_par().map(|_| Bomb(true));
    let heard = |run: &mut dyn FnMut()| {
        let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("a stage has panicked");
        assert_eq!(payload.downcast_ref(), Some(&"a stage"));
    };
    let forget = |bomb: Bomb| std::mem::forget(bomb);
    heard(&mut || block_on(items().filter(|_| panics()).for_each(forget)));
    heard(&mut || block_on(items().inspect(|_| panics()).for_each(forget)));
    heard(&mut || block_on(items().fold(panics, |sum: u8, _| sum).for_each(drop)));
    heard(&mut || {
        let sums = items().try_fold(panics, |sum: u8, _| Ok::<_, u8>(sum));
        block_on(sums.for_each(|sum| assert!(sum.is_ok())));
    });
}

/// Comes to rest so many times.
async fn turns(n: u32) {
    for _ in 0..n {
        selvedge_cancel::checkpoint().await.unwrap();
    }
}

// The second one ended the process.
#[test]
fn error_and_a_run_that_waits_for_its_neighbour_panic_one_after_the_other() {
    for panics in [false, true] {
        let alone = Pool::builder().threads(0).build();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let items = (0..3_u32).into_par().on(&alone).then(async |n| match n {
                0 => {
                    turns(3).await;
                    Ok(Bomb(true))
                }
                1 => {
                    turns(9).await;
                    Err(Bomb(true))
                }
                _ => {
                    if panics {
                        selvedge_cancel::cancelled().await;
                        panic!("the item");
                    }
                    std::future::pending().await
                }
            });
            let mut run = Box::pin(items.try_reduce(|| Bomb(true), |left, _| Ok(left)));
            for _ in 0..1000 {
                if let Poll::Ready(out) = run.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                {
                    std::mem::forget(out);
                }
            }
            drop(run);
        }));
        let why = ended.unwrap_err();
        let why = why
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or("a destructor");
        assert_eq!(why, if panics { "the item" } else { "a destructor" });
    }
}

// What it had was dropped in the unwinding.
#[test]
fn collection_that_panics_over_a_destructor_is_dropped_without_a_second_panic() {
    for unordered in [false, true] {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let items = [(1, true), (2, false), (2, true)].into_par();
            let items = if unordered { items.unordered() } else { items };
            let map = items.map(|(n, panics)| (n, Bomb(panics)));
            // Each value that comes too late for its key goes.
            std::mem::forget(block_on(map.collect::<First>()));
        }));
        assert!(ended.is_err());
    }
}

/// The first value of each key.
#[derive(Default)]
struct First(std::collections::BTreeMap<u32, Bomb>);

impl Extend<(u32, Bomb)> for First {
    fn extend<I: IntoIterator<Item = (u32, Bomb)>>(&mut self, items: I) {
        for (key, value) in items {
            self.0.entry(key).or_insert(value);
        }
    }
}

/// Where a stage has panicked, what another lane has gathered and its share of the result are dropped one by one.
#[test]
fn panic_of_a_stage_arrives_beside_an_accumulator_and_a_sum_that_panic_in_their_drop() {
    /// A sum that bites.
    struct Total(#[allow(dead_code)] Bomb);

    impl Sum<Bomb> for Total {
        fn sum<I: Iterator<Item = Bomb>>(items: I) -> Self {
            items.for_each(std::mem::forget);
            Self(Bomb(true))
        }
    }

    impl Sum for Total {
        fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
            items.for_each(std::mem::forget);
            Self(Bomb(true))
        }
    }

    let pool = Pool::builder().threads(2).build();
    for _ in 0..20 {
        let (failed, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wait = |done: &dyn Fn() -> bool, most| {
            let from = Instant::now();
            while !done() && from.elapsed() < most {
                std::thread::yield_now();
            }
        };
        let run = (0..40_u32)
            .into_par()
            .on(&pool)
            .heavy()
            .concurrency(3)
            .batch(1)
            .map(|n| match n {
                // Each lane has one.
                0..3 => wait(&|| false, Duration::from_millis(3)),
                3 => {
                    wait(
                        &|| inside.load(Ordering::SeqCst) > 0,
                        Duration::from_secs(1),
                    );
                    failed.store(1, Ordering::SeqCst);
                    panic!("a stage");
                }
                _ => {
                    inside.fetch_add(1, Ordering::SeqCst);
                    wait(
                        &|| failed.load(Ordering::SeqCst) > 0,
                        Duration::from_secs(1),
                    );
                    // The panic has not been noted yet.
                    wait(&|| false, Duration::from_millis(3));
                }
            })
            .fold(|| Bomb(true), |all, ()| all)
            .sum::<Total>();
        let raised = catch_unwind(AssertUnwindSafe(|| block_on(run)));
        let raised = raised.map(std::mem::forget).expect_err("it panics");
        assert_eq!(raised.downcast_ref::<&str>(), Some(&"a stage"));
    }
}
