//! `reduce`, `reduce_with` and `try_reduce`: join items, or the accumulators of a `fold`,
//! into one. In an ordered pipeline only neighbours are joined, so joining need not be
//! commutative: finished runs wait in a sorted map until the run beside them is finished.
//! What has failed, or was not begun after a failure, is part of no run: a gap that stays.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_cancel::{CancelSource, quietly};

pub use super::join::{Fallible, Join, WithIdentity, Without};

use super::attempt::FirstError;
use super::{Origin, Sink, SinkShape, Verdict};
use crate::one_by_one::{OneByOne, Rest, drop_all};
use crate::pipe::sealed::Sealed;
use crate::sync::{Mutex, lock};

/// The terminal behind [`ParStream::reduce`](crate::ParStream::reduce) and its like.
pub struct Reduce<J, V, E> {
    join: J,
    errors: FirstError<E>,
    done: Mutex<Done<V>>,
}

/// What is finished and waits to be joined.
struct Done<V> {
    /// By their first positions.
    runs: BTreeMap<u64, Run<V>>,
    /// Of these, some that had a neighbour among the others when they came.
    left_over: BTreeSet<u64>,
}

impl<V> Done<V> {
    /// Where the run begins that ends here.
    fn before(&self, first: u64) -> Option<u64> {
        let (at, run) = self.runs.range(..first).next_back()?;
        (run.end == first).then_some(*at)
    }

    fn take(&mut self, at: u64) -> Option<Run<V>> {
        self.left_over.remove(&at);
        self.runs.remove(&at)
    }

    /// For whoever looks for two neighbours.
    fn leave(&mut self, first: u64, run: Run<V>) {
        if self.before(first).is_some() || self.runs.contains_key(&run.end) {
            self.left_over.insert(first);
        }
        self.runs.insert(first, run);
    }

    /// Two neighbours, of which the second begins before `limit`: where they do.
    fn two(&mut self, limit: u64) -> Option<(u64, u64)> {
        while let Some(at) = self.left_over.pop_last() {
            let Some(run) = self.runs.get(&at) else {
                continue;
            };
            if let (Some(left), true) = (self.before(at), at < limit) {
                return Some((left, at));
            }
            if run.end < limit && self.runs.contains_key(&run.end) {
                return Some((at, run.end));
            }
        }
        None
    }
}

/// A finished run, or several neighbouring ones, up to this position of the source. The value is what all its items
/// were joined into; `None` if stages have dropped them all.
struct Run<V> {
    end: u64,
    value: Option<V>,
}

/// What a lane has joined since it opened its present run, or since the last failure in it: the items from `first` on.
#[doc(hidden)]
#[derive(Debug)]
pub struct Joined<V> {
    first: u64,
    value: Option<V>,
}

impl<J, V, E> std::fmt::Debug for Reduce<J, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reduce").finish_non_exhaustive()
    }
}

/// One after the other: what waits for a neighbour when the pipeline panics or is dropped, and the error.
impl<J, V, E> Drop for Reduce<J, V, E> {
    fn drop(&mut self) {
        let runs = std::mem::take(&mut lock(&self.done).runs);
        let mut all = OneByOne::default();
        all.run(|| drop_all(runs.into_values()));
        all.run(|| drop(self.errors.take()));
        all.end();
    }
}

impl<J, V, E: CancelSource> Reduce<J, V, E> {
    pub(crate) fn new(join: J, ordered: bool) -> Self {
        Self {
            join,
            errors: FirstError::new(ordered),
            done: Mutex::new(Done {
                runs: BTreeMap::new(),
                left_over: BTreeSet::new(),
            }),
        }
    }
}

impl<J, V, E> Reduce<J, V, E> {
    fn both<T>(&self, left: Option<V>, right: Option<V>) -> Result<Option<V>, E>
    where
        J: Join<T, Value = V, Error = E>,
    {
        match (left, right) {
            (Some(left), Some(right)) => self.join.join(left, right).map(Some),
            (one, None) | (None, one) => Ok(one),
        }
    }

