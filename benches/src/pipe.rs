//! The same many items through a parallel pipeline, by us and by each peer. All return the sum of what the
//! items became.

use std::future::Future;

use futures::{Stream, StreamExt, stream};
use rayon::iter::{IntoParallelIterator, ParallelBridge, ParallelIterator};
use selvedge::{IntoPar, ParStreamExt, Pool, block_on};
use tokio::runtime::Runtime;

/// The source of every stream: always ready.
fn source(count: u64) -> impl Stream<Item = u64> + Send + Unpin {
    stream::iter(0..count)
}

/// A stream, mapped by lanes.
pub fn ours_stream(pool: &Pool, count: u64, f: impl Fn(u64) -> u64 + Send + Sync) -> u64 {
    block_on(source(count).par().on(pool).map(f).sum())
}

/// A range, mapped by lanes.
pub fn ours_range(pool: &Pool, count: u64, f: impl Fn(u64) -> u64 + Send + Sync) -> u64 {
    block_on((0..count).into_par().on(pool).map(f).sum())
}

/// An async stage over a stream, so many items in flight.
pub fn ours_then<Fut>(
    pool: &Pool,
    count: u64,
    in_flight: usize,
    f: impl Fn(u64) -> Fut + Send + Sync,
) -> u64
where
    Fut: Future<Output = u64> + Send,
{
    let items = source(count).par().on(pool).concurrency(in_flight);
    block_on(items.then(f).sum())
}

/// One thread.
pub fn sequential(count: u64, f: impl Fn(u64) -> u64) -> u64 {
    block_on(source(count).fold(0, |sum, i| std::future::ready(sum + f(i))))
}

/// rayon over a range.
pub fn par_iter(pool: &rayon::ThreadPool, count: u64, f: impl Fn(u64) -> u64 + Send + Sync) -> u64 {
    pool.install(|| (0..count).into_par_iter().map(&f).sum())
}

/// rayon over an iterator whose items are handed out one by one.
pub fn par_bridge(
    pool: &rayon::ThreadPool,
    count: u64,
    f: impl Fn(u64) -> u64 + Send + Sync,
) -> u64 {
    pool.install(|| (0..count).par_bridge().map(&f).sum())
}

/// A task an item, so many at a time.
pub fn buffer_unordered<Fut>(
    tokio: &Runtime,
    count: u64,
    in_flight: usize,
    f: impl Fn(u64) -> Fut,
) -> u64
where
    Fut: Future<Output = u64> + Send + 'static,
{
    let tasks = source(count)
        .map(|i| tokio::spawn(f(i)))
        .buffer_unordered(in_flight);
    tokio.block_on(tasks.fold(0, |sum, item| {
        std::future::ready(sum + item.expect("items do not panic"))
    }))
}

/// All items on one thread, so many at a time.
pub fn buffer_unordered_alone<Fut: Future<Output = u64>>(
    count: u64,
    in_flight: usize,
    f: impl Fn(u64) -> Fut,
) -> u64 {
    let items = source(count).map(f).buffer_unordered(in_flight);
    block_on(items.fold(0, |sum, item| std::future::ready(sum + item)))
}

/// `for_each_concurrent`, on one thread.
pub fn for_each_concurrent<Fut: Future<Output = u64>>(
    count: u64,
    in_flight: usize,
    f: impl Fn(u64) -> Fut,
) -> u64 {
    let sum = std::cell::Cell::new(0);
    let (f, total) = (&f, &sum);
    block_on(
        source(count).for_each_concurrent(in_flight, |i| async move {
            let item = f(i).await;
            total.set(total.get() + item);
        }),
    );
    sum.get()
}

/// `par-stream`: a task a worker, with channels between.
pub fn par_stream<Fut>(
    tokio: &Runtime,
    count: u64,
    f: impl Fn(u64) -> Fut + Clone + Send + 'static,
) -> u64
where
    Fut: Future<Output = u64> + Send + 'static,
{
    use par_stream::ParStreamExt;

    tokio.block_on(async {
        let items = stream::iter(0..count).par_then_unordered(None, f);
        items
            .fold(0, |sum, item| std::future::ready(sum + item))
            .await
    })
}
