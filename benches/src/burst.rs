//! Children that wait, and another thread that wakes all of them at once: how long until the last has ended.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use futures::channel::oneshot;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use selvedge::{Pool, Scope, block_on, scope};
use tokio::runtime::Runtime;

use crate::work::Work;

type Senders = Vec<oneshot::Sender<u64>>;

/// The thread that fires. It sleeps between bursts.
#[derive(Debug)]
pub struct Firer {
    bursts: Option<mpsc::Sender<Senders>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Firer {
    fn default() -> Self {
        let (bursts, inbox) = mpsc::channel::<Senders>();
        let thread = thread::spawn(move || {
            for senders in inbox {
                for (i, sender) in senders.into_iter().enumerate() {
                    sender.send(i as u64).expect("the child waits");
                }
            }
        });
        Self {
            bursts: Some(bursts),
            thread: Some(thread),
        }
    }
}

impl Drop for Firer {
    fn drop(&mut self) {
        self.bursts = None;
        let thread = self.thread.take().expect("it is joined once");
        thread.join().expect("the firing thread does not panic");
    }
}

impl Firer {
    fn fire(&self, senders: Senders) {
        let bursts = self.bursts.as_ref().expect("it runs until dropped");
        bursts.send(senders).expect("the firing thread runs");
    }

    /// Children of a scope; the body gives the signal.
    pub fn ours(&self, pool: &Pool, count: usize, inline: bool, work: Work) -> u64 {
        let (senders, receivers) = channels(count);
        let body = async move |s: Scope<'_>| {
            let handles: Vec<_> = receivers
                .into_iter()
                .map(|r| s.spawn(child(r, work)))
                .collect();
            self.fire(senders);
            let mut ended = 0;
            for handle in handles {
                handle.await;
                ended += 1;
            }
            ended
        };
        let scope = scope(body).on(pool);
        block_on(if inline { scope.inline() } else { scope })
    }

    /// `FuturesUnordered`, on one thread.
    pub fn futures_unordered(&self, count: usize, work: Work) -> u64 {
        let (senders, receivers) = channels(count);
        block_on(async {
            let set: FuturesUnordered<_> = receivers.into_iter().map(|r| child(r, work)).collect();
            let mut set = set;
            // All are polled once before the signal, as ours are.
            assert!(set.next().now_or_never().is_none());
            self.fire(senders);
            let mut ended = 0;
            while set.next().await.is_some() {
                ended += 1;
            }
            ended
        })
    }

    /// `tokio::spawn`.
    pub fn tokio_spawn(&self, tokio: &Runtime, count: usize, work: Work) -> u64 {
        let (senders, receivers) = channels(count);
        tokio.block_on(async {
            let handles: Vec<_> = receivers
                .into_iter()
                .map(|r| tokio::spawn(child(r, work)))
                .collect();
            self.fire(senders);
            let mut ended = 0;
            for handle in handles {
                handle.await.expect("children do not panic");
                ended += 1;
            }
            ended
        })
    }
}

fn channels(count: usize) -> (Senders, Vec<oneshot::Receiver<u64>>) {
    (0..count).map(|_| oneshot::channel()).unzip()
}

async fn child(fired: oneshot::Receiver<u64>, work: Work) {
    let seed = fired.await.expect("it is fired");
    black_box(work.done(seed));
}
