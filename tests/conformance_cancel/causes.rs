//! What a member learns of why it is to stop: CT-057, CT-058. Deadlines have theirs in `limits_timeout.rs` as well.

use std::panic::{AssertUnwindSafe, Location};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use selvedge::cancel::{cancelled, check};
use selvedge::prelude::*;
use selvedge::{CancelToken, Cause, CauseKind, scope, try_join, try_join_all, try_scope};

use crate::{AppError, everywhere, told, until, yields};

fn line(cause: &Cause) -> (&'static str, u32) {
    let place: &'static Location<'static> = cause.place().expect("it says where");
    (place.file(), place.line())
}

// CT-057
#[test]
fn explicit_cancel_with_text_tells_kind_text_place_and_task() {
    everywhere(|pool| async move {
        let at = line!() + 9;
        let (told, canceller) = scope(async |s| {
            let child = s.spawn(async {
                let cause = cancelled().await;
                // What fails from then on says the same.
                let failed = check().unwrap_err();
                assert_eq!(failed.cause().text(), cause.text());
                cause
            });
            let other = s.spawn_with(async |s| s.cancel_with("enough"));
            let canceller = other.id();
            (child.await, canceller)
        })
        .on(&pool)
        .await;
        assert_eq!(told.kind(), CauseKind::Requested);
        assert_eq!(told.text(), Some("enough"));
        assert_eq!(line(&told), (file!(), at));
        assert_eq!(told.task(), Some(canceller));
        assert!(told.to_string().contains("enough"), "{told}");
    });
}

// CT-057: by a handle, by a token, and by no task at all.
#[test]
fn cancel_by_handle_token_or_thread_tells_who_it_was() {
    everywhere(|pool| async move {
        let at = line!() + 4;
        let (told, canceller) = scope(async |s| {
            let child = s.spawn(told());
            let other = s.spawn(async {
                child.cancel();
                child.await
            });
            let canceller = other.id();
            (other.await, canceller)
        })
        .on(&pool)
        .await;
        assert_eq!((told.kind(), told.text()), (CauseKind::Requested, None));
        assert_eq!((line(&told), told.task()), ((file!(), at), Some(canceller)));
        // From outside every task.
        let token = CancelToken::new();
        let resting = AtomicUsize::new(0);
        let told = scope(async |s| {
            let child = s.spawn(async {
                resting.fetch_add(1, Ordering::SeqCst);
                cancelled().await
            });
            until(|| resting.load(Ordering::SeqCst) == 1).await;
            std::thread::scope(|threads| {
                threads.spawn(|| token.cancel_with("by a thread"));
            });
            child.await
        });
        let told = told.token(&token).on(&pool).await;
        assert_eq!((told.text(), told.task()), (Some("by a thread"), None));
    });
}

// CT-057: a text of one's own kind, and the first cause stays.
#[test]
fn kind_that_the_caller_gives_is_told_and_stays() {
    everywhere(|pool| async move {
        let told = scope(async |s| {
            let child = s.spawn(told());
            s.cancel_with(Cause::new(CauseKind::Shutdown).with_text("SIGTERM"));
            s.cancel_with("too late");
            child.cancel();
            child.await
        });
        let told = told.on(&pool).await;
        assert_eq!(told.kind(), CauseKind::Shutdown);
        assert_eq!(told.text(), Some("SIGTERM"));
    });
}

// CT-057: the deadline's cause.
#[test]
fn deadline_tells_its_kind_and_where_it_was_asked_for() {
    everywhere(|pool| async move {
        let at = line!() + 2;
        let told = scope(async |s| s.spawn(told()).await)
            .timeout(Duration::ZERO)
            .on(&pool)
            .await;
        assert_eq!(told.kind(), CauseKind::Deadline);
        assert_eq!(line(&told), (file!(), at));
        assert_eq!(told.task(), None, "nobody's");
    });
}

// CT-058: the cause names the child and where it was spawned; its error stays with the scope, since a cause is
// copied to whatever it reaches.
#[test]
fn failed_child_is_named_to_its_siblings_and_to_the_body() {
    everywhere(|pool| async move {
        let told = Mutex::new(Vec::new());
        let at = line!() + 7;
        let failed = try_scope(async |s| {
            s.spawn(async {
                let cause = cancelled().await;
                told.lock().unwrap().push(cause);
                Ok(())
            });
            let child = s.spawn(async {
                yields(2).await;
                Err::<(), _>(AppError::Real("failed"))
            });
            let id = child.id();
            let _named = child.name("parser");
            let cause = cancelled().await;
            assert_eq!(cause.task(), Some(id));
            told.lock().unwrap().push(cause);
            Ok(())
        });
        let errors = failed.on(&pool).all_errors().await.unwrap_err();
        let told = told.into_inner().unwrap();
        assert_eq!(told.len(), 2);
        for cause in told {
            assert_eq!(cause.kind(), CauseKind::SiblingFailed);
            assert!(cause.text().unwrap().contains("parser"), "{cause}");
            assert_eq!(line(&cause), (file!(), at));
            assert_eq!(cause.task(), Some(errors.primary.task));
        }
    });
}

