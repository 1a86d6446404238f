//! Futures that borrow themselves, and their polls on this thread alone: what the programs for Miri share.
//! No test lives here.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use selvedge_scope::lending::{Lending, with};

use super::yields;

/// Holds a borrow of itself across each of its awaits.
pub async fn borrows_itself(times: usize) -> usize {
    let mut counted = 0;
    let by = &mut counted;
    let data = [1, 2, 3];
    let last = &data[2];
    for _ in 0..times {
        yields(1).await;
        *by += *last;
    }
    *by
}

/// One poll, alone: Miri's older model of borrowing does not take rayon's queues.
pub fn poll_with<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    with(Lending::Never, || {
        future.poll(&mut Context::from_waker(waker))
    })
}

pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

pub fn poll_times<F: Future + ?Sized>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    for _ in 0..times {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return Some(output);
        }
    }
    None
}

/// Polls to the end, and counts the polls.
#[track_caller]
pub fn run<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = pin!(future);
    for polls in 1..200 {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return (output, polls);
        }
    }
    panic!("it did not end")
}

/// Waits for the first poll of its own, then rests until the waker that it left is woken.
pub async fn rests_once(slot: &Mutex<Vec<Waker>>) {
    let mut rested = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut rested, true) {
            return Poll::Ready(());
        }
        slot.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

pub fn wake_all(slot: &Mutex<Vec<Waker>>) {
    let wakers = std::mem::take(&mut *slot.lock().unwrap());
    wakers.into_iter().for_each(Waker::wake);
}

/// Polls while waking what rests; each poll is a window of its own.
#[track_caller]
pub fn run_woken<F: Future>(future: F, slot: &Mutex<Vec<Waker>>) -> (F::Output, usize) {
    let mut future = pin!(future);
    for polls in 1..500 {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return (output, polls);
        }
        wake_all(slot);
    }
    panic!("it did not end")
}

/// It was polled in more than one window; under Miri a window's time may be over early, so there can be more.
#[track_caller]
pub fn assert_windows<T: PartialEq + std::fmt::Debug>((found, polls): (T, usize), expected: T) {
    assert_eq!(found, expected);
    assert!(polls >= 4, "{polls} windows");
}
