//! `collect` and `try_collect`: each lane puts its items into one growing vector and notes
//! where runs begin; the collection is made of them at the end, in source order if the
//! pipeline is ordered. No allocation an item, no lock while items are made.

use std::marker::PhantomData;
use std::mem::needs_drop;

use selvedge_cancel::{CancelSource, quietly};

use super::attempt::FirstError;
use super::{Origin, Sink, SinkShape, Verdict};
use crate::held::Held;
use crate::one_by_one::{Rest, drop_all};
use crate::pipe::sealed::Sealed;

/// The terminal behind [`ParStream::collect`](crate::ParStream::collect).
pub struct Collect<C, T> {
    out: PhantomData<fn(T) -> C>,
}

/// The terminal behind [`ParStream::try_collect`](crate::ParStream::try_collect).
pub struct TryCollect<C, T, E> {
    errors: FirstError<E>,
    out: PhantomData<fn(T) -> C>,
}

impl<C, T> std::fmt::Debug for Collect<C, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collect").finish_non_exhaustive()
    }
}

impl<C, T, E> std::fmt::Debug for TryCollect<C, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TryCollect").finish_non_exhaustive()
    }
}

impl<C, T> Collect<C, T> {
    pub(crate) fn new() -> Self {
        Self { out: PhantomData }
    }
}

impl<C, T, E: CancelSource> TryCollect<C, T, E> {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            errors: FirstError::new(ordered),
            out: PhantomData,
        }
    }
}

/// The items of one lane, in the order in which it made them, and the runs they fall into.
#[doc(hidden)]
#[derive(Debug)]
pub struct Heap<T> {
    items: Vec<T>,
    runs: Vec<Mark>,
}

/// A run of the source starts at `first`; its items start at `from` of the heap.
#[derive(Debug, Clone, Copy)]
struct Mark {
    first: u64,
    from: usize,
}

/// One after the other: a destructor that panics leaves the others to be dropped, and the first panic is raised.
impl<T> Drop for Heap<T> {
    fn drop(&mut self) {
        drop_all(std::mem::take(&mut self.items).into_iter());
    }
}

impl<T> Heap<T> {
    const EMPTY: Self = Self {
        items: Vec::new(),
        runs: Vec::new(),
    };

    fn open(&mut self, first: u64) {
        let from = self.items.len();
        match self.runs.last_mut() {
            // The run before has left nothing, so its mark is free.
            Some(last) if last.from == from => last.first = first,
            _ => self.runs.push(Mark { first, from }),
        }
    }
}

/// The items of all lanes, ordered by the runs they belong to.
fn merge<T, C: Default + Extend<T>>(mut heaps: Vec<Heap<T>>) -> C {
    // Should an item's destructor panic in there, what it has of others is dropped in the unwinding.
    let mut out = Held::new(C::default());
    heaps.retain(|heap| !heap.items.is_empty());
    if heaps.iter().all(|heap| heap.runs.is_empty()) {
        // Unordered: any order will do.
        for mut heap in heaps {
            let items = std::mem::take(&mut heap.items);
            if needs_drop::<T>() {
                // Should the collection panic, they are dropped one by one.
                out.get().extend(Rest(items.into_iter()).0.by_ref());
            } else {
                out.get().extend(items);
            }
        }
        return out.give();
    }
    // (first position, lane, how many items)
    let mut runs = Vec::with_capacity(heaps.iter().map(|heap| heap.runs.len()).sum());
    let mut rising = true;
    for (lane, heap) in heaps.iter().enumerate() {
        for (i, run) in heap.runs.iter().enumerate() {
            let end = heap
                .runs
                .get(i + 1)
                .map_or(heap.items.len(), |next| next.from);
            rising &= i == 0 || heap.runs[i - 1].first < run.first;
            runs.push((run.first, lane, run.from, end - run.from));
        }
    }
    runs.sort_unstable_by_key(|run| run.0);
    if rising {
        // Each lane went forwards, so its vector is consumed front to back.
        let mut lanes: Vec<_> = heaps
            .into_iter()
            .map(|mut heap| Rest(std::mem::take(&mut heap.items).into_iter()))
            .collect();
        for (_, lane, _, count) in runs {
            let mut run = lanes[lane].0.by_ref().take(count);
            out.get().extend(run.by_ref());
            // The collection may have taken fewer.
            drop_all(run);
        }
    } else {
        // Some lane took up items that another had given back: pick runs by their place.
        let mut lanes: Vec<_> = heaps
            .into_iter()
            .map(|mut heap| {
                let items = std::mem::take(&mut heap.items).into_iter().map(Some);
                Rest(items.collect::<Vec<_>>().into_iter())
            })
            .collect();
        for (_, lane, from, count) in runs {
            let run = &mut lanes[lane].0.as_mut_slice()[from..from + count];
            out.get().extend(run.iter_mut().filter_map(Option::take));
        }
    }
    out.give()
}