    /// Adds a finished run, and joins it to its neighbours: to so many as fit beside it, for others may bring new ones all the
    /// time, and the lane is in a poll. What is left over is for the next run there, or for [`Sink::end`]. User code runs
    /// between the locks, never under one.
    fn publish<T>(&self, mut first: u64, mut run: Run<V>) -> Verdict
    where
        J: Join<T, Value = V, Error = E>,
    {
        if first >= run.end {
            quietly(|| drop(run));
            return Verdict::More;
        }
        for _ in 0..2 {
            let mut done = lock(&self.done);
            // An error counts where the right operand begins.
            let (at, left, right) = if let Some(before) = done.before(first) {
                let left = done.take(before).and_then(|left| left.value);
                let right = std::mem::replace(&mut first, before);
                (right, left, run.value)
            } else if let Some(right) = done.take(run.end) {
                let at = std::mem::replace(&mut run.end, right.end);
                (at, run.value, right.value)
            } else {
                done.runs.insert(first, run);
                return Verdict::More;
            };
            drop(done);
            let from = Origin::now(at, J::FAILS);
            match self.both(left, right) {
                Ok(value) => run.value = value,
                Err(error) => return self.errors.offer(from, error),
            }
        }
        lock(&self.done).leave(first, run);
        Verdict::More
    }

    /// Joins two neighbours, if there are any, of which the second begins before `limit`.
    fn join_two<T>(&self, limit: u64) -> Option<(Verdict, u64)>
    where
        J: Join<T, Value = V, Error = E>,
    {
        let mut done = lock(&self.done);
        let (first, at) = done.two(limit)?;
        let (left, right) = (done.take(first)?, done.take(at)?);
        drop(done);
        let (from, end) = (Origin::now(at, J::FAILS), right.end);
        match self.both(left.value, right.value) {
            Ok(value) => {
                lock(&self.done).leave(first, Run { end, value });
                Some((Verdict::More, at))
            }
            Err(error) => Some((self.errors.offer(from, error), at)),
        }
    }

    /// The item at this position has failed. What the lane had joined before it is a run of its own, which may hold
    /// an earlier failure; what comes after it is joined to nothing before it.
    #[cold]
    fn break_off<T>(&self, share: &mut Joined<V>, at: u64) -> Verdict
    where
        J: Join<T, Value = V, Error = E>,
    {
        let run = Run {
            end: at,
            value: share.value.take(),
        };
        let first = share.first;
        share.first = first.max(at + 1);
        if self.errors.is_ordered() {
            return self.publish(first, run);
        }
        // Whatever its destructor does, the error arrives.
        quietly(|| drop(run));
        Verdict::More
    }
}

impl<J, V, E> Sealed for Reduce<J, V, E> {}

impl<J, V, E> SinkShape for Reduce<J, V, E> {
    type Share = Joined<V>;
}

impl<T, V: Send, E: Send, J: Join<T, Value = V, Error = E>> Sink<T> for Reduce<J, V, E> {
    type Out = J::Out;
    const RUNS: bool = true;
    const FAILS: bool = J::FAILS;

    fn share(&self) -> Self::Share {
        Joined {
            first: 0,
            value: None,
        }
    }

    fn open(&self, share: &mut Self::Share, first: u64) {
        share.first = first;
    }

    #[inline]
    fn feed(&self, share: &mut Self::Share, from: Origin, item: T) -> Verdict {
        let joined = match (self.join.value(item), share.value.take()) {
            (Ok(right), Some(left)) => self.join.join(left, right),
            (Ok(one), None) => Ok(one),
            (Err(error), left) => {
                share.value = left;
                Err(error)
            }
        };
        match joined {
            Ok(value) => {
                share.value = Some(value);
                Verdict::More
            }
            Err(error) => {
                let verdict = self.errors.offer(from, error);
                match self.break_off(share, from.at) {
                    Verdict::More => verdict,
                    Verdict::Fail => Verdict::Fail,
                }
            }
        }
    }

    fn close(&self, share: &mut Self::Share, end: u64) -> Verdict {
        let run = Run {
            end,
            value: share.value.take(),
        };
        self.publish(share.first, run)
    }

    /// In an unordered pipeline each lane has one value, which goes to the others' when the lane ends: so lanes share
    /// that work, too. In an ordered one there may be neighbours left that nobody has joined.
    fn end(&self, share: &mut Self::Share, limit: u64) -> Option<(Verdict, u64)> {
        if self.errors.is_ordered() {
            return self.join_two(limit);
        }
        let own = share.value.take()?;
        let mut done = lock(&self.done);
        let Some((_, other)) = done.runs.pop_first() else {
            let run = Run {
                end: 0,
                value: Some(own),
            };
            done.runs.insert(0, run);
            return None;
        };
        drop(done);
        let from = Origin::now(share.first, J::FAILS);
        match self.both(other.value, Some(own)) {
            Ok(value) => {
                share.value = value;
                Some((Verdict::More, from.at))
            }
            Err(error) => Some((self.errors.offer(from, error), from.at)),
        }
    }

