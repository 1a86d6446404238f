//! Streams: one lane at a time polls, under a lock that never sleeps. While the stream has
//! nothing, exactly one lane's waker is registered with it and the others queue here; a
//! lane that gets items passes its turn to the next in the queue before it works on them.
//!
//! The turn cannot get lost: a lane is woken from the queue only to ask again, a lane goes
//! away before the end only by a panic, and that, like the end, wakes everybody. Not a channel: items are handed to nobody who did not ask.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::{Ask, Buffer, Pulled, Source, source_shape};
use crate::sync::{Mutex, lock};

/// The source behind `stream.par()`.
///
/// Polled only by lanes, one at a time; what it did not yield is dropped with it.
pub struct FromStream<S, T> {
    inner: Mutex<Inner<S>>,
    item: PhantomData<fn() -> T>,
}

struct Inner<S> {
    /// Boxed because lanes on several threads reach it through a shared reference.
    stream: Pin<Box<S>>,
    next: u64,
    /// The lane whose waker the stream holds while it has nothing, and that waker again,
    /// for `close`.
    poller: Option<(usize, Waker)>,
    /// Lanes that want an item too. Nonempty only if there is a poller, or a lane that was
    /// woken from here has not asked yet.
    queue: VecDeque<(usize, Waker)>,
    /// Set for good by the end or by `close`, and while the stream is polled: if that
    /// panics, it stays set and nobody polls it again.
    ended: bool,
}

impl<S, T> fmt::Debug for FromStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStream").finish_non_exhaustive()
    }
}

impl<S, T> FromStream<S, T> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            inner: Mutex::new(Inner {
                stream: Box::pin(stream),
                next: 0,
                poller: None,
                queue: VecDeque::new(),
                ended: false,
            }),
            item: PhantomData,
        }
    }
}

impl<S> Inner<S> {
    fn enqueue(&mut self, lane: usize, waker: &Waker) {
        match self.queue.iter_mut().find(|(id, _)| *id == lane) {
            Some((_, old)) => old.clone_from(waker),
            None => self.queue.push_back((lane, waker.clone())),
        }
    }
}

source_shape!([S, T] FromStream<S, T> => Buffer<T>);

impl<T: Send, S: Stream<Item = T> + Send> Source for FromStream<S, T> {
    type Item = T;
    const SPLITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        let mut inner = lock(&self.inner);
        if inner.ended {
            return Poll::Ready(None);
        }
        if inner.poller.as_ref().is_some_and(|(id, _)| *id != ask.lane) {
            inner.enqueue(ask.lane, ask.waker);
            *ask.waiting = true;
            return Poll::Pending;
        }
        if *ask.waiting {
            // Polled without having been called: leave the queue, or a later call meant
            // for a lane that waits would go to this one while it works.
            inner.queue.retain(|(id, _)| *id != ask.lane);
        }
        inner.ended = true;
        let mut cx = Context::from_waker(ask.waker);
        let mut count = 0;
        let ended = loop {
            if count == ask.want {
                break false;
            }
            match inner.stream.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(item)) => chunk.push(item),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
            count += 1;
        };
        inner.ended = ended;
        if count == 0 && !ended {
            inner.poller = Some((ask.lane, ask.waker.clone()));
            *ask.waiting = true;
            return Poll::Pending;
        }
        *ask.waiting = false;
        inner.poller = None;
        let first = inner.next;
        inner.next += count as u64;
        let all = if ended {
            std::mem::take(&mut inner.queue)
        } else {
            VecDeque::new()
        };
        let one = inner.queue.pop_front();
        drop(inner);
        for (_, waker) in one.into_iter().chain(all) {
            waker.wake();
        }
        Poll::Ready((count > 0).then_some(Pulled { first, count }))
    }

    fn upper(&self) -> Option<usize> {
        lock(&self.inner).stream.size_hint().1
    }

    fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.ended = true;
        let all = std::mem::take(&mut inner.queue);
        let poller = inner.poller.take();
        drop(inner);
        for (_, waker) in poller.into_iter().chain(all) {
            waker.wake();
        }
    }
}
