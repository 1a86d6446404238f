//! The three phases of the `server` example, on real sockets: under load nothing is lost while it stops, and
//! each kind of request that does not end is ended in its phase. Time is real, and only bounds what ends late.

mod programs;
#[allow(dead_code, reason = "`main` is not called here")]
#[path = "../../server.rs"]
pub mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use selvedge::{CancelToken, Cancelled, CauseKind, join, scope};
use server::serve;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;

/// Longer than any test: what has to end before it does so by itself.
const NEVER: Duration = Duration::from_secs(3600);
/// What is awaited, in the tests that wait for a phase to pass.
const SOON: Duration = Duration::from_millis(50);

/// After how many answers a client is one that the server is busy with.
const WARM: usize = 100;

/// A connection, as a client has it.
struct Client {
    input: Lines<BufReader<OwnedReadHalf>>,
    output: OwnedWriteHalf,
}

impl Client {
    async fn new(address: SocketAddr) -> io::Result<Self> {
        let (input, output) = TcpStream::connect(address).await?.into_split();
        let input = BufReader::new(input).lines();
        Ok(Self { input, output })
    }

    async fn send(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; `None` when the server has closed the connection in good order.
    async fn line(&mut self) -> Option<String> {
        self.input.next_line().await.unwrap()
    }

    /// Waits until the server has let this client in and answered.
    async fn greet(&mut self) {
        self.send("hello\n").await;
        assert_eq!(self.line().await.unwrap(), "hello");
    }
}

/// Runs a server and what its clients do, which stops the server through its token. Returns what the server
/// returned, how many requests it answered, and what the clients came to.
fn run<T: Send, F: Future<Output = T> + Send>(
    limits: (Duration, Duration),
    clients: impl FnOnce(SocketAddr, CancelToken) -> F,
) -> (Result<(), Cancelled>, u64, T) {
    let (token, answered) = (CancelToken::new(), AtomicU64::new(0));
    let (ended, came_to) = Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = clients(address, token.clone());
        join((serve(listener, &token, limits, &answered), clients)).await
    });
    (ended, answered.into_inner(), came_to)
}

/// Has up to sixteen requests on their way, until it hears `bye`; then sends one more, and reads to the end.
/// The last client that has warmed up stops the server. Returns how many requests it sent.
async fn busy(mut client: Client, me: usize, to_warm: &AtomicUsize, token: &CancelToken) -> usize {
    let (mut sent, mut answered, mut is_told) = (0, 0, false);
    loop {
        let was_told = is_told;
        let burst = if was_told { 1 } else { 16 };
        let requests = (sent..sent + burst).map(|request| format!("{me} {request}\n"));
        client.send(&requests.collect::<String>()).await;
        sent += burst;
        if was_told {
            client.output.shutdown().await.unwrap();
        }
        while answered < sent {
            let line = client.line().await.expect("it is not cut off");
            if line == "bye" {
                assert!(!is_told, "it says so once");
                is_told = true;
                continue;
            }
            assert_eq!(line, format!("{me} {answered}"), "whole, and in order");
            answered += 1;
            if answered == WARM && to_warm.fetch_sub(1, Ordering::SeqCst) == 1 {
                token.stop();
            }
        }
        if was_told {
            assert_eq!(client.line().await, None);
            return sent;
        }
    }
}

#[test]
fn stop_under_load_loses_no_request() {
    const CLIENTS: usize = 64;
    let (ended, answered, sent) = run((NEVER, NEVER), async |address, token| {
        let to_warm = AtomicUsize::new(CLIENTS);
        let (to_warm, token) = (&to_warm, &token);
        scope(async |s| {
            let mut clients = Vec::new();
            for me in 0..CLIENTS {
                let client = Client::new(address).await.unwrap();
                clients.push(s.spawn(busy(client, me, to_warm, token)));
            }
            let mut sent = 0;
            for client in clients {
                sent += client.await;
            }
            sent
        })
        .await
    });
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(answered, sent as u64);
    assert!(sent > WARM * CLIENTS, "each sent one more when it was told");
}

#[test]
fn stopping_server_refuses_the_new_and_answers_the_old() {
    let (ended, answered, ()) = run((NEVER, NEVER), async |address, token| {
        let mut client = Client::new(address).await.unwrap();
        client.greet().await;
        token.stop();
        assert_eq!(client.line().await.unwrap(), "bye");
        // The listener is closed soon, not at once: whoever came before is let in.
        while TcpStream::connect(address).await.is_ok() {}
        assert!(TcpStream::connect(address).await.is_err());
        client.greet().await;
        client.send("half a line").await;
        client.output.shutdown().await.unwrap();
        assert_eq!(client.line().await.unwrap(), "half a line");
        assert_eq!(client.line().await, None);
    });
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(answered, 3);
}

#[test]
fn clients_that_stay_or_wait_are_cancelled_when_patience_is_over() {
    for last_request in ["", "half a line", "wait\n"] {
        let (ended, answered, took) = run((SOON, NEVER), async |address, token| {
            let mut client = Client::new(address).await.unwrap();
            client.greet().await;
            client.send(last_request).await;
            let stopped = Instant::now();
            token.stop();
            let mut line = client.line().await.unwrap();
            if line == "bye" {
                line = client.line().await.unwrap();
            }
            assert!(line.starts_with("cancelled: deadline"), "{line}");
            assert_eq!(client.line().await, None);
            stopped.elapsed()
        });
        assert!(ended.is_ok(), "{last_request:?} took notice: {ended:?}");
        assert_eq!(answered, 1);
        assert!(took >= SOON, "{last_request:?} had its time: {took:?}");
    }
}

#[test]
fn request_that_takes_no_notice_is_dropped_when_grace_is_over() {
    let (ended, answered, took) = run((SOON, SOON), async |address, token| {
        let mut client = Client::new(address).await.unwrap();
        client.greet().await;
        client.send("hang\n").await;
        let stopped = Instant::now();
        token.stop();
        let mut rest = String::new();
        let mut input = client.input.into_inner();
        input.read_to_string(&mut rest).await.unwrap();
        assert!(["", "bye\n"].contains(&rest.as_str()), "{rest}");
        stopped.elapsed()
    });
    let cause = ended.unwrap_err();
    assert_eq!(cause.cause().kind(), CauseKind::GraceExpired);
    assert_eq!(answered, 1);
    assert!(took >= 2 * SOON, "{took:?}");
}

#[test]
fn stop_before_the_first_client_ends_the_server_at_once() {
    let (ended, answered, ()) = run((NEVER, NEVER), async |_, token| token.stop());
    assert!(ended.is_ok());
    assert_eq!(answered, 0);
}
