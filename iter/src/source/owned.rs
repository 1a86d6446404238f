//! Collections of the standard library, by value and by reference: lanes take turns at the
//! iterator under a lock that never sleeps, and take several items at a time, since these
//! iterators run no code of a user and cannot wait. Other iterators are in `iter`.

use std::fmt;
use std::marker::PhantomData;
use std::task::Poll;

use super::{Ask, Buffer, Pulled, Source, source_shape};
use crate::one_by_one::drop_all;
use crate::sync::{Mutex, lock};

/// The source behind the `into_par` of most collections of the standard library.
///
/// Items that are never taken are dropped with it.
pub struct FromOwned<I, T> {
    inner: Mutex<Inner<I>>,
    /// Drops what is left. A function pointer, so that only the constructor needs to know that `I` is an iterator.
    let_go: fn(&mut I),
    item: PhantomData<fn() -> T>,
}

struct Inner<I> {
    iter: I,
    next: u64,
    ended: bool,
}

impl<I, T> fmt::Debug for FromOwned<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromOwned").finish_non_exhaustive()
    }
}

impl<I: Iterator<Item = T>, T> FromOwned<I, T> {
    pub(crate) fn new(iter: I) -> Self {
        Self {
            let_go: |iter| drop_all(iter),
            inner: Mutex::new(Inner {
                iter,
                next: 0,
                ended: false,
            }),
            item: PhantomData,
        }
    }
}

impl<I, T> Drop for FromOwned<I, T> {
    fn drop(&mut self) {
        (self.let_go)(&mut lock(&self.inner).iter);
    }
}

source_shape!([I, T] FromOwned<I, T> => Buffer<T>);

impl<T: Send, I: Iterator<Item = T> + Send> Source for FromOwned<I, T> {
    type Item = T;
    const SPLITS: bool = false;
    const WAITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        let mut inner = lock(&self.inner);
        if inner.ended {
            return Poll::Ready(None);
        }
        let mut count = 0;
        while count < ask.want {
            let Some(item) = inner.iter.next() else {
                inner.ended = true;
                break;
            };
            chunk.push(item);
            count += 1;
        }
        let first = inner.next;
        inner.next += count as u64;
        Poll::Ready((count > 0).then_some(Pulled { first, count }))
    }

    fn upper(&self) -> Option<usize> {
        lock(&self.inner).iter.size_hint().1
    }
}

/// The source behind `vec.into_par()`.
///
/// Items that are never taken are dropped with it.
pub struct FromVec<T> {
    items: FromOwned<std::vec::IntoIter<T>, T>,
}

impl<T> fmt::Debug for FromVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromVec").finish_non_exhaustive()
    }
}

impl<T> FromVec<T> {
    pub(crate) fn new(items: Vec<T>) -> Self {
        Self {
            items: FromOwned::new(items.into_iter()),
        }
    }
}

source_shape!([T] FromVec<T> => Buffer<T>);

impl<T: Send> Source for FromVec<T> {
    type Item = T;
    const SPLITS: bool = false;
    const WAITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        self.items.pull(ask, chunk)
    }

    fn upper(&self) -> Option<usize> {
        self.items.upper()
    }
}
