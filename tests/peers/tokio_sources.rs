//! Sources of tokio that are always ready: the budget that tokio gives a task is shared by all members of
//! a scope in it. Others get turns all the same, and everything ends.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use selvedge::{Pool, join_all, prelude::*};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};

use super::common::on_helper;

/// Operations of each source: many times tokio's budget of 128.
const OPS: usize = 1280;

fn runtimes() -> [(&'static str, Runtime); 2] {
    [
        (
            "current thread",
            Builder::new_current_thread().enable_all().build().unwrap(),
        ),
        (
            "multi thread",
            Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
        ),
    ]
}

/// Counts the polls of a future.
struct Polled<'a, F> {
    counts: &'a Counts,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Polled<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.counts.polls.fetch_add(1, SeqCst);
        self.counts.note_helper();
        self.future.as_mut().poll(cx)
    }
}

/// What a run was like.
#[derive(Default)]
struct Counts {
    polls: AtomicUsize,
    done: AtomicUsize,
    turns: AtomicUsize,
    /// Turns that the sibling had before the first source was through.
    between: AtomicUsize,
    /// A helper has polled somebody. It has a budget for each packet, so how many polls there are is its own count; and as
    /// long as it polls the sibling, the owner goes on with the sources, whose budget is spent.
    helped: AtomicBool,
}

impl Counts {
    fn note_helper(&self) {
        if on_helper() {
            self.helped.store(true, SeqCst);
        }
    }

    fn source<'a, F: Future<Output = ()>>(
        &'a self,
        ops: F,
    ) -> Polled<'a, impl Future<Output = ()> + use<'a, F>> {
        Polled {
            counts: self,
            future: Box::pin(async move {
                ops.await;
                if self.done.fetch_add(1, SeqCst) == 0 {
                    self.between.store(self.turns.load(SeqCst), SeqCst);
                }
            }),
        }
    }

    /// Yields as tokio's tasks do, once in each poll of the whole. One that wakes itself at once would keep
    /// the scope busy to the end of its window each time, and the runtime from its sockets meanwhile.
    async fn sibling(&self, sources: usize) {
        while self.done.load(SeqCst) < sources {
            self.note_helper();
            self.turns.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    }

    fn check(&self, what: &str, sources: usize) {
        assert_eq!(self.done.load(SeqCst), sources, "{what}: all ended");
        if self.helped.load(SeqCst) {
            return;
        }
        let turns = self.between.load(SeqCst);
        assert!(turns >= 2, "{what}: {turns} turns of the sibling");
        // Who has used the budget up is not polled again before the task has been.
        let polls = self.polls.load(SeqCst);
        let least = sources * OPS / 128;
        assert!((least..least * 3).contains(&polls), "{what}: {polls} polls");
    }
}

async fn permits(semaphore: &Semaphore) {
    for _ in 0..OPS {
        drop(semaphore.acquire().await.unwrap());
    }
}

async fn messages() {
    let (send, mut receive) = mpsc::unbounded_channel();
    for n in 0..OPS {
        send.send(n).unwrap();
    }
    for n in 0..OPS {
        assert_eq!(receive.recv().await, Some(n));
    }
}

async fn datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer = socket.local_addr().unwrap();
    for _ in 0..OPS {
        // There is room each time: what nobody receives is thrown away.
        socket.send_to(b"weft", peer).await.unwrap();
    }
}

async fn in_a_scope(semaphore: &Semaphore, counts: &Counts, pool: &Pool) {
    scope(async |s| {
        drop(s.spawn(counts.source(permits(semaphore))));
        drop(s.spawn(counts.source(messages())));
        drop(s.spawn(counts.source(datagrams())));
        drop(s.spawn(counts.sibling(3)));
    })
    .on(pool)
    .await;
}

async fn in_a_join(semaphore: &Semaphore, counts: &Counts, pool: &Pool) {
    let all: [Pin<Box<dyn Future<Output = ()> + Send + '_>>; 4] = [
        Box::pin(counts.source(permits(semaphore))),
        Box::pin(counts.source(messages())),
        Box::pin(counts.source(datagrams())),
        Box::pin(counts.sibling(3)),
    ];
    join_all(all).on(pool).await;
}

async fn in_a_pipeline(semaphore: &Semaphore, counts: &Counts, pool: &Pool) {
    let sources = (0..4)
        .into_par()
        .on(pool)
        .concurrency(4)
        .for_each(async |n| match n {
            0 => counts.source(permits(semaphore)).await,
            1 => counts.source(messages()).await,
            2 => counts.source(datagrams()).await,
            _ => counts.sibling(3).await,
        });
    sources.await;
}

#[test]
fn sources_that_are_always_ready_let_others_have_turns_and_end() {
    super::guarded(|| {
        for (name, runtime) in runtimes() {
            macro_rules! case {
                ($what:ident) => {
                    for threads in [0, 2] {
                        let what = format!("{}, {name}, {threads} helpers", stringify!($what));
                        let pool = Pool::builder().threads(threads).build();
                        let (semaphore, counts) = (Semaphore::new(1), Counts::default());
                        runtime.block_on($what(&semaphore, &counts, &pool));
                        counts.check(&format!("{what}, block_on"), 3);

                        let task = runtime.spawn(async move {
                            let (semaphore, counts) = (Semaphore::new(1), Counts::default());
                            $what(&semaphore, &counts, &pool).await;
                            counts
                        });
                        let counts = runtime.block_on(task).unwrap();
                        assert!(threads > 0 || !counts.helped.load(SeqCst));
                        counts.check(&format!("{what}, spawned"), 3);
                    }
                };
            }
            case!(in_a_scope);
            case!(in_a_join);
            case!(in_a_pipeline);
        }
    });
}

#[test]
fn task_beside_a_scope_of_sources_that_are_always_ready_gets_turns() {
    super::guarded(|| {
        for (name, runtime) in runtimes() {
            runtime.block_on(async {
                let (semaphore, counts) = (Semaphore::new(1), Counts::default());
                let turns = std::sync::Arc::new(AtomicUsize::new(0));
                let beside = tokio::spawn({
                    let turns = turns.clone();
                    async move {
                        loop {
                            turns.fetch_add(1, SeqCst);
                            tokio::task::yield_now().await;
                        }
                    }
                });
                let pool = Pool::builder().threads(0).build();
                let work = pin!(in_a_scope(&semaphore, &counts, &pool));
                work.await;
                beside.abort();
                assert!(turns.load(SeqCst) >= 2, "{name}: {turns:?} turns");
            });
        }
    });
}
