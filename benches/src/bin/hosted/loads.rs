//! What children do: the same for a scope and for each of its peers.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

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
}

pub(crate) const LOADS: [Load; 5] = [
    Load::Pipeline,
    Load::Actor,
    Load::Permits,
    Load::Queued(4_000),
    Load::Queued(16_000),
];

const MESSAGES: u64 = 100_000;
const CLIENTS: u64 = 100;
const ASKED: u64 = 200;
const TASKS: u64 = 1_000;
const TURNS: u64 = 20;
const WAITING: u64 = 100;

impl Load {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Pipeline => "pipeline".into(),
            Self::Actor => "actor".into(),
            Self::Permits => "permits".into(),
            Self::Queued(children) => format!("queued, {children}"),
        }
    }

    /// Operations.
    pub(crate) fn units(self) -> usize {
        let units = match self {
            Self::Pipeline => MESSAGES * 4,
            Self::Actor => CLIENTS * ASKED,
            Self::Permits => TASKS * TURNS,
            Self::Queued(children) => children as u64 * WAITING,
        };
        usize::try_from(units).expect("they are few")
    }

    /// What the children return, added up.
    pub(crate) fn sum(self) -> u64 {
        match self {
            Self::Pipeline => MESSAGES * (MESSAGES - 1) / 2,
            Self::Actor => CLIENTS * ASKED * (ASKED + 1) / 2,
            Self::Permits => TASKS * TURNS,
            Self::Queued(children) => children as u64 * WAITING,
        }
    }

    pub(crate) fn fill(self, nest: &mut impl Nest) {
        match self {
            Self::Pipeline => pipeline(nest),
            Self::Actor => actor(nest),
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

fn actor(nest: &mut impl Nest) {
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
            for n in 0..ASKED {
                let (answer, answered) = oneshot::channel();
                ask.send((n, answer)).await.expect("the actor is there");
                sum += answered.await.expect("the actor answers");
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
