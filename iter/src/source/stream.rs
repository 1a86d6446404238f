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

use selvedge_cancel::quietly;

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
    /// The lane whose waker the stream holds while it has nothing.
    poller: Option<usize>,
    /// That waker again, for `close`; `None` until the lane has cloned it.
    poller_waker: Option<Waker>,
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
                poller_waker: None,
                queue: VecDeque::new(),
                ended: false,
            }),
            item: PhantomData,
        }
    }
}

impl<S> Inner<S> {
    /// Queues a lane, or exchanges its waker; what comes back is to be dropped without the lock.
    fn enqueue(&mut self, lane: usize, waker: Waker) -> Option<Waker> {
        match self.queue.iter_mut().find(|(id, _)| *id == lane) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                self.queue.push_back((lane, waker));
                None
            }
        }
    }

    /// Takes a lane out of the queue; what comes back is to be dropped without the lock.
    fn dequeue(&mut self, lane: usize) -> Option<(usize, Waker)> {
        let at = self.queue.iter().position(|(id, _)| *id == lane)?;
        self.queue.remove(at)
    }
}

fn let_go<W>(waker: W) {
    quietly(|| drop(waker));
}

/// Wakes lanes, each by itself, so that one that panics takes the call from no other.
fn wake(lanes: impl Iterator<Item = (usize, Waker)>) {
    for (_, waker) in lanes {
        quietly(|| waker.wake());
    }
}

impl<S, T> FromStream<S, T> {
    /// The stream has nothing, and this lane has become the poller: leaves its waker for `close`.
    fn wait(&self, ask: &mut Ask<'_>) -> Poll<Option<Pulled>> {
        let fresh = ask.waker.clone();
        let mut inner = lock(&self.inner);
        // A `close` in between found no waker. Nobody else touches the poller's place.
        let closed = inner.ended;
        let old = if closed {
            Some(fresh)
        } else {
            inner.poller_waker.replace(fresh)
        };
        drop(inner);
        let_go(old);
        *ask.waiting = !closed;
        if closed {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

source_shape!([S, T] FromStream<S, T> => Buffer<T>);

impl<T: Send, S: Stream<Item = T> + Send> Source for FromStream<S, T> {
    type Item = T;
    const SPLITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        // Wakers are user code: they are cloned, dropped and woken with nothing locked. These
        // two are dropped after the lock even if the stream panics under it.
        let (mut fresh, mut left) = (None, None);
        let mut inner = loop {
            let mut inner = lock(&self.inner);
            if inner.ended {
                drop(inner);
                let_go(fresh);
                return Poll::Ready(None);
            }
            if inner.poller.is_none_or(|poller| poller == ask.lane) {
                break inner;
            }
            if let Some(fresh) = fresh.take() {
                let old = inner.enqueue(ask.lane, fresh);
                drop(inner);
                let_go(old);
                *ask.waiting = true;
                return Poll::Pending;
            }
            drop(inner);
            fresh = Some(ask.waker.clone());
        };
        if *ask.waiting {
            // Polled without having been called: leave the queue, or a later call meant
            // for a lane that waits would go to this one while it works.
            left = inner.dequeue(ask.lane);
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
            inner.poller = Some(ask.lane);
            drop(inner);
            let_go(fresh);
            let_go(left);
            return self.wait(ask);
        }
        *ask.waiting = false;
        inner.poller = None;
        let old = inner.poller_waker.take();
        let first = inner.next;
        inner.next += count as u64;
        let all = if ended {
            std::mem::take(&mut inner.queue)
        } else {
            VecDeque::new()
        };
        let one = inner.queue.pop_front();
        drop(inner);
        let_go(fresh);
        let_go(left);
        let_go(old);
        wake(one.into_iter().chain(all));
        Poll::Ready((count > 0).then_some(Pulled { first, count }))
    }

    fn upper(&self) -> Option<usize> {
        lock(&self.inner).stream.size_hint().1
    }

    fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.ended = true;
        let all = std::mem::take(&mut inner.queue);
        let poller = inner.poller.take().zip(inner.poller_waker.take());
        drop(inner);
        wake(poller.into_iter().chain(all));
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::{Poll, Waker};

    use super::{Ask, Buffer, FromStream, Source};
    use crate::biting::{Biting, guarded};

    type Silent = FromStream<futures::stream::Pending<u8>, u8>;

    fn silent() -> Arc<Silent> {
        Arc::new(FromStream::new(futures::stream::pending()))
    }

    /// Asks for one item. `true`: the lane waits; `false`: the source is at its end.
    fn waits(source: &Silent, lane: usize, waiting: &mut bool, waker: &Waker) -> bool {
        let mut ask = Ask {
            lane,
            want: 1,
            share: 1,
            waiting,
            waker,
        };
        match source.pull(&mut ask, &mut Buffer::default()) {
            Poll::Pending => true,
            Poll::Ready(pulled) => {
                assert!(pulled.is_none());
                false
            }
        }
    }

    #[test]
    fn waker_whose_destructor_closes_the_source_does_not_deadlock() {
        // Of the lane that waits with the stream, and of one in the queue behind it.
        for lane in [0, 1] {
            guarded(move || {
                let source = silent();
                let mut waiting = [false; 2];
                let (closing, bites) = Biting::on_drop({
                    let source = Arc::clone(&source);
                    move || source.close()
                });
                if lane == 1 {
                    assert!(waits(&source, 0, &mut waiting[0], Waker::noop()));
                }
                assert!(waits(&source, lane, &mut waiting[lane], &closing));
                drop(closing);
                assert_eq!(bites.get(), 0, "the source keeps it");
                assert!(waits(&source, lane, &mut waiting[lane], Waker::noop()));
                assert_eq!(bites.get(), 1);
                assert!(!waits(&source, lane, &mut waiting[lane], Waker::noop()));
            });
        }
    }

    #[test]
    fn lane_whose_waker_panics_keeps_the_end_from_no_other() {
        for evil_lane in 0..3 {
            for (in_wake, in_drop) in [(true, false), (false, true)] {
                guarded(move || {
                    let source = silent();
                    let (evil, bites) = Biting::panics(in_wake, in_drop);
                    let (good, calls) = Biting::panics(false, false);
                    for lane in 0..3 {
                        let waker = if lane == evil_lane { &evil } else { &good };
                        assert!(waits(&source, lane, &mut false, waker));
                    }
                    drop((evil, good));
                    source.close();
                    assert_eq!(calls.get(), 3, "two are woken, and their waker dropped");
                    assert_eq!(bites.get(), 2);
                });
            }
        }
    }
}
