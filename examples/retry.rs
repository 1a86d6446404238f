//! A retry with exponential back-off under one deadline, and a last step that is not cut in the middle.
//!
//! Nobody passes the deadline along: `retry` asks for what is left of it, so as not to wait for a turn that will
//! not come, and it also ends an attempt that hangs. So does whoever cancels all of this from outside.

use std::{env, io, time::Duration};

use selvedge::{TimedOut, cancel, prelude::*, time::sleep, timeout, try_timeout};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long a single attempt may take.
pub const ATTEMPT: Duration = Duration::from_secs(1);
/// For how long, from its beginning, the last step is spared limit and cancellation.
pub const COMMIT: Duration = Duration::from_secs(2);

/// Prepares, if need be several times, then commits. `TimedOut` if, and only if, `limit` has cut that short.
pub async fn transact<T, F, G>(
    limit: Duration,
    prepare: impl FnMut() -> F,
    commit: impl FnOnce(T) -> G,
) -> Result<io::Result<()>, TimedOut>
where
    F: Future<Output = io::Result<T>>,
    G: Future<Output = io::Result<()>>,
{
    let work = async {
        let prepared = retry(prepare).await?;
        cancel::shield(COMMIT, commit(prepared)).await // What is done in time counts, limit or not.
    };
    timeout(limit, work).await
}

/// Tries until it succeeds, with pauses that double. Gives up when no time is left for one more attempt.
pub async fn retry<T, F>(mut attempt: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut pause = Duration::from_millis(100);
    loop {
        // The sooner limit holds, this one or one outside. Only this one's end is a reason to try again.
        let problem = match try_timeout(ATTEMPT, attempt()).await {
            Ok(value) => return Ok(value),
            Err(problem) => problem,
        };
        let is_hopeless = cancel::remaining().is_some_and(|left| left <= pause);
        if is_hopeless || Cancelled::find_in(&problem).is_some() {
            return Err(problem);
        }
        sleep(pause).await?;
        pause *= 2;
    }
}

async fn ask<P>(mut peer: P, request: &str) -> io::Result<P>
where
    P: AsyncBufRead + AsyncWrite + Unpin,
{
    peer.write_all(request.as_bytes()).await?;
    match peer.read_line(&mut String::new()).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(peer),
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7878".into()); // That of the example `server`.
    let prepare = async || {
        let peer = TcpStream::connect(&address).or_cancel().await??;
        ask(BufReader::new(peer.cancellable()), "prepare\n").await
    };
    let commit = async |peer| ask(peer, "commit\n").await.map(drop);
    let work = transact(Duration::from_secs(5), prepare, commit);
    tokio::runtime::Runtime::new()?.block_on(work)?
}