// CT-058
#[test]
fn failed_body_is_named_to_its_children() {
    everywhere(|pool| async move {
        let told = Mutex::new(None);
        let at = line!() + 1;
        let failed = try_scope(async |s| {
            s.spawn(async {
                *told.lock().unwrap() = Some(cancelled().await);
                Ok(())
            });
            yields(2).await;
            Err::<(), _>(AppError::Real("failed"))
        });
        let failed = failed.name("import").on(&pool).all_errors().await;
        let errors = failed.unwrap_err();
        let told = told.into_inner().unwrap().expect("the child was told");
        assert_eq!(told.kind(), CauseKind::SiblingFailed);
        let text = told.text().unwrap();
        assert!(text.contains("body") && text.contains("import"), "{text}");
        assert_eq!(line(&told), (file!(), at));
        assert_eq!(told.task(), Some(errors.primary.task));
    });
}

// CT-058 for panics
#[test]
fn child_that_panicked_is_named_to_its_siblings() {
    everywhere(|pool| async move {
        let told = Mutex::new(None);
        let id = Mutex::new(None);
        let ended = scope(async |s| {
            s.spawn(async {
                *told.lock().unwrap() = Some(cancelled().await);
            });
            let child = s.spawn(async {
                yields(2).await;
                std::panic::resume_unwind(Box::new("quietly"));
            });
            *id.lock().unwrap() = Some(child.id());
        });
        let ended = AssertUnwindSafe(ended.on(&pool)).catch_unwind().await;
        assert!(ended.is_err());
        let told = told.into_inner().unwrap().expect("the sibling was told");
        assert_eq!(told.kind(), CauseKind::SiblingPanicked);
        assert_eq!(told.task(), id.into_inner().unwrap());
    });
}

// CT-058 for what has no scope: the place is the user's, and no body is named where there is none.
#[test]
fn member_that_failed_is_told_of_by_the_place_of_the_call() {
    everywhere(|pool| async move {
        let told: Mutex<Vec<Cause>> = Mutex::new(Vec::new());
        let asks = async || {
            let cause = cancelled().await;
            told.lock().unwrap().push(cause);
            Ok(())
        };
        let fails = async |panics: bool| -> Result<(), AppError> {
            yields(2).await;
            if panics {
                std::panic::resume_unwind(Box::new("quietly"));
            }
            Err(AppError::Real("failed"))
        };
        let member = async |n: u32, panics: bool| match n {
            0 => asks().await,
            _ => fails(panics).await,
        };
        for panics in [false, true] {
            let mut calls: Vec<(u32, BoxFuture<'_, bool>)> = Vec::new();
            let at = line!() + 1;
            let items = (0..2)
                .into_par()
                .concurrency(2)
                .on(&pool)
                .try_for_each(|n| member(n, panics));
            calls.push((at, async { items.await.is_err() }.boxed()));
            let at = line!() + 1;
            let joined = try_join_all((0..2).map(|n| member(n, panics)));
            calls.push((at, async { joined.await.is_err() }.boxed()));
            let at = line!() + 1;
            let joined = try_join((member(0, panics), member(1, panics)));
            calls.push((at, async { joined.await.is_err() }.boxed()));
            for (at, call) in calls {
                let ended = AssertUnwindSafe(call).catch_unwind().await;
                assert_eq!(ended.is_err(), panics);
                let told = std::mem::take(&mut *told.lock().unwrap());
                assert_eq!(told.len(), 1);
                let kind = if panics {
                    CauseKind::SiblingPanicked
                } else {
                    CauseKind::SiblingFailed
                };
                assert_eq!(told[0].kind(), kind);
                let (file, line) = line(&told[0]);
                // In the statement that begins there.
                assert_eq!(file, file!(), "{}", told[0]);
                assert!((at..at + 6).contains(&line), "{}", told[0]);
                assert!(!told[0].to_string().contains("body"), "{}", told[0]);
            }
        }
    });
}
