//! Connections over the loopback interface, near ends cancellable, and the five executors to use them on.
//! Knows nothing of what is tested.

use std::future::{Future, poll_fn};
use std::pin::pin;

use futures::channel::oneshot;
use futures::{AsyncRead, AsyncWrite};
use selvedge::{IoCancelExt, block_on};
use smol::net as of_smol;
use tokio::net as of_tokio;
use tokio::runtime::Builder;
use tokio_util::compat::TokioAsyncReadCompatExt;

/// One end of a connection. The sockets of tokio are reached through tokio's own traits, then adapted.
pub(crate) type Wire = Box<dyn ReadWrite>;

pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

pub(crate) async fn tokio_pair() -> (of_tokio::TcpStream, of_tokio::TcpStream) {
    let listener = of_tokio::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let near = of_tokio::TcpStream::connect(address).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

pub(crate) async fn smol_pair() -> (of_smol::TcpStream, of_smol::TcpStream) {
    let listener = of_smol::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let near = of_smol::TcpStream::connect(address).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

async fn on_tokio_sockets<F: Future>(case: impl FnOnce(Wire, Wire) -> F) -> F::Output {
    let (near, far) = tokio_pair().await;
    case(
        Box::new(near.cancellable().compat()),
        Box::new(far.compat()),
    )
    .await
}

async fn on_smol_sockets<F: Future>(case: impl FnOnce(Wire, Wire) -> F) -> F::Output {
    let (near, far) = smol_pair().await;
    case(Box::new(near.cancellable()), Box::new(far)).await
}

/// Runs a case once on each executor. It is given the cancellable near end and the plain far end.
pub(crate) fn everywhere<F>(case: fn(Wire, Wire) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // What was printed last says where a case failed.
    println!("on many threads of tokio");
    let many = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let task = async move {
        let (near, far) = tokio_pair().await;
        case(
            Box::new(near.cancellable().compat()),
            Box::new(far.compat()),
        )
        .await;
    };
    many.block_on(async move { tokio::spawn(task).await })
        .unwrap();
    println!("on one thread of tokio");
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(on_tokio_sockets(case));
    println!("on smol");
    smol::block_on(on_smol_sockets(case));
    println!("on futures");
    futures::executor::block_on(on_smol_sockets(case));
    println!("on ours");
    block_on(on_smol_sockets(case));
}

/// Runs a case with tokio's own types on both kinds of its runtime.
pub(crate) fn on_tokio<F: Future<Output = ()>>(case: fn() -> F) {
    println!("on many threads of tokio");
    let many = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    many.block_on(case());
    println!("on one thread of tokio");
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(case());
}

/// The two ends of a message that something now waits.
pub(crate) fn notice() -> (oneshot::Sender<()>, oneshot::Receiver<()>) {
    oneshot::channel()
}

/// Awaits a future, and says so once it has to wait.
pub(crate) async fn noticing<F: Future>(blocked: oneshot::Sender<()>, future: F) -> F::Output {
    let (mut future, mut blocked) = (pin!(future), Some(blocked));
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            if let Some(blocked) = blocked.take() {
                // Nobody listens any more in cases that go on regardless.
                let _ = blocked.send(());
            }
        }
        polled
    })
    .await
}
