//! Wakers of a batch that outlive it: woken and dropped while it ends, after it has ended and after it was dropped
//! midway, here and on other threads. They touch their seats and never what the futures were in.

mod common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use common::guarded;
use selvedge_scope::{block_on, join, join_all};

type Left = Arc<Mutex<Vec<Waker>>>;

/// Waits for some turns, and leaves a waker behind in each.
struct Leave {
    turns: usize,
    left: Left,
    /// On the heap, so that whoever touches what is gone is found out.
    output: Option<Box<usize>>,
}

impl Leave {
    fn new(turns: usize, left: &Left, output: usize) -> Self {
        Self {
            turns,
            left: Arc::clone(left),
            output: Some(Box::new(output)),
        }
    }
}

impl Future for Leave {
    type Output = Box<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<usize>> {
        if self.turns == 0 {
            return Poll::Ready(self.output.take().unwrap());
        }
        self.turns -= 1;
        self.left.lock().unwrap().push(cx.waker().clone());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes and drops wakers on a thread of its own, in turns with another one's.
fn spend(wakers: Vec<Waker>) {
    let mut halves = [Vec::new(), Vec::new()];
    for (index, waker) in wakers.into_iter().enumerate() {
        halves[index % 2].push(waker);
    }
    let threads = halves.map(|half| {
        thread::spawn(move || {
            for waker in half {
                waker.wake_by_ref();
                drop(waker.clone());
                waker.wake();
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

const SIZES: [usize; 5] = [1, 3, 16, 17, 400];

fn count(size: usize) -> usize {
    if cfg!(miri) { size.min(20) } else { size }
}

#[test]
fn wakers_that_outlive_a_batch_are_woken_and_dropped_on_other_threads() {
    guarded(|| {
        for size in SIZES.map(count) {
            let left = Left::default();
            // Some have no turn to wait, so that seats go from hand to hand.
            let all = join_all((0..size).map(|i| Leave::new(i % 3, &left, i)));
            let all: Vec<usize> = block_on(all).into_iter().map(|output| *output).collect();
            assert_eq!(all, (0..size).collect::<Vec<_>>());
            let wakers = std::mem::take(&mut *left.lock().unwrap());
            assert_eq!(wakers.len(), (0..size).map(|i| i % 3).sum());
            spend(wakers);
        }
    });
}

#[test]
fn wakers_are_spent_while_their_batch_ends() {
    guarded(|| {
        for round in 0..if cfg!(miri) { 3 } else { 200 } {
            let left = Left::default();
            let (send, receive) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || spend(receive.recv().unwrap()));
            let taken = Arc::clone(&left);
            let all = join_all((0..30).map(|i| {
                let (left, taken, send) = (Arc::clone(&left), Arc::clone(&taken), send.clone());
                async move {
                    let output = Leave::new(1, &left, i).await;
                    if i == 29 {
                        let _ = send.send(std::mem::take(&mut *taken.lock().unwrap()));
                    }
                    *output
                }
            }));
            assert_eq!(block_on(all).into_iter().sum::<usize>(), 435, "{round}");
            thread.join().unwrap();
        }
    });
}

#[test]
fn wakers_outlive_a_batch_that_is_dropped_midway() {
    guarded(|| {
        for size in SIZES.map(count) {
            let left = Left::default();
            let ended = Arc::new(());
            {
                let mut all = pin!(join_all((0..size).map(|i| {
                    let (leave, ended) = (Leave::new(1, &left, i), Arc::clone(&ended));
                    async move {
                        let output = leave.await;
                        std::future::pending::<()>().await;
                        drop(ended);
                        output
                    }
                })));
                let mut cx = Context::from_waker(Waker::noop());
                // The budget of one poll may be spent before all have begun.
                while left.lock().unwrap().len() < size {
                    assert!(all.as_mut().poll(&mut cx).is_pending());
                }
            }
            assert_eq!(Arc::strong_count(&ended), 1, "every future was dropped");
            let wakers = std::mem::take(&mut *left.lock().unwrap());
            assert_eq!(wakers.len(), size);
            spend(wakers);
        }
    });
}

#[test]
fn wakers_outlive_a_batch_that_was_never_polled_to_its_end_or_at_all() {
    guarded(|| {
        let left = Left::default();
        drop(join_all((0..5).map(|i| Leave::new(1, &left, i))));
        assert_eq!(Arc::strong_count(&left), 1, "every future was dropped");
        let (a, b) = block_on(join((Leave::new(2, &left, 1), Leave::new(0, &left, 2))));
        assert_eq!((*a, *b), (1, 2));
        let wakers = std::mem::take(&mut *left.lock().unwrap());
        assert_eq!(wakers.len(), 2);
        assert!(wakers[0].will_wake(&wakers[1]), "a future keeps its seat");
        spend(wakers);
    });
}
