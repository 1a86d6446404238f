//! What a debug build says when a scope is dropped while tasks of it are suspended midway: once, with its place, and
//! nothing where somebody said that it is fine or nothing is lost. Each case runs in a process of its own, whose
//! standard error is looked at.

mod common;

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::said::said_by;
use common::{poll_once, poll_times, yields};
use selvedge_cancel::{CancelToken, FutureCancelExt, select_safe};
use selvedge_scope::{Scoped, block_on, scope, try_scope};

/// How many reports there are in it.
fn reports(said: &str) -> usize {
    said.matches("suspended midway").count()
}

/// Only debug builds look.
const ONCE: usize = if cfg!(debug_assertions) { 1 } else { 0 };

/// A scope with that many children that never end, polled until they are at rest.
fn midway(children: usize) -> impl Future<Output = ()> {
    scope(async move |s| {
        for _ in 0..children {
            s.spawn(pending::<()>());
        }
        pending::<()>().await;
    })
    .inline()
}

fn polled<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(poll_times(future.as_mut(), 3).is_none());
    future
}

#[test]
fn scope_dropped_with_children_midway_is_reported_once_with_its_place() {
    let line = line!() + 2;
    let case = || {
        let opened = scope(async |s| {
            let _named = s.spawn(pending::<()>()).name("upload");
            s.spawn(pending::<()>());
            s.spawn(async {});
            s.spawn_select_safe(select_safe(pending::<()>()));
            pending::<()>().await;
        });
        drop(polled(opened.inline()));
    };
    let name = "scope_dropped_with_children_midway_is_reported_once_with_its_place";
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), ONCE, "{said}");
    if ONCE == 1 {
        assert!(said.contains(&format!("{}:{line}:", file!())), "{said}");
        assert!(said.contains("with 2 of its tasks"), "{said}");
        assert!(
            said.contains("select_safe(scope("),
            "it says what to do: {said}"
        );
        assert!(
            said.contains("upload") || said.contains("spawned at"),
            "{said}"
        );
    }
}

#[test]
fn scope_that_loses_a_foreign_select_is_reported_and_each_scope_for_itself() {
    let name = "scope_that_loses_a_foreign_select_is_reported_and_each_scope_for_itself";
    let case = || {
        for _ in 0..2 {
            let lost = polled(midway(1));
            block_on(futures::future::select(lost, pin!(async {})));
        }
        let failing = try_scope(async |s| {
            s.spawn(pending::<Result<(), ()>>());
            pending::<Result<(), ()>>().await
        });
        drop(polled(failing.inline().name("import")));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 3 * ONCE, "{said}");
    assert_eq!(said.contains("import"), ONCE == 1, "{said}");
}

#[test]
fn scope_that_somebody_vouches_for_is_not_reported() {
    let name = "scope_that_somebody_vouches_for_is_not_reported";
    let case = || {
        drop(polled(select_safe(midway(3))));
        // In the select that asks for it.
        block_on(selvedge_cancel::select((
            polled(select_safe(midway(2))),
            pin!(select_safe(async {})),
        )));
        // As a child that is dropped when it is cancelled.
        block_on(scope(async |s| {
            let child = s.spawn_select_safe(select_safe(midway(3)));
            yields(3).await;
            child.cancel();
            assert!(child.await.is_err());
        }));
        // Further down.
        drop(polled(select_safe(async {
            scope(async |s| {
                s.spawn(midway(2));
                midway(2).await;
            })
            .await;
        })));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 0, "{said}");
}

#[test]
fn scope_with_nothing_to_lose_is_not_reported() {
    let name = "scope_with_nothing_to_lose_is_not_reported";
    let case = || {
        // Select-safe children only.
        drop(polled(scope(async |s| {
            for _ in 0..3 {
                s.spawn_select_safe(select_safe(pending::<()>()));
            }
            pending::<()>().await;
        })));
        // All children have ended; the body has not.
        drop(polled(scope(async |s| {
            s.spawn(async {});
            pending::<()>().await;
        })));
        // Never polled, with children all the same.
        drop(scope(|s| {
            s.spawn(pending::<()>());
            async {}
        }));
        // It has ended.
        let mut ended = Box::pin(scope(async |s| {
            s.spawn(async {});
        }));
        assert!(poll_times(ended.as_mut(), 100).is_some());
        drop(ended);
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 0, "{said}");
}

