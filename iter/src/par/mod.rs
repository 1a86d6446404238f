//! `ParStream`: the type users chain, and its knobs. Its stages are in `stages`, its
//! terminals in `terminals`; how it runs is in `lane` and `drive`.

mod stages;
mod terminals;

use std::borrow::Cow;
use std::fmt;

use selvedge_scope::Pool;

use crate::pipe::Pipe;
use crate::plan::{Hint, Knobs};

/// A parallel stream: a source, stages, and, once a terminal is awaited, lanes that take
/// items from the source and send them through all stages on as many cores as pay.
///
/// Made by [`par`](crate::ParStreamExt::par), [`into_par`](crate::IntoPar::into_par) and
/// [`par_iter`](crate::par_iter). Closures may borrow from the stack around; they are
/// called by several threads at the same time and so are `Fn + Send + Sync`. An asynchronous
/// closure that owns captures (`async move |x| …`) is refused by the compiler, because its
/// futures would borrow from it: drop the `move`, or take a reference before.
///
/// # Examples
///
/// ```
/// use selvedge_iter::IntoPar;
///
/// # selvedge_scope::block_on(async {
/// let offset = 10; // borrowed by the closure, on whatever thread it runs
/// let evens: Vec<u32> =
///     (0..8u32).into_par().map(|n| n + offset).filter(|n| n % 2 == 0).collect().await;
/// assert_eq!(evens, [10, 12, 14, 16]);
/// # });
/// ```
///
/// # Order
///
/// Items are worked on in any order, and effects happen in any order. *Results* keep the
/// order of the source unless [`unordered`](Self::unordered) gives it up: `collect` puts
/// items where they belong, `reduce` joins neighbours only, and of several errors the first
/// in source order is the result. (An item that awaits something cancellable when a later one fails is cancelled,
/// and has no error of its own any more.)
///
/// # What must be `Send`
///
/// Items, results and the futures of asynchronous stages are `Send`, since any thread may
/// poll a lane; closures are `Sync` too. A collection that `collect` makes, and the value a
/// terminal gives, need not be. For items that are not `Send` there are the combinators of
/// the `futures` crate, on one thread.
///
/// # Cancel safety
///
/// See [`Drive`](crate::Drive), the future of every terminal.
#[must_use = "a parallel stream does nothing before a terminal is awaited"]
pub struct ParStream<P> {
    pipe: P,
    knobs: Knobs,
}

impl<P: fmt::Debug> fmt::Debug for ParStream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParStream")
            .field("pipe", &self.pipe)
            .field("knobs", &self.knobs)
            .finish()
    }
}

impl<P> ParStream<P> {
    pub(crate) fn new(pipe: P) -> Self {
        Self {
            pipe,
            knobs: Knobs::default(),
        }
    }
}

impl<P: Pipe> ParStream<P> {
    /// The same knobs around a longer pipe.
    fn stage<Q>(self, wrap: impl FnOnce(P) -> Q) -> ParStream<Q> {
        ParStream {
            pipe: wrap(self.pipe),
            knobs: self.knobs,
        }
    }

    /// Bounds how many items are taken from the source and not yet finished, items that
    /// wait in a lane's batch included. Every terminal keeps to it.
    ///
    /// Without it, as many synchronous items are worked on as there are threads, and up to
    /// 64 are under way where a stage is asynchronous (or accumulators, behind a `fold`). 0 counts as 1, and more than 65,536
    /// as 65,536. The last call counts, wherever in the chain it stands.
    ///
    /// Where a stage is asynchronous, memory for `n` of its futures is taken at the first poll (or for as many as the source has
    /// items, if it knows how many): a few hundred bytes each, besides the futures. Say what the other side can bear, and not
    /// `usize::MAX`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// # selvedge_scope::block_on(async {
    /// let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    /// (0..100).into_par().concurrency(3).for_each(async |_| {
    ///     most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
    ///     selvedge_cancel::checkpoint().await.ok();
    ///     now.fetch_sub(1, Relaxed);
    /// }).await;
    /// assert!(most.into_inner() <= 3);
    /// # });
    /// ```
    pub fn concurrency(mut self, n: usize) -> Self {
        self.knobs.concurrency = Some(n);
        self
    }

