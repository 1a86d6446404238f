//! The ways into a parallel stream: three extension traits and one function. Which source
//! a collection becomes is decided here, type by type: a blanket implementation over
//! `IntoIterator` could never cut a range without a lock.

use std::collections::{
    BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque, btree_map, btree_set,
    hash_map, hash_set, linked_list, vec_deque,
};
use std::ops::{Range, RangeInclusive};

use futures_core::Stream;

use super::iter::FromIter;
use super::owned::{FromOwned, FromVec};
use super::range::{FromRange, Integer};
use super::slice::{FromSlice, FromSliceMut};
use super::stream::FromStream;
use crate::par::ParStream;
use crate::pipe::Pipe;

/// Adds [`par`](ParStreamExt::par) to every `Send` stream.
///
/// Slices have a `par` of their own, by reference ([`ParRefExt`]); ranges and owned collections take
/// [`into_par`](IntoPar::into_par); any other iterator goes through [`par_iter`](crate::par_iter).
pub trait ParStreamExt: Stream + Send + Sized
where
    Self::Item: Send,
{
    /// Makes this stream a parallel one: its stages run on as many cores as pay.
    ///
    /// Nothing runs before the terminal is awaited. The stream is polled by one lane at a
    /// time, and only when a lane has room for an item. A lane takes what the stream has, up
    /// to a batch, and begins with it as soon as the stream is pending or a few microseconds
    /// are over. A stream that blocks in `poll_next`, as [`stream::iter`] does over an iterator
    /// that waits, holds back what was taken before: use [`par_iter`](crate::par_iter) there.
    ///
    /// [`stream::iter`]: https://docs.rs/futures/latest/futures/stream/fn.iter.html
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::stream;
    /// use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
    ///
    /// # selvedge_scope::block_on(async {
    /// let lengths: Vec<usize> =
    ///     stream::iter(["warp", "weft", "selvedge"]).par().map(str::len).collect().await;
    /// assert_eq!(lengths, [4, 4, 8]);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// A panic of the stream ends the intake; it resumes from the terminal once every item
    /// that was begun has ended.
    fn par(self) -> ParStream<FromStream<Self, Self::Item>> {
        ParStream::new(FromStream::new(self))
    }
}

impl<S: Stream + Send> ParStreamExt for S where S::Item: Send {}

/// Adds [`par`](ParRefExt::par) to slices, and so to arrays and vectors.
pub trait ParRefExt {
    /// What the collection holds.
    type Item;

    /// A parallel stream of references, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
    ///
    /// # selvedge_scope::block_on(async {
    /// let widths = vec![3, 5, 8];
    /// let total: i32 = widths.par().map(|w| w * 2).sum().await;
    /// assert_eq!(total, 32);
    /// # });
    /// ```
    fn par(&self) -> ParStream<FromSlice<'_, Self::Item>>;
}

impl<T: Sync> ParRefExt for [T] {
    type Item = T;

    fn par(&self) -> ParStream<FromSlice<'_, T>> {
        ParStream::new(FromSlice::new(self))
    }
}

/// Adds [`par_mut`](ParMutExt::par_mut) to slices, and so to arrays and vectors.
pub trait ParMutExt {
    /// What the collection holds.
    type Item;

    /// A parallel stream of exclusive references, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
    ///
    /// # selvedge_scope::block_on(async {
    /// let mut widths = [3, 5, 8];
    /// widths.par_mut().for_each(|w| *w *= 10).await;
    /// assert_eq!(widths, [30, 50, 80]);
    /// # });
    /// ```
    fn par_mut(&mut self) -> ParStream<FromSliceMut<'_, Self::Item>>;
}

impl<T: Send> ParMutExt for [T] {
    type Item = T;

    fn par_mut(&mut self) -> ParStream<FromSliceMut<'_, T>> {
        ParStream::new(FromSliceMut::new(self))
    }
}

/// Turns a collection into a parallel stream of what it holds.
///
/// Implemented for integer ranges of up to 64 bits, vectors, arrays, slices, `Option` and the collections
/// of the standard library, by value and (lists excepted) by reference; for any other
/// iterator there is [`par_iter`].
pub trait IntoPar {
    /// The source that the collection becomes.
    type Pipe: Pipe;

    /// Makes the parallel stream. Nothing runs before a terminal is awaited.
    ///
    /// # Examples
    ///
    /// ```
    /// use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt};
    ///
    /// # selvedge_scope::block_on(async {
    /// let squares: u64 = (1..=100u64).into_par().map(|n| n * n).sum().await;
    /// assert_eq!(squares, 338_350);
    /// # });
    /// ```
    fn into_par(self) -> ParStream<Self::Pipe>;
}

