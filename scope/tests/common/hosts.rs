//! Tokio's runtimes, where a scope is polled on them, and what spends a budget of theirs.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};

use super::burn;

/// Operations of tokio's that one poll of a task may make.
pub const BUDGET: usize = 128;

#[derive(Clone, Copy, Debug)]
pub enum Host {
    Main,
    Task,
    Current,
}

pub const HOSTS: [Host; 3] = [Host::Main, Host::Task, Host::Current];

/// A multi-thread runtime.
pub fn multi(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

/// A current-thread runtime.
pub fn current() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl Host {
    pub fn run(self, future: impl Future<Output = ()> + Send + 'static) {
        let runtime: Runtime = match self {
            Self::Main | Self::Task => multi(2),
            Self::Current => current(),
        };
        match self {
            Self::Main | Self::Current => runtime.block_on(future),
            Self::Task => runtime.block_on(runtime.spawn(future)).unwrap(),
        }
    }
}

/// A channel with so many messages in it, and no more to come.
pub fn filled(messages: usize) -> mpsc::UnboundedReceiver<usize> {
    let (send, receive) = mpsc::unbounded_channel();
    for n in 0..messages {
        send.send(n).unwrap();
    }
    receive
}

pub async fn empty(mut from: mpsc::UnboundedReceiver<usize>) {
    while from.recv().await.is_some() {}
}

/// A semaphore that is always ready.
pub async fn greedy(semaphore: &Semaphore, turns: &AtomicUsize) {
    loop {
        let _permit = semaphore.acquire().await.unwrap();
        turns.fetch_add(1, Ordering::Relaxed);
        burn(Duration::from_micros(3));
    }
}
