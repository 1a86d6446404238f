//! A cancelled read on its way through the error types that programs use: `?` all the way up, and
//! `Cancelled::find_in` at the top.

use std::error::Error;
use std::io;

use anyhow::Context;
use futures::channel::mpsc;
use futures::{AsyncReadExt, SinkExt};
use selvedge::{Cancelled, CancelledOr, IoCancelExt, scope};

use crate::wire::{Wire, everywhere, notice, noticing};

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("stopped")]
    Stopped(#[from] Cancelled),
    #[error("the queue is closed")]
    Queue(#[from] CancelledOr<mpsc::SendError>),
}

async fn by_anyhow(near: &mut Wire) -> anyhow::Result<u8> {
    let mut one = [0];
    near.read_exact(&mut one).await.context("no greeting")?;
    Ok(one[0])
}

async fn by_box(near: &mut Wire) -> Result<u8, Box<dyn Error + Send + Sync>> {
    let mut one = [0];
    near.read_exact(&mut one).await?;
    Ok(one[0])
}

async fn by_enum(near: &mut Wire) -> Result<u8, AppError> {
    let mut one = [0];
    near.read_exact(&mut one).await?;
    Ok(one[0])
}

async fn by_io(near: &mut Wire) -> io::Result<u8> {
    let mut one = [0];
    near.read_exact(&mut one).await.map_err(io::Error::other)?;
    Ok(one[0])
}

fn text<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    Cancelled::find_in(error)?.cause().text()
}

async fn all_types(mut near: Wire, _far: Wire) {
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let first = noticing(blocked, by_anyhow(&mut near)).await;
            let others = (
                by_box(&mut near).await,
                by_enum(&mut near).await,
                by_io(&mut near).await,
            );
            (first, others)
        });
        is_blocked.await.unwrap();
        s.token().cancel_with("deploy");
        let (by_anyhow, (by_box, by_enum, by_io)) = task.await;
        let by_anyhow = by_anyhow.unwrap_err();
        assert_eq!(text(by_anyhow.as_ref()), Some("deploy"));
        assert!(format!("{by_anyhow:#}").starts_with("no greeting: cancelled"));
        assert_eq!(text(by_box.unwrap_err().as_ref()), Some("deploy"));
        let by_enum = by_enum.unwrap_err();
        assert!(matches!(by_enum, AppError::Io(_)));
        assert_eq!(text(&by_enum), Some("deploy"));
        assert_eq!(text(&by_io.unwrap_err()), Some("deploy"));
    })
    .await;
}

#[test]
fn cancelled_read_is_found_in_anyhow_boxes_and_enums() {
    everywhere(all_types);
}

async fn queue(_near: Wire, _far: Wire) {
    let (sender, _receiver) = mpsc::channel::<u8>(0);
    let mut sender = sender.cancellable();
    scope(async |s| {
        let (blocked, is_blocked) = notice();
        let task = s.spawn(async {
            let fill = async {
                loop {
                    sender.send(1).await?;
                }
            };
            let first: Result<(), AppError> = noticing(blocked, fill).await;
            let boxed: Result<(), Box<dyn Error + Send + Sync>> =
                sender.send(2).await.map_err(Into::into);
            let stopped = selvedge::cancel::check().map_err(AppError::from);
            (first, boxed, stopped)
        });
        is_blocked.await.unwrap();
        s.token().cancel_with("deploy");
        let (first, boxed, stopped) = task.await;
        assert_eq!(text(&first.unwrap_err()), Some("deploy"));
        assert_eq!(text(boxed.unwrap_err().as_ref()), Some("deploy"));
        assert_eq!(text(&stopped.unwrap_err()), Some("deploy"));
    })
    .await;
}

#[test]
fn cancelled_send_is_found_in_boxes_and_enums() {
    everywhere(queue);
}
