//! Items of an asynchronous pipeline that were cheap and become heavy: how many are worked on in one poll. Counted.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::burn;
use futures::executor::block_on;
use selvedge::cancel::checkpoint;
use selvedge::{Pool, prelude::*};

const CHEAP: usize = 1200;
const HEAVY: usize = 60;

/// How many heavy items each poll has worked on, where every `every`th item waits. Not in our own `block_on`, which lets a
/// pipeline go on for longer.
fn heavy_in_each_poll(every: usize) -> Vec<usize> {
    let alone = Pool::builder().threads(0).build();
    let worked = AtomicUsize::new(0);
    let work = async |item: usize| {
        if item >= CHEAP {
            worked.fetch_add(1, Ordering::SeqCst);
            burn(Duration::from_millis(6));
        }
        if item % every == every - 1 {
            checkpoint().await.unwrap();
        }
    };
    let items = (0..CHEAP + HEAVY).into_par().on(&alone).concurrency(1);
    let mut all = pin!(items.for_each(work));
    let mut polls = Vec::new();
    block_on(poll_fn(|cx| {
        let before = worked.load(Ordering::SeqCst);
        let polled = all.as_mut().poll(cx);
        let now = worked.load(Ordering::SeqCst) - before;
        if now > 0 {
            polls.push(now);
        }
        match polled {
            Poll::Ready(()) => Poll::Ready(polls.clone()),
            Poll::Pending => Poll::Pending,
        }
    }))
}

// A lane looked at the clock after so many rounds of one poll, to which polls that end sooner never came.
#[test]
fn items_that_become_heavy_are_few_in_a_poll_however_often_they_wait() {
    for every in [12, 15] {
        let polls = heavy_in_each_poll(every);
        assert_eq!(polls.iter().sum::<usize>(), HEAVY);
        // A window lasts for 5 ms and a turn of the lane, which is over after 200 us and a short batch. In the first polls
        // nothing is known of it yet.
        let most = polls.iter().skip(2).max().copied().unwrap_or(0);
        assert!(most <= 6, "every {every}: {polls:?}");
    }
}
