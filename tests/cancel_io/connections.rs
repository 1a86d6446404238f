//! Reads and writes on connections whose scope is cancelled: X-01 and its neighbours.

use std::io;

use futures::{AsyncReadExt, AsyncWriteExt};
use selvedge::{Cancelled, cancel, scope};

use crate::wire::{Wire, everywhere, notice, noticing};

fn text<T: std::fmt::Debug>(result: &io::Result<T>) -> Option<&str> {
    let error = result.as_ref().expect_err("it was cancelled");
    assert_eq!(error.kind(), io::ErrorKind::Other);
    Cancelled::find_in(error)?.cause().text()
}

async fn pending_read(mut near: Wire, mut far: Wire) {
    let mut buf = [0; 8];
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let reader = s.spawn(async {
            let first = noticing(blocked, near.read(&mut buf)).await;
            (first, near.read(&mut buf).await, near.read(&mut buf).await)
        });
        is_blocked.await.unwrap();
        s.token().cancel_with("closing time");
        let (first, again, and_again) = reader.await;
        assert_eq!(text(&first), Some("closing time"));
        assert_eq!(text(&again), Some("closing time"));
        assert_eq!(text(&and_again), Some("closing time"));
    })
    .await;
    // Nothing was consumed: outside the scope the connection is as it was.
    far.write_all(b"selvedge").await.unwrap();
    near.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"selvedge");
}

// X-01, CT-038
#[test]
fn pending_read_fails_with_the_cause_consumes_nothing_and_fails_again() {
    everywhere(pending_read);
}

async fn cancelled_before(mut near: Wire, mut far: Wire) {
    far.write_all(b"in").await.unwrap();
    let mut buf = [0; 2];
    scope(async |s| {
        s.token().cancel_with("early");
        s.spawn(async {
            // Each of these could finish at once.
            assert_eq!(text(&near.read(&mut buf).await), Some("early"));
            assert_eq!(text(&near.write(b"out").await), Some("early"));
            assert_eq!(text(&near.flush().await), Some("early"));
            assert_eq!(text(&near.close().await), Some("early"));
        })
        .await;
    })
    .await;
    near.read_exact(&mut buf).await.unwrap();
    near.write_all(b"later").await.unwrap();
    near.close().await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!((&buf, &all[..]), (b"in", &b"later"[..]));
}

// CT-039
#[test]
fn operations_of_a_cancelled_scope_fail_on_entry_and_move_nothing() {
    everywhere(cancelled_before);
}

async fn data_and_cancel_together(mut near: Wire, mut far: Wire) {
    let mut got = Vec::new();
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let reader = s.spawn(async {
            let mut buf = [0; 3];
            let first = noticing(blocked, near.read(&mut buf)).await;
            let mut next = first;
            while let Ok(count) = next {
                got.extend_from_slice(&buf[..count]);
                next = near.read(&mut buf).await;
            }
            next
        });
        is_blocked.await.unwrap();
        far.write_all(b"selvedge").await.unwrap();
        s.cancel();
        assert_eq!(text(&reader.await), None);
    })
    .await;
    let seen = got.len();
    got.resize(8, 0);
    near.read_exact(&mut got[seen..]).await.unwrap();
    assert_eq!(got, b"selvedge");
}

//
#[test]
fn data_that_came_with_the_cancellation_is_read_before_or_stays() {
    everywhere(data_and_cancel_together);
}

async fn cancelled_midway(mut near: Wire, mut far: Wire) {
    let mut buf = [0; 8];
    let mut rest = [0; 5];
    scope(async |s| {
        let (taken, is_taken) = notice();
        let (blocked, is_blocked) = notice();
        let reader = s.spawn(async {
            // The one byte says that the task is under way; `read_exact` then waits for the other two.
            near.read_exact(&mut buf[..1]).await.unwrap();
            taken.send(()).unwrap();
            noticing(blocked, near.read_exact(&mut buf[1..])).await
        });
        far.write_all(b"s").await.unwrap();
        is_taken.await.unwrap();
        is_blocked.await.unwrap();
        s.cancel();
        assert_eq!(text(&reader.await), None);
    })
    .await;
    far.write_all(b"elved").await.unwrap();
    near.read_exact(&mut rest).await.unwrap();
    assert_eq!((buf[0], &rest), (b's', b"elved"));
}

#[test]
fn operations_that_finished_keep_their_results_and_those_after_them_fail() {
    everywhere(cancelled_midway);
}

async fn foreign_operation(mut near: Wire, mut far: Wire) {
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let mut buf = [0; 2];
            // The plain end knows nothing of cancellation.
            let value = noticing(blocked, far.read(&mut buf)).await;
            assert!(cancel::check().is_err());
            assert_eq!((value.unwrap(), &buf), (2, b"ok"));
            cancel::checkpoint().await
        });
        is_blocked.await.unwrap();
        s.cancel();
        assert!(!task.is_finished());
        // The body is cancelled as well: what is to go out goes by a task outside the scope.
        std::thread::scope(|threads| {
            threads.spawn(|| smol::block_on(near.write_all(b"ok")).unwrap());
        });
        assert!(task.await.is_err());
    })
    .await;
}

// CT-047
#[test]
fn operation_that_knows_nothing_of_it_completes_and_the_next_cancellable_one_fails() {
    everywhere(foreign_operation);
}

async fn blocked_write(mut near: Wire, mut far: Wire) {
    let (chunk, mut written) = (vec![7; 64 * 1024], 0);
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let writer = s.spawn(async {
            let fill = async {
                loop {
                    match near.write(&chunk).await {
                        Ok(count) => written += count,
                        Err(error) => return io::Result::<()>::Err(error),
                    }
                }
            };
            noticing(blocked, fill).await
        });
        is_blocked.await.unwrap();
        s.cancel();
        assert_eq!(text(&writer.await), None);
    })
    .await;
    drop(near);
    let mut arrived = Vec::new();
    far.read_to_end(&mut arrived).await.unwrap();
    assert!(written > 0);
    assert_eq!(arrived.len(), written, "the account is that of the far end");
}

#[test]
fn blocked_write_fails_and_what_was_counted_is_what_arrives() {
    everywhere(blocked_write);
}

async fn both_halves(near: Wire, mut far: Wire) {
    let (mut reader, mut writer) = near.split();
    let mut written = 0;
    scope(async |s| {
        let (reads, is_reading) = notice();
        let (writes, is_writing) = notice();
        let read = s.spawn(async {
            let mut buf = [0; 8];
            noticing(reads, reader.read(&mut buf)).await
        });
        let write = s.spawn(async {
            let fill = async {
                loop {
                    match writer.write(&[7; 64 * 1024]).await {
                        Ok(count) => written += count,
                        Err(error) => return io::Result::<()>::Err(error),
                    }
                }
            };
            noticing(writes, fill).await
        });
        is_reading.await.unwrap();
        is_writing.await.unwrap();
        s.cancel();
        assert_eq!(text(&read.await), None);
        assert_eq!(text(&write.await), None);
    })
    .await;
    let near = reader.reunite(writer).unwrap();
    drop(near);
    let mut arrived = Vec::new();
    far.read_to_end(&mut arrived).await.unwrap();
    assert_eq!(arrived.len(), written);
}

#[test]
fn tasks_at_both_halves_are_woken_and_fail() {
    everywhere(both_halves);
}
