//! which errors of a member count as cancellations: those that hold a `Cancelled` of it, whatever the type.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fmt, io};

use selvedge::cancel::check;
use selvedge::{CancelToken, Cancelled, CauseKind, Pool, TryScope, scope, timeout, try_scope};

use crate::{everywhere, rest, until, yields};

/// An error type with a way in for a cancellation that keeps it, and one for a failure.
trait Kind: From<Cancelled> + fmt::Debug + Send + 'static {
    fn failure(text: &'static str) -> Self;
    fn text(&self) -> String;
}

impl Kind for io::Error {
    fn failure(text: &'static str) -> Self {
        Self::other(text)
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Kind for anyhow::Error {
    fn failure(text: &'static str) -> Self {
        Self::msg(text)
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Kind for Box<dyn Error + Send + Sync> {
    fn failure(text: &'static str) -> Self {
        text.into()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

#[derive(Debug, thiserror::Error)]
enum UserError {
    #[error("{0}")]
    Failed(&'static str),
    #[error("deep inside")]
    Io(#[from] io::Error),
}

impl From<Cancelled> for UserError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Io(cancelled.into())
    }
}

impl Kind for UserError {
    fn failure(text: &'static str) -> Self {
        Self::Failed(text)
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// The `Err` of children, bodies and nested scopes that were asked to stop is no failure in this type.
async fn all_places<E: Kind>(pool: Pool) {
    let resting = AtomicUsize::new(0);
    let failed = try_scope(async |s: TryScope<'_, E>| {
        s.spawn(async {
            resting.fetch_add(1, Ordering::SeqCst);
            Ok(rest::<()>().await?)
        });
        // In a body, and in a child of that, two scopes further down.
        s.spawn(async {
            let nested = try_scope(async |s: TryScope<'_, E>| {
                s.spawn(async {
                    let innermost = try_scope(async |_: TryScope<'_, E>| {
                        resting.fetch_add(1, Ordering::SeqCst);
                        Ok(rest::<()>().await?)
                    });
                    innermost.on(&pool).await
                });
                resting.fetch_add(1, Ordering::SeqCst);
                Ok(rest::<()>().await?)
            });
            nested.on(&pool).await
        });
        s.spawn(async {
            until(|| resting.load(Ordering::SeqCst) == 4).await;
            Err::<(), _>(E::failure("the failure"))
        });
        resting.fetch_add(1, Ordering::SeqCst);
        Ok(rest::<()>().await?)
    });
    let errors = failed.on(&pool).all_errors().await.map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(|error| error.error.text()).collect();
        (texts, errors.cancelled.len())
    });
    assert_eq!(
        errors,
        Err((vec![String::from("the failure")], 3)),
        "two children and the body were asked to stop"
    );
}

//
#[test]
fn cancellation_inside_any_error_that_keeps_it_is_no_failure() {
    everywhere(all_places::<io::Error>);
    everywhere(all_places::<anyhow::Error>);
    everywhere(all_places::<Box<dyn Error + Send + Sync>>);
    everywhere(all_places::<UserError>);
}

/// What throws the cancellation away, be it by its text or altogether.
#[derive(Debug, PartialEq)]
enum Thrown {
    First,
    Text(String),
    Nothing,
}

impl From<Cancelled> for Thrown {
    fn from(_: Cancelled) -> Self {
        Self::Nothing
    }
}

//
#[test]
fn cancellation_that_was_made_a_text_or_thrown_away_is_a_late_failure() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let failed = try_scope(async |s: TryScope<'_, Thrown>| {
            s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                let text = rest::<()>().await.map_err(|error| error.to_string());
                text.map_err(Thrown::Text)
            });
            s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                Ok(rest::<()>().await?)
            });
            s.spawn(async {
                until(|| resting.load(Ordering::SeqCst) == 2).await;
                Err::<(), _>(Thrown::First)
            });
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!(errors.primary.error, Thrown::First, "never primary");
        assert_eq!((errors.others.len(), errors.cancelled.len()), (2, 0));
        let late = |wanted: fn(&Thrown) -> bool| errors.others.iter().any(|e| wanted(&e.error));
        assert!(late(|error| *error == Thrown::Nothing));
        assert!(late(
            |error| matches!(error, Thrown::Text(text) if text.contains("sibling"))
        ));
    });
}

// nothing else was wrong, so the text is all there is.
#[test]
fn text_of_a_cancellation_fails_a_scope_that_was_only_cancelled() {
    everywhere(|pool| async move {
        let failed = try_scope(async |s: TryScope<'_, String>| {
            let child = s.spawn(async { rest::<()>().await.map_err(|error| error.to_string()) });
            yields(2).await;
            child.cancel();
            Ok(())
        });
        let text = failed.on(&pool).await.unwrap_err();
        assert!(text.starts_with("cancelled"), "{text}");
    });
}

