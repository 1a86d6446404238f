//! Work that opens work: a source that runs a parallel pipeline of its own inside `next` or `poll_next`,
//! and the innermost of ten scopes on ten pools, which uses the handles of all of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::stream;
use selvedge::testing::lending::{Lending, with};
use selvedge::{Pool, block_on, cancel, join_all, par_iter, prelude::*};

use super::{everywhere, yields};

#[test]
fn source_that_opens_parallel_work_inside_next() {
    everywhere(|what, pool| {
        let inner = Pool::builder().threads(1).build();
        for below in [pool, &inner] {
            let calls = AtomicUsize::new(0);
            let items = std::iter::from_fn(|| {
                let n = calls.fetch_add(1, SeqCst) as u64;
                // Blocks this thread until all of it is through, on whatever threads help.
                let sum = block_on(
                    (0..100u64)
                        .into_par()
                        .on(below)
                        .then(async |n| {
                            yields(1).await;
                            n
                        })
                        .sum::<u64>(),
                );
                assert_eq!(sum, 4950);
                (n < 20).then_some(n)
            });
            let all: Vec<u64> = block_on(par_iter(items).on(pool).map(|n| n + 1).collect());
            assert!(all.into_iter().eq(1..=20), "{what}");
            assert_eq!(calls.into_inner(), 21, "{what}");
        }
    });
}

#[test]
fn stream_that_opens_parallel_work_inside_poll_next() {
    everywhere(|what, pool| {
        let scopes = AtomicUsize::new(0);
        let items = stream::unfold(0u64, |n| {
            let scopes = &scopes;
            async move {
                let sum: u64 = scope(async |s| {
                    scopes.fetch_add(1, SeqCst);
                    let halves = (0..2).map(|half| {
                        s.spawn(async move {
                            yields(2).await;
                            let own = (0..10u64).into_par().map(move |n| n + half);
                            own.sum::<u64>().await
                        })
                    });
                    join_all(halves.collect::<Vec<_>>()).await.into_iter().sum()
                })
                .on(pool)
                .await;
                assert_eq!(sum, 100);
                (n < 20).then_some((n, n + 1))
            }
        });
        let all: Vec<u64> = block_on(
            items
                .par()
                .on(pool)
                .concurrency(3)
                .then(async |n| {
                    yields(n as usize % 3).await;
                    n
                })
                .collect(),
        );
        assert!(all.into_iter().eq(0..20), "{what}");
        assert_eq!(scopes.into_inner(), 21, "{what}");
    });
}

type Job<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the innermost scope can do with one further out.
trait Level: Sync {
    fn spawn(&self) -> Job<'_, usize>;
    fn len(&self) -> usize;
    /// Cancels a child that waits to be cancelled, and awaits it.
    fn cancel(&self) -> Job<'_, usize>;
}

struct Open<'env> {
    s: Scope<'env>,
    waits: Mutex<Option<JoinHandle<'env, usize>>>,
}

impl Level for Open<'_> {
    fn spawn(&self) -> Job<'_, usize> {
        Box::pin(self.s.spawn(async {
            yields(2).await;
            5
        }))
    }

    fn len(&self) -> usize {
        self.s.len()
    }

    fn cancel(&self) -> Job<'_, usize> {
        let child = self.waits.lock().unwrap().take().unwrap();
        child.cancel();
        Box::pin(child)
    }
}

#[derive(Clone, Copy)]
struct Link<'a> {
    level: &'a dyn Level,
    outer: Option<&'a Link<'a>>,
}

/// Opens so many scopes, each in the body of the one before and on a pool of its own.
fn open<'a>(pools: &'a [Pool], outer: Option<&'a Link<'a>>, used: &'a AtomicUsize) -> Job<'a, ()> {
    let Some((pool, pools)) = pools.split_first() else {
        return Box::pin(innermost(outer, used));
    };
    Box::pin(async move {
        scope(async |s| {
            let waits = s.spawn(async {
                cancel::cancelled().await;
                7
            });
            let level = Open {
                s,
                waits: Mutex::new(Some(waits)),
            };
            let link = Link {
                level: &level,
                outer,
            };
            open(pools, Some(&link), used).await;
        })
        .on(pool)
        .await;
    })
}

async fn innermost(outer: Option<&Link<'_>>, used: &AtomicUsize) {
    let pool = Pool::builder().threads(1).build();
    scope(async |s| {
        let mut link = outer;
        while let Some(Link { level, outer }) = link {
            drop(s.spawn(async move {
                assert!(level.len() >= 1, "the one that waits");
                let spawned = level.spawn().await;
                let cancelled = level.cancel().await;
                assert_eq!((spawned, cancelled), (5, 7));
                used.fetch_add(1, SeqCst);
            }));
            link = *outer;
        }
    })
    .on(&pool)
    .await;
}

#[test]
fn innermost_of_ten_scopes_on_ten_pools_uses_the_handles_of_all() {
    super::guarded(|| {
        for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
            let pools: Vec<Pool> = (0..10)
                .map(|_| Pool::builder().threads(1).build())
                .collect();
            for _ in 0..10 {
                let used = AtomicUsize::new(0);
                with(mode, || block_on(open(&pools, None, &used)));
                assert_eq!(used.into_inner(), 10, "{mode:?}");
            }
        }
    });
}
