//! `CONFORMANCE.md`, errors: CT-012 to CT-018, CT-026, CT-027, CT-029, as a plain `try_scope` has them: its result
//! is the first error alone. What needs the aggregate is tested with the aggregate.

use std::fmt;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use selvedge::cancel::cancelled;
use selvedge::{Cancelled, CauseKind, Pool, block_on, try_join_all, try_scope};

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

fn pools() -> Vec<Pool> {
    [0, 1, 2, 4]
        .map(|threads| Pool::builder().threads(threads).build())
        .into()
}

/// An error that can be told from every other, and knows when it is dropped.
#[derive(Debug)]
struct Failure<'a>(&'static str, Box<u8>, &'a AtomicUsize);

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        self.2.fetch_add(1, Ordering::SeqCst);
    }
}

// CT-012, CT-013
#[test]
fn only_error_of_body_or_child_is_the_result_and_the_same_object() {
    for pool in pools() {
        for body in [true, false] {
            let drops = AtomicUsize::new(0);
            let address = Mutex::new(0);
            let fail = |who| {
                let error = Failure(who, Box::new(1), &drops);
                *address.lock().unwrap() = (&raw const *error.1).addr();
                error
            };
            let error = block_on(
                try_scope(async |s| {
                    s.spawn(async {
                        yields(2).await;
                        if body { Ok(()) } else { Err(fail("child")) }
                    });
                    yields(3).await;
                    if body { Err(fail("body")) } else { Ok(()) }
                })
                .on(&pool),
            )
            .unwrap_err();
            assert_eq!(error.0, if body { "body" } else { "child" });
            assert_eq!((&raw const *error.1).addr(), *address.lock().unwrap());
            assert_eq!(drops.load(Ordering::SeqCst), 0);
            drop(error);
            assert_eq!(drops.into_inner(), 1);
        }
    }
}

// CT-014, CT-015: the first one wins; the others are dropped, each once, by the scope.
#[test]
fn first_of_several_errors_is_the_result_and_the_others_are_dropped() {
    for pool in pools() {
        let drops = AtomicUsize::new(0);
        let arrived = Mutex::new(Vec::new());
        let error = block_on(
            try_scope(async |s| {
                for (yielded, who) in [(1, "first"), (1, "second"), (2, "third")] {
                    let (arrived, drops) = (&arrived, &drops);
                    s.spawn(async move {
                        yields(yielded).await;
                        arrived.lock().unwrap().push(who);
                        Err::<(), _>(Failure(who, Box::new(1), drops))
                    });
                }
                yields(9).await;
                Err::<(), _>(Failure("body", Box::new(1), &drops))
            })
            .on(&pool)
            .inline(),
        )
        .unwrap_err();
        assert_eq!(arrived.into_inner().unwrap(), ["first", "second", "third"]);
        assert_eq!(error.0, "first");
        assert_eq!(drops.load(Ordering::SeqCst), 3);
        drop(error);
        assert_eq!(drops.into_inner(), 4);
    }
}

#[derive(Debug, PartialEq)]
enum AppError {
    Real,
    Cancelled,
}

impl From<Cancelled> for AppError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

// CT-016
#[test]
fn sibling_of_a_failed_child_is_cancelled_cleans_up_and_is_not_the_result() {
    for pool in pools() {
        let cleaned = Mutex::new(None);
        let result: Result<(), AppError> = block_on(
            try_scope(async |s| {
                s.spawn(async {
                    let cause = cancelled().await;
                    yields(3).await;
                    *cleaned.lock().unwrap() = Some(cause.kind());
                    selvedge::cancel::check()?;
                    Ok(())
                });
                s.spawn(async {
                    yields(2).await;
                    Err::<(), _>(AppError::Real)
                });
                Ok(())
            })
            .on(&pool),
        );
        assert_eq!(result, Err(AppError::Real));
        assert_eq!(
            cleaned.into_inner().unwrap(),
            Some(CauseKind::SiblingFailed)
        );
    }
}

// CT-018
#[test]
fn failed_body_cancels_its_children_and_awaits_their_clean_up() {
    for pool in pools() {
        let cleaned = AtomicUsize::new(0);
        let result = block_on(
            try_scope(async |s| {
                for _ in 0..3 {
                    s.spawn(async {
                        cancelled().await;
                        yields(3).await;
                        cleaned.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    });
                }
                yields(2).await;
                Err::<(), _>("body")
            })
            .on(&pool),
        );
        assert_eq!((result, cleaned.into_inner()), (Err("body"), 3));
    }
}

// CT-026
#[test]
fn error_handled_by_the_body_fails_the_scope_all_the_same() {
    for pool in pools() {
        let handled = AtomicUsize::new(0);
        let result = block_on(
            try_scope(async |s| {
                let child = s.spawn(async {
                    yields(1).await;
                    Err::<(), _>("child")
                });
                if child.await.is_err() {
                    handled.fetch_add(1, Ordering::SeqCst);
                }
                Ok("body")
            })
            .on(&pool),
        );
        assert_eq!((result, handled.into_inner()), (Err("child"), 1));
    }
}

// CT-027
#[test]
fn error_of_a_child_that_nobody_looks_at_is_the_result() {
    for pool in pools() {
        for keeps in [false, true] {
            let kept = Mutex::new(None);
            let result = block_on(
                try_scope(async |s| {
                    let child = s.spawn(async { Err::<(), _>("unseen") });
                    if keeps {
                        *kept.lock().unwrap() = Some(child);
                    }
                    Ok(())
                })
                .on(&pool),
            );
            assert_eq!(result, Err("unseen"));
        }
    }
}

/// Panics whenever anything is asked of it.
struct Misbehaves;

impl fmt::Debug for Misbehaves {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("formatted");
    }
}

impl fmt::Display for Misbehaves {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("formatted");
    }
}

impl PartialEq for Misbehaves {
    fn eq(&self, _: &Self) -> bool {
        panic!("compared");
    }
}

impl std::error::Error for Misbehaves {}

// CT-029
#[test]
fn error_whose_own_methods_panic_is_the_result() {
    for pool in pools() {
        let result = block_on(
            try_scope(async |s| {
                for _ in 0..3 {
                    s.spawn(async { Err::<(), _>(Misbehaves) });
                }
                Ok(())
            })
            .on(&pool),
        );
        assert!(matches!(result, Err(Misbehaves)));
    }
    assert!(block_on(try_join_all([std::future::ready(Err::<(), _>(Misbehaves))])).is_err());
}
