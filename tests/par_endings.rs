//! Turns and ends of pipelines: nobody beside one waits for all of a batch that has become dear, or for all that is to be
//! joined at the end; and what panics at the very end comes out whatever is dropped with it.

mod common;

use std::future::{Future, IntoFuture, pending};
use std::iter::Sum;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use common::{Raise, burn};
use selvedge::cancel::{cancelled, checkpoint};
use selvedge::{Pool, block_on, prelude::*};

/// Polls to the end; what was counted in each poll.
#[track_caller]
fn in_each_poll<F: IntoFuture>(counted: &AtomicUsize, future: F) -> Vec<usize> {
    let mut future = pin!(future.into_future());
    let mut counts = Vec::new();
    for _ in 0..100_000 {
        let before = counted.load(SeqCst);
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        counts.push(counted.load(SeqCst) - before);
        if polled.is_ready() {
            return counts;
        }
    }
    panic!("it did not end")
}

/// Polls to the end; the most that was counted in one poll.
#[track_caller]
fn most_in_a_poll<F: IntoFuture>(counted: &AtomicUsize, future: F) -> usize {
    let counts = in_each_poll(counted, future);
    counts.into_iter().max().expect("it was polled")
}

fn alone() -> Pool {
    Pool::builder().threads(0).build()
}

/// Each takes a millisecond, of which a window has time for five.
const DEAR: Duration = Duration::from_millis(1);
/// So many in a poll are too many: the budget, and what is begun without a look.
const TOO_MANY: usize = 40;

/// So many items are begun at most before a lane looks at the clock.
const BLOCK: usize = 256;

#[test]
fn items_that_become_dear_all_of_a_sudden_are_worked_on_for_a_block_and_then_one_by_one() {
    const CHEAP: u64 = 100_000;
    // Enough that blocks are long by then, in a batch that is not over.
    const ITEMS: u64 = CHEAP + 1_000;
    let pool = &alone();
    let dear = &AtomicUsize::new(0);
    let work = move |i: u64| {
        if i >= CHEAP {
            burn(DEAR / 4);
            dear.fetch_add(1, SeqCst);
        }
        i
    };
    let look = |what: &str, mut counts: Vec<usize>| {
        counts.retain(|count| *count >= TOO_MANY);
        // Only those of the block that began when items were cheap.
        assert!(counts.len() <= 1, "{what}: {counts:?}");
        assert!(
            counts.iter().all(|n| *n < BLOCK + TOO_MANY),
            "{what}: {counts:?}"
        );
        assert_eq!(dear.swap(0, SeqCst), 1_000, "{what}");
    };
    let range = || (0..ITEMS).into_par().on(pool).map(work);
    look("range", in_each_poll(dear, range().for_each(drop)));
    look("sum", in_each_poll(dear, range().sum::<u64>()));
    look("collect", in_each_poll(dear, range().collect::<Vec<u64>>()));
    let tried = range().try_for_each(|_| Ok::<_, String>(()));
    look("try_for_each", in_each_poll(dear, tried));
    let fixed = range().batch(5_000).count();
    look("batches of a fixed size", in_each_poll(dear, fixed));
    let all: Vec<u64> = (0..ITEMS).collect();
    let slice = all.par().on(pool).map(|i| work(*i)).count();
    look("slice", in_each_poll(dear, slice));
    let vector = all.clone().into_par().on(pool).map(work).count();
    look("vector", in_each_poll(dear, vector));
    let stream = futures::stream::iter(0..ITEMS).par().on(pool);
    look("stream", in_each_poll(dear, stream.map(work).count()));
    let iterator = par_iter(0..ITEMS).on(pool).map(work).count();
    look("iterator", in_each_poll(dear, iterator));
}

/// A sum that takes long to add to.
#[derive(Debug)]
struct Dear(u64);

static ADDED: AtomicUsize = AtomicUsize::new(0);

impl Sum<u64> for Dear {
    fn sum<I: Iterator<Item = u64>>(items: I) -> Self {
        Self(items.sum())
    }
}

impl Sum for Dear {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        let add = |Self(sum), Self(item)| {
            burn(DEAR);
            ADDED.fetch_add(1, SeqCst);
            Self(sum + item)
        };
        items.reduce(add).unwrap_or(Self(0))
    }
}

