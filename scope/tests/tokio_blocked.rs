//! A scope on a worker of tokio's that somebody blocks in another executor: the wake that it has put off never comes.
#![cfg(all(feature = "tokio", not(selvedge_loom)))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::guarded;
use common::hosts::{current, multi};
use futures::executor::block_on;
use futures::task::AtomicWaker;
use selvedge_scope::scope;
use tokio::task::{LocalSet, unconstrained};

const WINDOWS: u32 = 20;
/// Much longer than a wait that ends by the alarm.
const STALL: Duration = Duration::from_millis(100);

/// How long nobody was polled, each time.
type Waits = Arc<Mutex<Vec<Duration>>>;

/// A scope that computes for so many windows.
fn computes(windows: u32, waits: &Waits) -> impl Future<Output = ()> + Send + use<> {
    let waits = waits.clone();
    let all = scope(async move |s| {
        s.spawn(async move {
            for _ in 0..50 * windows {
                common::burn(Duration::from_micros(100));
                let from = Instant::now();
                selvedge_cancel::checkpoint().await.unwrap();
                waits.lock().unwrap().push(from.elapsed());
            }
        })
        .await;
    });
    all.inline()
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    LocalSet,
    RunUntil,
    Joined,
    /// Polled by turns with and without the task's budget.
    ByTurns,
    /// Short scopes one after another, on a worker that has seen long rounds.
    AfterLongRounds,
}

async fn long_rounds() {
    let busy = tokio::spawn(async {
        for _ in 0..8 {
            std::thread::sleep(4 * STALL);
            tokio::task::yield_now().await;
        }
    });
    tokio::spawn(computes(6, &Waits::default())).await.unwrap();
    busy.abort();
}

async fn drive(way: Way, waits: Waits) {
    if let Way::AfterLongRounds = way {
        long_rounds().await;
    }
    let blocked = async move {
        let one = computes(WINDOWS, &waits);
        match way {
            Way::Plain => block_on(one),
            Way::LocalSet => {
                let local = LocalSet::new();
                local.spawn_local(one);
                block_on(local);
            }
            Way::RunUntil => block_on(LocalSet::new().run_until(async {
                tokio::task::spawn_local(one).await.unwrap();
            })),
            Way::Joined => {
                let all = (0..4).map(|_| computes(WINDOWS / 4, &waits));
                block_on(futures::future::join_all(all));
            }
            Way::ByTurns => {
                let (mut one, mut turn) = (Box::pin(one), 0);
                block_on(poll_fn(|cx| {
                    turn += 1;
                    match turn % 2 {
                        0 => pin!(unconstrained(one.as_mut())).poll(cx),
                        _ => one.as_mut().poll(cx),
                    }
                }));
            }
            Way::AfterLongRounds => {
                for _ in 0..WINDOWS / 2 {
                    block_on(computes(2, &waits));
                }
            }
        }
    };
    tokio::spawn(blocked).await.unwrap();
}

// The alarm took the worker for one that goes on with its tasks where the polls of the one task had different budgets, and
// waited for longer and longer, up to 320 ms after each window.
#[test]
fn scope_in_another_executor_on_a_worker_goes_on_soon() {
    guarded(|| {
        let ways = [
            Way::Plain,
            Way::LocalSet,
            Way::RunUntil,
            Way::Joined,
            Way::ByTurns,
            Way::AfterLongRounds,
        ];
        for way in ways {
            for runtime in [current(), multi(1)] {
                let waits = Waits::default();
                runtime.block_on(drive(way, waits.clone()));
                let waits = waits.lock().unwrap();
                let stalls = waits.iter().filter(|wait| **wait >= STALL).count();
                // The system may put a thread aside for as long now and then.
                assert!(stalls <= 2, "{way:?}: {stalls} stalls");
            }
        }
    });
}

/// Wakes a thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

