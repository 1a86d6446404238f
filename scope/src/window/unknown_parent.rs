//! Tests of a parent that the scope cannot get to know: its waker cannot be cloned, which no safe code can have.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use crate::{Scope, block_on, scope};

/// Often enough that the kinds are known, and that first windows of both sorts come.
const ROUNDS: usize = 100;

fn biting() -> Waker {
    static BITING: RawWakerVTable = RawWakerVTable::new(
        |_| panic!("this waker cannot be cloned"),
        |_| {},
        |_| {},
        |_| {},
    );
    // SAFETY: it has no data.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &BITING)) }
}

/// Wakes itself so many times.
async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn poll_bitten<F: Future>(whole: Pin<&mut F>) -> std::thread::Result<Poll<F::Output>> {
    catch_unwind(AssertUnwindSafe(|| {
        whole.poll(&mut Context::from_waker(&biting()))
    }))
}

#[test]
fn parent_that_cannot_be_cloned_leaves_a_scope_that_can_be_polled() {
    let count = Arc::new(());
    let one = |waits: usize| {
        let guard = Arc::clone(&count);
        scope(async move |s: Scope<'_>| {
            let child = s.spawn(async move {
                yields(waits).await;
                drop(guard);
                7
            });
            child.await
        })
    };
    for _ in 0..ROUNDS {
        assert_eq!(block_on(one(2)), 7);
    }
    for _ in 0..ROUNDS {
        let mut short = pin!(one(2));
        match poll_bitten(short.as_mut()) {
            // It ended before anybody had to be known who would be woken.
            Ok(polled) => assert_eq!(polled, Poll::Ready(7)),
            Err(_) => assert_eq!(block_on(short), 7),
        }
        let mut long = pin!(one(100));
        let polled = poll_bitten(long.as_mut());
        assert!(polled.is_err(), "its parent has to be known");
        assert_eq!(block_on(long), 7);
    }
    assert_eq!(Arc::strong_count(&count), 1, "every child was dropped");
}
