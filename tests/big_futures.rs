//! How much stack a big future takes on its way to its place, in a build without optimisation: on every way in no
//! more than tokio's `spawn` takes, or its `block_on`. What counts is how often the future lies on the stack at a time.
//!
//! A stack that is too small ends the process, so each try is this program again, in a child process.
#![cfg(feature = "testing")]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use selvedge::cancel::shield;
use selvedge::testing::lending::{Lending, with};
use selvedge::{
    FutureCancelExt, IntoPar, Pool, Scope, SelectSafe, TryScope, block_on, join, join_all, scope,
    select_safe, timeout, try_join, try_join_all, try_scope,
};

/// Bytes of a big future.
const BIG: usize = 128 << 10;
/// What frames differ in besides: half a future, so that one more of them is noticed.
const FRAMES: usize = BIG / 2;
/// Stack of a thread that is not measured.
const AMPLE: usize = 64 << 20;

const INSIDE: &str = "SELVEDGE_TEST_BIG_FUTURES";

/// A big future that waits for one turn. Its poll takes next to no stack.
struct Big<const N: usize> {
    room: [u8; N],
    waited: bool,
}

#[inline(never)]
fn big<const N: usize>() -> Big<N> {
    Big {
        room: [1; N],
        waited: false,
    }
}

impl<const N: usize> Future for Big<N> {
    type Output = Result<usize, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(usize::from(black_box(&this.room)[N - 1])))
    }
}

impl<const N: usize> SelectSafe for Big<N> {}

/// A big thing for closures to hold.
struct Room([u8; BIG]);

impl Room {
    #[inline(never)]
    fn new() -> Self {
        Self([1; BIG])
    }

    fn look(&self) -> Result<usize, ()> {
        Ok(usize::from(black_box(&self.0)[BIG - 1]))
    }
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

const LONG: Duration = Duration::from_secs(3600);

type Way = (&'static str, fn(usize));

/// Runs `f` on a thread with that much stack.
fn on_stack<T: Send>(stack: usize, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(stack);
        thread.spawn_scoped(threads, f).unwrap().join().unwrap()
    })
}

/// What tokio does with a future of this size, on a stack of that size.
fn tokio_spawn<const N: usize>(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async { tokio::spawn(big::<N>()).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

fn tokio_block_on(stack: usize) {
    on_stack(stack, || assert_eq!(tokio().block_on(big::<BIG>()), Ok(1)));
}

fn tokio_timeout(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async { tokio::time::timeout(LONG, big::<BIG>()).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

/// A spawn that might give the future back, with nothing of ours in it.
fn tokio_try_spawn(stack: usize) {
    type Spawned<F> = tokio::task::JoinHandle<<F as Future>::Output>;
    fn try_spawn<F>(future: F, closed: bool) -> Result<Spawned<F>, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if closed {
            Err(future)
        } else {
            Ok(tokio::spawn(future))
        }
    }
    on_stack(stack, || {
        let spawned = async {
            try_spawn(big::<BIG>(), black_box(false))
                .ok()
                .unwrap()
                .await
        };
        assert_eq!(tokio().block_on(spawned).unwrap(), Ok(1));
    });
}

/// A closure that is a task's one poll.
fn tokio_spawn_fn(stack: usize) {
    fn spawn_fn<T: Send + 'static>(
        f: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        tokio::spawn(async move { f() })
    }
    on_stack(stack, || {
        let spawned = async {
            let room = Room::new();
            spawn_fn(move || room.look()).await
        };
        assert_eq!(tokio().block_on(spawned).unwrap(), Ok(1));
    });
}

fn futures_join(stack: usize) {
    on_stack(stack, || {
        let both = futures::future::join(big::<BIG>(), big::<BIG>());
        assert_eq!(tokio().block_on(both), (Ok(1), Ok(1)));
    });
}

fn futures_join_all_of_an_array(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::join_all([big::<BIG>(), big::<BIG>()]);
        assert_eq!(tokio().block_on(all), [Ok(1), Ok(1)]);
    });
}

fn futures_join_all_of_a_range(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::join_all((0..2).map(|_| big::<BIG>()));
        assert_eq!(tokio().block_on(all), [Ok(1), Ok(1)]);
    });
}

fn futures_buffered(stack: usize) {
    on_stack(stack, || {
        let items = stream::iter(0..2).map(|_| async { big::<BIG>().await.unwrap() });
        let all = items.buffer_unordered(2).collect::<Vec<_>>();
        assert_eq!(tokio().block_on(all), [1, 1]);
    });
}

