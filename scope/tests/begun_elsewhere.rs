//! Futures that are polled first in one place and awaited in another: whose cancellation they hear. Limits, shields and
//! scopes hear that of the place where they began; leaf futures look at each poll.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use common::{guarded, poll_once};
use selvedge_cancel::{CancelToken, Cancelled, FutureCancelExt};
use selvedge_scope::time::sleep;
use selvedge_scope::{block_on, scope, shield_unbounded, timeout};

const LONG: Duration = Duration::from_secs(3600);

type Begun = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Polls it once here, and once in a scope that is cancelled: whether it has heard of that.
fn hears_a_scope_that_it_was_moved_into(
    future: impl Future<Output = bool> + Send + 'static,
) -> bool {
    guarded(|| {
        let mut begun: Begun = Box::pin(future);
        assert!(poll_once(begun.as_mut()).is_pending());
        block_on(scope(async |s| {
            s.cancel();
            poll_once(begun.as_mut()).is_ready()
        }))
    })
}

async fn rest() -> Result<(), Cancelled> {
    std::future::pending::<()>().or_cancel().await
}

#[test]
fn leaf_futures_hear_where_they_are_polled() {
    assert!(hears_a_scope_that_it_was_moved_into(async {
        sleep(LONG).await.is_err()
    }));
    assert!(hears_a_scope_that_it_was_moved_into(async {
        rest().await.is_err()
    }));
}

#[test]
fn limits_and_scopes_hear_where_they_began() {
    assert!(!hears_a_scope_that_it_was_moved_into(async {
        timeout(LONG, rest()).await.is_err()
    }));
    assert!(!hears_a_scope_that_it_was_moved_into(async {
        scope(async |_| rest().await).await.is_err()
    }));
}

#[test]
fn shield_that_began_outside_everything_shields_from_nothing() {
    assert!(hears_a_scope_that_it_was_moved_into(async {
        shield_unbounded(rest()).await.is_err()
    }));
}

#[test]
fn scope_hears_the_token_that_it_was_given_wherever_it_is_polled() {
    let token = CancelToken::new();
    let named = token.clone();
    let mut begun: Begun = Box::pin(async move {
        let opened = scope(async |_| rest().await);
        opened.token(&named).await.is_err()
    });
    assert!(poll_once(begun.as_mut()).is_pending());
    token.cancel();
    assert!(block_on(begun));
}
