//! A task that no scope is around, and that opens one scope after the other without having to wait, leaves turns to the other
//! tasks of its executor. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::hosts::{current, multi};
use common::{MODES, burn, guarded, guarded_for, on_a_thread};
use futures::future::select_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt, poll};
use futures_channel::oneshot;
use selvedge_cancel::checkpoint;
use selvedge_scope::{block_on, join, join_all, lending, scope, try_scope};

const TURNS: usize = 12;
/// So many scopes are opened at most, should nobody else have a turn.
const MOST: usize = 30_000;
/// How many are opened within a budget of 5 ms: each computes for 20 us.
const BUDGET: usize = 5000 / 20;

#[derive(Clone, Copy, Debug)]
enum Inner {
    Child,
    Body,
    Handle,
    Try,
    Join,
    JoinAll,
    /// The body waits for a child that does not.
    Awaits,
    /// The same, by a channel.
    Receives,
    /// A child is woken out of a scope in its sibling.
    WokenByNested,
    /// A child is woken by another thread, while its sibling waits for that.
    WokenByThread,
    /// A scope in the scope.
    Deep,
    /// Two members that wait for each other, by a channel.
    Exchange,
    /// Several scopes in a combinator that polls each with a waker of its own.
    Combined,
    /// A scope that yields, and some in which nobody does.
    Among,
    /// What the task computes itself.
    Between,
    /// For as long as a hundred of the others.
    LongBetween,
    /// Of several at once, one yields; the others compute for as long as that and rest.
    Selected(usize),
    /// So many at once, which yield, until the first is over.
    First(usize),
    /// A child that never waits, and that nobody awaits.
    Ready,
    /// Some futures that never wait.
    JoinReady,
    /// A scope that is polled once by hand, and then waited for.
    Tried,
}

const INNER: [Inner; 23] = [
    Inner::Child,
    Inner::Body,
    Inner::Handle,
    Inner::Try,
    Inner::Join,
    Inner::JoinAll,
    Inner::Awaits,
    Inner::Receives,
    Inner::WokenByNested,
    Inner::WokenByThread,
    Inner::Deep,
    Inner::Exchange,
    Inner::Combined,
    Inner::Among,
    Inner::Between,
    Inner::LongBetween,
    Inner::Selected(1),
    Inner::Selected(3),
    Inner::First(17),
    Inner::First(40),
    Inner::Ready,
    Inner::JoinReady,
    Inner::Tried,
];

fn compute() {
    burn(Duration::from_micros(20));
}

async fn work() {
    compute();
    // What yields in a scope is polled again in there.
    checkpoint().await.unwrap();
}

async fn child() {
    scope(async |s| drop(s.spawn(work()))).await;
}

async fn exchange() {
    let (mut there, mut to) = futures_channel::mpsc::channel::<()>(0);
    let (mut back, mut from) = futures_channel::mpsc::channel::<()>(0);
    scope(async |s| {
        drop(s.spawn(async move {
            while to.next().await.is_some() {
                compute();
                back.send(()).await.unwrap();
            }
        }));
        drop(s.spawn(async move {
            for _ in 0..2 {
                there.send(()).await.unwrap();
                from.next().await.unwrap();
            }
        }));
    })
    .await;
}

