//! A server that ends in three phases under load, and loses no request of a client that heeds its `bye`.
//! Stopping: it lets nobody in, says `bye`, and answers until the client has closed. Cancelled, after `patience`:
//! reads, writes and what a request waits for fail. Aborted, after `grace`: what took no notice is dropped.
//! Each connection is a task that borrows the server's state.

use selvedge::{cancel, prelude::*, select, select_safe, time};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{future, io, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves until `token` is stopped and all have left. An error if somebody had to be dropped.
pub async fn serve(
    listener: TcpListener,
    token: &CancelToken,
    (patience, grace): (Duration, Duration),
    answered: &AtomicU64,
) -> Result<(), Cancelled> {
    let serving = scope(async |s| accept(&s, listener, answered).await);
    let serving = serving.token(token).stop_within(patience);
    serving.grace(grace).await
}

async fn accept<'env>(s: &Scope<'env>, listener: TcpListener, answered: &'env AtomicU64) {
    loop {
        select! {
            biased; // Whoever has connected before the stop is let in.
            peer = select_safe(listener.accept()) => match peer {
                Ok((peer, _)) => drop(s.spawn(attend(peer, answered))),
                Err(_) if time::sleep(Duration::from_millis(50)).await.is_err() => return,
                Err(_) => {} // There was no descriptor left. Perhaps there is now.
            },
            () = cancel::stopping() => return, // And the listener is closed.
        }
    }
}

async fn attend(mut peer: TcpStream, answered: &AtomicU64) {
    if let Err(problem) = converse(&mut peer, answered).await {
        // `peer` itself knows nothing of a cancellation; the grace sees to it that this ends.
        let _ = peer.write_all(format!("{problem}\n").as_bytes()).await;
    }
}

async fn converse(peer: &mut TcpStream, answered: &AtomicU64) -> io::Result<()> {
    let (input, output) = peer.split();
    let mut lines = BufReader::new(input.cancellable()).lines();
    let (mut output, mut is_leaving) = (output.cancellable(), false);
    loop {
        let text = select! {
            line = select_safe(lines.next_line()) => match line? { // Dropped, it leaves half a line in `lines`.
                Some(line) => answer(line, answered).await?,
                None => return Ok(()),
            },
            () = cancel::stopping(), if !is_leaving => { is_leaving = true; "bye\n".into() }
        };
        output.write_all(text.as_bytes()).await?;
    }
}

async fn answer(line: String, answered: &AtomicU64) -> io::Result<String> {
    match line.as_str() {
        "wait" => time::sleep(Duration::MAX).await?, // Fails when it is cancelled.
        "hang" => future::pending().await,           // Takes no notice of anything.
        _ => drop(answered.fetch_add(1, Ordering::Relaxed)),
    }
    Ok(line + "\n")
}

fn main() -> io::Result<()> {
    let (token, answered) = (CancelToken::new(), AtomicU64::new(0));
    token.on_ctrl_c()?; // The first stops the server, the second cancels it, the third aborts it.
    let limits = (Duration::from_secs(10), Duration::from_secs(2));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7878".into());
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("{}", listener.local_addr()?);
        Ok(serve(listener, &token, limits, &answered).await?)
    })
}
