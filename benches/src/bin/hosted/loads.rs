//! What children do: the same for a scope and for each of its peers.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Something that takes children.
pub(crate) trait Nest {
    fn spawn(&mut self, child: impl Future<Output = u64> + Send + 'static);
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// Messages through four channels of 64, by five children.
    Pipeline,
    /// Clients that ask an actor and wait for its answer.
    Actor,
    /// A thousand tasks that take turns at four permits.
    Permits,
    /// So many children, each of which awaits 100 messages that are there already.
    Queued(usize),
    /// Clients of an actor that sleep for a moment, and then give each answer a minute.
    Timers,
    /// Connections over loopback, each through a proxy that copies both ways with a time limit, to an echo.
    Proxy,
}

pub(crate) const LOADS: [Load; 7] = [
    Load::Pipeline,
    Load::Actor,
    Load::Permits,
    Load::Queued(4_000),
    Load::Queued(16_000),
    Load::Timers,
    Load::Proxy,
];

const MESSAGES: u64 = 100_000;
const CLIENTS: u64 = 100;
const ASKED: u64 = 200;
const TASKS: u64 = 1_000;
const TURNS: u64 = 20;
const WAITING: u64 = 100;
const CONNECTIONS: u64 = 32;
const EXCHANGES: u64 = 100;
const LONG: Duration = Duration::from_secs(60);

impl Load {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Pipeline => "pipeline".into(),
            Self::Actor => "actor".into(),
            Self::Permits => "permits".into(),
            Self::Queued(children) => format!("queued, {children}"),
            Self::Timers => "timers".into(),
            Self::Proxy => "proxy".into(),
        }
    }

    /// Whether it needs tokio's timers and sockets around it.
    pub(crate) fn needs_tokio(self) -> bool {
        matches!(self, Self::Timers | Self::Proxy)
    }

    /// Operations.
    pub(crate) fn units(self) -> usize {
        let units = match self {
            Self::Pipeline => MESSAGES * 4,
            Self::Actor | Self::Timers => CLIENTS * ASKED,
            Self::Proxy => CONNECTIONS * EXCHANGES,
            Self::Permits => TASKS * TURNS,
            Self::Queued(children) => children as u64 * WAITING,
        };
        usize::try_from(units).expect("they are few")
    }

    /// What the children return, added up.
    pub(crate) fn sum(self) -> u64 {
        match self {
            Self::Pipeline => MESSAGES * (MESSAGES - 1) / 2,
            Self::Actor | Self::Timers => CLIENTS * ASKED * (ASKED + 1) / 2,
            Self::Proxy => CONNECTIONS * EXCHANGES * (EXCHANGES - 1) / 2,
            Self::Permits => TASKS * TURNS,
            Self::Queued(children) => children as u64 * WAITING,
        }
    }

    pub(crate) fn fill(self, nest: &mut impl Nest) {
        match self {
            Self::Pipeline => pipeline(nest),
            Self::Actor => actor(nest, false),
            Self::Timers => actor(nest, true),
            Self::Proxy => proxy(nest),
            Self::Permits => permits(nest),
            Self::Queued(children) => queued(nest, children),
        }
    }
}

fn pipeline(nest: &mut impl Nest) {
    let (first, mut next) = mpsc::channel(64);
    nest.spawn(async move {
        for n in 0..MESSAGES {
            first.send(n).await.expect("the next stage listens");
        }
        0
    });
    for _ in 0..3 {
        let (to, after) = mpsc::channel(64);
        let mut from = std::mem::replace(&mut next, after);
        nest.spawn(async move {
            while let Some(n) = from.recv().await {
                to.send(n).await.expect("the next stage listens");
            }
            0
        });
    }
    nest.spawn(async move {
        let mut sum = 0;
        while let Some(n) = next.recv().await {
            sum += n;
        }
        sum
    });
}

fn actor(nest: &mut impl Nest, timers: bool) {
    let (ask, mut asked) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(64);
    nest.spawn(async move {
        while let Some((n, answer)) = asked.recv().await {
            answer.send(n + 1).expect("whoever asks waits");
        }
        0
    });
    for _ in 0..CLIENTS {
        let ask = ask.clone();
        nest.spawn(async move {
            let mut sum = 0;
            if timers {
                sleep(Duration::from_millis(1)).await;
            }
            for n in 0..ASKED {
                let (answer, answered) = oneshot::channel();
                ask.send((n, answer)).await.expect("the actor is there");
                let answer = match timers {
                    true => timeout(LONG, answered).await.expect("a minute is long"),
                    false => answered.await,
                };
                sum += answer.expect("the actor answers");
            }
            sum
        });
    }
}

/// Both ends of a connection, for the runtime that each comes to be polled in.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let there = TcpStream::connect(address).expect("somebody listens");
    let (here, _) = listener.accept().expect("somebody came");
    for end in [&here, &there] {
        end.set_nonblocking(true).expect("it is a socket");
        end.set_nodelay(true).expect("it is a socket");
    }
    (here, there)
}

fn in_runtime(end: TcpStream) -> tokio::net::TcpStream {
    tokio::net::TcpStream::from_std(end).expect("a runtime is around")
}

fn proxy(nest: &mut impl Nest) {
    for _ in 0..CONNECTIONS {
        let (client, front) = connection();
        let (back, server) = connection();
        nest.spawn(async move {
            let mut server = in_runtime(server);
            let mut message = [0; 64];
            while server.read_exact(&mut message).await.is_ok() {
                server.write_all(&message).await.expect("it is open");
            }
            0
        });
        nest.spawn(async move {
            let (mut front, mut back) = (in_runtime(front), in_runtime(back));
            let copied = timeout(LONG, copy_bidirectional(&mut front, &mut back)).await;
            copied.expect("a minute is long").expect("both are open");
            0
        });
        nest.spawn(async move {
            let mut client = in_runtime(client);
            let (mut message, mut sum) = ([0; 64], 0);
            for n in 0..EXCHANGES {
                message[..8].copy_from_slice(&n.to_be_bytes());
                client.write_all(&message).await.expect("it is open");
                client.read_exact(&mut message).await.expect("it answers");
                let mut number = [0; 8];
                number.copy_from_slice(&message[..8]);
                sum += u64::from_be_bytes(number);
            }
            sum
        });
    }
}

fn permits(nest: &mut impl Nest) {
    let permits = Arc::new(Semaphore::new(4));
    for _ in 0..TASKS {
        let permits = Arc::clone(&permits);
        nest.spawn(async move {
            for _ in 0..TURNS {
                let _permit = permits.acquire().await.expect("it stays open");
                tokio::task::yield_now().await;
            }
            TURNS
        });
    }
}

fn queued(nest: &mut impl Nest, children: usize) {
    for _ in 0..children {
        let (send, mut receive) = mpsc::unbounded_channel();
        for _ in 0..WAITING {
            send.send(1).expect("it is open");
        }
        nest.spawn(async move {
            drop(send);
            let mut sum = 0;
            while let Some(n) = receive.recv().await {
                sum += n;
            }
            sum
        });
    }
}