/// A parallel stream over any `Send` iterator.
///
/// Lanes take turns at the iterator, one item at a time: a lane works on its item before it
/// calls `next` again. So `next` may wait, for a channel say, and no item that has come waits
/// with it, whatever [`batch`](ParStream::batch) says; but for the accumulator of a
/// [`fold`](ParStream::fold), which waits for its neighbours unless `batch` is 1. It costs some tens of nanoseconds an item;
/// collections, ranges and slices, which cannot wait, are taken in batches by
/// [`IntoPar`] and [`ParRefExt`], which is faster for very small items.
///
/// # Blocking
///
/// Only one lane calls `next` at a time, so heavy work belongs into a stage. While `next`
/// waits, it blocks the thread that called it, and the poll of the terminal lasts at least as
/// long. Other threads finish the items that they have, and then rest. What waits *inside* an
/// asynchronous stage can go on only if another thread is free to poll it. If `next` waits for
/// the answer to such an item, set [`concurrency(1)`](ParStream::concurrency), or use an
/// asynchronous channel, whose stream does not block ([`par`](ParStreamExt::par)).
///
/// # Examples
///
/// ```
/// use selvedge_iter::par_iter;
///
/// # selvedge_scope::block_on(async {
/// let words = "the self-finished edge of a fabric".split(' ');
/// assert_eq!(par_iter(words).filter(|w| w.len() > 3).count().await, 3);
/// # });
/// ```
///
/// A channel, fed by a thread that waits for each answer:
///
/// ```
/// use selvedge_iter::par_iter;
/// use std::sync::mpsc;
///
/// let (ask, asked) = mpsc::channel::<u32>();
/// let (answer, answers) = mpsc::channel();
/// let feeder = std::thread::spawn(move || {
///     (1..=3).map(|n| { ask.send(n).unwrap(); answers.recv().unwrap() }).sum::<u32>()
/// });
/// selvedge_scope::block_on(par_iter(asked).for_each(|n| answer.send(n * n).unwrap()));
/// assert_eq!(feeder.join().unwrap(), 14);
/// ```
///
/// # Panics
///
/// A panic of the iterator ends the intake; it resumes from the terminal once every item
/// that was begun has ended.
pub fn par_iter<I>(iter: I) -> ParStream<FromIter<I::IntoIter, I::Item>>
where
    I: IntoIterator,
    I::IntoIter: Send,
    I::Item: Send,
{
    ParStream::new(FromIter::new(iter.into_iter()))
}

impl<T: Integer> IntoPar for Range<T> {
    type Pipe = FromRange<T>;

    fn into_par(self) -> ParStream<FromRange<T>> {
        ParStream::new(FromRange::open(self))
    }
}

impl<T: Integer + PartialOrd> IntoPar for RangeInclusive<T> {
    type Pipe = FromRange<T>;

    fn into_par(self) -> ParStream<FromRange<T>> {
        ParStream::new(FromRange::inclusive(self))
    }
}

impl<T: Send> IntoPar for Vec<T> {
    type Pipe = FromVec<T>;

    fn into_par(self) -> ParStream<FromVec<T>> {
        ParStream::new(FromVec::new(self))
    }
}

impl<'a, T: Sync> IntoPar for &'a [T] {
    type Pipe = FromSlice<'a, T>;

    fn into_par(self) -> ParStream<FromSlice<'a, T>> {
        ParStream::new(FromSlice::new(self))
    }
}

impl<'a, T: Sync> IntoPar for &'a Vec<T> {
    type Pipe = FromSlice<'a, T>;

    fn into_par(self) -> ParStream<FromSlice<'a, T>> {
        ParStream::new(FromSlice::new(self))
    }
}

impl<'a, T: Sync, const N: usize> IntoPar for &'a [T; N] {
    type Pipe = FromSlice<'a, T>;

    fn into_par(self) -> ParStream<FromSlice<'a, T>> {
        ParStream::new(FromSlice::new(self))
    }
}

impl<'a, T: Send> IntoPar for &'a mut [T] {
    type Pipe = FromSliceMut<'a, T>;

    fn into_par(self) -> ParStream<FromSliceMut<'a, T>> {
        ParStream::new(FromSliceMut::new(self))
    }
}

impl<'a, T: Send> IntoPar for &'a mut Vec<T> {
    type Pipe = FromSliceMut<'a, T>;

    fn into_par(self) -> ParStream<FromSliceMut<'a, T>> {
        ParStream::new(FromSliceMut::new(self))
    }
}

macro_rules! iterated {
    ($([$($g:tt)*] $from:ty => $iter:ty;)*) => { $(
        impl<$($g)*> IntoPar for $from {
            type Pipe = FromOwned<$iter, <$iter as Iterator>::Item>;

            fn into_par(self) -> ParStream<Self::Pipe> {
                ParStream::new(FromOwned::new(self.into_iter()))
            }
        }
    )* };
}

iterated! {
    [T: Send, const N: usize] [T; N] => std::array::IntoIter<T, N>;
    [T: Send] Option<T> => std::option::IntoIter<T>;
    [T: Send] VecDeque<T> => vec_deque::IntoIter<T>;
    [T: Send] LinkedList<T> => linked_list::IntoIter<T>;
    [T: Send] BinaryHeap<T> => std::collections::binary_heap::IntoIter<T>;
    [T: Send] BTreeSet<T> => btree_set::IntoIter<T>;
    [T: Send, S] HashSet<T, S> => hash_set::IntoIter<T>;
    [K: Send, V: Send] BTreeMap<K, V> => btree_map::IntoIter<K, V>;
    [K: Send, V: Send, S] HashMap<K, V, S> => hash_map::IntoIter<K, V>;
    ['a, T: Sync] &'a Option<T> => std::option::Iter<'a, T>;
    ['a, T: Sync] &'a VecDeque<T> => vec_deque::Iter<'a, T>;
    ['a, T: Sync] &'a BTreeSet<T> => btree_set::Iter<'a, T>;
    ['a, T: Sync, S] &'a HashSet<T, S> => hash_set::Iter<'a, T>;
    ['a, K: Sync, V: Sync] &'a BTreeMap<K, V> => btree_map::Iter<'a, K, V>;
    ['a, K: Sync, V: Sync, S] &'a HashMap<K, V, S> => hash_map::Iter<'a, K, V>;
    ['a, K: Sync + Send, V: Send] &'a mut BTreeMap<K, V> => btree_map::IterMut<'a, K, V>;
    ['a, K: Sync + Send, V: Send, S] &'a mut HashMap<K, V, S> => hash_map::IterMut<'a, K, V>;
}
