//! The stages of a `ParStream`: each makes a longer one. What they do with an item is in
//! the files under `stage`.

use std::future::Future;

use super::ParStream;
use crate::pipe::Pipe;
use crate::stage::fold::{Fold, TryFold};
use crate::stage::map::{Filter, FilterMap, Inspect, Map};
use crate::stage::then::{Then, ThenFilter};

impl<P: Pipe> ParStream<P> {
    /// Changes every item.
    ///
    /// Consecutive synchronous stages compile to one loop. For a closure that has to wait
    /// there is [`then`](Self::then).
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let shouted: Vec<String> =
    ///     ["warp", "weft"].into_par().map(str::to_uppercase).collect().await;
    /// assert_eq!(shouted, ["WARP", "WEFT"]);
    /// # });
    /// ```
    pub fn map<R: Send, F: Fn(P::Item) -> R + Send + Sync>(self, f: F) -> ParStream<Map<P, F>> {
        self.stage(|pipe| Map::new(pipe, f))
    }

    /// Keeps the items for which `f` says `true`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let odd: Vec<u8> = (0..9).into_par().filter(|n| n % 2 == 1).collect().await;
    /// assert_eq!(odd, [1, 3, 5, 7]);
    /// # });
    /// ```
    pub fn filter<F: Fn(&P::Item) -> bool + Send + Sync>(self, f: F) -> ParStream<Filter<P, F>> {
        self.stage(|pipe| Filter::new(pipe, f))
    }

    /// Changes every item, or drops it.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let numbers: Vec<u8> =
    ///     ["3", "x", "5"].into_par().filter_map(|s| s.parse::<u8>().ok()).collect().await;
    /// assert_eq!(numbers, [3, 5]);
    /// # });
    /// ```
    pub fn filter_map<R: Send, F: Fn(P::Item) -> Option<R> + Send + Sync>(
        self,
        f: F,
    ) -> ParStream<FilterMap<P, F>> {
        self.stage(|pipe| FilterMap::new(pipe, f))
    }

    /// Looks at every item on its way.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// # selvedge_scope::block_on(async {
    /// let bytes = AtomicU64::new(0);
    /// let files = [3u64, 5, 8].into_par().inspect(|&n| { bytes.fetch_add(n, Relaxed); });
    /// assert_eq!(files.count().await, 3);
    /// assert_eq!(bytes.into_inner(), 16);
    /// # });
    /// ```
    pub fn inspect<F: Fn(&P::Item) + Send + Sync>(self, f: F) -> ParStream<Inspect<P, F>> {
        self.stage(|pipe| Inspect::new(pipe, f))
    }

    /// Changes every item by an asynchronous closure.
    ///
    /// Up to [`concurrency`](Self::concurrency) items (64 if it is not set) are under way;
    /// their futures live inside the pipeline, so there is no allocation and no task an
    /// item. The futures are polled by whatever thread polls their lane.
    ///
    /// A closure `async move |item| …` that owns a capture is refused ("does not implement
    /// `Fn`"): take a reference to the value first, and leave the `move` away.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// async fn fetch(id: u32) -> String {
    ///     format!("page {id}")
    /// }
    ///
    /// # selvedge_scope::block_on(async {
    /// let pages: Vec<String> = (1..=3).into_par().then(fetch).collect().await;
    /// assert_eq!(pages, ["page 1", "page 2", "page 3"]);
    /// # });
    /// ```
    ///
    /// Compares with `buffered` and `buffer_unordered`, which run on one core, allocate for
    /// each item, and stand still while the loop over them is busy.
    pub fn then<Fut, F>(self, f: F) -> ParStream<Then<P, F, Fut>>
    where
        Fut: Future<Output: Send> + Send,
        F: Fn(P::Item) -> Fut + Send + Sync,
    {
        self.stage(|pipe| Then::new(pipe, f))
    }

    /// Keeps the items for which an asynchronous `f` says `true`.
    ///
    /// The future cannot borrow the item: copy out of it what the decision needs. An
    /// `async |item| …` closure is refused, since its future would: write
    /// `|&item| async move { … }`.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// async fn exists(id: u32) -> bool {
    ///     id != 2
    /// }
    ///
    /// # selvedge_scope::block_on(async {
    /// let there: Vec<u32> = (1..=3).into_par().then_filter(|&id| exists(id)).collect().await;
    /// assert_eq!(there, [1, 3]);
    /// # });
    /// ```
    pub fn then_filter<Fut, F>(self, f: F) -> ParStream<ThenFilter<P, F, Fut, P::Item>>
    where
        Fut: Future<Output = bool> + Send,
        F: Fn(&P::Item) -> Fut + Send + Sync,
    {
        self.stage(|pipe| ThenFilter::new(pipe, f))
    }

    /// Gathers items into accumulators, several for the whole stream; a terminal such as
    /// [`reduce`](Self::reduce) joins them.
    ///
    /// In an ordered stream every accumulator covers a run of neighbouring items and comes
    /// in its place, so that a reduction that is not commutative comes out right. In an
    /// [`unordered`](Self::unordered) one there is one a lane, the cheaper way for
    /// accumulators that are costly to make or to join, such as maps. Runs are longer the
    /// dearer it is to join them. Behind an asynchronous stage each item of an ordered stream
    /// is a run of its own, since lanes take them one by one. In front of one, as in `fold(…).then(write)`, a run is what a
    /// lane takes from the source at a time; with [`concurrency(n)`](Self::concurrency) say [`batch(b)`](Self::batch) too,
    /// and `n / b` accumulators of `b` items are under way. Nearly each item is a run where several
    /// lanes take items by turns, behind [`par_iter`](crate::par_iter) or under a small
    /// [`concurrency`](Self::concurrency). Say `unordered` there, if
    /// the accumulators are not small. If `init` gives a
    /// neutral value, the number of accumulators cannot be told from the result.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let text = ('a'..='e').collect::<Vec<_>>().into_par()
    ///     .fold(String::new, |mut text, c| { text.push(c); text })
    ///     .reduce(String::new, |left, right| left + &right)
    ///     .await;
    /// assert_eq!(text, "abcde");
    /// # });
    /// ```
    pub fn fold<A, I, F>(self, init: I, f: F) -> ParStream<Fold<P, I, F, A>>
    where
        A: Send,
        I: Fn() -> A + Send + Sync,
        F: Fn(A, P::Item) -> A + Send + Sync,
    {
        self.stage(|pipe| Fold::new(pipe, init, f))
    }

    /// As [`fold`](Self::fold), by a closure that may fail; [`try_reduce`](Self::try_reduce)
    /// joins the accumulators and ends with the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let add = |sum: u8, n: u8| sum.checked_add(n).ok_or("too much");
    /// let sum = (1..=9u8).into_par().try_fold(|| 0, add).try_reduce(|| 0, add).await;
    /// assert_eq!(sum, Ok(45));
    /// let sum = (1..=90u8).into_par().try_fold(|| 0, add).try_reduce(|| 0, add).await;
    /// assert_eq!(sum, Err("too much"));
    /// # });
    /// ```
    pub fn try_fold<A, E, I, F>(self, init: I, f: F) -> ParStream<TryFold<P, I, F, A>>
    where
        A: Send,
        E: Send,
        I: Fn() -> A + Send + Sync,
        F: Fn(A, P::Item) -> Result<A, E> + Send + Sync,
    {
        self.stage(|pipe| TryFold::new(pipe, init, f))
    }
}
