//! `reduce`, `reduce_with` and `try_reduce`: join items, or the accumulators of a `fold`,
//! into one. In an ordered pipeline only neighbours are joined, so joining need not be
//! commutative: finished runs wait in a short list until the run beside them is finished.
//! The list holds at most one entry a lane.

use std::convert::Infallible;

use selvedge_cancel::{CancelSource, quietly};

use super::attempt::FirstError;
use super::{Origin, Sink, SinkShape, Verdict};
use crate::pipe::sealed::Sealed;
use crate::sync::{Mutex, lock};

/// How items become values, two values one, and what stands for none.
///
/// Hidden: it is public only because [`Reduce`] is bounded by it.
#[doc(hidden)]
pub trait Join<T>: Send + Sync {
    /// What is joined.
    type Value: Send;
    /// What ends the intake.
    type Error: Send;
    /// What comes of it all.
    type Out;
    /// Whether there can be an error.
    const FAILS: bool;
    /// The value of an item.
    fn value(&self, item: T) -> Result<Self::Value, Self::Error>;
    /// Joins; `left` comes before `right` in the source if the pipeline is ordered.
    fn join(&self, left: Self::Value, right: Self::Value) -> Result<Self::Value, Self::Error>;
    /// The result of everything joined.
    fn out(&self, all: Result<Option<Self::Value>, Self::Error>) -> Self::Out;
}

/// The terminal behind [`ParStream::reduce`](crate::ParStream::reduce) and its like.
pub struct Reduce<J, V, E> {
    join: J,
    errors: FirstError<E>,
    done: Mutex<Vec<Run<V>>>,
}

/// A finished run, or several neighbouring ones: positions `first..end` of the source.
struct Run<V> {
    first: u64,
    end: u64,
    value: Option<V>,
}

/// What a lane has joined since it opened its present run.
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

impl<J, V, E: CancelSource> Reduce<J, V, E> {
    pub(crate) fn new(join: J, ordered: bool) -> Self {
        Self {
            join,
            errors: FirstError::new(ordered),
            done: Mutex::new(Vec::new()),
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

    /// Adds a finished run. User code runs between the locks, never under one.
    fn publish<T>(&self, from: Origin, mut run: Run<V>) -> Verdict
    where
        J: Join<T, Value = V, Error = E>,
    {
        loop {
            let mut done = lock(&self.done);
            // Sorted by position; the run itself is not in it.
            let after = done.partition_point(|other| other.first < run.first);
            let at = run.first;
            let joined = if after > 0 && done[after - 1].end == run.first {
                let left = done.remove(after - 1);
                drop(done);
                run.first = left.first;
                self.both(left.value, run.value)
            } else if done.get(after).is_some_and(|right| right.first == run.end) {
                let right = done.remove(after);
                drop(done);
                run.end = right.end;
                self.both(run.value, right.value)
            } else {
                done.insert(after, run);
                return Verdict::More;
            };
            match joined {
                Ok(value) => run.value = value,
                Err(error) => return self.errors.offer(Origin { at, ..from }, error),
            }
        }
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
        let left = share.value.take();
        let joined = match (self.join.value(item), left) {
            (Ok(right), Some(left)) => self.join.join(left, right),
            (Ok(one), None) => Ok(one),
            (Err(error), left) => {
                // Whatever its destructor does, the error arrives.
                quietly(|| drop(left));
                Err(error)
            }
        };
        match joined {
            Ok(value) => {
                share.value = Some(value);
                Verdict::More
            }
            Err(error) => self.errors.offer(from, error),
        }
    }

    fn close(&self, share: &mut Self::Share, from: Origin, end: u64) -> Verdict {
        let run = Run {
            first: share.first,
            end,
            value: share.value.take(),
        };
        self.publish(from, run)
    }

    fn finish(&self, shares: Vec<Self::Share>) -> J::Out {
        let runs = std::mem::take(&mut *lock(&self.done));
        if let Some(error) = self.errors.take() {
            // One by one, and before the error is in the caller's place, where a panic would lose it.
            runs.into_iter().for_each(|run| quietly(|| drop(run)));
            shares.into_iter().for_each(|share| quietly(|| drop(share)));
            return self.join.out(Err(error));
        }
        let all = runs
            .into_iter()
            .map(|run| run.value)
            .chain(shares.into_iter().map(|share| share.value))
            .try_fold(None, |left, right| self.both(left, right));
        self.join.out(all)
    }
}

macro_rules! opaque {
    ($($name:ident<$($g:ident),*>)*) => { $(
        impl<$($g),*> std::fmt::Debug for $name<$($g),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )* };
}
opaque! { WithIdentity<I, F> Without<F> Fallible<I, F> }

/// `reduce(identity, f)`.
pub struct WithIdentity<I, F>(pub(crate) I, pub(crate) F);

impl<T: Send, I, F> Join<T> for WithIdentity<I, F>
where
    I: Fn() -> T + Send + Sync,
    F: Fn(T, T) -> T + Send + Sync,
{
    type Value = T;
    type Error = Infallible;
    type Out = T;
    const FAILS: bool = false;

    #[inline]
    fn value(&self, item: T) -> Result<T, Infallible> {
        Ok(item)
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, Infallible> {
        Ok((self.1)(left, right))
    }

    fn out(&self, all: Result<Option<T>, Infallible>) -> T {
        let Ok(all) = all;
        all.unwrap_or_else(&self.0)
    }
}

/// `reduce_with(f)`.
pub struct Without<F>(pub(crate) F);

impl<T: Send, F: Fn(T, T) -> T + Send + Sync> Join<T> for Without<F> {
    type Value = T;
    type Error = Infallible;
    type Out = Option<T>;
    const FAILS: bool = false;

    #[inline]
    fn value(&self, item: T) -> Result<T, Infallible> {
        Ok(item)
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, Infallible> {
        Ok((self.0)(left, right))
    }

    fn out(&self, all: Result<Option<T>, Infallible>) -> Option<T> {
        let Ok(all) = all;
        all
    }
}

/// `try_reduce(identity, f)`.
pub struct Fallible<I, F>(pub(crate) I, pub(crate) F);

impl<T: Send, E: Send, I, F> Join<Result<T, E>> for Fallible<I, F>
where
    I: Fn() -> T + Send + Sync,
    F: Fn(T, T) -> Result<T, E> + Send + Sync,
{
    type Value = T;
    type Error = E;
    type Out = Result<T, E>;
    const FAILS: bool = true;

    #[inline]
    fn value(&self, item: Result<T, E>) -> Result<T, E> {
        item
    }

    #[inline]
    fn join(&self, left: T, right: T) -> Result<T, E> {
        (self.1)(left, right)
    }

    fn out(&self, all: Result<Option<T>, E>) -> Result<T, E> {
        all.map(|all| all.unwrap_or_else(&self.0))
    }
}
