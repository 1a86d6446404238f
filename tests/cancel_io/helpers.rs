//! The helpers of futures, tokio and tokio-util on top of a cancellable connection, or below one: none of them
//! takes the error for a reason to try again, none swallows it.

use std::future::Future;
use std::io;

use futures::io::{AllowStdIo, BufReader};
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt, TryStreamExt};
use selvedge::{Cancelled, IoCancelExt, scope};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::wire::{Wire, everywhere, notice, noticing, on_tokio, tokio_pair};

/// Cancels the scope of this future once it has to wait; gives what it then gives.
async fn cancelled<F: Future<Output: Send> + Send>(future: F) -> F::Output {
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(noticing(blocked, future));
        is_blocked.await.unwrap();
        s.token().cancel_with("enough");
        task.await
    })
    .await
}

fn check<T>(result: io::Result<T>) {
    let Err(error) = result else {
        panic!("the error was swallowed");
    };
    let found = Cancelled::find_in(&error).expect("it carries the cancellation");
    assert_eq!(found.cause().text(), Some("enough"));
}

async fn copying(mut near: Wire, mut far: Wire) {
    far.write_all(b"some").await.unwrap();
    // The first byte shows that they have come.
    near.read_exact(&mut [0]).await.unwrap();
    let mut into = AllowStdIo::new(Vec::new());
    check(cancelled(futures::io::copy(&mut near, &mut into)).await);
    assert_eq!(into.into_inner(), b"ome");
    let mut into = Vec::new();
    check(cancelled(near.read_to_end(&mut into)).await);
    check(cancelled(near.read_exact(&mut [0; 4])).await);
    check(cancelled(near.read_to_string(&mut String::new())).await);
    check(cancelled(near.write_all(&vec![0; 64 << 20])).await);
}

#[test]
fn copy_and_read_loops_of_futures_end_with_the_error() {
    everywhere(copying);
}

async fn lines(near: Wire, mut far: Wire) {
    far.write_all(b"one\ntw").await.unwrap();
    let mut near = BufReader::new(near);
    let mut line = String::new();
    near.read_line(&mut line).await.unwrap();
    assert_eq!(line, "one\n");
    check(cancelled(near.read_line(&mut line)).await);
    check(cancelled(near.read_until(b'\n', &mut Vec::new())).await);
    let mut lines = (&mut near).lines();
    check(
        cancelled(lines.next())
            .await
            .expect("a cancelled stream has not ended"),
    );
    // The other way round: what is buffered is not seen either.
    let mut near = near.cancellable();
    far.write_all(b"o\nthree\nfour\n").await.unwrap();
    near.fill_buf().await.unwrap();
    scope(async |s| {
        s.token().cancel_with("enough");
        check(near.fill_buf().await.map(<[u8]>::len));
        check(near.read_line(&mut String::new()).await);
    })
    .await;
}

#[test]
fn buffers_and_lines_of_futures_end_with_the_error() {
    everywhere(lines);
}

async fn of_tokio() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

    let (near, mut far) = tokio_pair().await;
    let mut near = near.cancellable();
    far.write_all(b"some").await.unwrap();
    near.read_u8().await.unwrap();
    let mut into = Vec::new();
    check(cancelled(tokio::io::copy(&mut near, &mut into)).await);
    assert_eq!(into, b"ome");
    check(cancelled(near.read_to_end(&mut into)).await);
    check(cancelled(near.read_exact(&mut [0; 4])).await);
    check(cancelled(near.read_u64()).await);
    let (mut other, _end) = tokio_pair().await;
    check(cancelled(tokio::io::copy_bidirectional(&mut near, &mut other)).await);

    far.write_all(b"one\ntw").await.unwrap();
    let mut lines = BufReader::new(&mut near).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "one");
    check(cancelled(lines.next_line()).await);

    let mut writer = BufWriter::new(&mut near);
    check(cancelled(writer.write_all(&vec![0; 64 << 20])).await);
    // A message that waits in a buffer does not go out when its task is cancelled.
    let mut writer = BufWriter::new(near);
    scope(async |s| {
        writer.write_all(b"unsent").await.unwrap();
        s.token().cancel_with("enough");
        check(writer.flush().await);
        check(writer.shutdown().await);
    })
    .await;
    assert_eq!(writer.buffer(), b"unsent");
}

#[test]
fn helpers_of_tokio_end_with_the_error() {
    on_tokio(of_tokio);
}

async fn split_by_tokio() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (near, _far) = tokio_pair().await;
    let (mut reader, mut writer) = tokio::io::split(near.cancellable());
    scope(async |s| {
        let (reads, is_reading) = notice();
        let (writes, is_writing) = notice();
        let read = s.spawn(noticing(reads, async move { reader.read_u8().await }));
        let write = s.spawn(noticing(writes, async move {
            writer.write_all(&vec![0; 64 << 20]).await
        }));
        is_reading.await.unwrap();
        is_writing.await.unwrap();
        s.token().cancel_with("enough");
        check(read.await);
        check(write.await);
    })
    .await;
}

#[test]
fn halves_of_tokio_are_both_woken() {
    on_tokio(split_by_tokio);
}

/// What is inside: the codec's error gives no source.
fn io_error(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        other => panic!("{other}"),
    }
}

async fn framed() {
    let (near, far) = tokio_pair().await;
    let mut near = Framed::new(near.cancellable(), LinesCodec::new());
    let mut far = Framed::new(far, LinesCodec::new());
    futures::SinkExt::send(&mut far, "one").await.unwrap();
    assert_eq!(near.next().await.unwrap().unwrap(), "one");
    check(cancelled(near.try_next()).await.map_err(io_error));
    scope(async |s| {
        s.token().cancel_with("enough");
        let sent = futures::SinkExt::send(&mut near, "two").await;
        check(sent.map_err(io_error));
    })
    .await;
    // The other way round the frames are cancellable, and the connection knows nothing of it.
    let mut near = Framed::new(near.into_inner().into_inner(), LinesCodec::new()).cancellable();
    assert!(matches!(cancelled(near.next()).await, Some(Err(_))));
    futures::SinkExt::send(&mut far, "three").await.unwrap();
    assert_eq!(near.next().await.unwrap().unwrap().unwrap(), "three");
}

#[test]
fn frames_of_tokio_util_end_with_the_error() {
    on_tokio(framed);
}
