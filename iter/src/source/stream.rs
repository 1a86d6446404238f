//! Streams: one lane at a time polls, behind a gate. While the stream has nothing, exactly
//! one lane's waker is registered with it, and that lane rests with the turn; the others
//! queue at the gate, and a lane that gets items calls the next in the queue before it works
//! on them. Not a channel: items are handed to nobody who did not ask.
//!
//! The turn cannot get lost: a lane is called from the queue only to ask again, a lane goes
//! away before the end only by a panic, and that, like the end, wakes everybody.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::gate::{Entry, Gate};
use super::{Ask, Buffer, Pulled, Source, source_shape};
use crate::held::Held;
use crate::sync::{Mutex, lock};

/// A lane stops to fill its batch after this long: what has come is worked on, even if the
/// stream always has more but takes its time.
const FILL: Duration = Duration::from_micros(20);

/// While a batch is filled, the clock is read after 1, 2, 4, … items, and then once in so many.
const LOOK: usize = 32;

/// The source behind `stream.par()`.
///
/// Polled only by lanes, one at a time; what it did not yield is dropped with it.
pub struct FromStream<S, T> {
    gate: Gate,
    inner: Mutex<Inner<S, T>>,
}

struct Inner<S, T> {
    /// Boxed because lanes on several threads reach it through a shared reference.
    stream: Pin<Box<S>>,
    next: u64,
    /// An item that came after so long that another lane rests by now. Whoever comes next
    /// works on it. Held, for what is dropped with it may panic, too.
    spare: Option<Held<T>>,
}

impl<S, T> fmt::Debug for FromStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStream").finish_non_exhaustive()
    }
}

impl<S, T> FromStream<S, T> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            gate: Gate::new(),
            inner: Mutex::new(Inner {
                stream: Box::pin(stream),
                next: 0,
                spare: None,
            }),
        }
    }
}

/// How filling a batch ended.
#[derive(Clone, Copy)]
enum Filled {
    Enough,
    Pending,
    Ended,
}

impl<T, S: Stream<Item = T>> Inner<S, T> {
    /// Moves what is there into `chunk`; `count` says how many items that were.
    fn fill(&mut self, ask: &Ask<'_>, chunk: &mut Buffer<T>, count: &mut usize) -> Filled {
        let mut cx = Context::from_waker(ask.waker);
        let mut since = ask.now;
        while *count < ask.want {
            match self.stream.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(item)) => chunk.push(item),
                Poll::Ready(None) => return Filled::Ended,
                Poll::Pending => return Filled::Pending,
            }
            *count += 1;
            let look = count.is_power_of_two() || *count % LOOK == 0;
            if look && *count < ask.want {
                let now = Instant::now();
                if now - *since.get_or_insert(now) >= FILL {
                    break;
                }
            }
        }
        Filled::Enough
    }
}

source_shape!([S, T] FromStream<S, T> => Buffer<T>);

impl<T: Send, S: Stream<Item = T> + Send> Source for FromStream<S, T> {
    type Item = T;
    const SPLITS: bool = false;

    fn pull(&self, ask: &mut Ask<'_>, chunk: &mut Buffer<T>) -> Poll<Option<Pulled>> {
        let turn = match self.gate.enter(ask) {
            Entry::Turn(turn) => turn,
            Entry::Wait => return Poll::Pending,
            Entry::Closed => return Poll::Ready(None),
        };
        // Only the lane with the turn comes here.
        let mut inner = lock(&self.inner);
        let mut count = 0;
        let (filled, is_fresh) = match inner.spare.take() {
            Some(item) => {
                chunk.push(item.give());
                count = 1;
                (Filled::Enough, false)
            }
            None => (inner.fill(ask, chunk, &mut count), true),
        };
        match (filled, count) {
            (Filled::Pending, 0) => {
                drop(inner);
                return if turn.rest(ask) {
                    Poll::Pending
                } else {
                    Poll::Ready(None)
                };
            }
            (Filled::Enough, 1) if is_fresh && turn.is_long() => {
                // As in `FromIter`: both lanes come again.
                inner.spare = chunk.next().map(Held::new);
                drop(inner);
                turn.pass();
                ask.waker.wake_by_ref();
                return Poll::Pending;
            }
            _ => {}
        }
        let first = inner.next;
        inner.next += count as u64;
        drop(inner);
        match filled {
            Filled::Ended => turn.end(),
            Filled::Enough | Filled::Pending => turn.pass(),
        }
        Poll::Ready((count > 0).then_some(Pulled { first, count }))
    }

    fn upper(&self) -> Option<usize> {
        lock(&self.inner).stream.size_hint().1
    }

    fn close(&self) {
        self.gate.close();
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::{Poll, Waker};

    use super::{Ask, Buffer, FromStream, Source};
    use crate::biting::{Biting, guarded};
    use crate::source::Waiting;

    type Silent = FromStream<futures::stream::Pending<u8>, u8>;

    fn silent() -> Arc<Silent> {
        Arc::new(FromStream::new(futures::stream::pending()))
    }

    /// Asks for one item. `true`: the lane waits; `false`: the source is at its end.
    fn waits(source: &Silent, waiting: &mut Waiting, waker: &Waker) -> bool {
        let mut ask = Ask {
            want: 1,
            share: 1,
            least: 1,
            waiting,
            waker,
            now: None,
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
                let mut waiting = [Waiting::No; 2];
                let (closing, bites) = Biting::on_drop({
                    let source = Arc::clone(&source);
                    move || source.close()
                });
                if lane == 1 {
                    assert!(waits(&source, &mut waiting[0], Waker::noop()));
                }
                assert!(waits(&source, &mut waiting[lane], &closing));
                drop(closing);
                assert_eq!(bites.get(), 0, "the source keeps it");
                // The lane that waits with the stream lets go of its waker before it polls again,
                // and so finds the end at once; the other queues before it lets go.
                let queues = waits(&source, &mut waiting[lane], Waker::noop());
                assert_eq!(queues, lane == 1);
                assert_eq!(bites.get(), 1);
                assert!(!waits(&source, &mut waiting[lane], Waker::noop()));
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
                        assert!(waits(&source, &mut Waiting::No, waker));
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