impl<C, T> Sealed for Collect<C, T> {}

impl<C, T> SinkShape for Collect<C, T> {
    type Share = Heap<T>;
}

impl<T: Send, C: Default + Extend<T>> Sink<T> for Collect<C, T> {
    type Out = C;
    const RUNS: bool = true;
    const FAILS: bool = false;

    fn share(&self) -> Heap<T> {
        Heap::EMPTY
    }

    fn open(&self, share: &mut Heap<T>, first: u64) {
        share.open(first);
    }

    #[inline]
    fn feed(&self, share: &mut Heap<T>, _: Origin, item: T) -> Verdict {
        share.items.push(item);
        Verdict::More
    }

    fn finish(&self, shares: Vec<Heap<T>>) -> C {
        merge(shares)
    }
}

impl<C, T, E> Sealed for TryCollect<C, T, E> {}

impl<C, T, E> SinkShape for TryCollect<C, T, E> {
    type Share = Heap<T>;
}

impl<T: Send, E: Send, C: Default + Extend<T>> Sink<Result<T, E>> for TryCollect<C, T, E> {
    type Out = Result<C, E>;
    const RUNS: bool = true;
    const FAILS: bool = true;

    fn share(&self) -> Heap<T> {
        Heap::EMPTY
    }

    fn open(&self, share: &mut Heap<T>, first: u64) {
        share.open(first);
    }

    #[inline]
    fn feed(&self, share: &mut Heap<T>, from: Origin, item: Result<T, E>) -> Verdict {
        match item {
            Ok(item) => {
                share.items.push(item);
                Verdict::More
            }
            Err(error) => self.errors.offer(from, error),
        }
    }

    fn finish(&self, shares: Vec<Heap<T>>) -> Result<C, E> {
        match self.errors.take() {
            Some(error) => {
                // Before the error is in the caller's place, where a panic would lose it.
                quietly(|| drop(shares));
                Err(error)
            }
            None => Ok(merge(shares)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heap, merge};

    fn heap(runs: &[(u64, &[u32])]) -> Heap<u32> {
        let mut heap = Heap::EMPTY;
        for (first, items) in runs {
            heap.open(*first);
            heap.items.extend_from_slice(items);
        }
        heap
    }

    #[test]
    fn rising_lanes_are_merged_in_source_order() {
        let a = heap(&[(0, &[0, 1]), (4, &[4]), (9, &[])]);
        let b = heap(&[(2, &[2, 3]), (5, &[]), (6, &[6, 7, 8])]);
        assert_eq!(merge::<_, Vec<_>>(vec![a, b]), [0, 1, 2, 3, 4, 6, 7, 8]);
    }

    #[test]
    fn lane_that_went_back_is_merged_in_source_order() {
        let a = heap(&[(5, &[5]), (1, &[1]), (7, &[7])]);
        let b = heap(&[(0, &[0]), (2, &[2, 3])]);
        assert_eq!(merge::<_, Vec<_>>(vec![a, b]), [0, 1, 2, 3, 5, 7]);
    }

    #[test]
    fn lanes_without_runs_are_merged_in_any_order() {
        let (mut a, mut b) = (Heap::EMPTY, Heap::EMPTY);
        a.items.extend([1, 2]);
        b.items.extend([3]);
        let mut all: Vec<i32> = merge(vec![a, b]);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    }
}