fn futures_join_all_of_some(stack: usize) {
    on_stack(stack, || {
        let some = (0..4).filter(|i| i % 2 == 0).map(|_| big::<BIG>());
        assert_eq!(
            tokio().block_on(futures::future::join_all(some)),
            [Ok(1), Ok(1)]
        );
    });
}

fn futures_try_join_all_of_a_range(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::try_join_all((0..2).map(|_| big::<BIG>()));
        assert_eq!(tokio().block_on(all), Ok(vec![1, 1]));
    });
}

fn tokio_spawn_wrapped(stack: usize) {
    on_stack(stack, || {
        let got = tokio()
            .block_on(async { tokio::spawn(tokio::task::unconstrained(big::<BIG>())).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

fn tokio_timeouts(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async {
            let inner = tokio::time::timeout(LONG, big::<BIG>());
            tokio::time::timeout(LONG, tokio::time::timeout(LONG, inner)).await
        });
        assert_eq!(got.unwrap().unwrap().unwrap(), Ok(1));
    });
}

const REFERENCES: [Way; 13] = [
    ("tokio's spawn", tokio_spawn::<BIG>),
    ("tokio's block_on", tokio_block_on),
    ("tokio's timeout", tokio_timeout),
    ("tokio's spawn, as try_spawn", tokio_try_spawn),
    ("tokio's spawn, as spawn_fn", tokio_spawn_fn),
    ("join of futures", futures_join),
    (
        "join_all of futures, of an array",
        futures_join_all_of_an_array,
    ),
    (
        "join_all of futures, of a range",
        futures_join_all_of_a_range,
    ),
    ("buffer_unordered of futures", futures_buffered),
    (
        "join_all of futures, of what does not know its length",
        futures_join_all_of_some,
    ),
    (
        "try_join_all of futures, of a range",
        futures_try_join_all_of_a_range,
    ),
    ("tokio's spawn of a wrapped one", tokio_spawn_wrapped),
    ("tokio's timeout, three of them", tokio_timeouts),
];
const SPAWN: usize = 0;
const BLOCK_ON: usize = 1;
/// Of what takes a future and is one, or gives it back in its answer.
const COMBINE: usize = 2;
const TRY_SPAWN: usize = 3;
const SPAWN_FN: usize = 4;
// Tokio has no such functions.
const JOIN: usize = 5;
const ARRAY: usize = 6;
const RANGE: usize = 7;
const STREAM: usize = 8;
const SOME: usize = 9;
const TRY_RANGE: usize = 10;
const WRAPPED: usize = 11;
/// What takes a future and is one, three times: each knob takes the scope, and gives it back.
const COMBINE_MORE: usize = 12;

/// In a scope, on a stack of that size.
fn in_scope<F: Future<Output = Result<usize, ()>>>(
    stack: usize,
    body: impl FnOnce(Scope<'static>) -> F + Send,
) {
    on_stack(stack, || assert_eq!(block_on(scope(body)), Ok(1)));
}

fn in_try_scope<F: Future<Output = Result<usize, ()>>>(
    stack: usize,
    body: impl FnOnce(TryScope<'static, ()>) -> F + Send,
) {
    on_stack(stack, || assert_eq!(block_on(try_scope(body)), Ok(1)));
}

fn on_a_helper(stack: usize) {
    let threads = rayon_core::ThreadPoolBuilder::new()
        .num_threads(1)
        .stack_size(stack);
    let pool = Pool::from_rayon(Arc::new(threads.build().unwrap()));
    static SPAWNED: AtomicBool = AtomicBool::new(false);
    let child = async |s: Scope<'static>| {
        while !SPAWNED.load(Ordering::Relaxed) {
            if rayon_core::current_thread_index().is_some() {
                drop(s.spawn(big::<BIG>()));
                SPAWNED.store(true, Ordering::Relaxed);
            }
            selvedge::cancel::checkpoint().await.unwrap();
        }
    };
    on_stack(AMPLE, || {
        with(Lending::Forced, || {
            let body = async |s: Scope<'static>| {
                drop(s.spawn_with(child));
                drop(s.spawn_with(child));
            };
            block_on(scope(body).on(&pool));
        });
    });
    assert!(SPAWNED.load(Ordering::Relaxed), "a helper spawned");
}

fn from_another_thread(stack: usize) {
    on_stack(AMPLE, || {
        let body = async |s: Scope<'static>| {
            on_stack(stack, || drop(s.spawn(big::<BIG>())));
            assert_eq!(s.len(), 1);
        };
        block_on(scope(body));
    });
}

fn try_from_another_thread(stack: usize) {
    on_stack(AMPLE, || {
        let body = async |s: TryScope<'static, ()>| {
            on_stack(stack, || drop(s.try_spawn(big::<BIG>()).unwrap()));
            assert_eq!(s.len(), 1);
            Ok(1)
        };
        assert_eq!(block_on(try_scope(body)), Ok(1));
    });
}