impl Inner {
    async fn run(self) {
        match self {
            Self::Child => child().await,
            Self::Body => scope(async |_| work().await).await,
            Self::Handle => scope(async |s| s.spawn(work()).await).await,
            Self::Try => {
                let done = try_scope(async |s| {
                    drop(s.spawn(async {
                        work().await;
                        Ok::<_, std::io::Error>(())
                    }));
                    Ok(())
                });
                done.await.unwrap();
            }
            Self::Ready => scope(async |s| drop(s.spawn(async { compute() }))).await,
            Self::Tried => {
                let mut tried = pin!(child());
                if poll!(tried.as_mut()).is_pending() {
                    tried.await;
                }
            }
            Self::JoinReady => drop(join_all((0..2).map(async |_| compute())).await),
            Self::Join => drop(join((work(), work())).await),
            Self::JoinAll => drop(join_all((0..3).map(|_| work())).await),
            Self::Awaits => scope(async |s| s.spawn(async { compute() }).await).await,
            Self::Receives => {
                scope(async |s| {
                    let (send, receive) = oneshot::channel();
                    drop(s.spawn(async move {
                        compute();
                        send.send(()).unwrap();
                    }));
                    receive.await.unwrap();
                })
                .await;
            }
            Self::WokenByNested => {
                scope(async |s| {
                    let (send, receive) = oneshot::channel();
                    drop(s.spawn(async move { receive.await.unwrap() }));
                    drop(s.spawn(async move {
                        scope(async |_| {
                            compute();
                            send.send(()).unwrap();
                        })
                        .await;
                    }));
                })
                .await;
            }
            Self::WokenByThread => {
                scope(async |s| {
                    let (send, receive) = oneshot::channel();
                    drop(s.spawn(async move { receive.await.unwrap() }));
                    drop(s.spawn(async move {
                        compute();
                        on_a_thread(|| send.send(()).unwrap());
                    }));
                })
                .await;
            }
            Self::Deep => scope(async |s| drop(s.spawn(child()))).await,
            Self::Exchange => exchange().await,
            Self::Combined => {
                let all: FuturesUnordered<_> = (0..3).map(|_| child()).collect();
                all.collect().await
            }
            Self::Among => {
                child().await;
                for _ in 0..3 {
                    scope(async |s| drop(s.spawn(async { compute() }))).await;
                }
            }
            Self::LongBetween => {
                for _ in 0..100 {
                    compute();
                }
                scope(async |_| checkpoint().await.unwrap()).await;
            }
            Self::Selected(others) => {
                let one = async |n| {
                    let is_last = n == others;
                    scope(async |_| {
                        if is_last {
                            return checkpoint().await.unwrap();
                        }
                        for _ in 0..100 / others {
                            compute();
                        }
                        pending().await
                    })
                    .await;
                };
                drop(select_all((0..=others).map(|n| Box::pin(one(n)))).await);
            }
            Self::First(scopes) => {
                drop(select_all((0..scopes).map(|_| Box::pin(child()))).await);
            }
            Self::Between => {
                compute();
                scope(async |_| checkpoint().await.unwrap()).await;
            }
        }
    }
}

/// Opens scopes until the other has had its turns.
async fn opens(inner: Inner, opened: &AtomicUsize, other: &AtomicUsize) {
    while other.load(Ordering::SeqCst) < TURNS && opened.load(Ordering::SeqCst) < MOST {
        opened.fetch_add(1, Ordering::SeqCst);
        inner.run().await;
    }
}

async fn turns(other: &AtomicUsize) {
    while other.fetch_add(1, Ordering::SeqCst) + 1 < TURNS {
        checkpoint().await.unwrap();
    }
}