// nothing that encloses the task which passes it on was cancelled.
#[test]
fn cancellation_out_of_another_tasks_handle_is_a_failure_of_who_passes_it_on() {
    everywhere(|pool| async move {
        let failed = try_scope(async |s: TryScope<'_, Cancelled>| {
            let stopped = s.spawn(rest::<()>());
            let id = stopped.id();
            stopped.cancel();
            let passes_on = s.spawn(stopped);
            Ok((id, passes_on.id()))
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
        assert_ne!(errors.primary.task, errors.cancelled[0].task);
        let said = errors.into_primary();
        assert_eq!(said.cause().kind(), CauseKind::Requested);
    });
}

// the same in the body, by `?`.
#[test]
fn cancellation_out_of_a_handle_passed_on_by_the_body_is_its_failure() {
    everywhere(|pool| async move {
        let told = Mutex::new(None);
        let failed = try_scope(async |s: TryScope<'_, io::Error>| {
            s.spawn(async {
                *told.lock().unwrap() = Some(crate::told().await.kind());
                Ok(())
            });
            let stopped = s.spawn(async { Ok(rest::<()>().await?) });
            stopped.cancel();
            stopped.await?;
            Ok(())
        });
        let error = failed.on(&pool).await.unwrap_err();
        assert!(Cancelled::find_in(&error).is_some());
        assert_eq!(
            told.into_inner().unwrap(),
            Some(CauseKind::SiblingFailed),
            "the body failed, and cancels the others"
        );
    });
}

//
#[test]
fn error_of_a_child_cancelled_by_its_handle_is_no_failure_in_any_place_it_comes_from() {
    everywhere(|pool| async move {
        let resting = AtomicUsize::new(0);
        let ended = try_scope(async |s: TryScope<'_, anyhow::Error>| {
            let in_scope = s.spawn(async {
                let inner = try_scope(async |s: TryScope<'_, anyhow::Error>| {
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        Ok(rest::<()>().await?)
                    });
                    Ok(())
                });
                inner.on(&pool).await
            });
            let in_limit = s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                Ok(timeout(std::time::Duration::MAX, rest::<()>()).await??)
            });
            let plain = s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                let rested: Result<(), _> = rest().await;
                rested.map_err(|error| anyhow::Error::new(error).context("while resting"))
            });
            until(|| resting.load(Ordering::SeqCst) == 3).await;
            for child in [&in_scope, &in_limit, &plain] {
                child.cancel_and_wait().await;
            }
            check()?;
            Ok("not failed")
        });
        let ended = ended.on(&pool).all_errors().await;
        assert_eq!(
            ended.map_err(|errors| format!("{errors}")),
            Ok("not failed")
        );
    });
}

/// An error of another kind; the cancellation before it is stashed elsewhere.
#[derive(Debug)]
struct Other(u8);

// what lives elsewhere says nothing of the error.
#[test]
fn failure_of_a_task_that_stashed_a_cancellation_is_a_failure() {
    everywhere(|pool| async move {
        for stashes in [true, false] {
            let stash = Mutex::new(None);
            let failed = try_scope(async |s: TryScope<'_, Other>| {
                s.spawn(async {
                    let cancelled = rest::<()>().await.unwrap_err();
                    if stashes {
                        *stash.lock().unwrap() = Some(cancelled);
                    }
                    Err::<(), _>(Other(7))
                });
                Err::<(), _>(Other(1))
            });
            let errors = failed.on(&pool).all_errors().await.unwrap_err();
            assert_eq!(errors.primary.error.0, 1);
            assert_eq!(stash.into_inner().unwrap().is_some(), stashes);
            assert_eq!((errors.others.len(), errors.cancelled.len()), (1, 0));
            assert_eq!(errors.others[0].error.0, 7);
        }
    });
}

// made in one child and returned by a sibling, it says nothing of the sibling.
#[test]
fn cancellation_that_a_sibling_made_does_not_excuse_another_ones_failure() {
    everywhere(|pool| async move {
        let handed = Mutex::new(None);
        let failed = try_scope(async |s: TryScope<'_, Cancelled>| {
            let one = s.spawn(async {
                let cancelled = rest::<()>().await.unwrap_err();
                *handed.lock().unwrap() = Some(cancelled.clone());
                Err::<(), _>(cancelled)
            });
            let other = s.spawn(async {
                until(|| handed.lock().unwrap().is_some()).await;
                Err::<(), _>(handed.lock().unwrap().take().unwrap())
            });
            let id = other.id();
            one.cancel();
            drop((one, other));
            assert_eq!(crate::told().await.task(), Some(id));
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
    });
}

/// Keeps the error's `Cancelled` behind a count, as errors that can be cloned do.
#[derive(Clone)]
struct Shared(Arc<Cancelled>);

impl From<Cancelled> for Shared {
    fn from(cancelled: Cancelled) -> Self {
        Self(Arc::new(cancelled))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//
#[test]
fn clones_of_one_cancellation_are_one_and_outlive_the_scope() {
    everywhere(|pool| async move {
        let token = CancelToken::new();
        let kept = Mutex::new(Vec::new());
        for _ in 0..2 {
            let ended = try_scope(async |s: TryScope<'_, Shared>| {
                s.spawn(async {
                    let error = Shared::from(rest::<()>().await.unwrap_err());
                    kept.lock().unwrap().push(error.clone());
                    Err::<(), _>(error)
                });
                s.cancel();
                Ok(())
            });
            assert!(ended.on(&pool).await.is_ok());
        }
        // Those that are kept say nothing of a later scope's failure.
        let failed = try_scope(async |s: TryScope<'_, Shared>| {
            let early = kept.lock().unwrap().pop().unwrap();
            s.spawn(async { Err::<(), _>(early) });
            Ok(())
        });
        let errors = failed.token(&token).on(&pool).all_errors().await;
        let errors = errors.unwrap_err();
        assert_eq!((errors.len(), errors.cancelled.len()), (1, 0));
        scope(async |s| s.cancel()).await;
        drop(kept);
    });
}
