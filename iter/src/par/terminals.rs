//! The terminals of a `ParStream`: each gives a `Drive`, the future of its result. How
//! results are gathered is in the files under `sink`.

use std::convert::Infallible;
use std::iter::Sum;

use selvedge_cancel::CancelSource;

use super::ParStream;
use crate::drive::Drive;
use crate::pipe::Pipe;
use crate::sink::attempt::TryForEach;
use crate::sink::gather::{Collect, TryCollect};
use crate::sink::reduce::{Fallible, Reduce, WithIdentity, Without};
use crate::sink::tally::{Count, ForEach, Total};
use crate::stage::each::{Each, Step};

#[allow(
    clippy::type_complexity,
    reason = "the types say what runs; aliases would hide it from who has to name one"
)]
impl<P: Pipe> ParStream<P> {
    /// Calls `f` with every item, and waits for its futures if it is asynchronous.
    ///
    /// Calls happen in any order and at the same time, also in an ordered stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::ParMutExt;
    ///
    /// # selvedge_scope::block_on(async {
    /// let mut picks = [1, 2, 3];
    /// picks.par_mut().for_each(|n| *n += 1).await;
    /// picks.par_mut().for_each(async |n| *n *= 10).await;
    /// assert_eq!(picks, [20, 30, 40]);
    /// # });
    /// ```
    #[track_caller]
    pub fn for_each<M, R, F>(self, f: F) -> Drive<Each<P, F, R, (), M>, ForEach, ()>
    where
        R: Step<(), M>,
        F: Fn(P::Item) -> R + Send + Sync,
    {
        Drive::new(Each::new(self.pipe, f), ForEach(()), self.knobs)
    }

    /// Calls `f` with every item until one fails; `f` may be asynchronous.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let positive = |n: i32| if n > 0 { Ok(()) } else { Err(n) };
    /// assert_eq!([1, 2, 3].into_par().try_for_each(positive).await, Ok(()));
    /// assert_eq!([1, -2, -3].into_par().try_for_each(positive).await, Err(-2));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// The first error in source order; of an [`unordered`](Self::unordered) stream the
    /// first in time. Nothing is taken from the source after an error. What is under way is
    /// asked to stop (its cancel token is cancelled, cause `SiblingFailed`) and awaited; of
    /// what was taken and not begun, an ordered stream still begins what comes before the
    /// failed item, so that it cannot miss the error of one of these.
    ///
    /// An item that was asked to stop and fails because of it does not count, so that it cannot
    /// hide the failure that was the reason. Its error is found out by looking into it, see
    /// [`CancelSource`]: it holds the `Cancelled` of an operation that failed because of the stop. If an
    /// operation answered `Cancelled` and nothing is left of that, the error was made from it and
    /// does not count either. An item that keeps its `Cancelled` elsewhere, and fails with an error
    /// that does not hold it, has failed for a reason of its own.
    #[track_caller]
    pub fn try_for_each<M, E, R, F>(
        self,
        f: F,
    ) -> Drive<Each<P, F, R, Result<(), E>, M>, TryForEach<E>, Result<(), E>>
    where
        E: Send + CancelSource,
        R: Step<Result<(), E>, M>,
        F: Fn(P::Item) -> R + Send + Sync,
    {
        let sink = TryForEach::new(self.knobs.ordered);
        Drive::new(Each::new(self.pipe, f), sink, self.knobs)
    }

    /// Joins all items into one by an associative `f`; `identity` is the result if there
    /// is no item.
    ///
    /// In an ordered stream `f(left, right)` is only called with neighbours, so it need not
    /// be commutative. `identity` must be neutral: `f` may or may not be called with it.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let words = ["self", "-", "finished"];
    /// let word = words.into_par().map(String::from).reduce(String::new, |a, b| a + &b).await;
    /// assert_eq!(word, "self-finished");
    /// # });
    /// ```
    #[track_caller]
    pub fn reduce<I, F>(
        self,
        identity: I,
        f: F,
    ) -> Drive<P, Reduce<WithIdentity<I, F>, P::Item, Infallible>, P::Item>
    where
        I: Fn() -> P::Item + Send + Sync,
        F: Fn(P::Item, P::Item) -> P::Item + Send + Sync,
    {
        let sink = Reduce::new(WithIdentity(identity, f), self.knobs.ordered);
        Drive::new(self.pipe, sink, self.knobs)
    }

