//! Small scopes, one after the other, allocate nothing: the core of the last one serves the next, with its first chunk.
//! Alone in its binary, because the counter counts the whole process.
#![cfg(feature = "testing")]

use std::alloc::System;
use std::future::ready;

use selvedge::{Scope, block_on, scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of a hundred runs, after as many.
fn allocations(mut run: impl FnMut()) -> usize {
    (0..100).for_each(|_| run());
    let region = Region::new(ALLOCATOR);
    (0..100).for_each(|_| run());
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn small_scopes_allocate_nothing_after_the_first() {
    // What an executor of ours needs is counted apart.
    let around = allocations(|| block_on(ready(())));
    let empty = allocations(|| block_on(scope(async |_| ())));
    assert_eq!(empty, around, "an empty scope");
    let two = allocations(|| {
        let two = scope(async |s: Scope<'_>| {
            let (a, b) = (s.spawn(ready(1)), s.spawn(ready(2)));
            assert_eq!(a.await + b.await, 3);
        });
        // Or it would ask for help, once a kind.
        block_on(two.inline());
    });
    assert_eq!(two, around, "a scope of two");
}
