//! What is left of conversions between our tokens and tokio-util's: nothing, counted in bytes. Alone in its binary,
//! because the counter counts the whole process.
#![cfg(feature = "tokio-util")]

use std::alloc::System;

use selvedge::CancelToken;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that 100,000 runs leave behind, and how many allocations they made: the least of three times, because the
/// harness has a thread of its own, which allocates too.
fn left_by(run: impl Fn()) -> (isize, usize) {
    run();
    let measure = || {
        let region = Region::new(ALLOCATOR);
        (0..100_000).for_each(|_| run());
        let change = region.change();
        let left = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        (left, change.allocations)
    };
    let times = [measure(), measure(), measure()];
    times
        .into_iter()
        .min_by_key(|(left, _)| left.abs())
        .unwrap()
}

#[test]
fn conversions_grow_no_list_of_either_side() {
    let (theirs, ours) = (CancellationToken::new(), CancelToken::new());
    let (left, made) = left_by(|| drop(CancelToken::from(theirs.clone())));
    assert!(made >= 100_000, "tokens were made: {made}");
    assert_eq!(left, 0, "of tokio's token");
    let (left, _) = left_by(|| drop(CancelToken::from(theirs.child_token())));
    assert_eq!(left, 0, "of tokio's children");
    let (left, made) = left_by(|| drop(CancellationToken::from(ours.clone())));
    assert_eq!((left, made), (0, 0), "of our token, which has its twin");
    let (left, made) = left_by(|| drop(CancellationToken::from(ours.child())));
    assert!(made >= 100_000, "tokens were made: {made}");
    assert_eq!(left, 0, "of our children");
    assert!(!theirs.is_cancelled() && !ours.is_cancelled());
}
