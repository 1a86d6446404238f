//! All items alike: 4 ms each; one in `every` waits once before it computes. How many are worked on in one poll of the pipeline.
use selvedge::{Pool, prelude::*};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant};

const ITEM: Duration = Duration::from_millis(4);

async fn wait_once() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

fn polls(every: usize, concurrency: usize, ordered: bool) -> Vec<usize> {
    let alone = Pool::builder().threads(0).build();
    let done = &AtomicUsize::new(0);
    let work = async |n: usize| {
        if n % every == 0 {
            wait_once().await; // not in the cache
        }
        done.fetch_add(1, SeqCst);
        let from = Instant::now();
        while from.elapsed() < ITEM {}
        n
    };
    let items = (0..200).into_par().on(&alone).concurrency(concurrency).then(work);
    let mut all = pin!(async {
        match ordered {
            true => items.collect::<Vec<_>>().await.len(),
            false => items.unordered().count().await,
        }
    });
    let mut polls = Vec::new();
    futures::executor::block_on(poll_fn(|cx| {
        let before = done.load(SeqCst);
        let polled = all.as_mut().poll(cx).map(drop);
        polls.push(done.load(SeqCst) - before);
        polled
    }));
    polls.sort();
    polls.reverse();
    polls
}

#[test]
fn few_items_in_a_poll() {
    let mut worst = 0;
    for ordered in [false, true] {
        for concurrency in [1, 8, 64] {
            for every in [1, 2, 3, 5, 7, 12, 20] {
                let p = polls(every, concurrency, ordered);
                let many = p.iter().filter(|p| **p > 4).count();
                println!("ordered {ordered} concurrency {concurrency}, 1 in {every} waits: {} polls, {many} with more than 4 items (16 ms); most {:?}", p.len(), &p[..6]);
                worst = worst.max(p[1]);
            }
        }
    }
    assert!(worst <= 4, "{worst} items of 4 ms in a poll, again and again");
}
