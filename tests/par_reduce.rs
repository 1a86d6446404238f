//! What the joining closure of a reduction is called with, and which error comes out, in whatever order items end.

mod common;

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use common::burn;
use selvedge::{Pool, block_on, par_iter, prelude::*};

const ITEMS: usize = 4;

/// All orders in which the items can end: `order[n]` is when item `n` does.
fn orders() -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for n in 0..ITEMS {
        all = all
            .iter()
            .flat_map(|order: &Vec<usize>| {
                (0..=n).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, n);
                    order
                })
            })
            .collect();
    }
    assert_eq!(all.len(), 24);
    all
}

/// Ends as the step with that number. The steps before it have been through the terminal by then.
async fn step(now: &AtomicUsize, number: usize) {
    let mut last = None;
    poll_fn(|cx| {
        let is_now = now.load(SeqCst) == number;
        // A round later, in which the lane of the item before has closed its run.
        if is_now && last == Some(number) {
            return Poll::Ready(());
        }
        last = is_now.then_some(number);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    now.fetch_add(1, SeqCst);
}

/// The items that a joined value is made of.
type Span = (usize, usize);

fn run(
    order: &[usize],
    item: impl Fn(usize) -> Result<Span, String> + Sync,
    join: impl Fn(Span, Span) -> Result<Span, String> + Send + Sync,
) -> Result<Span, String> {
    let now = AtomicUsize::new(0);
    let pool = Pool::builder().threads(0).build();
    let items = (0..ITEMS).into_par().on(&pool).concurrency(ITEMS);
    let items = items.then(async |n| {
        step(&now, order[n]).await;
        item(n)
    });
    let out = block_on(items.try_reduce(
        || (0, 0),
        |a, b| {
            assert_eq!(a.1, b.0, "only neighbours");
            join(a, b)
        },
    ));
    assert_eq!(now.into_inner(), ITEMS);
    out
}

#[test]
fn failed_item_is_a_gap_over_which_nothing_is_joined() {
    for order in orders() {
        for bad in 0..ITEMS {
            let item = |n| match n == bad {
                true => Err(format!("item {n}")),
                false => Ok((n, n + 1)),
            };
            let out = run(&order, item, |a, b| Ok((a.0, b.1)));
            assert_eq!(out, Err(format!("item {bad}")), "{order:?}");
        }
        let all = run(&order, |n| Ok((n, n + 1)), |a, b| Ok((a.0, b.1)));
        assert_eq!(all, Ok((0, ITEMS)));
    }
}

#[test]
fn first_of_the_errors_of_items_and_of_the_closure_is_the_result() {
    for order in orders() {
        for bad in 0..ITEMS {
            for refused in 1..ITEMS {
                let item = |n| match n == bad {
                    true => Err(format!("item {n}")),
                    false => Ok((n, n + 1)),
                };
                // What is joined over this place fails.
                let join = |a: Span, b: Span| match a.1 == refused {
                    true => Err(format!("joined at {}", b.0)),
                    false => Ok((a.0, b.1)),
                };
                let wanted = match refused < bad {
                    true => format!("joined at {refused}"),
                    false => format!("item {bad}"),
                };
                let case = format!("{order:?}, {bad}, {refused}");
                assert_eq!(run(&order, item, join), Err(wanted), "{case}");
            }
        }
    }
}

#[test]
fn nothing_is_joined_over_an_item_that_is_filtered_out_but_its_neighbours() {
    for order in orders() {
        for gone in 0..ITEMS {
            let now = AtomicUsize::new(0);
            let pool = Pool::builder().threads(0).build();
            let items = (0..ITEMS).into_par().on(&pool).concurrency(ITEMS);
            let items = items.then(async |n| {
                step(&now, order[n]).await;
                n
            });
            let kept = items.filter(|n| *n != gone).map(|n| vec![n]);
            let all = block_on(kept.reduce(Vec::new, |mut a, b| {
                assert!(a.last() < b.first());
                a.extend(b);
                a
            }));
            let wanted: Vec<_> = (0..ITEMS).filter(|n| *n != gone).collect();
            assert_eq!(all, wanted);
        }
    }
}

// The dearer a join was beyond a millisecond, the shorter runs became, down to one item: a join for each.
#[test]
fn dear_joins_are_few() {
    for helpers in [0, 1] {
        let pool = Pool::builder().threads(helpers).build();
        let joins = AtomicUsize::new(0);
        let add = |a: u64, n: u64| {
            burn(Duration::from_micros(5));
            a + n
        };
        let join = |a: u64, b: u64| {
            joins.fetch_add(1, SeqCst);
            burn(Duration::from_millis(2));
            a + b
        };
        let sum = block_on(
            (0..2000)
                .into_par()
                .on(&pool)
                .fold(|| 0, add)
                .reduce(|| 0, join),
        );
        assert_eq!(sum, 1999 * 1000);
        let of_range = joins.swap(0, SeqCst);
        let sum = block_on(
            par_iter(0..2000)
                .on(&pool)
                .fold(|| 0, add)
                .reduce(|| 0, join),
        );
        assert_eq!(sum, 1999 * 1000);
        let of_iterator = joins.swap(0, SeqCst);
        assert!(
            of_range.max(of_iterator) < 150,
            "{helpers}: {of_range}, {of_iterator}"
        );
    }
}

// What it takes to make an accumulator was taken for the work of its items: each had one of its own.
#[test]
fn dear_accumulators_are_few() {
    let pool = Pool::builder().threads(0).build();
    let made = AtomicUsize::new(0);
    let make = || {
        made.fetch_add(1, SeqCst);
        burn(Duration::from_micros(200));
        0
    };
    let add = |a: u64, n: u64| a + n;
    let sum: u64 = block_on((0..5000).into_par().on(&pool).fold(make, add).sum());
    assert_eq!(sum, 4999 * 2500);
    let of_range = made.swap(0, SeqCst);
    let sum: u64 = block_on(par_iter(0..5000).on(&pool).fold(make, add).sum());
    assert_eq!(sum, 4999 * 2500);
    let of_iterator = made.swap(0, SeqCst);
    let owned: Vec<u64> = (0..5000).collect();
    let count = block_on(owned.into_par().on(&pool).fold(make, add).count());
    let of_vec = made.swap(0, SeqCst);
    assert_eq!(count, of_vec);
    let most = of_range.max(of_iterator).max(of_vec);
    assert!(most < 200, "{of_range}, {of_iterator}, {of_vec}");
}

// A run was no longer than a batch: of a vector a thousand items, and one where the concurrency is limited to that.
#[test]
fn runs_that_are_dear_to_end_go_on_over_batches() {
    let pool = Pool::builder().threads(0).build();
    let joins = AtomicUsize::new(0);
    let add = |a: u64, n: u64| a + n;
    let join = |a: u64, b: u64| {
        joins.fetch_add(1, SeqCst);
        burn(Duration::from_millis(5));
        a + b
    };
    let items: Vec<u64> = (0..40_000).collect();
    let all = items.clone().into_par().on(&pool).fold(|| 0, add);
    assert_eq!(block_on(all.reduce(|| 0, join)), 39_999 * 20_000);
    let of_vec = joins.swap(0, SeqCst);
    let all = items
        .par()
        .concurrency(1)
        .on(&pool)
        .map(|n| *n)
        .fold(|| 0, add);
    assert_eq!(block_on(all.reduce(|| 0, join)), 39_999 * 20_000);
    let one_by_one = joins.swap(0, SeqCst);
    let all = par_iter(items.iter().copied()).on(&pool).fold(|| 0, add);
    assert_eq!(block_on(all.reduce(|| 0, join)), 39_999 * 20_000);
    let of_iterator = joins.swap(0, SeqCst);
    // Forty batches of a vector or an iterator, or each item.
    assert!(
        of_vec < 20 && one_by_one < 200 && of_iterator < 20,
        "{of_vec}, {one_by_one}, {of_iterator}"
    );
}
