//! Connections where the cancellation is not the scope's own and whole: stopping, shields, aborts, one task
//! only, a sibling's failure, a time limit.

use std::io;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use selvedge::cancel::{shield, shield_unbounded, stopping};
use selvedge::{Cancelled, CauseKind, scope, timeout, try_scope};

use crate::wire::{Wire, everywhere, notice, noticing};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn kind<T: std::fmt::Debug>(result: &io::Result<T>) -> CauseKind {
    let error = result.as_ref().expect_err("it was cancelled");
    let found = Cancelled::find_in(error).expect("it carries the cancellation");
    found.cause().kind()
}

async fn stopping_first(mut near: Wire, mut far: Wire) {
    scope(async |s| {
        let (answered, is_answered) = notice();
        let server = s.spawn(async {
            stopping().await;
            let mut request = [0; 7];
            near.read_exact(&mut request).await.unwrap();
            near.write_all(&request).await.unwrap();
            near.flush().await.unwrap();
            answered.send(()).unwrap();
            near.read(&mut request).await
        });
        s.token().stop();
        far.write_all(b"request").await.unwrap();
        is_answered.await.unwrap();
        s.cancel();
        assert_eq!(kind(&server.await), CauseKind::Requested);
    })
    .await;
    let mut response = [0; 7];
    far.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"request");
}

#[test]
fn connection_works_while_its_scope_is_stopping() {
    everywhere(stopping_first);
}

async fn goodbye(mut near: Wire, mut far: Wire) {
    far.write_all(b"so long").await.unwrap();
    scope(async |s| {
        s.cancel();
        s.spawn(async {
            let mut last = [0; 7];
            assert_eq!(kind(&near.read(&mut last).await), CauseKind::Requested);
            let shielded = async {
                near.read_exact(&mut last).await?;
                near.write_all(b"goodbye").await?;
                near.flush().await?;
                near.close().await
            };
            shield(LONG, shielded).await.unwrap();
            assert_eq!(&last, b"so long");
            assert_eq!(kind(&near.read(&mut last).await), CauseKind::Requested);
        })
        .await;
    })
    .await;
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"goodbye");
}

// CT-039
#[test]
fn shielded_operations_of_a_cancelled_scope_succeed() {
    everywhere(goodbye);
}

async fn cancel_outside_a_shield(mut near: Wire, mut far: Wire) {
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let mut buf = [0; 4];
            let shielded = noticing(blocked, near.read_exact(&mut buf));
            shield_unbounded(shielded).await.unwrap();
            assert_eq!(&buf, b"late");
            near.read(&mut buf).await
        });
        is_blocked.await.unwrap();
        s.cancel();
        far.write_all(b"late").await.unwrap();
        assert_eq!(kind(&task.await), CauseKind::Requested);
    })
    .await;
}

#[test]
fn shielded_read_that_waits_when_the_cancellation_comes_goes_on() {
    everywhere(cancel_outside_a_shield);
}

async fn abort_ends_a_shield(mut near: Wire, _far: Wire) {
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(shield_unbounded(async {
            let mut buf = [0; 4];
            noticing(blocked, near.read(&mut buf)).await
        }));
        is_blocked.await.unwrap();
        s.cancel();
        assert!(!task.is_finished());
        s.token().abort();
        kind(&task.await);
    })
    .await;
}

#[test]
fn shielded_read_fails_when_its_scope_aborts() {
    everywhere(abort_ends_a_shield);
}

async fn one_of_two(near: Wire, mut far: Wire) {
    let (mut reader, mut writer) = near.split();
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let mut buf = [0; 4];
        let read = s.spawn(async move { noticing(blocked, reader.read(&mut buf)).await });
        is_blocked.await.unwrap();
        read.cancel();
        assert_eq!(kind(&read.await), CauseKind::Requested);
        s.spawn(async move { writer.write_all(b"more").await })
            .await
            .unwrap();
    })
    .await;
    let mut more = [0; 4];
    far.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more");
}

#[test]
fn task_cancelled_alone_leaves_the_other_half_working() {
    everywhere(one_of_two);
}

async fn sibling_fails(mut near: Wire, _far: Wire) {
    let mut seen = None;
    let result: io::Result<()> = try_scope(async |s| {
        let (blocked, is_blocked) = notice();
        s.spawn(async {
            let result = noticing(blocked, near.read(&mut [0; 4])).await;
            seen = Some(kind(&result));
            result
        });
        is_blocked.await.unwrap();
        Err(io::ErrorKind::StorageFull.into())
    })
    .await;
    assert_eq!(seen, Some(CauseKind::SiblingFailed));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn cancelled_read_of_a_sibling_is_no_error_of_the_scope() {
    everywhere(sibling_fails);
}

async fn only_cancelled(mut near: Wire, _far: Wire) {
    let token = selvedge::CancelToken::new();
    let result: io::Result<()> = try_scope(async |s| {
        let own = s.token();
        let _guard = token.on_cancel(move |cause| own.cancel_with(cause.clone()));
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async { noticing(blocked, near.read(&mut [0; 4])).await });
        is_blocked.await.unwrap();
        token.cancel_with("deploy");
        task.await?;
        Ok(())
    })
    .await;
    let error = result.unwrap_err();
    let found = Cancelled::find_in(&error).expect("the handle says so");
    assert_eq!(found.cause().text(), Some("deploy"));
}

#[test]
fn cancelled_scope_hands_its_cancellation_up() {
    everywhere(only_cancelled);
}

async fn time_limit(mut near: Wire, mut far: Wire) {
    let mut buf = [0; 4];
    // The limit has passed before the read begins.
    assert!(timeout(Duration::ZERO, near.read(&mut buf)).await.is_err());
    let short = Duration::from_millis(1);
    assert!(timeout(short, near.read(&mut buf)).await.is_err());
    let tried: io::Result<usize> = async { timeout(short, near.read(&mut buf)).await? }.await;
    assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::TimedOut);
    far.write_all(b"late").await.unwrap();
    let read = timeout(LONG, near.read_exact(&mut buf)).await;
    read.expect("there was time").unwrap();
    assert_eq!(&buf, b"late");
    assert!(near.read(&mut buf).now_or_never().is_none());
}

#[test]
fn timed_out_read_consumes_nothing_and_the_connection_works_afterwards() {
    everywhere(time_limit);
}