/// A scope that has ended gives the future back.
fn refused(stack: usize) {
    on_stack(stack, || {
        let ended = block_on(scope(async |s: Scope<'static>| s));
        assert!(ended.try_spawn(big::<BIG>()).is_err());
    });
}

/// Each way in with what it is measured by.
const OURS: [(Way, usize); 33] = [
    (
        ("block_on", |n| {
            on_stack(n, || assert_eq!(block_on(big::<BIG>()), Ok(1)))
        }),
        BLOCK_ON,
    ),
    (("scope", |n| in_scope(n, |_| big::<BIG>())), COMBINE),
    (
        ("try_scope", |n| in_try_scope(n, |_| big::<BIG>())),
        COMBINE,
    ),
    (
        ("spawn", |n| {
            in_scope(n, async |s: Scope<'static>| s.spawn(big::<BIG>()).await)
        }),
        SPAWN,
    ),
    (
        ("spawn_with", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_with(|_| big::<BIG>()).await
            })
        }),
        SPAWN,
    ),
    (
        ("spawn_fn", |n| {
            in_scope(n, async |s: Scope<'static>| {
                let room = Room::new();
                s.spawn_fn(move || room.look()).await
            });
        }),
        SPAWN_FN,
    ),
    (
        ("try_spawn", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.try_spawn(big::<BIG>()).unwrap().await
            })
        }),
        TRY_SPAWN,
    ),
    (
        ("spawn_select_safe", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_select_safe(big::<BIG>()).await.unwrap()
            });
        }),
        SPAWN,
    ),
    (
        ("spawn of a child", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_with(async |s: Scope<'static>| s.spawn(big::<BIG>()).await)
                    .await
            });
        }),
        SPAWN,
    ),
    (("spawn on a helper", on_a_helper), SPAWN),
    (("spawn from another thread", from_another_thread), SPAWN),
    (("try_spawn that is refused", refused), COMBINE),
    (
        ("try_scope: spawn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn(big::<BIG>()).await.unwrap())
            })
        }),
        SPAWN,
    ),
    (
        ("try_scope: spawn_with", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn_with(|_| big::<BIG>()).await.unwrap())
            });
        }),
        SPAWN,
    ),
    (
        ("try_scope: spawn_fn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                let room = Room::new();
                Ok(s.spawn_fn(move || room.look()).await.unwrap())
            });
        }),
        SPAWN_FN,
    ),
    (
        ("try_scope: try_spawn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.try_spawn(big::<BIG>()).unwrap().await.unwrap())
            });
        }),
        TRY_SPAWN,
    ),
    (
        ("try_scope: spawn_select_safe", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn_select_safe(big::<BIG>()).await.unwrap())
            });
        }),
        SPAWN,
    ),
    (
        (
            "try_scope: try_spawn from another thread",
            try_from_another_thread,
        ),
        TRY_SPAWN,
    ),
    (
        ("join", |n| {
            on_stack(n, || {
                assert_eq!(block_on(join((big::<BIG>(), big::<BIG>()))), (Ok(1), Ok(1)))
            });
        }),
        JOIN,
    ),
    (
        ("try_join", |n| {
            on_stack(n, || {
                assert_eq!(block_on(try_join((big::<BIG>(), big::<BIG>()))), Ok((1, 1)))
            });
        }),
        JOIN,
    ),
    (
        ("join_all of an array", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(join_all([big::<BIG>(), big::<BIG>()])),
                    [Ok(1), Ok(1)]
                )
            });
        }),
        ARRAY,
    ),
    (
        ("join_all of a range", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(join_all((0..2).map(|_| big::<BIG>()))),
                    [Ok(1), Ok(1)]
                )
            });
        }),
        RANGE,
    ),
    (
        ("join_all of what does not know its length", |n| {
            on_stack(n, || {
                let some = (0..4).filter(|i| i % 2 == 0).map(|_| big::<BIG>());
                assert_eq!(block_on(join_all(some)), [Ok(1), Ok(1)]);
            });
        }),
        SOME,
    ),
    (
        ("try_join_all of an array", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(try_join_all([big::<BIG>(), big::<BIG>()])),
                    Ok(vec![1, 1])
                )
            });
        }),
        ARRAY,
    ),
    (
        ("try_join_all of a range", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(try_join_all((0..2).map(|_| big::<BIG>()))),
                    Ok(vec![1, 1])
                )
            });
        }),
        TRY_RANGE,
    ),
    (
        ("timeout", |n| {
            on_stack(n, || {
                assert_eq!(block_on(timeout(LONG, big::<BIG>())).unwrap(), Ok(1))
            })
        }),
        COMBINE,
    ),
    (
        ("timeout, awaited", |n| {
            on_stack(n, || {
                block_on(async { assert_eq!(timeout(LONG, big::<BIG>()).await.unwrap(), Ok(1)) })
            });
        }),
        COMBINE,
    ),
    (
        ("shield", |n| {
            in_scope(n, async |_: Scope<'static>| {
                shield(LONG, big::<BIG>()).await
            })
        }),
        COMBINE,
    ),
    (
        ("or_cancel", |n| {
            in_scope(n, async |_: Scope<'static>| {
                big::<BIG>().or_cancel().await.unwrap()
            })
        }),
        COMBINE,
    ),
    (
        ("spawn_select_safe of a wrapped one", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_select_safe(select_safe(big::<BIG>()))
                    .await
                    .unwrap()
            });
        }),
        WRAPPED,
    ),
    (
        ("scope with knobs", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(scope(|_| big::<BIG>()).name("big").timeout(LONG).inline()),
                    Ok(1)
                )
            });
        }),
        COMBINE_MORE,
    ),
    (
        ("then", |n| {
            on_stack(n, || {
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then(|_| async { big::<BIG>().await.unwrap() });
                assert_eq!(block_on(items.sum::<usize>()), 2);
            });
        }),
        STREAM,
    ),
    (
        ("then_filter", |n| {
            on_stack(n, || {
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then_filter(|_| async { big::<BIG>().await.is_ok() });
                assert_eq!(block_on(items.count()), 2);
            });
        }),
        STREAM,
    ),
];

