//! Borrowed slices: shared ones are cut by a counter, exclusive ones by splitting what is
//! left under a short lock. Nothing is copied. Owned collections are in `iter`.

use std::fmt;
use std::task::Poll;

use super::{Ask, Cursor, Pulled, Source, source_shape};
use crate::sync::{Mutex, lock};

/// The source behind `slice.par()`: items are `&T`.
pub struct FromSlice<'a, T> {
    slice: &'a [T],
    cursor: Cursor,
}

impl<T> fmt::Debug for FromSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromSlice")
            .field("len", &self.slice.len())
            .finish_non_exhaustive()
    }
}

impl<'a, T> FromSlice<'a, T> {
    pub(crate) fn new(slice: &'a [T]) -> Self {
        Self {
            slice,
            cursor: Cursor::new(slice.len() as u64),
        }
    }
}

source_shape!(['a, T] FromSlice<'a, T> => std::slice::Iter<'a, T>);

impl<'a, T: Sync> Source for FromSlice<'a, T> {
    type Item = &'a T;
    const SPLITS: bool = true;
    const WAITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Self::Chunk) -> Poll<Option<Pulled>> {
        let pulled = self.cursor.take(ask);
        if let Some(p) = pulled {
            // The cursor stays within the slice's length, so `first` is a `usize`.
            let first = p.first as usize;
            *chunk = self.slice[first..first + p.count].iter();
        }
        Poll::Ready(pulled)
    }

    fn upper(&self) -> Option<usize> {
        self.cursor.left()
    }
}

/// The source behind `slice.par_mut()`: items are `&mut T`.
pub struct FromSliceMut<'a, T> {
    rest: Mutex<(&'a mut [T], u64)>,
}

impl<T> fmt::Debug for FromSliceMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromSliceMut").finish_non_exhaustive()
    }
}

impl<'a, T> FromSliceMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            rest: Mutex::new((slice, 0)),
        }
    }
}

source_shape!(['a, T] FromSliceMut<'a, T> => std::slice::IterMut<'a, T>);

impl<'a, T: Send> Source for FromSliceMut<'a, T> {
    type Item = &'a mut T;
    const SPLITS: bool = true;
    const WAITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Self::Chunk) -> Poll<Option<Pulled>> {
        let mut guard = lock(&self.rest);
        let (rest, next) = &mut *guard;
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let count = ask.piece(rest.len() as u64) as usize;
        let (head, tail) = std::mem::take(rest).split_at_mut(count);
        *rest = tail;
        let first = *next;
        *next += count as u64;
        *chunk = head.iter_mut();
        Poll::Ready(Some(Pulled { first, count }))
    }

    fn upper(&self) -> Option<usize> {
        Some(lock(&self.rest).0.len())
    }
}
