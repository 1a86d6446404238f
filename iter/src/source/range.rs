//! Integer ranges: cut by one shared counter, no lock and no buffer. Not for floats or
//! other steppable types, which have no exact length.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::task::Poll;

use super::{Ask, Cursor, Pulled, Source, source_shape};

/// The source behind `(a..b).into_par()` and `(a..=b).into_par()`.
pub struct FromRange<T> {
    base: T,
    cursor: Cursor,
}

impl<T: fmt::Debug> fmt::Debug for FromRange<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromRange")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// A run of neighbouring integers, counted from the start of the range so that a range up
/// to the greatest value of its type needs no value beyond it.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Integers<T> {
    base: T,
    next: u64,
    end: u64,
}

/// The integer types whose ranges can be split: all up to 64 bits.
///
/// Hidden and sealed: public only because [`FromRange`] is bounded by it.
#[doc(hidden)]
pub trait Integer: Copy + Default + Send + Sync + crate::pipe::sealed::Sealed {
    /// How far `self` is below `end`; 0 if it is not.
    fn until(self, end: Self) -> u64;
    /// The value so many steps above `self`.
    fn above(self, steps: u64) -> Self;
}

macro_rules! integers {
    ($($int:ty)*) => { $(
        impl crate::pipe::sealed::Sealed for $int {}
        impl Integer for $int {
            #[inline]
            fn until(self, end: Self) -> u64 {
                // The difference modulo 2^64 is exact: at most 64 bits are counted.
                if self < end { (end as u64).wrapping_sub(self as u64) } else { 0 }
            }
            #[inline]
            fn above(self, steps: u64) -> Self {
                // Only called with steps inside the range, where wrapping is exact.
                self.wrapping_add(steps as $int)
            }
        }
    )* };
}
integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

impl<T: Integer> FromRange<T> {
    pub(crate) fn open(range: Range<T>) -> Self {
        Self {
            base: range.start,
            cursor: Cursor::new(range.start.until(range.end)),
        }
    }

    pub(crate) fn inclusive(range: RangeInclusive<T>) -> Self
    where
        T: PartialOrd,
    {
        let (base, last) = (*range.start(), *range.end());
        // `is_empty` also covers a range that was iterated to its end. The length saturates:
        // of a range over all 2^64 values the last one would be missed, after centuries.
        let len = if range.is_empty() {
            0
        } else {
            base.until(last).saturating_add(1)
        };
        Self {
            base,
            cursor: Cursor::new(len),
        }
    }
}

source_shape!([T] FromRange<T> => Integers<T>);

impl<T: Integer> Source for FromRange<T> {
    type Item = T;
    const SPLITS: bool = true;
    const WAITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Integers<T>) -> Poll<Option<Pulled>> {
        let pulled = self.cursor.take(ask);
        if let Some(p) = pulled {
            *chunk = Integers {
                base: self.base,
                next: p.first,
                end: p.first + p.count as u64,
            };
        }
        Poll::Ready(pulled)
    }

    fn upper(&self) -> Option<usize> {
        self.cursor.left()
    }
}

impl<T: Integer> Iterator for Integers<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        let value = self.base.above(self.next);
        self.next += 1;
        Some(value)
    }
}
