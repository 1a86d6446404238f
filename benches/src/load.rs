//! The same many children, run by us and by each peer. All return the number of children that ended.
//!
//! Results are thrown away where handles are dropped, and counted where they are awaited.

use std::future::Future;
use std::hint::black_box;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selvedge::{Pool, Scope, block_on, scope};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// A scope of so many children whose handles are dropped.
pub fn ours<'env, F, Fut>(pool: &Pool, count: u64, inline: bool, child: F) -> u64
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = u64> + Send + 'env,
{
    let body = async |s: Scope<'env>| {
        for i in 0..count {
            drop(s.spawn(child(i)));
        }
    };
    let scope = scope(body).on(pool);
    block_on(if inline { scope.inline() } else { scope });
    count
}

/// A scope whose body awaits the handle of each child, in order.
pub fn ours_awaited<'env, F, Fut>(pool: &Pool, count: u64, inline: bool, child: F) -> u64
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = u64> + Send + 'env,
{
    let body = async |s: Scope<'env>| {
        let handles: Vec<_> = (0..count).map(|i| s.spawn(child(i))).collect();
        let mut ended = 0;
        for handle in handles {
            black_box(handle.await);
            ended += 1;
        }
        ended
    };
    let scope = scope(body).on(pool);
    block_on(if inline { scope.inline() } else { scope })
}

/// `FuturesUnordered`, drained.
pub fn futures_unordered<Fut: Future<Output = u64>>(count: u64, child: impl Fn(u64) -> Fut) -> u64 {
    block_on(async {
        let mut set: FuturesUnordered<_> = (0..count).map(child).collect();
        let mut ended = 0;
        while let Some(result) = set.next().await {
            black_box(result);
            ended += 1;
        }
        ended
    })
}

/// The `FuturesUnordered` of `futures-buffered`, drained.
pub fn buffered_unordered<Fut: Future<Output = u64>>(
    count: u64,
    child: impl Fn(u64) -> Fut,
) -> u64 {
    block_on(async {
        let mut set: futures_buffered::FuturesUnordered<_> = (0..count).map(child).collect();
        let mut ended = 0;
        while let Some(result) = set.next().await {
            black_box(result);
            ended += 1;
        }
        ended
    })
}

/// `JoinSet` on the workers of a runtime.
pub fn join_set<Fut>(tokio: &Runtime, count: u64, child: impl Fn(u64) -> Fut) -> u64
where
    Fut: Future<Output = u64> + Send + 'static,
{
    tokio.block_on(async {
        let mut set = JoinSet::new();
        for i in 0..count {
            set.spawn(child(i));
        }
        let mut ended = 0;
        while let Some(result) = set.join_next().await {
            black_box(result.expect("children do not panic"));
            ended += 1;
        }
        ended
    })
}

/// `tokio::spawn`, all handles awaited in order.
pub fn tokio_spawn<Fut>(tokio: &Runtime, count: u64, child: impl Fn(u64) -> Fut) -> u64
where
    Fut: Future<Output = u64> + Send + 'static,
{
    tokio.block_on(async {
        let handles: Vec<_> = (0..count).map(|i| tokio::spawn(child(i))).collect();
        let mut ended = 0;
        for handle in handles {
            black_box(handle.await.expect("children do not panic"));
            ended += 1;
        }
        ended
    })
}

/// So many small scopes, one after the other, of `children` each.
pub fn small_scopes<'env, F, Fut>(
    pool: &Pool,
    scopes: u64,
    children: u64,
    inline: bool,
    child: F,
) -> u64
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = u64> + Send + 'env,
{
    let child = &child;
    block_on(async {
        for _ in 0..scopes {
            let body = async |s: Scope<'env>| {
                for i in 0..children {
                    drop(s.spawn(child(i)));
                }
            };
            let scope = scope(body).on(pool);
            if inline {
                scope.inline().await;
            } else {
                scope.await;
            }
        }
    });
    scopes
}

/// `FuturesUnordered` in the place of small scopes.
pub fn small_unordered<Fut: Future<Output = u64>>(
    scopes: u64,
    children: u64,
    child: impl Fn(u64) -> Fut,
) -> u64 {
    block_on(async {
        for _ in 0..scopes {
            let mut set: FuturesUnordered<_> = (0..children).map(&child).collect();
            while let Some(result) = set.next().await {
                black_box(result);
            }
        }
    });
    scopes
}

/// `rayon::scope`, entered from outside its pool.
pub fn rayon_scope(pool: &rayon::ThreadPool, count: u64, job: impl Fn(u64) -> u64 + Sync) -> u64 {
    let job = &job;
    pool.scope(|s| {
        for i in 0..count {
            s.spawn(move |_| {
                black_box(job(i));
            });
        }
    });
    count
}

/// Bare threads, each with its share from the start: what the machine has to give.
pub fn threads(threads: usize, count: u64, job: impl Fn(u64) -> u64 + Sync) -> u64 {
    let share = |thread: u64| {
        for i in (thread..count).step_by(threads) {
            black_box(job(i));
        }
    };
    std::thread::scope(|s| {
        for thread in 1..threads as u64 {
            s.spawn(move || share(thread));
        }
        share(0);
    });
    count
}

/// `TokioScope` of `async-scoped`, which blocks this thread until its children have ended.
pub fn async_scoped<Fut>(tokio: &Runtime, count: u64, child: impl Fn(u64) -> Fut) -> u64
where
    Fut: Future<Output = u64> + Send,
{
    let _context = tokio.enter();
    let ((), results) = async_scoped::TokioScope::scope_and_block(|s| {
        for i in 0..count {
            s.spawn(child(i));
        }
    });
    results.len() as u64
}

/// A scope of `moro`, on one thread.
pub fn moro<'env, Fut>(count: u64, child: impl Fn(u64) -> Fut + Send + Sync + 'env) -> u64
where
    Fut: Future<Output = u64> + Send + 'env,
{
    block_on(moro::async_scope!(|scope| {
        for i in 0..count {
            drop(scope.spawn(child(i)));
        }
        count
    }))
}

/// Our `join_all`.
pub fn join_all<Fut>(count: u64, child: impl Fn(u64) -> Fut) -> u64
where
    Fut: Future<Output = u64> + Send,
{
    block_on(selvedge::join_all((0..count).map(child))).len() as u64
}

/// The `join_all` of `futures`.
pub fn join_all_futures<Fut: Future<Output = u64>>(count: u64, child: impl Fn(u64) -> Fut) -> u64 {
    block_on(futures::future::join_all((0..count).map(child))).len() as u64
}

/// The `join_all` of `futures-buffered`.
pub fn join_all_buffered<Fut: Future<Output = u64>>(count: u64, child: impl Fn(u64) -> Fut) -> u64 {
    block_on(futures_buffered::join_all((0..count).map(child))).len() as u64
}

/// `join` of `futures-concurrency` on a vector.
pub fn join_all_concurrency<Fut: Future<Output = u64>>(
    count: u64,
    child: impl Fn(u64) -> Fut,
) -> u64 {
    use futures_concurrency::future::Join;

    let all: Vec<_> = (0..count).map(child).collect();
    block_on(all.join()).len() as u64
}
