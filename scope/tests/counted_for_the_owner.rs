//! How many `Cancelled`s were made and dropped in a poll of a scope, wherever its children were polled.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{ThreadId, current};
use std::time::Duration;

use common::{attempts, burn, guarded, pool};
use selvedge_cancel::{Cancelled, ambient, check};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, TryScope, block_on, join_all, scope, try_scope};

const CHILDREN: usize = 32;
/// One of so many keeps what it got.
const KEEPS: usize = 4;

/// What children leave behind.
struct Seen {
    owner: ThreadId,
    number: AtomicUsize,
    on_helpers: AtomicUsize,
    kept: Mutex<Vec<Cancelled>>,
}

impl Seen {
    fn new() -> Self {
        Self {
            owner: current().id(),
            number: AtomicUsize::new(0),
            on_helpers: AtomicUsize::new(0),
            kept: Mutex::default(),
        }
    }

    /// A child that is cancelled.
    async fn child(&self) {
        // It takes a while, so that helpers get their share.
        burn(Duration::from_micros(200));
        if current().id() != self.owner {
            self.on_helpers.fetch_add(1, SeqCst);
        }
        let cancelled = check().expect_err("it is cancelled");
        if self.number.fetch_add(1, SeqCst) % KEEPS == 0 {
            self.kept.lock().unwrap().push(cancelled);
        }
    }
}

/// Runs what makes `CHILDREN` `Cancelled`s, until helpers had a part in it.
fn counts(run: impl Fn(&Pool, &Seen)) {
    let pool = pool(2);
    for () in attempts() {
        let seen = Seen::new();
        let before = ambient::cancellations();
        with(Lending::Forced, || run(&pool, &seen));
        let after = ambient::cancellations();
        assert_eq!(after.made - before.made, CHILDREN as u64);
        assert_eq!(after.kept_since(before), (CHILDREN / KEEPS) as i64);
        if seen.on_helpers.into_inner() > 0 {
            return;
        }
    }
    panic!("no helper came in time");
}

#[test]
fn what_children_of_a_scope_met_on_helpers_counts_where_it_is_polled() {
    guarded(|| {
        counts(|pool, seen| {
            let all = scope(async |s| {
                s.cancel();
                for _ in 0..CHILDREN {
                    s.spawn(seen.child());
                }
            });
            block_on(all.on(pool));
        });
    });
}

#[test]
fn what_members_of_a_failed_scope_met_on_helpers_counts_where_it_is_polled() {
    guarded(|| {
        counts(|pool, seen| {
            let all = try_scope(async |s: TryScope<'_, &str>| {
                s.cancel();
                for _ in 0..CHILDREN {
                    s.spawn(async {
                        seen.child().await;
                        Err::<(), _>("made from it")
                    });
                }
                Ok(())
            });
            assert_eq!(block_on(all.on(pool)), Err("made from it"));
        });
    });
}

#[test]
fn what_members_of_a_join_met_on_helpers_counts_where_it_is_polled() {
    guarded(|| {
        counts(|pool, seen| {
            let all = scope(async |s| {
                s.cancel();
                join_all((0..CHILDREN).map(|_| seen.child())).on(pool).await;
            });
            block_on(all.on(pool));
        });
    });
}

#[test]
fn what_scopes_in_children_met_on_helpers_counts_where_the_outermost_is_polled() {
    guarded(|| {
        counts(|pool, seen| {
            let all = scope(async |s| {
                for _ in 0..4 {
                    s.spawn(async {
                        let inner = scope(async |s| {
                            for _ in 0..CHILDREN / 4 {
                                s.spawn(seen.child());
                            }
                        });
                        inner.on(pool).await;
                    });
                }
                s.cancel();
            });
            block_on(all.on(pool));
        });
    });
}