// Each wake from outside let go of what was put off, and the next window put off another one, for as long as the worker was
// blocked.
#[test]
fn wakes_that_are_put_off_on_a_blocked_worker_do_not_pile_up() {
    guarded(|| {
        for runtime in [current(), multi(1)] {
            let most = runtime.block_on(async {
                tokio::spawn(async {
                    let unpark = Arc::new(Unpark(std::thread::current()));
                    let waker = Waker::from(unpark.clone());
                    let (woken, over) = (AtomicWaker::new(), AtomicBool::new(false));
                    // Of a hundred windows.
                    let pieces = AtomicUsize::new(0);
                    let whole = scope(async |s| {
                        // Somebody whom another thread wakes on and on.
                        drop(s.spawn(poll_fn(|cx| {
                            woken.register(cx.waker());
                            match over.load(Ordering::SeqCst) {
                                true => Poll::Ready(()),
                                false => Poll::Pending,
                            }
                        })));
                        // And somebody who has always something to do.
                        drop(s.spawn(async {
                            while pieces.fetch_add(1, Ordering::SeqCst) < 5000 {
                                common::burn(Duration::from_micros(100));
                                selvedge_cancel::checkpoint().await.unwrap();
                            }
                            over.store(true, Ordering::SeqCst);
                        }));
                    });
                    let mut whole = pin!(whole.inline());
                    std::thread::scope(|threads| {
                        threads.spawn(|| {
                            while !over.load(Ordering::SeqCst) {
                                woken.wake();
                                std::thread::sleep(Duration::from_millis(1));
                            }
                            woken.wake();
                        });
                        let mut most = 0;
                        while whole
                            .as_mut()
                            .poll(&mut Context::from_waker(&waker))
                            .is_pending()
                        {
                            most = most.max(Arc::strong_count(&unpark));
                            std::thread::park();
                        }
                        most
                    })
                })
                .await
                .unwrap()
            });
            // Its own, the scope's, the alarm's, and of several that were put off before it was found that it is of no use.
            assert!(most <= 16, "{most} wakers in a hundred windows");
        }
    });
}

/// Wakes the thread that is blocked; counts who else calls it than that.
struct Elsewhere(Waker, std::thread::ThreadId, Arc<AtomicUsize>);

impl Wake for Elsewhere {
    fn wake(self: Arc<Self>) {
        let is_elsewhere = std::thread::current().id() != self.1;
        self.2
            .fetch_add(usize::from(is_elsewhere), Ordering::SeqCst);
        self.0.wake_by_ref();
    }
}

/// Runs a future in another executor, and counts who wakes it from elsewhere.
fn block_counting(future: impl Future<Output = ()>, counted: Arc<AtomicUsize>) {
    let (mut future, me) = (pin!(future), std::thread::current().id());
    let mut waker = None;
    block_on(poll_fn(|cx| {
        let waker = waker.get_or_insert_with(|| {
            let parent = cx.waker().clone();
            Waker::from(Arc::new(Elsewhere(parent, me, counted.clone())))
        });
        future.as_mut().poll(&mut Context::from_waker(waker))
    }));
}

// Each scope that gave way in its first poll found out anew that nobody would wake it, and waited for its alarm.
#[test]
fn scopes_in_a_row_in_another_executor_on_a_worker_wait_for_few_alarms() {
    /// Each computes for 50 us, so a hundred of them use up a budget.
    const SCOPES: usize = 4000;

    guarded(|| {
        for runtime in [current(), multi(1)] {
            let alarms = Arc::new(AtomicUsize::new(0));
            let counted = alarms.clone();
            let blocked = async move {
                let scopes = async {
                    for _ in 0..SCOPES {
                        let one = async || {
                            common::burn(Duration::from_micros(50));
                            selvedge_cancel::checkpoint().await.unwrap();
                        };
                        scope(async |s| drop(s.spawn(one()))).inline().await;
                    }
                };
                block_counting(scopes, counted);
            };
            runtime.block_on(async { tokio::spawn(blocked).await.unwrap() });
            let alarms = alarms.load(Ordering::SeqCst);
            assert!(alarms <= 10, "{alarms} alarms");
        }
    });
}

// The same for scopes that give way since it cannot be told whether tokio polls them.
#[test]
fn scopes_of_which_nothing_is_known_wait_for_few_alarms() {
    guarded(|| {
        for runtime in [current(), multi(1)] {
            let alarms = Arc::new(AtomicUsize::new(0));
            let counted = alarms.clone();
            let blocked = unconstrained(async move {
                let scopes = async {
                    for _ in 0..100 {
                        let one = async || common::burn(Duration::from_micros(50));
                        scope(async |s| drop(s.spawn(one()))).await;
                    }
                };
                block_counting(scopes, counted);
            });
            runtime.block_on(async { tokio::spawn(blocked).await.unwrap() });
            let alarms = alarms.load(Ordering::SeqCst);
            assert!(alarms <= 10, "{alarms} alarms");
        }
    });
}