#[test]
fn what_lanes_have_made_is_joined_by_and_by() {
    const LANES: u64 = 200;
    let pool = alone();
    // Every lane has one item when the last begins.
    let begun = AtomicUsize::new(0);
    let items = |ordered: bool| {
        begun.store(0, SeqCst);
        let all = (0..LANES).into_par().on(&pool).concurrency(LANES as usize);
        let all = if ordered { all } else { all.unordered() };
        all.then(async |i| {
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < LANES as usize {
                checkpoint().await.unwrap();
            }
            i
        })
    };
    let joined = AtomicUsize::new(0);
    let join = |a, b| {
        burn(DEAR);
        joined.fetch_add(1, SeqCst);
        a + b
    };
    for ordered in [false, true] {
        let most = most_in_a_poll(&joined, items(ordered).reduce(|| 0, join));
        assert!(most < TOO_MANY, "reduce: {most}");
        let tried = items(ordered).map(Ok::<_, String>);
        let tried = tried.try_reduce(|| 0, |a, b| Ok(join(a, b)));
        assert!(most_in_a_poll(&joined, tried) < TOO_MANY, "try_reduce");
    }
    assert_eq!(joined.load(SeqCst), 4 * (LANES as usize - 1));
    let most = most_in_a_poll(&ADDED, items(true).sum::<Dear>());
    assert!(most < TOO_MANY, "sum: {most}");
    let total: Dear = block_on(items(true).sum());
    assert_eq!(total.0, LANES * (LANES - 1) / 2);
}

struct Bomb(u64);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("bomb");
    }
}

/// The message that a pipeline panics with.
#[track_caller]
fn message<F: IntoFuture>(pipeline: impl FnOnce() -> F) -> &'static str {
    let run = || drop(block_on(async { pipeline().await }));
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("it panics");
    payload.downcast_ref::<&str>().expect("a text")
}

/// A collection that takes a few items only.
#[derive(Default)]
struct Few(usize);

impl<T> Extend<T> for Few {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            std::mem::forget(item);
            self.0 += 1;
            assert!(self.0 < 3, "full");
        }
    }
}

#[test]
fn panic_at_the_very_end_comes_out_whatever_is_dropped_with_it() {
    for ordered in [false, true] {
        let items = || {
            let all = (0..8u64).into_par().concurrency(8);
            let all = if ordered { all } else { all.unordered() };
            all.then(async |i| {
                checkpoint().await.unwrap();
                i
            })
        };
        let joined = message(|| {
            let bomb = Bomb(0);
            items().reduce(
                || 0,
                move |_, _| {
                    let _ = &bomb;
                    panic!("join")
                },
            )
        });
        assert_eq!(joined, "join");
        let joined = message(|| {
            items().map(Bomb).reduce_with(|a, b| {
                let both = a.0 + b.0;
                std::mem::forget((a, b));
                assert!(both > 100, "join");
                Bomb(both)
            })
        });
        assert_eq!(joined, "join");
        let collected = message(|| {
            let bomb = Bomb(0);
            items()
                .map(move |i| {
                    let _ = &bomb;
                    i
                })
                .collect::<Few>()
        });
        assert_eq!(collected, "full");
        // Items that a destructor panics for are left over, in several lanes.
        let collected = message(|| items().map(Bomb).collect::<Few>());
        assert_eq!(collected, "full");
    }
    let identity = message(|| {
        let bomb = Bomb(0);
        let none = move || {
            let _ = &bomb;
            panic!("identity")
        };
        (0..0u64).into_par().reduce(none, |a, b| a + b)
    });
    assert_eq!(identity, "identity");
}

/// An iterator that does not say how many it has.
struct Hides;

impl Iterator for Hides {
    type Item = u64;
    fn next(&mut self) -> Option<u64> {
        None
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        panic!("size")
    }
}

#[test]
fn panic_at_the_very_beginning_comes_out_whatever_is_dropped_with_it() {
    let said = message(|| {
        let bomb = Bomb(0);
        par_iter(Hides).for_each(move |_| {
            let _ = &bomb;
        })
    });
    assert_eq!(said, "size");
}

/// Drops what `pipeline` gives after a poll, or before any: the message of the first destructor.
#[track_caller]
fn message_of_drop<F: Future>(polled: bool, pipeline: F) -> &'static str {
    let mut pipeline = Box::pin(pipeline);
    if polled {
        let polled = pipeline
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    let payload = catch_unwind(AssertUnwindSafe(|| drop(pipeline))).expect_err("it panics");
    payload.downcast_ref::<&str>().expect("a text")
}

