//! Where items come from: what a lane asks of a source, and the buffer in which it holds
//! the items it took. The sources themselves are in the files beside this one; which
//! collection becomes which source is said in `into`. Stages know nothing of all this.

pub(crate) mod gate;
pub(crate) mod into;
pub(crate) mod iter;
pub(crate) mod owned;
mod queue;
pub(crate) mod range;
pub(crate) mod slice;
pub(crate) mod stream;

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::pipe::{Never, Shape};
use crate::sync::{AtomicU64, Ordering};

pub use gate::Waiting;

/// A place that several lanes take items from.
///
/// Hidden: it is public only because [`Pipe`](crate::Pipe) names it.
#[doc(hidden)]
pub trait Source:
    Shape<Chunk: Iterator<Item = Self::Item> + Default + Send, State = (), Flow = Never> + Send + Sync
{
    /// What comes out.
    type Item: Send;
    /// Whether taking a chunk costs the same however long it is.
    const SPLITS: bool;
    /// Whether asking for an item may block the thread, so that a lane has to work on each
    /// item before the source is asked for another.
    const ONE_BY_ONE: bool = false;
    /// Whether the next item may be some time in coming, so that nothing should wait with it.
    const WAITS: bool = true;

    /// Takes up to `ask.want` items into the empty `chunk`; a source that gives them one by
    /// one takes one. `None` says that the source is at its end; `Pending` that `ask.waker`
    /// will be woken when it is worth asking again.
    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Self::Chunk) -> Poll<Option<Pulled>>;

    /// The most items that can still come, as far as the source knows.
    fn upper(&self) -> Option<usize>;

    /// Ends the intake and wakes every lane that waits in [`Source::pull`].
    fn close(&self) {}
}

/// One request for items.
#[doc(hidden)]
#[derive(Debug)]
pub struct Ask<'a> {
    pub(crate) want: usize,
    /// Of what is left, take at most one part in so many: keeps the lanes' ends together.
    pub(crate) share: u64,
    /// But as many as that: the end of a run would be dearer than fewer are.
    pub(crate) least: usize,
    /// How the lane stands to the source's gate, if it has one.
    pub(crate) waiting: &'a mut Waiting,
    pub(crate) waker: &'a Waker,
    /// When the clock was last read, if that was just now.
    pub(crate) now: Option<Instant>,
}

impl Ask<'_> {
    /// How many of those that are left.
    fn piece(&self, left: u64) -> u64 {
        let fair = (left / self.share).max(self.least as u64);
        fair.min(self.want as u64).clamp(1, left)
    }
}

/// What came: `count` items, the first of which is number `first` of the source.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Pulled {
    pub(crate) first: u64,
    pub(crate) count: usize,
}

/// The shape of a source, given its chunk.
macro_rules! source_shape {
    ([$($g:tt)*] $source:ty => $chunk:ty) => {
        impl<$($g)*> crate::pipe::Shape for $source {
            type Chunk = $chunk;
            type State = ();
            type Flow = crate::pipe::Never;
        }
    };
}
pub(crate) use source_shape;

/// Items that a lane took out of an iterator or stream. Its memory is used again.
#[doc(hidden)]
#[derive(Debug)]
pub struct Buffer<T>(VecDeque<T>);

impl<T> Buffer<T> {
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        self.0.push_back(item);
    }
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Iterator for Buffer<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.pop_front()
    }
}

/// The one item that a lane took out of an iterator that may wait.
#[doc(hidden)]
#[derive(Debug)]
pub struct One<T>(Option<T>);

impl<T> One<T> {
    #[inline]
    pub(crate) fn put(&mut self, item: T) {
        self.0 = Some(item);
    }
}

impl<T> Default for One<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Iterator for One<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.take()
    }
}

/// How far a source that can be cut anywhere has been given out: no lock, one step a chunk.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: AtomicU64,
    len: u64,
}

impl Cursor {
    pub(crate) fn new(len: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            len,
        }
    }

    /// Takes the next positions, as many as `ask` allows.
    pub(crate) fn take(&self, ask: &Ask<'_>) -> Option<Pulled> {
        // Relaxed, here and below: the positions are all that is shared, what they stand
        // for was there before the lanes started.
        let mut first = self.next.load(Ordering::Relaxed);
        loop {
            let left = self.len - first;
            if left == 0 {
                return None;
            }
            let count = ask.piece(left);
            match self.next.compare_exchange_weak(
                first,
                first + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                // `count` is at most `want`, which is a `usize`.
                Ok(_) => {
                    return Some(Pulled {
                        first,
                        count: count as usize,
                    });
                }
                Err(now) => first = now,
            }
        }
    }

    pub(crate) fn left(&self) -> Option<usize> {
        // Relaxed: only a hint.
        usize::try_from(self.len - self.next.load(Ordering::Relaxed)).ok()
    }
}
