//! `join_all` of like futures allocates as often for many as for few, counted. Alone in its binary, because
//! the counter counts the whole process.
#![cfg(feature = "testing")]

use std::alloc::System;

use selvedge::testing::lending::{Lending, help_counts, with};
use selvedge::{block_on, join_all};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FEW: usize = 10;
const MANY: usize = 100_000;

/// The least of a few runs: the test harness has a thread of its own, which may allocate meanwhile.
fn allocations(count: usize) -> usize {
    let runs = (0..5).map(|_| allocations_once(count));
    runs.min().expect("there were runs")
}

fn allocations_once(count: usize) -> usize {
    let region = Region::new(ALLOCATOR);
    let all = block_on(join_all((0..count).map(|i| async move { i })));
    let change = region.change();
    assert_eq!(all.iter().sum::<usize>(), count * (count - 1) / 2);
    change.allocations + change.reallocations
}

#[test]
fn futures_cost_no_allocations_and_requests_for_help_few() {
    // One after the other, because the counter counts both.
    a_hundred_thousand_futures_cost_as_many_allocations_as_ten();
    lending_costs_allocations_by_the_request_for_help_not_by_the_future();
}

fn a_hundred_thousand_futures_cost_as_many_allocations_as_ten() {
    with(Lending::Never, || {
        allocations(FEW);
        let (few, many) = (allocations(FEW), allocations(MANY));
        println!("{few} allocations for {FEW}, {many} for {MANY}");
        assert!(few <= 6, "{few} allocations for ten futures");
        assert!(many <= few, "{many} allocations for many, {few} for few");
    });
}

fn lending_costs_allocations_by_the_request_for_help_not_by_the_future() {
    with(Lending::Forced, || {
        allocations(MANY);
        // The least of a few runs, as above: the pool's threads allocate, too.
        let besides = (0..5).map(|_| {
            let asks = help_counts().asks;
            let got = allocations_once(MANY);
            let asks = help_counts().asks - asks;
            println!("{got} allocations for {MANY} lent futures, {asks} requests for help");
            assert!(asks > 0, "forced lending asks for help");
            (got as u64).saturating_sub(4 * asks.min(1000))
        });
        let besides = besides.min().expect("there were runs");
        assert!(besides <= 20, "{besides} allocations besides requests");
    });
}