/// Whether the way is survived on a stack of that size.
fn fits(kind: &str, index: usize, stack: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "big_future_takes_no_more_stack_than_with_tokio",
            "--nocapture",
        ])
        .env(INSIDE, format!("{kind} {index} {stack}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let overflown = String::from_utf8_lossy(&output.stderr).contains("overflow");
    let survived = text.contains("survived");
    assert!(survived != overflown, "{kind} {index}: {output:?}");
    survived
}

/// The least stack that the way is survived on, to a quarter of a future.
fn least(kind: &str, index: usize) -> usize {
    let (mut no, mut yes) = (0, 64 * BIG);
    while yes - no > BIG / 4 {
        let middle = no.midpoint(yes);
        if fits(kind, index, middle.max(BIG / 4)) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

/// The child process: one way, on one stack.
fn inside(what: &str) {
    let mut words = what.split(' ');
    let (kind, index, stack) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let (index, stack): (usize, usize) = (index.parse().unwrap(), stack.parse().unwrap());
    let run = if kind == "tokio" {
        REFERENCES[index].1
    } else {
        OURS[index].0.1
    };
    run(stack);
    println!("survived");
}

#[test]
fn big_future_takes_no_more_stack_than_with_tokio() {
    if let Ok(what) = std::env::var(INSIDE) {
        return inside(&what);
    }
    if !cfg!(debug_assertions) {
        // What an optimised build copies, on either side, is the optimiser's choice and changes with its version.
        return;
    }
    let futures = |bytes: usize| bytes as f64 / BIG as f64;
    let references: Vec<_> = (0..REFERENCES.len())
        .map(|index| least("tokio", index))
        .collect();
    for (reference, (name, _)) in references.iter().zip(REFERENCES) {
        println!("{name}: {:.2}", futures(*reference));
    }
    let mut worse = Vec::new();
    for (index, ((name, _), reference)) in OURS.iter().enumerate() {
        let most = references[*reference] + FRAMES;
        if std::env::var_os("SELVEDGE_TEST_REPORT").is_some() {
            println!(
                "{name}: {:.2} of {:.2}",
                futures(least("ours", index)),
                futures(most)
            );
        } else if !fits("ours", index, most) {
            worse.push(format!(
                "{name}: {:.2} of {:.2}",
                futures(least("ours", index)),
                futures(most)
            ));
        }
    }
    assert!(worse.is_empty(), "stack in big futures: {worse:#?}");
}
