//! Those beside a task that runs pipelines have turns, which are counted.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use selvedge_iter::IntoPar;
use selvedge_scope::Pool;

// Lanes that are over in one poll had their thread for as long as the loop went on.
#[test]
fn pipelines_in_a_row_leave_turns_to_those_beside_them() {
    const TURNS: usize = 12;
    const MOST: usize = 20_000;
    let (turns, opened) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let pipelines = async {
        while turns.load(Ordering::SeqCst) < TURNS && opened.load(Ordering::SeqCst) < MOST {
            opened.fetch_add(1, Ordering::SeqCst);
            let items = (0..10_u32).into_par().map(|n| {
                let from = Instant::now();
                while from.elapsed() < Duration::from_micros(2) {}
                n
            });
            assert_eq!(items.sum::<u32>().await, 45);
        }
    };
    let beside = poll_fn(|cx| {
        if turns.fetch_add(1, Ordering::SeqCst) >= TURNS {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    futures::executor::block_on(async { futures::join!(pipelines, beside) });
    // Those of 5 ms are 250 at most, and the machine may be busy.
    let opened = opened.load(Ordering::SeqCst);
    assert!(opened <= TURNS * 1000, "{opened} for {TURNS} turns");
}

// Each error waited for the stage behind, and was ready at once; between them nobody looked at the clock.
#[test]
fn lane_whose_items_all_fail_leaves_turns() {
    let alone = Pool::builder().threads(0).build();
    let (items, made) = (1000, &AtomicUsize::new(0));
    let run = (0..items)
        .into_par()
        .on(&alone)
        .concurrency(items)
        .batch(items)
        .try_fold(
            || 0,
            |_, n| {
                made.fetch_add(1, Ordering::SeqCst);
                let from = Instant::now();
                while from.elapsed() < Duration::from_micros(100) {}
                Err::<usize, _>(n)
            },
        )
        .then(async |failed| failed.unwrap_or_else(|n| n));
    let mut run = pin!(run.count());
    let mut most = 0;
    let count = futures::executor::block_on(poll_fn(|cx| {
        let before = made.load(Ordering::SeqCst);
        let polled = run.as_mut().poll(cx);
        most = most.max(made.load(Ordering::SeqCst) - before);
        polled
    }));
    assert_eq!(count, items);
    // 5 ms are 50 of them.
    assert!(most <= 200, "{most} items in a poll");
}

// The clock was started anew behind each item that waited, and what it said at once counted for the items behind it: twelve
// to forty of 4 ms in a poll.
#[test]
fn lane_some_of_whose_items_wait_leaves_turns() {
    const ITEM: Duration = Duration::from_millis(2);
    let alone = Pool::builder().threads(0).build();
    for every in [3, 12] {
        for concurrency in [1, 8] {
            let made = &AtomicUsize::new(0);
            let work = async |n: usize| {
                if n % every == 0 {
                    let mut waits = true;
                    poll_fn(|cx| {
                        if std::mem::take(&mut waits) {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        Poll::Ready(())
                    })
                    .await;
                }
                made.fetch_add(1, Ordering::SeqCst);
                let from = Instant::now();
                while from.elapsed() < ITEM {}
            };
            let items = (0..120).into_par().on(&alone).concurrency(concurrency);
            let mut run = pin!(items.unordered().then(work).count());
            let mut many = Vec::new();
            futures::executor::block_on(poll_fn(|cx| {
                let before = made.load(Ordering::SeqCst);
                let polled = run.as_mut().poll(cx);
                many.push(made.load(Ordering::SeqCst) - before);
                polled
            }));
            let late = many.iter().skip(6).filter(|items| **items > 5).count();
            assert!(late <= 1, "1 in {every}, {concurrency} at once: {many:?}");
        }
    }
}
