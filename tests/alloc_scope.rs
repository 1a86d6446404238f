//! How many allocations children cost, counted: at most one a child whatever they are, and a tenth where a
//! scope runs many of one type. Alone in its binary, because the counter counts the whole process.
#![cfg(feature = "testing")]

use std::alloc::System;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge::testing::lending::{Lending, help_counts, with};
use selvedge::{Scope, block_on, scope};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHILDREN: usize = 10_000;

/// Allocations a child of the second of two runs; the first fills what a process fills once.
fn allocations(run: impl Fn()) -> f64 {
    run();
    let region = Region::new(ALLOCATOR);
    run();
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / CHILDREN as f64
}

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

fn dropped() {
    block_on(scope(async |s: Scope<'_>| {
        for i in 0..CHILDREN {
            drop(s.spawn(async move { i }));
        }
        // Some may have ended on helpers meanwhile.
        assert!(s.len() <= CHILDREN);
    }));
}

fn awaited() {
    let sum = block_on(scope(async |s: Scope<'_>| {
        let handles: Vec<_> = (0..CHILDREN).map(|i| s.spawn(async move { i })).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await;
        }
        sum
    }));
    assert_eq!(sum, CHILDREN * (CHILDREN - 1) / 2);
}

fn yielding() {
    block_on(scope(async |s: Scope<'_>| {
        for i in 0..CHILDREN {
            drop(s.spawn(async move {
                YieldOnce(false).await;
                i
            }));
        }
    }));
}

fn spawned_by_children() {
    block_on(scope(async |s: Scope<'_>| {
        for _ in 0..CHILDREN / 100 {
            drop(s.spawn_with(async |s: Scope<'_>| {
                for i in 1..100 {
                    drop(s.spawn(async move { i }));
                }
            }));
        }
    }));
}

/// A child of a type of its own, for each `N`.
async fn sized<const N: usize>() -> usize {
    let bytes = [1_u8; N];
    YieldOnce(false).await;
    std::hint::black_box(&bytes).len()
}

fn of_many_types() {
    let sum = block_on(scope(async |s: Scope<'_>| {
        let mut sum = 0;
        for _ in 0..CHILDREN / 10 {
            sum += s.spawn(sized::<1>()).await + s.spawn(sized::<20>()).await;
            sum += s.spawn(sized::<40>()).await + s.spawn(sized::<80>()).await;
            sum += s.spawn(sized::<160>()).await + s.spawn(sized::<320>()).await;
            sum += s.spawn(sized::<640>()).await + s.spawn(sized::<1280>()).await;
            sum += s.spawn(sized::<2560>()).await + s.spawn(sized::<5120>()).await;
        }
        sum
    }));
    assert_eq!(sum, CHILDREN / 10 * (1 + 20 * 511));
}

fn of_many_types_at_once() {
    block_on(scope(async |s: Scope<'_>| {
        for _ in 0..CHILDREN / 10 {
            drop((s.spawn(sized::<1>()), s.spawn(sized::<20>())));
            drop((s.spawn(sized::<40>()), s.spawn(sized::<80>())));
            drop((s.spawn(sized::<160>()), s.spawn(sized::<320>())));
            drop((s.spawn(sized::<640>()), s.spawn(sized::<1280>())));
            drop((s.spawn(sized::<2560>()), s.spawn(sized::<5120>())));
        }
        assert!(s.len() <= CHILDREN);
    }));
}

#[test]
fn children_of_one_type_share_allocations_and_others_cost_one_at_most() {
    let check = |name: &str, most: f64, run: &dyn Fn()| {
        let got = allocations(run);
        println!("{name}: {got:.4} allocations a child");
        assert!(
            got <= most,
            "{name}: {got} allocations a child, over {most}"
        );
    };
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        with(mode, || {
            check(&format!("{mode:?}, dropped"), 0.1, &dropped);
            check(&format!("{mode:?}, awaited"), 0.1, &awaited);
            check(&format!("{mode:?}, yielding"), 0.1, &yielding);
            check(&format!("{mode:?}, by children"), 1.0, &spawned_by_children);
            check(&format!("{mode:?}, many types"), 1.0, &of_many_types);
            check(
                &format!("{mode:?}, many types at once"),
                1.0,
                &of_many_types_at_once,
            );
        });
    }
    assert!(help_counts().asks > 0, "forced lending asks for help");
}
