//! How long a scope takes to return whose thousand connections are blocked in reads, from the cancellation on.
//!
//! `cargo run --release -p selvedge-benches --bin sockets [ROUNDS]`. The connections go over the loopback
//! interface. *kept* closes them after the scope; *closed* is what servers do: each task owns its connection,
//! and to close a thousand of them is part of the time. Needs 2,100 descriptors (`ulimit -n`). The peer is a `JoinSet` under a token of tokio-util.
//! Not a test: that every read fails and no descriptor stays is in `tests/cancel_io_descriptors.rs`.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt};
use selvedge::{Cancellable, IoCancelExt, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: usize = 1000;
const BAR: Duration = Duration::from_millis(20);

/// A way to run one round; gives the time from the cancellation on.
type Run<'a> = (&'static str, Box<dyn FnMut() -> Duration + 'a>);

fn pairs() -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let pair = |_| {
        let near = TcpStream::connect(address).expect("the listener is there");
        near.set_nonblocking(true).expect("sockets can be");
        (near, listener.accept().expect("somebody connected").0)
    };
    (0..CONNECTIONS).map(pair).unzip()
}

/// Awaits a future and counts it once it has to wait.
async fn counted<F: Future>(blocked: &AtomicUsize, future: F) -> F::Output {
    let (mut future, mut counted) = (pin!(future), false);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() && !counted {
            counted = true;
            blocked.fetch_add(1, Ordering::Relaxed);
        }
        polled
    })
    .await
}

/// Lets others run until all have to wait.
async fn all_blocked(blocked: &AtomicUsize) {
    while blocked.load(Ordering::Relaxed) < CONNECTIONS {
        let mut yielded = false;
        poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
            true => std::task::Poll::Ready(()),
            false => {
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

async fn ours<R>(wrap: impl Fn(TcpStream) -> R, closed: bool) -> Duration
where
    R: AsyncRead + Unpin + Send,
{
    let (near, far) = pairs();
    let mut readers: Vec<Option<R>> = near.into_iter().map(|near| Some(wrap(near))).collect();
    let blocked = AtomicUsize::new(0);
    let (from, failed) = scope(async |s| {
        let blocked = &blocked;
        let mut tasks = Vec::with_capacity(CONNECTIONS);
        for reader in &mut readers {
            let own = if closed { reader.take() } else { None };
            tasks.push(s.spawn(async move {
                let mut own = own;
                let reader = own.as_mut().or(reader.as_mut()).expect("one of them is");
                let mut buf = [0; 16];
                counted(blocked, reader.read(&mut buf)).await.is_err()
            }));
        }
        all_blocked(blocked).await;
        let from = Instant::now();
        s.cancel();
        let mut failed = 0;
        for task in tasks {
            failed += usize::from(task.await);
        }
        (from, failed)
    })
    .await;
    let time = from.elapsed();
    assert_eq!(failed, CONNECTIONS);
    drop(far);
    time
}

async fn join_set() -> Duration {
    let (near, far) = pairs();
    let (token, blocked) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for near in near {
        let mut near = tokio::net::TcpStream::from_std(near).expect("a runtime is there");
        let (token, blocked) = (token.clone(), Arc::clone(&blocked));
        tasks.spawn(async move {
            let mut buf = [0; 16];
            let read = tokio::io::AsyncReadExt::read(&mut near, &mut buf);
            counted(&blocked, token.run_until_cancelled(read))
                .await
                .is_none()
        });
    }
    all_blocked(&blocked).await;
    let from = Instant::now();
    token.cancel();
    let mut failed = 0;
    while let Some(ended) = tasks.join_next().await {
        failed += usize::from(ended.expect("no task panics"));
    }
    let time = from.elapsed();
    assert_eq!(failed, CONNECTIONS);
    drop(far);
    time
}

fn of_tokio(near: TcpStream) -> Compat<Cancellable<tokio::net::TcpStream>> {
    let near = tokio::net::TcpStream::from_std(near).expect("a runtime is there");
    near.cancellable().compat()
}

fn of_smol(near: TcpStream) -> Cancellable<smol::Async<TcpStream>> {
    smol::Async::new(near)
        .expect("the reactor is there")
        .cancellable()
}

fn runs<'a>(many: &'a Runtime, one: &'a Runtime) -> Vec<Run<'a>> {
    vec![
        (
            "tokio, many threads, kept",
            Box::new(|| many.block_on(ours(of_tokio, false))),
        ),
        (
            "tokio, many threads, closed",
            Box::new(|| many.block_on(ours(of_tokio, true))),
        ),
        (
            "tokio, one thread, kept",
            Box::new(|| one.block_on(ours(of_tokio, false))),
        ),
        (
            "tokio, one thread, closed",
            Box::new(|| one.block_on(ours(of_tokio, true))),
        ),
        (
            "smol, kept",
            Box::new(|| smol::block_on(ours(of_smol, false))),
        ),
        (
            "smol, closed",
            Box::new(|| smol::block_on(ours(of_smol, true))),
        ),
        (
            "JoinSet and token, many threads, closed",
            Box::new(|| many.block_on(join_set())),
        ),
        (
            "JoinSet and token, one thread, closed",
            Box::new(|| one.block_on(join_set())),
        ),
    ]
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(21_usize);
    let many = Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads start");
    let one = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("no thread is needed");
    let mut runs = runs(&many, &one);
    let mut times = vec![Vec::new(); runs.len()];
    // One round that does not count opens what the runtimes keep.
    for round in 0..=rounds.max(1) {
        for ((_, run), times) in runs.iter_mut().zip(&mut times) {
            let time = black_box(run());
            if round > 0 {
                times.push(time);
            }
        }
    }
    println!("{CONNECTIONS} connections blocked in reads, {rounds} rounds; bar {BAR:?}");
    for ((name, _), times) in runs.iter().zip(&mut times) {
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        let verdict = match (name.starts_with("JoinSet"), median <= BAR) {
            (true, _) => "(peer)",
            (false, true) => "met",
            (false, false) => "MISSED",
        };
        println!("{name:40} median {median:>10.2?}  worst {worst:>10.2?}  {verdict}");
    }
}
