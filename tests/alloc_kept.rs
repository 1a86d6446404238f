//! What a waker keeps that outlives the futures it was made for, in bytes, counted: a chunk of seats or cells and
//! the core, whatever the size and number of the futures. Alone in its binary, because the counter counts the whole
//! process.
#![cfg(feature = "testing")]

use std::alloc::System;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use selvedge::testing::lending::{Lending, with};
use selvedge::{IntoPar, Scope, block_on, join, join_all, scope, try_join, try_join_all};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHUNK: isize = 8 << 10;
/// What is left of a scope besides: its core, and what the allocator's rounding does not show.
const CORE: isize = 1 << 10;
/// Allocations of other threads, those of the test harness.
const NOISE: isize = 256;
/// Futures whose seats take more chunks than a process keeps.
const STOCK: usize = 40_000;
const MANY: usize = 1_000;
const KIB: usize = 1 << 10;

/// Bytes that are allocated now.
fn bytes() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Bytes that are allocated when the pool's jobs have gone: one that was asked for and came too late has a reference
/// to the core, too.
fn at_rest(before: isize) -> isize {
    for _ in 0..1_000_000 {
        if bytes() - before <= NOISE {
            break;
        }
        std::thread::yield_now();
    }
    bytes()
}

/// Bytes that are allocated once nobody has allocated or freed any for a while: jobs of the pool that were asked for
/// before have gone.
fn settled() -> isize {
    let (mut last, mut same) = (bytes(), 0);
    while same < 20_000 {
        std::thread::yield_now();
        let now = bytes();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Waits for one turn, with its waker left behind in `wakers`.
struct Leave<'a>(&'a Mutex<Vec<Waker>>, bool);

impl Future for Leave<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.1, true) {
            return Poll::Ready(());
        }
        self.0.lock().unwrap().push(cx.waker().clone());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What the futures of a case have to do with: one waker is to be left behind, in the middle.
struct Case {
    left: Mutex<Vec<Waker>>,
    passing: Mutex<Vec<Waker>>,
    /// Wakers that keep all chunks of the process, let go of in the midst of the case.
    stock: Mutex<Vec<Waker>>,
    freed: Mutex<isize>,
}

impl Case {
    /// A future of that many bytes. All of them wait at the same time, so all have seats at the same time.
    async fn run<const BYTES: usize>(&self, index: usize, of: usize) -> usize {
        let mut room = [index as u8; BYTES];
        black_box(&mut room);
        let wakers = if index == of / 2 {
            &self.left
        } else {
            &self.passing
        };
        Leave(wakers, false).await;
        if index == of - 1 {
            // All are there by now, in chunks that were allocated for them. From here on the process keeps as
            // many empty chunks as it ever does, so that what is freed is seen to be freed.
            let before = bytes();
            let stock = std::mem::take(&mut *self.stock.lock().unwrap());
            apart(|| drop(stock));
            *self.freed.lock().unwrap() = before - bytes();
            self.passing.lock().unwrap().clear();
        }
        black_box(&mut room);
        usize::from(room[BYTES - 1] == index as u8)
    }
}

/// Does it on a thread of its own, which keeps nothing of it for later scopes.
fn apart<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let lending = *LENDING.lock().unwrap();
    std::thread::scope(|s| s.spawn(|| with(lending, f)).join().unwrap())
}

/// What the present cases run with.
static LENDING: Mutex<Lending> = Mutex::new(Lending::Never);

/// Wakers that hold every chunk that the process has, and more than it will keep.
fn stock() -> Vec<Waker> {
    let wakers = Mutex::new(Vec::with_capacity(STOCK));
    block_on(join_all((0..STOCK).map(|_| Leave(&wakers, false))));
    wakers.into_inner().unwrap()
}

/// How many bytes the waker of one future keeps after everything has ended. Measured again if it is too much: threads of
/// the pool allocate and free meanwhile, as late as a busy machine lets them; what a waker keeps is there each time.
fn kept(name: &str, run: impl Fn(&Case) -> usize + Sync, ended: usize) {
    let mut left = 20;
    loop {
        let (kept, after) = measure(name, &run, ended);
        if kept <= CHUNK + CORE + NOISE && after <= NOISE {
            return;
        }
        left -= 1;
        assert!(
            left > 0,
            "{name}: {kept} bytes kept by one waker, and {after} when it has gone"
        );
    }
}

