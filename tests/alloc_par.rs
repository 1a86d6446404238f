//! Parallel streams allocate to begin with, never by the item, counted. Alone in its binary, because the
//! counter counts the whole process.
#![cfg(feature = "testing")]

use std::alloc::System;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream;
use selvedge::testing::lending::{Lending, with};
use selvedge::{IntoPar, ParStreamExt, block_on};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FEW: u64 = 20_000;
const MANY: u64 = 300_000;

const LANES: usize = 16;

/// How often buffers of lanes may grow: a lane's doubles up to the largest batch, 1,024 items, as fast
/// as the clock says. An allocation in each batch would be 273 more.
const GROWTHS: usize = LANES * 10;

struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn range(items: u64) -> u64 {
    block_on(
        (0..items)
            .into_par()
            .map(|i| i + 1)
            .filter(|i| i % 2 == 0)
            .count(),
    ) as u64
        * 2
}

fn stream_of(items: u64) -> u64 {
    let evens = stream::iter(0..items).par().filter(|i| i % 2 == 0);
    block_on(evens.count()) as u64 * 2
}

fn ordered(items: u64) -> u64 {
    let all = stream::iter(0..items).par().ordered().map(|i| i + 1);
    block_on(all.for_each(|_: u64| ()));
    items
}

fn stage(items: u64) -> u64 {
    let stage = stream::iter(0..items)
        .par()
        .concurrency(LANES)
        .then(async |i| {
            YieldOnce(false).await;
            i
        });
    block_on(stage.count()) as u64
}

#[test]
fn more_items_cost_no_allocations_but_the_growth_of_lanes() {
    let check = |name: &str, run: &dyn Fn(u64) -> u64| {
        let allocations = |items| {
            let region = Region::new(ALLOCATOR);
            assert_eq!(run(items), items, "{name} saw every item");
            let change = region.change();
            change.allocations + change.reallocations
        };
        allocations(MANY);
        let (few, many) = (allocations(FEW), allocations(MANY));
        println!("{name}: {few} allocations for {FEW} items, {many} for {MANY}");
        let most = few + GROWTHS;
        assert!(
            many <= most,
            "{name}: {many} allocations for many items, {few} for few"
        );
    };
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        with(mode, || {
            check(&format!("{mode:?}, range"), &range);
            check(&format!("{mode:?}, stream"), &stream_of);
            check(&format!("{mode:?}, ordered"), &ordered);
            check(&format!("{mode:?}, stage"), &stage);
        });
    }
}
