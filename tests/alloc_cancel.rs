//! What scopes leave behind at tokens that outlive them: nothing, however they end. Alone in its binary, because
//! the counter counts the whole process.

use std::alloc::System;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Waker};

use selvedge::{CancelToken, FutureCancelExt, block_on, scope, select_safe, timeout};
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
        s.spawn(timeout(
            std::time::Duration::MAX,
            pending::<()>().or_cancel(),
        ));
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
    assert!(!token.is_cancelled());
    // Threads of the harness may allocate beside: less than a hundredth of what a scope is.
    for left in [never_polled, dropped, ended] {
        assert!(left.abs() < 4096, "{never_polled} {dropped} {ended}");
    }
}
