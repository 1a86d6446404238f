//! Channels and other streams and sinks in a scope that is cancelled.

use std::io;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, TryStreamExt};
use selvedge::{Cancelled, CancelledOr, FutureCancelExt, IoCancelExt, scope};
use tokio::net::TcpListener;

use crate::wire::{Wire, everywhere, notice, noticing, on_tokio};

async fn loop_over_a_channel(_near: Wire, _far: Wire) {
    let (mut sender, receiver) = mpsc::unbounded();
    let mut receiver = receiver.cancellable();
    let mut seen = Vec::new();
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        for item in 0..3 {
            sender.send(item).await.unwrap();
        }
        s.spawn(noticing(blocked, async {
            while let Some(Ok(item)) = receiver.next().await {
                seen.push(item);
            }
        }));
        is_blocked.await.unwrap();
        s.cancel();
    })
    .await;
    assert_eq!(seen, [0, 1, 2]);
    sender.send(3).await.unwrap();
    let next = receiver.next().await;
    assert!(matches!(next, Some(Ok(3))), "outside the scope it goes on");
}

#[test]
fn loop_over_a_channel_ends_and_loses_no_item() {
    everywhere(loop_over_a_channel);
}

async fn send_to_a_full_channel(_near: Wire, _far: Wire) {
    let (sender, receiver) = mpsc::channel(1);
    let mut sender = sender.cancellable();
    let mut sent = 0;
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let fill = async {
                loop {
                    // `feed` fails only if the channel has not taken the item.
                    match sender.feed(sent).await {
                        Ok(()) => sent += 1,
                        Err(error) => return error,
                    }
                }
            };
            noticing(blocked, fill).await
        });
        is_blocked.await.unwrap();
        s.cancel();
        assert!(matches!(task.await, CancelledOr::Cancelled(_)));
    })
    .await;
    drop(sender);
    let arrived: Vec<i32> = receiver.collect().await;
    assert!(arrived.into_iter().eq(0..sent));
}

#[test]
fn send_to_a_full_channel_fails_and_what_was_taken_arrives() {
    everywhere(send_to_a_full_channel);
}

async fn forwarding(_near: Wire, _far: Wire) {
    let (sender, receiver) = mpsc::channel::<io::Result<u8>>(1);
    let (into, from) = mpsc::channel::<u8>(1);
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let into = into.sink_map_err(io::Error::other).try_cancellable();
            let forward = receiver.try_cancellable().forward(into);
            noticing(blocked, forward).await
        });
        is_blocked.await.unwrap();
        s.token().cancel_with("enough");
        let error: io::Error = task.await.unwrap_err();
        assert_eq!(
            Cancelled::find_in(&error).unwrap().cause().text(),
            Some("enough")
        );
    })
    .await;
    drop((sender, from));
}

#[test]
fn streams_and_sinks_of_io_results_keep_their_error() {
    everywhere(forwarding);
}

async fn server_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = futures::stream::try_unfold(&listener, |listener| async move {
        let (connection, _) = listener.accept().await?;
        io::Result::Ok(Some((connection, listener)))
    });
    let mut connections = Box::pin(stream).try_cancellable();
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let served = s.spawn(noticing(blocked, connections.try_next()));
        is_blocked.await.unwrap();
        s.cancel();
        let error = served.await.unwrap_err();
        assert!(Cancelled::find_in(&error).is_some());
        assert!(listener.accept().or_cancel().await.is_err());
    })
    .await;
}

#[test]
fn accepting_ends_when_its_scope_is_cancelled() {
    on_tokio(server_loop);
}
