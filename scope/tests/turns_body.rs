//! A body that computes, and somebody who is called from outside between windows, keep no child from its turns. Counted.
//! Not for turns where each poll is short: that is `turns.rs`.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{MODES, burn, guarded, pool};
use selvedge_cancel::checkpoint;
use selvedge_scope::{lending, scope};

const WINDOWS: usize = 60;

/// Is called from outside, by whoever has its waker.
async fn called(waker: &Mutex<Vec<Waker>>, cost: Duration) {
    loop {
        let mut is_first = true;
        poll_fn(|cx| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            waker.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        burn(cost);
    }
}

/// Turns of a child that is ready all the time, beside so many that are called and take so long each, and of a body that uses
/// up a window in each poll.
fn turns(tickers: usize, cost: Duration) -> (usize, usize) {
    let (child, body) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wakers = Mutex::default();
    {
        let pool = pool(1);
        let mut whole = pin!(
            scope(async |s| {
                drop(s.spawn(async {
                    loop {
                        child.fetch_add(1, Ordering::SeqCst);
                        checkpoint().await.unwrap();
                    }
                }));
                for _ in 0..tickers {
                    drop(s.spawn(called(&wakers, cost)));
                }
                loop {
                    body.fetch_add(1, Ordering::SeqCst);
                    burn(Duration::from_millis(6));
                    checkpoint().await.unwrap();
                }
            })
            .on(&pool)
        );
        for _ in 0..WINDOWS {
            let polled: Poll<()> = whole.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            for waker in std::mem::take(&mut *wakers.lock().unwrap()) {
                waker.wake();
            }
            // Somebody beside the scope.
            burn(Duration::from_millis(2));
        }
    }
    (child.into_inner(), body.into_inner())
}

// The body had waited for a millisecond when the clock was read after whoever was called, and came before the child.
#[test]
fn child_that_is_ready_has_turns_beside_a_body_that_computes() {
    guarded(|| {
        for mode in MODES {
            for tickers in [0, 1, 3] {
                for cost in [Duration::from_micros(100), Duration::from_micros(1500)] {
                    let (child, body) = lending::with(mode, || turns(tickers, cost));
                    assert!(
                        child >= WINDOWS / 4 && body >= WINDOWS / 8,
                        "{mode:?}, {tickers} of {cost:?}: child {child}, body {body}"
                    );
                }
            }
        }
    });
}