#[test]
fn pipeline_that_is_dropped_midway_drops_one_thing_after_the_other() {
    // What is gathered, and the item under way.
    let gathered = (0..2u64).into_par().concurrency(1).then(|i| async move {
        let bomb = Bomb(i);
        if i > 0 {
            pending::<()>().await;
        }
        bomb
    });
    let gathered = gathered.collect::<Vec<Bomb>>();
    assert_eq!(message_of_drop(true, gathered), "bomb");
    // What a closure has captured, the item under way, and items that were not begun.
    let captured = || {
        let bomb = Bomb(9);
        let all: Vec<_> = (0..3).map(Bomb).collect();
        let items = all.into_par().on(&alone()).batch(3);
        items.then(move |item| {
            let _ = &bomb;
            async move {
                let _item = item;
                pending::<()>().await;
            }
        })
    };
    assert_eq!(message_of_drop(true, captured().count()), "bomb");
    // What a stage and the terminal have captured.
    for polled in [false, true] {
        let (stage, terminal) = (Bomb(1), Bomb(2));
        let items = (0..3u64).into_par().then(move |i| {
            let _ = &stage;
            async move {
                pending::<()>().await;
                i
            }
        });
        let reduced = items.reduce_with(move |a, b| {
            let _ = &terminal;
            a + b
        });
        assert_eq!(message_of_drop(polled, reduced), "bomb");
    }
    // What the source holds, and what the terminal has captured.
    let bomb = Bomb(9);
    let items = vec![Bomb(0), Bomb(1)].into_par().map(|bomb| bomb.0);
    let never_polled = items.reduce_with(move |a, b| {
        let _ = &bomb;
        a + b
    });
    assert_eq!(message_of_drop(false, never_polled), "bomb");
}

#[test]
fn runs_that_wait_for_a_neighbour_are_dropped_one_by_one() {
    let ends = AtomicUsize::new(0);
    let said = message(|| {
        let items = (0..7u64).into_par().concurrency(7).then(async |i| {
            if i % 2 == 0 {
                // The odd ones have ended by then, and none of them has a neighbour.
                while ends.load(SeqCst) < 3 {
                    checkpoint().await.unwrap();
                }
                for _ in 0..3 {
                    checkpoint().await.unwrap();
                }
                assert!(i != 0, "stage");
                // A panic awaits what is under way.
                cancelled().await;
            }
            ends.fetch_add(1, SeqCst);
            Bomb(i)
        });
        items.reduce_with(|a, b| Bomb(a.0 + b.0))
    });
    assert_eq!(said, "stage");
}

/// One lane panics while the other works on its batch; how many items that one begins after. `None`: there was no other in
/// time.
fn begun_after_a_panic(pool: &Pool, batch: usize) -> Option<usize> {
    let (beside, panics, after) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicUsize::new(0),
    );
    let work = |i: usize| {
        if i > 0 {
            beside.store(true, SeqCst);
            if panics.load(SeqCst) {
                after.fetch_add(1, SeqCst);
            }
            return burn(DEAR / 10);
        }
        let from = Instant::now();
        while !beside.load(SeqCst) && from.elapsed() < 20 * DEAR {
            std::thread::yield_now();
        }
        let _raised = Raise(&panics);
        panic!("here");
    };
    let items = (0..8 * batch).into_par().on(pool).heavy().batch(batch);
    let items = items.for_each(work);
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(items))).is_err());
    beside.into_inner().then(|| after.into_inner())
}

#[test]
fn nothing_is_begun_for_long_after_a_panic() {
    const BATCH: usize = 50_000;
    let pool = Pool::builder().threads(1).build();
    let begun = (0..1_000).find_map(|_| begun_after_a_panic(&pool, BATCH));
    let begun = begun.expect("no helper came in time");
    // Those under way while the other lane unwinds; the batch takes five seconds.
    assert!(begun < BATCH / 2, "{begun} were begun");
}

/// A sum that counts how often two are added after the panic.
#[derive(Debug)]
struct Counted;

static PANICKED: AtomicBool = AtomicBool::new(false);
static ADDED_AFTER: AtomicUsize = AtomicUsize::new(0);

fn add_after() {
    ADDED_AFTER.fetch_add(usize::from(PANICKED.load(SeqCst)), SeqCst);
}

impl Sum<u64> for Counted {
    fn sum<I: Iterator<Item = u64>>(items: I) -> Self {
        items.for_each(drop);
        Self
    }
}

impl Sum for Counted {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.skip(1).for_each(|_| add_after());
        Self
    }
}

#[test]
fn nothing_is_joined_for_long_after_a_panic() {
    const LANES: u64 = 500;
    let pool = alone();
    // Every lane has one item when one of them panics.
    let begun = AtomicUsize::new(0);
    let items = || {
        begun.store(0, SeqCst);
        PANICKED.store(false, SeqCst);
        let all = (0..LANES).into_par().on(&pool).concurrency(LANES as usize);
        all.unordered().then(async |i| {
            begun.fetch_add(1, SeqCst);
            while begun.load(SeqCst) < LANES as usize {
                // The panic cancels those under way, and they have a value all the same.
                let _ = checkpoint().await;
            }
            if i == LANES / 2 {
                PANICKED.store(true, SeqCst);
                panic!("item");
            }
            i
        })
    };
    let add = |a: u64, b: u64| {
        add_after();
        a + b
    };
    assert_eq!(message(|| items().reduce(|| 0, add)), "item");
    assert_eq!(message(|| items().reduce_with(add)), "item");
    assert_eq!(message(|| items().sum::<Counted>()), "item");
    let after = ADDED_AFTER.load(SeqCst);
    assert!(after < 10, "{after} times");
}
