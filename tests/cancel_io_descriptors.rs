//! A thousand connections blocked in reads under one scope that is cancelled: every task ends with the
//! cancellation, and no descriptor stays open. Alone in its file, since it counts those of the whole process.
//! How long it takes is measured in `benches/`.
#![cfg(all(feature = "tokio", target_os = "linux"))]

use std::fs;
use std::future::{Future, poll_fn};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures::channel::oneshot;
use futures::{AsyncRead, AsyncReadExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use selvedge::{Cancelled, IoCancelExt, scope};
use tokio_util::compat::TokioAsyncReadCompatExt;

const CONNECTIONS: usize = 1000;

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Two ends a connection, and some for the runtimes.
fn allow_enough_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * CONNECTIONS as u64 + 200;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

fn pairs() -> Vec<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pair = |_| {
        let near = TcpStream::connect(address).unwrap();
        near.set_nonblocking(true).unwrap();
        (near, listener.accept().unwrap().0)
    };
    (0..CONNECTIONS).map(pair).collect()
}

/// Reads from all of them until the scope is cancelled; how many reads it failed.
async fn blocked_reads<R>(wrap: impl Fn(TcpStream) -> R) -> usize
where
    R: AsyncRead + Unpin + Send,
{
    let (near, far): (Vec<_>, Vec<_>) = pairs().into_iter().unzip();
    let readers: Vec<_> = near.into_iter().map(wrap).collect();
    let (all_blocked, are_blocked) = oneshot::channel();
    let blocked = AtomicUsize::new(0);
    let all_blocked = std::sync::Mutex::new(Some(all_blocked));
    let noticing = async |mut reader: R| {
        let mut buf = [0; 16];
        let (mut read, mut first) = (pin!(reader.read(&mut buf)), true);
        poll_fn(|cx| {
            let polled = read.as_mut().poll(cx);
            if polled.is_pending() && first {
                first = false;
                if blocked.fetch_add(1, Ordering::SeqCst) + 1 == CONNECTIONS {
                    let last = all_blocked.lock().unwrap().take().expect("once");
                    last.send(()).unwrap();
                }
            }
            match polled {
                Poll::Ready(result) => Poll::Ready(result.unwrap_err()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    let failed = scope(async |s| {
        let tasks: Vec<_> = readers
            .into_iter()
            .map(|reader| s.spawn(noticing(reader)))
            .collect();
        are_blocked.await.unwrap();
        s.token().cancel_with("shutdown");
        let mut failed = 0;
        for task in tasks {
            let error = task.await;
            let found = Cancelled::find_in(&error).expect("nothing else fails a read");
            failed += usize::from(found.cause().text() == Some("shutdown"));
        }
        failed
    })
    .await;
    drop(far);
    failed
}

async fn on_tokio() -> usize {
    blocked_reads(|near| {
        let near = tokio::net::TcpStream::from_std(near).unwrap();
        near.cancellable().compat()
    })
    .await
}

async fn on_smol() -> usize {
    blocked_reads(|near| smol::Async::new(near).unwrap().cancellable()).await
}

#[test]
fn thousand_blocked_connections_fail_and_leave_no_descriptor_open() {
    allow_enough_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // The first round opens what the runtimes keep.
    for round in 0..3 {
        let before = open_descriptors();
        assert_eq!(runtime.block_on(on_tokio()), CONNECTIONS);
        assert_eq!(smol::block_on(on_smol()), CONNECTIONS);
        if round > 0 {
            assert_eq!(open_descriptors(), before);
        }
    }
}