async fn timer(other: &AtomicUsize) {
    while other.fetch_add(1, Ordering::SeqCst) + 1 < TURNS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Host {
    Smol,
    Current,
    Worker,
    /// Beside it in its task, in each of these.
    InTask,
    /// A timer of tokio's.
    CurrentTimer,
    WorkerTimer,
}

const HOSTS: [Host; 6] = [
    Host::Smol,
    Host::Current,
    Host::Worker,
    Host::InTask,
    Host::CurrentTimer,
    Host::WorkerTimer,
];

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Host {
    fn run(self, inner: Inner) -> usize {
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let (for_opens, for_other) = (Arc::clone(&counts), Arc::clone(&counts));
        let opens: Boxed = Box::pin(async move { opens(inner, &for_opens.0, &for_opens.1).await });
        let other: Boxed = match self {
            Self::CurrentTimer | Self::WorkerTimer => {
                Box::pin(async move { timer(&for_other.1).await })
            }
            _ => Box::pin(async move { turns(&for_other.1).await }),
        };
        let spawned = |opens: Boxed, other: Boxed| async move {
            let opens = tokio::spawn(opens);
            tokio::spawn(other).await.unwrap();
            opens.await.unwrap();
        };
        match self {
            Self::Smol => {
                let executor = smol::LocalExecutor::new();
                let opens = executor.spawn(opens);
                let other = executor.spawn(other);
                smol::block_on(executor.run(async {
                    opens.await;
                    other.await;
                }));
            }
            Self::InTask => {
                let both = async { futures::join!(opens, other) };
                let ((), ()) = block_on(both);
            }
            Self::Current | Self::CurrentTimer => current().block_on(spawned(opens, other)),
            Self::Worker | Self::WorkerTimer => multi(1).block_on(spawned(opens, other)),
        }
        counts.0.load(Ordering::SeqCst)
    }
}

#[test]
fn scopes_in_a_row_leave_turns_to_other_tasks() {
    guarded_for(Duration::from_secs(300), || {
        for host in HOSTS {
            // Without the feature nothing looks at tokio's timers before the others have had sixty turns.
            if cfg!(not(feature = "tokio"))
                && matches!(host, Host::CurrentTimer | Host::WorkerTimer)
            {
                continue;
            }
            for inner in INNER {
                for mode in MODES {
                    let opened = lending::with(mode, || host.run(inner));
                    // A scope that gives way, and a window of which a budget is used up; for a timer, some more, since the
                    // machine may be busy. Eight with 2 ms between them are a budget, of which a millisecond each counts, and
                    // one more where a window that takes samples comes between two readings of the clock.
                    let most = match inner {
                        Inner::LongBetween | Inner::Selected(_) => TURNS * 2 * (8 + 1),
                        _ => TURNS * BUDGET * 4,
                    };
                    assert!(
                        opened <= most,
                        "{host:?}, {inner:?}, {mode:?}: {opened} scopes for {TURNS} turns"
                    );
                }
            }
        }
    });
}

/// Of scopes that are tried once and dropped, each in a poll of its own of the task, how many had not begun in a row at most.
fn not_begun_in_a_row(inside: bool) -> usize {
    let tries = async || {
        let (mut row, mut most) = (0_usize, 0);
        for _ in 0..5000 {
            let begun = scope(async |s| drop(s.spawn(async { compute() })));
            row = match begun.now_or_never() {
                Some(()) => 0,
                None => row + 1,
            };
            most = most.max(row);
            checkpoint().await.unwrap();
        }
        most
    };
    let task = async move {
        match inside {
            true => scope(async |s| s.spawn(tries()).await).inline().await,
            false => tries().await,
        }
    };
    futures::executor::block_on(task)
}

// After each 5 ms of work sixteen were not begun, then thirty-two, and so on.
#[test]
fn scopes_that_are_tried_once_and_dropped_are_begun() {
    guarded_for(Duration::from_secs(120), || {
        for inside in [false, true] {
            let most = guarded(move || not_begun_in_a_row(inside));
            assert!(most <= 1, "{most} in a row, inside: {inside}");
        }
    });
}

// Each loop had 5 ms in each poll of the task.
#[test]
fn loops_of_scopes_side_by_side_in_a_task_have_the_time_of_one() {
    const LOOPS: usize = 16;
    guarded_for(Duration::from_secs(120), || {
        let (opened, other) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let loops = (0..LOOPS).map(|_| opens(Inner::Child, opened, other));
        let all = async { futures::join!(turns(other), futures::future::join_all(loops)) };
        let ((), _) = futures::executor::block_on(all);
        let opened = opened.load(Ordering::SeqCst);
        assert!(
            opened <= TURNS * BUDGET * 4,
            "{opened} scopes for {TURNS} turns"
        );
    });
}