#[test]
fn scopes_below_one_that_is_reported_are_not_reported_again() {
    let name = "scopes_below_one_that_is_reported_are_not_reported_again";
    let case = || {
        drop(polled(
            scope(async |s| {
                for _ in 0..3 {
                    s.spawn(midway(2));
                }
                midway(2).await;
            })
            .inline()
            .name("outer"),
        ));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), ONCE, "{said}");
    assert_eq!(said.contains("outer"), ONCE == 1, "{said}");
}

/// The outer scope has no child that loses anything, so the inner one speaks for itself.
#[test]
fn scope_in_the_body_of_one_without_children_is_reported() {
    let name = "scope_in_the_body_of_one_without_children_is_reported";
    let case = || drop(polled(scope(async |_| midway(2).await)));
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), ONCE, "{said}");
}

#[test]
fn scope_dropped_by_a_panic_is_not_reported() {
    let name = "scope_dropped_by_a_panic_is_not_reported";
    let case = || {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _dropped = polled(midway(2));
            std::panic::resume_unwind(Box::new("unwinds"));
        }));
        assert!(unwound.is_err());
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 0, "{said}");
}

#[test]
fn what_a_grace_cuts_is_told_by_its_error_and_not_reported() {
    let name = "what_a_grace_cuts_is_told_by_its_error_and_not_reported";
    let case = || {
        let token = CancelToken::new();
        let cut = scope(async |s| {
            s.spawn(pending::<()>());
            s.spawn(midway(2));
            yields(2).await;
            token.abort();
            pending::<()>().await;
        });
        let cut = cut.token(&token).grace(Duration::from_secs(3600));
        assert!(block_on(cut).is_err());
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 0, "{said}");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a bomb"));
    }
}

/// That drops were fine for a while is over, also if one of them panicked.
#[test]
fn scope_is_reported_after_a_select_safe_future_whose_destructor_panicked() {
    let name = "scope_is_reported_after_a_select_safe_future_whose_destructor_panicked";
    let case = || {
        for polls in [0, 1] {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let bomb = Bomb;
                let mut vouched = Box::pin(select_safe(async {
                    let _bomb = bomb;
                    pending::<()>().await;
                }));
                for _ in 0..polls {
                    assert!(poll_once(vouched.as_mut()).is_pending());
                }
            }));
            assert!(panicked.is_err());
        }
        // Neither are they after a select-safe child with such a destructor.
        let panicked = catch_unwind(|| {
            block_on(scope(async |s| {
                let child = s.spawn_select_safe(select_safe(async {
                    let _bomb = Bomb;
                    pending::<()>().await;
                }));
                yields(2).await;
                child.cancel();
            }));
        });
        assert!(panicked.is_err());
        drop(polled(midway(1)));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), ONCE, "{said}");
}

/// An error that counts how often anybody has looked at it.
struct Watched<'a>(&'a AtomicUsize);

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl std::fmt::Display for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

// CT-030
#[test]
fn failure_that_the_caller_handles_is_told_to_nobody_else() {
    let name = "failure_that_the_caller_handles_is_told_to_nobody_else";
    let case = || {
        let (looks, hooks) = (
            AtomicUsize::new(0),
            &*Box::leak(Box::new(AtomicUsize::new(0))),
        );
        std::panic::set_hook(Box::new(|_| {
            hooks.fetch_add(1, Ordering::SeqCst);
        }));
        let failing = || {
            try_scope(async |s| {
                for _ in 0..3 {
                    s.spawn(async { Err::<(), _>(Watched(&looks)) });
                }
                yields(2).await;
                Err::<(), _>(Watched(&looks))
            })
        };
        assert!(block_on(failing()).is_err());
        let errors = block_on(failing().all_errors()).map_err(|errors| errors.len());
        assert!(matches!(errors, Err(4)));
        let ok: Scoped<'_, _> = scope(async |s| s.cancel());
        block_on(ok);
        assert_eq!((looks.into_inner(), hooks.load(Ordering::SeqCst)), (0, 0));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert!(said.is_empty(), "{said}");
}

/// `or_cancel` drops its future where it stands, and whoever writes it says that this is fine.
#[test]
fn scope_that_or_cancel_drops_is_not_reported() {
    let name = "scope_that_or_cancel_drops_is_not_reported";
    let case = || {
        block_on(scope(async |s| {
            let child = s.spawn(midway(2).or_cancel());
            yields(3).await;
            child.cancel();
            assert!(child.await.is_err());
        }));
    };
    let Some(said) = said_by(name, case) else {
        return;
    };
    assert_eq!(reports(&said), 0, "{said}");
}
