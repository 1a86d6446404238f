//! Many children that wait, and one wake at a time: what a poll of a large quiet scope costs.
//!
//! The waker is called from outside, between two polls, as a socket would; each wake must cost as much as
//! one child, however many wait.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures::StreamExt;
use futures::channel::oneshot;
use futures::stream::FuturesUnordered;
use selvedge::{Pool, Scope, scope};

/// Senders and what they end, in the order of firing.
fn channels(count: usize) -> (Vec<oneshot::Sender<u64>>, Vec<oneshot::Receiver<u64>>) {
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
    // Not in the order of spawning, so that lists are not walked from their cheap end.
    let half = receivers.split_off(count / 2);
    let mixed = half.into_iter().zip(receivers).flat_map(<[_; 2]>::from);
    (senders, mixed.collect())
}

/// Fires them one by one; after each wake polls `target` once. The nanoseconds of this, without set-up.
fn fire(
    mut target: Pin<&mut impl Future<Output = u64>>,
    senders: Vec<oneshot::Sender<u64>>,
) -> f64 {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(target.as_mut().poll(&mut cx).is_pending(), "children wait");
    let last = senders.len() - 1;
    let start = Instant::now();
    for (i, sender) in senders.into_iter().enumerate() {
        sender.send(i as u64).expect("the child waits");
        match target.as_mut().poll(&mut cx) {
            Poll::Pending => assert!(i < last, "the last wake ends the scope"),
            Poll::Ready(ended) => assert_eq!((i, ended), (last, last as u64 + 1)),
        }
    }
    start.elapsed().as_nanos() as f64
}

/// A scope of so many waiting children. Nanoseconds of all wakes.
#[must_use]
pub fn ours(pool: &Pool, count: usize, inline: bool) -> f64 {
    let (senders, receivers) = channels(count);
    let body = async move |s: Scope<'_>| {
        let count = receivers.len() as u64;
        for receiver in receivers {
            drop(s.spawn(async move { black_box(receiver.await.expect("it is fired")) }));
        }
        count
    };
    let scope = scope(body).on(pool);
    let scope = if inline { scope.inline() } else { scope };
    fire(pin!(scope), senders)
}

/// `FuturesUnordered`, polled as far as it goes after each wake.
#[must_use]
pub fn futures_unordered(count: usize) -> f64 {
    let (senders, receivers) = channels(count);
    let mut set: FuturesUnordered<_> = receivers
        .into_iter()
        .map(|receiver| async move { black_box(receiver.await.expect("it is fired")) })
        .collect();
    let mut ended = 0;
    let drained = poll_fn(move |cx| {
        loop {
            match set.poll_next_unpin(cx) {
                Poll::Ready(Some(_)) => ended += 1,
                Poll::Ready(None) => return Poll::Ready(ended),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    fire(pin!(drained), senders)
}