    /// As [`reduce`](Self::reduce), with `None` if there is no item.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// assert_eq!([3, 9, 4].into_par().reduce_with(i32::max).await, Some(9));
    /// assert_eq!(None::<i32>.into_par().reduce_with(i32::max).await, None);
    /// # });
    /// ```
    #[track_caller]
    pub fn reduce_with<F>(
        self,
        f: F,
    ) -> Drive<P, Reduce<Without<F>, P::Item, Infallible>, Option<P::Item>>
    where
        F: Fn(P::Item, P::Item) -> P::Item + Send + Sync,
    {
        let sink = Reduce::new(Without(f), self.knobs.ordered);
        Drive::new(self.pipe, sink, self.knobs)
    }

    /// As [`reduce`](Self::reduce), for the `Ok`s of all items and by an `f` that may fail.
    ///
    /// Values on the two sides of an item that has failed are no neighbours.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let product = ["2", "3", "7"].into_par()
    ///     .map(|s| s.parse::<u8>().map_err(|e| e.to_string()))
    ///     .try_reduce(|| 1, |a, b| a.checked_mul(b).ok_or("too much".to_string()))
    ///     .await;
    /// assert_eq!(product, Ok(42));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_for_each`](Self::try_for_each); an error of `f` counts where its right
    /// operand comes from.
    #[track_caller]
    pub fn try_reduce<T, E, I, F>(
        self,
        identity: I,
        f: F,
    ) -> Drive<P, Reduce<Fallible<I, F>, T, E>, Result<T, E>>
    where
        P: Pipe<Item = Result<T, E>>,
        T: Send,
        E: Send + CancelSource,
        I: Fn() -> T + Send + Sync,
        F: Fn(T, T) -> Result<T, E> + Send + Sync,
    {
        let sink = Reduce::new(Fallible(identity, f), self.knobs.ordered);
        Drive::new(self.pipe, sink, self.knobs)
    }

    /// Adds all items up.
    ///
    /// They are added in any grouping and order, also in an ordered stream: sums of floats
    /// may differ in their last digits from run to run.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let sum: u64 = (1..=1000u64).into_par().sum().await;
    /// assert_eq!(sum, 500_500);
    /// # });
    /// ```
    #[track_caller]
    pub fn sum<S: Sum<P::Item> + Sum<S> + Send>(self) -> Drive<P, Total<S>, S> {
        Drive::new(self.pipe, Total::new(), self.knobs)
    }

    /// Counts the items that come through.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::ParRefExt;
    ///
    /// # selvedge_scope::block_on(async {
    /// assert_eq!([3, 8, 5].par().filter(|n| **n > 4).count().await, 2);
    /// # });
    /// ```
    #[track_caller]
    pub fn count(self) -> Drive<P, Count, usize> {
        Drive::new(self.pipe, Count(()), self.knobs)
    }

    /// Puts all items into a collection, in source order unless the stream is
    /// [`unordered`](Self::unordered).
    ///
    /// The collection is made at the end, in one poll, by the thread that polls: a million strings in a `BTreeMap` are
    /// some 0.2 s in which nothing beside runs. For more than that, collect into a `Vec` and build the rest elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    /// use std::collections::BTreeMap;
    ///
    /// # selvedge_scope::block_on(async {
    /// let lengths: BTreeMap<&str, usize> =
    ///     ["warp", "selvedge"].into_par().map(|s| (s, s.len())).collect().await;
    /// assert_eq!(lengths["selvedge"], 8);
    /// # });
    /// ```
    #[track_caller]
    pub fn collect<C: Default + Extend<P::Item>>(self) -> Drive<P, Collect<C, P::Item>, C> {
        Drive::new(self.pipe, Collect::new(), self.knobs)
    }

    /// Puts the `Ok`s of all items into a collection, or ends with an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::IntoPar;
    ///
    /// # selvedge_scope::block_on(async {
    /// let all: Result<Vec<u8>, _> =
    ///     ["1", "2"].into_par().map(str::parse::<u8>).try_collect().await;
    /// assert_eq!(all, Ok(vec![1, 2]));
    /// let all: Result<Vec<u8>, _> =
    ///     ["1", "x", "256"].into_par().map(str::parse::<u8>).try_collect().await;
    /// assert_eq!(all, "x".parse::<u8>().map(|_| vec![]));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_for_each`](Self::try_for_each). What was gathered before is dropped.
    #[track_caller]
    pub fn try_collect<T, E, C>(self) -> Drive<P, TryCollect<C, T, E>, Result<C, E>>
    where
        P: Pipe<Item = Result<T, E>>,
        T: Send,
        E: Send + CancelSource,
        C: Default + Extend<T>,
    {
        let sink = TryCollect::new(self.knobs.ordered);
        Drive::new(self.pipe, sink, self.knobs)
    }
}
