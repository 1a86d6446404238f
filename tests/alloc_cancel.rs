//! What scopes leave behind at tokens that outlive them: nothing, however they end; and what cancelling again adds
//! to what is cancelled: nothing. One test alone in its binary, because the counter counts the whole process.

use std::alloc::System;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge::{
    CancelToken, Cancelled, FutureCancelExt, TryScope, block_on, scope, select_safe, timeout,
    try_scope,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that the second of two runs leaves behind; the first fills what a process fills once.
fn left_behind(run: impl Fn()) -> isize {
    run();
    let region = Region::new(ALLOCATOR);
    run();
    let change = region.change();
    assert!(change.allocations > 100, "it did something");
    change.bytes_allocated as isize - change.bytes_deallocated as isize + change.bytes_reallocated
}

/// A scope under the token with children that wait, one of which gives its token away.
async fn waits(token: &CancelToken) {
    scope(async |s| {
        for _ in 0..3 {
            s.spawn(pending::<()>().or_cancel());
        }
        s.spawn(async {
            drop(selvedge::cancel::current());
            let _ = pending::<()>().or_cancel().await;
        });
        s.spawn(timeout(Duration::MAX, pending::<()>().or_cancel()));
        pending::<()>().await;
    })
    .inline()
    .token(token)
    .await;
}

fn polled<F: Future>(future: F, times: usize) {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
}

/// A scope that uses all that refers to tasks and scopes: names, handles that are waited for, graces, followers.
async fn refers(token: &CancelToken) {
    let inner = scope(async |s| {
        drop(s.spawn(pending::<()>().or_cancel()));
        pending::<()>().or_cancel().await
    })
    .inline();
    let _ = try_scope(async |s: TryScope<'_, Cancelled>| {
        let own = s.token();
        let named = s.spawn(pending::<()>().or_cancel()).name("some name");
        let waited = s.spawn(pending::<()>().or_cancel());
        named.cancel();
        let mut wait = pin!(waited.cancel_and_wait());
        poll_fn(|cx| {
            let _ = wait.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        let _ = futures::join!(inner, async { own.stop() });
        Ok(())
    })
    .inline()
    .token(token)
    .stop_within(Duration::MAX)
    .grace(Duration::MAX)
    .await;
}

/// Bytes that stay for a thousand more cancellations of a child whose scope is not polled meanwhile. Each was noted
/// until the next poll, and counted as one more holder of the child.
fn added_by_cancelling_again() -> usize {
    let mut child = None;
    let mut waiting = pin!(select_safe(
        scope(|s| {
            child = Some(s.spawn(pending::<()>()));
            pending::<()>()
        })
        .inline()
    ));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    let child = child.expect("the closure was called");
    child.cancel();
    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        child.cancel();
    }
    let change = region.change();
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

#[test]
fn scopes_leave_nothing_at_a_token_that_outlives_them() {
    let token = CancelToken::new();
    let never_polled = left_behind(|| {
        for _ in 0..500 {
            polled(select_safe(waits(&token)), 0);
            drop(scope(async |_| ()).token(&token));
        }
    });
    let dropped = left_behind(|| {
        for _ in 0..500 {
            polled(select_safe(waits(&token)), 3);
        }
    });
    let ended = left_behind(|| {
        for _ in 0..500 {
            block_on(
                scope(async |s| {
                    let child = s.spawn(pending::<()>().or_cancel());
                    child.cancel();
                    assert!(child.await.is_err());
                })
                .inline()
                .token(&token),
            );
        }
    });
    let referring = left_behind(|| {
        for round in 0..500 {
            polled(select_safe(refers(&token)), round % 4);
        }
    });
    assert!(!token.is_cancelled());
    let again = added_by_cancelling_again();
    assert!(again < 4096, "cancelling again added {again}");
    // Threads of the harness may allocate beside: less than a hundredth of what a scope is.
    for left in [never_polled, dropped, ended, referring] {
        assert!(
            left.abs() < 4096,
            "{never_polled} {dropped} {ended} {referring}"
        );
    }
}