    /// Sets how many items a lane takes from the source at a time; 0 counts as 1.
    ///
    /// Without it the number adapts, so that a batch is worth about 10 µs of work. A fixed
    /// one helps where items are of very unlike weight: 1 keeps a heavy item from holding
    /// back those behind it in its batch. [`concurrency`](Self::concurrency) is kept to even
    /// if that makes batches smaller.
    ///
    /// Asynchronous stages take items one by one, whatever is said here, unless a `fold` before them gathers what waits
    /// there: in an ordered stream `.batch(b).concurrency(n)` has `n / b` accumulators of `b` items at a time, and without
    /// `concurrency` there are 64, of a batch each. An error of `try_fold` that waits there keeps the rest of its batch
    /// waiting, too.
    ///
    /// Everything behind [`par_iter`](crate::par_iter), whose iterator may wait, takes items one by one as well. The number
    /// then only says how many neighbouring items share an accumulator of `fold`, which waits for them with the iterator
    /// unless it is 1; in front of an asynchronous stage each item has its own.
    ///
    /// From a stream a lane takes no more than what is there, and from a range or a slice no more than leaves the other
    /// lanes a share: so batches there become smaller towards the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// assert_eq!((0..1000).into_par().batch(1).count().await, 1000);
    /// # });
    /// ```
    pub fn batch(mut self, n: usize) -> Self {
        self.knobs.batch = Some(n);
        self
    }

    /// Keeps the order of the source in results. This is the default.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let same: Vec<u8> = (0..9).into_par().unordered().ordered().collect().await;
    /// assert_eq!(same, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    /// # });
    /// ```
    pub fn ordered(mut self) -> Self {
        self.knobs.ordered = true;
        self
    }

    /// Gives up the order of the source: results come in any order, an error is the first
    /// in time, and a `fold` has one accumulator a lane.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    /// use std::collections::HashSet;
    ///
    /// # selvedge_scope::block_on(async {
    /// let seen: HashSet<u8> = (0..9).into_par().unordered().collect().await;
    /// assert_eq!(seen.len(), 9);
    /// # });
    /// ```
    pub fn unordered(mut self) -> Self {
        self.knobs.ordered = false;
        self
    }

    /// Lets helpers of this pool work on the pipeline instead of the global one's.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    /// use selvedge_scope::Pool;
    ///
    /// # selvedge_scope::block_on(async {
    /// let alone = Pool::builder().threads(0).build();
    /// assert_eq!((0..100).into_par().on(&alone).count().await, 100);
    /// # });
    /// ```
    pub fn on(mut self, pool: &Pool) -> Self {
        self.knobs.pool = Some(pool.clone());
        self
    }

    /// Says that items are long to work on: help is asked for before the first one. The last hint holds.
    ///
    /// Nobody has to say so: the first items are timed. It is for a stream of few, which would have ended by then, or of
    /// a cold start.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let sums = (1..=4_u64).into_par().heavy().map(|n| (0..n * 100_000).sum::<u64>());
    /// let sums: Vec<_> = sums.collect().await;
    /// assert_eq!(sums[0], 4_999_950_000);
    /// # });
    /// ```
    pub fn heavy(mut self) -> Self {
        self.knobs.hint = Some(Hint::Heavy);
        self
    }

    /// Says that items are short to work on, and perhaps few: no help is asked for before some have been timed and turned
    /// out to be worth it.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let sum: u64 = (1..=4_u64).into_par().cheap().map(|n| n * n).sum().await;
    /// assert_eq!(sum, 30);
    /// # });
    /// ```
    pub fn cheap(mut self) -> Self {
        self.knobs.hint = Some(Hint::Cheap);
        self
    }

    /// Names the pipeline for whoever inspects what is running.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// assert_eq!((1..=4).into_par().named("squares").map(|n| n * n).sum::<i32>().await, 30);
    /// # });
    /// ```
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.knobs.name = Some(name.into());
        self
    }
}
