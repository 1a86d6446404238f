//! Iterators of users. Their `next` may wait, for a channel perhaps, so a lane takes one item
//! and works on it before anybody calls `next` again. Collections of the standard library,
//! whose iterators cannot wait, are in `owned`.

use std::fmt;
use std::task::Poll;

use super::gate::{Entry, Gate};
use super::{Ask, One, Pulled, Source, source_shape};
use crate::held::Held;
use crate::sync::{Mutex, lock};

/// The source behind [`par_iter`](crate::par_iter).
///
/// Items that are never taken are dropped with it.
pub struct FromIter<I, T> {
    gate: Gate,
    inner: Mutex<Inner<I, T>>,
}

struct Inner<I, T> {
    iter: I,
    next: u64,
    /// An item that came after so long that another lane rests by now. Whoever comes next
    /// works on it. Held, for what is dropped with it may panic, too.
    spare: Option<Held<T>>,
}

impl<I, T> fmt::Debug for FromIter<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromIter").finish_non_exhaustive()
    }
}

impl<I, T> FromIter<I, T> {
    pub(crate) fn new(iter: I) -> Self {
        Self {
            gate: Gate::new(),
            inner: Mutex::new(Inner {
                iter,
                next: 0,
                spare: None,
            }),
        }
    }
}

source_shape!([I, T] FromIter<I, T> => One<T>);

impl<T: Send, I: Iterator<Item = T> + Send> Source for FromIter<I, T> {
    type Item = T;
    const SPLITS: bool = false;
    const ONE_BY_ONE: bool = true;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut One<T>) -> Poll<Option<Pulled>> {
        let turn = match self.gate.enter(ask) {
            Entry::Turn(turn) => turn,
            Entry::Wait => return Poll::Pending,
            Entry::Closed => return Poll::Ready(None),
        };
        // Only the lane with the turn comes here.
        let mut inner = lock(&self.inner);
        let item = match inner.spare.take() {
            Some(item) => item.give(),
            None => {
                let Some(item) = inner.iter.next() else {
                    drop(inner);
                    turn.end();
                    return Poll::Ready(None);
                };
                if turn.is_long() {
                    // This thread may be busy with the item for long, and the lane that rests
                    // would not be polled before. So both come again: the first gets this
                    // item, the second calls `next`.
                    inner.spare = Some(Held::new(item));
                    drop(inner);
                    turn.pass();
                    ask.waker.wake_by_ref();
                    return Poll::Pending;
                }
                item
            }
        };
        let first = inner.next;
        inner.next += 1;
        drop(inner);
        turn.pass();
        chunk.put(item);
        Poll::Ready(Some(Pulled { first, count: 1 }))
    }

    fn upper(&self) -> Option<usize> {
        lock(&self.inner).iter.size_hint().1
    }

    fn close(&self) {
        self.gate.close();
    }
}
