//! An echo server with many connections, its accept loop in the body of a scope and a task for each connection, beside
//! `tokio::spawn` for each; on tokio's runtimes. Throughput, and how long clients wait.
//!
//! `cargo run --release -p selvedge-benches --bin echo [CONNECTIONS] [MICROS] [ROUNDS]`: so many connections (1,000), so
//! much computation for each request (none), so many rounds of each (5). The clients are tasks of a current-thread runtime
//! on a thread of its own; each asks again as soon as it has its answer. Needs two descriptors a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use selvedge::{Scope, prelude::*, select_safe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const SECOND: Duration = Duration::from_millis(700);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Scope,
    Spawn,
}

async fn answer(mut peer: TcpStream, work: Duration) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let mut request = [0; 32];
    loop {
        peer.read_exact(&mut request).await?;
        let from = Instant::now();
        while from.elapsed() < work {
            std::hint::spin_loop();
        }
        peer.write_all(&request).await?;
    }
}

async fn serve(server: Server, listener: TcpListener, work: Duration, ended: Arc<AtomicBool>) {
    match server {
        Server::Scope => {
            scope(async |s: Scope<'_>| {
                while !ended.load(Ordering::Relaxed) {
                    let next = tokio::time::timeout(Duration::from_millis(50), listener.accept());
                    if let Ok(Ok((peer, _))) = next.await {
                        s.spawn_select_safe(select_safe(answer(peer, work)));
                    }
                }
                s.cancel();
            })
            .await;
        }
        Server::Spawn => {
            let mut all = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let next = tokio::time::timeout(Duration::from_millis(50), listener.accept());
                if let Ok(Ok((peer, _))) = next.await {
                    all.push(tokio::spawn(answer(peer, work)));
                }
            }
            all.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
}

/// Asks until the time is up; how long each answer took.
fn ask(address: SocketAddr, connections: usize) -> Vec<Duration> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("it needs no threads").block_on(async {
        let mut peers = Vec::new();
        for _ in 0..connections {
            let peer = TcpStream::connect(address)
                .await
                .expect("the server listens");
            peer.set_nodelay(true).expect("sockets can");
            peers.push(peer);
        }
        let until = Instant::now() + SECOND;
        let asked: Vec<_> = peers
            .into_iter()
            .map(|mut peer| {
                tokio::spawn(async move {
                    let (mut took, mut text) = (Vec::new(), [7; 32]);
                    while Instant::now() < until {
                        let from = Instant::now();
                        peer.write_all(&text).await.expect("the server is there");
                        peer.read_exact(&mut text).await.expect("it answers");
                        took.push(from.elapsed());
                    }
                    took
                })
            })
            .collect();
        let mut all = Vec::new();
        for took in asked {
            all.extend(took.await.expect("it ends"));
        }
        all
    })
}

/// Answers a second, and the wait that one in a hundred is longer than.
fn round(runtime: &Runtime, server: Server, connections: usize, work: Duration) -> (f64, Duration) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("sockets can");
    let address = listener.local_addr().expect("it is bound");
    let ended = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&ended);
    let clients = std::thread::spawn(move || {
        let took = ask(address, connections);
        over.store(true, Ordering::Relaxed);
        took
    });
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("it is a socket");
        serve(server, listener, work, ended).await;
    });
    let mut took = clients.join().expect("clients end");
    took.sort_unstable();
    let most = took[took.len() * 99 / 100];
    (took.len() as f64 / SECOND.as_secs_f64(), most)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().unwrap_or(0));
    let connections: usize = args.next().unwrap_or(1000);
    let work = Duration::from_micros(args.next().unwrap_or(0) as u64);
    let rounds: usize = args.next().unwrap_or(5);
    let multi = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    };
    let current = || Builder::new_current_thread().enable_all().build();
    let hosts: [(&str, &dyn Fn() -> io::Result<Runtime>); 2] =
        [("multi-thread", &multi), ("current-thread", &current)];
    for (host, make) in hosts {
        let runtime = make().expect("threads can be started");
        let (mut rates, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let ours = round(&runtime, Server::Scope, connections, work);
            let theirs = round(&runtime, Server::Spawn, connections, work);
            rates.push((ours.0, theirs.0));
            waits.push((ours.1.as_secs_f64(), theirs.1.as_secs_f64()));
        }
        let of =
            |pairs: &[(f64, f64)], f: fn(&(f64, f64)) -> f64| median(pairs.iter().map(f).collect());
        println!(
            "{host}, {connections} connections, {work:?} a request: {:.0} and {:.0} a second, {:.2}; \
             99 of 100 within {:.1} and {:.1} ms, {:.2}",
            of(&rates, |pair| pair.0),
            of(&rates, |pair| pair.1),
            of(&rates, |pair| pair.0 / pair.1),
            of(&waits, |pair| pair.0) * 1000.0,
            of(&waits, |pair| pair.1) * 1000.0,
            of(&waits, |pair| pair.0 / pair.1),
        );
    }
}