    fn finish(&self, shares: Vec<Self::Share>) -> J::Out {
        let runs = std::mem::take(&mut lock(&self.done).runs);
        if let Some(error) = self.errors.take() {
            // One by one, and before the error is in the caller's place, where a panic would lose it.
            runs.into_values().for_each(|run| quietly(|| drop(run)));
            shares.into_iter().for_each(|share| quietly(|| drop(share)));
            return self.join.out(Err(error));
        }
        let own = shares.into_iter().map(|share| share.value);
        let mut rest = Rest(runs.into_values().map(|run| run.value).chain(own));
        let mut all = Ok(None);
        while let Ok(left) = &mut all {
            let Some(right) = rest.0.next() else { break };
            all = self.both(left.take(), right);
        }
        if all.is_err() {
            quietly(|| drop(rest));
        }
        self.join.out(all)
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::convert::Infallible;

    use super::{Fallible, Joined, Reduce, Run, Without};
    use crate::sink::{Sink, Verdict};
    use crate::sync::{AtomicU64, OnceLock, Ordering, lock};

    type Sum = Reduce<Without<fn(u64, u64) -> u64>, u64, Infallible>;

    const ALL: u64 = 100;
    static SUM: OnceLock<Sum> = OnceLock::new();
    static JOINS: AtomicU64 = AtomicU64::new(0);
    static NEXT: AtomicU64 = AtomicU64::new(2);

    /// Meanwhile another lane has finished the run behind.
    fn join(left: u64, right: u64) -> u64 {
        JOINS.fetch_add(1, Ordering::SeqCst);
        let next = NEXT.fetch_add(1, Ordering::SeqCst);
        if next < ALL {
            lay(next);
        }
        left + right
    }

    fn lay(first: u64) {
        let run = Run {
            end: first + 1,
            value: Some(1),
        };
        lock(&SUM.get().unwrap().done).runs.insert(first, run);
    }

    // The lane that had a neighbour to join found another one, and another, as long as others made new ones.
    #[test]
    fn lane_that_closes_a_run_joins_two_at_most() {
        let sum = SUM.get_or_init(|| Sum::new(Without(join), true));
        lay(0);
        let mut share = Joined {
            first: 1,
            value: Some(1),
        };
        assert_eq!(Sink::<u64>::close(sum, &mut share, 2), Verdict::More);
        assert_eq!(JOINS.load(Ordering::SeqCst), 2);
        // The rest is joined at the end, one by one.
        let mut steps = 0;
        while Sink::<u64>::end(sum, &mut share, u64::MAX).is_some() {
            steps += 1;
        }
        assert_eq!(JOINS.load(Ordering::SeqCst), 2 + steps);
        assert_eq!(Sink::<u64>::finish(sum, vec![share]), Some(ALL));
        assert_eq!(JOINS.load(Ordering::SeqCst), ALL - 1);
    }

    // Each lane that ended looked through all runs that waited for a neighbour.
    #[test]
    fn lanes_that_end_look_at_what_was_left_over_only() {
        let sum = Sum::new(Without(|left, right| left + right), true);
        let close = |first| {
            let mut share = Joined {
                first,
                value: Some(1),
            };
            assert_eq!(
                Sink::<u64>::close(&sum, &mut share, first + 1),
                Verdict::More
            );
            share
        };
        for first in (0..1000).step_by(2) {
            let mut share = close(first);
            assert!(lock(&sum.done).left_over.is_empty());
            assert_eq!(Sink::<u64>::end(&sum, &mut share, u64::MAX), None);
        }
        assert_eq!(lock(&sum.done).runs.len(), 500);
        for first in (1..999).step_by(2) {
            let mut share = close(first);
            // It has both its neighbours, and those have no others.
            assert!(lock(&sum.done).left_over.is_empty());
            assert_eq!(Sink::<u64>::end(&sum, &mut share, u64::MAX), None);
        }
        assert_eq!(lock(&sum.done).runs.len(), 1);
    }

    // The limit fell to where the lane stood that happened to join them, and what is between was not begun.
    #[test]
    fn failure_at_the_end_of_a_lane_counts_where_its_second_run_begins() {
        type Fails = Fallible<fn() -> u64, fn(u64, u64) -> Result<u64, String>>;

        let join: Fails = Fallible(|| 0, |_, right| Err(format!("at {right}")));
        let reduce = Reduce::new(join, true);
        for first in [20, 30] {
            let run = Run {
                end: first + 10,
                value: Some(first),
            };
            lock(&reduce.done).leave(first, run);
        }
        let mut share = Joined {
            first: 0,
            value: None,
        };
        let ended = Sink::<Result<u64, String>>::end(&reduce, &mut share, u64::MAX);
        assert_eq!(ended, Some((Verdict::Fail, 30)));
        let all = Sink::<Result<u64, String>>::finish(&reduce, vec![share]);
        assert_eq!(all, Err("at 30".to_owned()));
    }
}