fn measure(name: &str, run: impl Fn(&Case) -> usize + Sync, ended: usize) -> (isize, isize) {
    let case = Case {
        left: Mutex::new(Vec::with_capacity(1)),
        passing: Mutex::new(Vec::with_capacity(2 * MANY)),
        stock: Mutex::new(apart(stock)),
        freed: Mutex::new(0),
    };
    let before = settled();
    let ran = apart(|| run(&case));
    assert_eq!(ran, ended, "{name}: all futures ran to their end");
    let freed = *case.freed.lock().unwrap();
    assert!(
        freed > STOCK as isize * size_of::<Waker>() as isize + CHUNK,
        "{name}: there were more chunks than are kept"
    );
    // A job of the pool that came too late lets go of the core in its own time.
    at_rest(before - freed + CHUNK + CORE);
    let kept = bytes() - before + freed;
    let waker = case.left.lock().unwrap().pop();
    let waker = waker.expect("a waker was left behind");
    apart(|| drop(waker));
    let after = at_rest(before - freed) - before + freed;
    println!("{name}: {kept} bytes kept, {after} afterwards");
    assert!(kept > 256, "{name}: the waker keeps something");
    (kept, after)
}

fn batches() {
    let all = |case: &Case| {
        block_on(join_all((0..MANY).map(|i| case.run::<KIB>(i, MANY))))
            .into_iter()
            .sum()
    };
    kept("join_all of 1,000 x 1 KiB", all, MANY);
    let few = |case: &Case| {
        block_on(join_all((0..8).map(|i| case.run::<{ 24 * KIB }>(i, 8))))
            .into_iter()
            .sum()
    };
    kept("join_all of 8 x 24 KiB", few, 8);
    let attempts = |case: &Case| {
        let attempts =
            (0..MANY).map(|i| async move { Ok::<_, ()>(case.run::<KIB>(i, MANY).await) });
        block_on(try_join_all(attempts)).unwrap().into_iter().sum()
    };
    kept("try_join_all of 1,000 x 1 KiB", attempts, MANY);
    let pair = |case: &Case| {
        let (a, b) = block_on(join((
            case.run::<{ 32 * KIB }>(0, 2),
            case.run::<{ 32 * KIB }>(1, 2),
        )));
        a + b
    };
    kept("join of two of 32 KiB", pair, 2);
    let attempt = |case: &Case| {
        let attempt = |i| async move { Ok::<_, ()>(case.run::<{ 32 * KIB }>(i, 2).await) };
        let (a, b) = block_on(try_join((attempt(0), attempt(1)))).unwrap();
        a + b
    };
    kept("try_join of two of 32 KiB", attempt, 2);
}

fn lanes() {
    let lanes = |case: &Case| {
        let items = (0..MANY).into_par().concurrency(MANY);
        block_on(items.then(|i| case.run::<KIB>(i, MANY)).sum::<usize>())
    };
    // All items at a time, so each in a lane of its own.
    kept("1,000 lanes of 1 KiB", lanes, MANY);
}

fn scopes() {
    fn children<const BYTES: usize>(case: &Case) -> usize {
        block_on(scope(async |s: Scope<'_>| {
            let children: Vec<_> = (0..MANY)
                .map(|i| s.spawn(case.run::<BYTES>(i, MANY)))
                .collect();
            let mut sum = 0;
            for child in children {
                sum += child.await;
            }
            sum
        }))
    }
    kept("a scope of 1,000 x 1 KiB", children::<KIB>, MANY);
    kept("a scope of 1,000 x 100 bytes", children::<100>, MANY);
    // The chunks that a scope begins with are no larger than the later ones.
    let early = |case: &Case| {
        block_on(scope(async |s: Scope<'_>| {
            let children: Vec<_> = (0..12)
                .map(|i| s.spawn(case.run::<{ KIB + KIB / 2 }>(i, 12)))
                .collect();
            let mut sum = 0;
            for child in children {
                sum += child.await;
            }
            sum
        }))
    };
    kept("a scope of 12 x 1.5 KiB", early, 12);
}

#[test]
fn stale_waker_keeps_a_chunk_and_the_core_and_gives_them_back() {
    // One after the other, because the counter counts all.
    for lending in [Lending::Never, Lending::Forced] {
        *LENDING.lock().unwrap() = lending;
        batches();
        lanes();
        scopes();
    }
}
