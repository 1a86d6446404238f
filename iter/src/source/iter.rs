//! Owned collections and any other iterator: lanes take turns at it under a lock that
//! never sleeps, and take several items at a time. What can be cut without a lock is in
//! `range` and `slice`.

use std::fmt;
use std::marker::PhantomData;
use std::task::Poll;

use super::{Ask, Buffer, Pulled, Source, source_shape};
use crate::sync::{Mutex, lock};

/// The source behind [`par_iter`](crate::par_iter) and most collections' `into_par`.
///
/// Items that are never taken are dropped with it.
pub struct FromIter<I, T> {
    inner: Mutex<Inner<I>>,
    item: PhantomData<fn() -> T>,
}

struct Inner<I> {
    iter: I,
    next: u64,
    /// Set for good by the end, and while the iterator runs: if it panics, it stays set and
    /// nobody calls it again.
    ended: bool,
}

impl<I, T> fmt::Debug for FromIter<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromIter").finish_non_exhaustive()
    }
}

impl<I, T> FromIter<I, T> {
    pub(crate) fn new(iter: I) -> Self {
        Self {
            inner: Mutex::new(Inner {
                iter,
                next: 0,
                ended: false,
            }),
            item: PhantomData,
        }
    }
}

impl<T: Send, I: Iterator<Item = T> + Send> FromIter<I, T> {
    fn take(&self, want: usize, buffer: &mut Buffer<T>) -> Option<Pulled> {
        let mut inner = lock(&self.inner);
        if inner.ended {
            return None;
        }
        inner.ended = true;
        let mut count = 0;
        let ended = loop {
            if count == want {
                break false;
            }
            match inner.iter.next() {
                Some(item) => buffer.push(item),
                None => break true,
            }
            count += 1;
        };
        inner.ended = ended;
        let first = inner.next;
        inner.next += count as u64;
        (count > 0).then_some(Pulled { first, count })
    }

    fn hint(&self) -> Option<usize> {
        lock(&self.inner).iter.size_hint().1
    }
}

source_shape!([I, T] FromIter<I, T> => Buffer<T>);

impl<T: Send, I: Iterator<Item = T> + Send> Source for FromIter<I, T> {
    type Item = T;
    const SPLITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        Poll::Ready(self.take(ask.want, chunk))
    }

    fn upper(&self) -> Option<usize> {
        self.hint()
    }
}

/// The source behind `vec.into_par()`.
///
/// Items that are never taken are dropped with it.
pub struct FromVec<T> {
    items: FromIter<std::vec::IntoIter<T>, T>,
}

impl<T> fmt::Debug for FromVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromVec").finish_non_exhaustive()
    }
}

impl<T> FromVec<T> {
    pub(crate) fn new(items: Vec<T>) -> Self {
        Self {
            items: FromIter::new(items.into_iter()),
        }
    }
}

source_shape!([T] FromVec<T> => Buffer<T>);

impl<T: Send> Source for FromVec<T> {
    type Item = T;
    const SPLITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        Poll::Ready(self.items.take(ask.want, chunk))
    }

    fn upper(&self) -> Option<usize> {
        self.items.hint()
    }
}
