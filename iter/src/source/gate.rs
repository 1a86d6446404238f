//! The gate before a source that only one lane may ask at a time: an iterator or a stream.
//! Whoever has the turn runs the source's code, which may take long. A lane that finds the
//! turn taken spins for a moment; then it queues and rests, so that its thread can work on
//! something else. Not a lock around data: each source keeps its own behind one.

use std::task::Waker;
use std::time::{Duration, Instant};

use selvedge_cancel::quietly;

use super::Ask;
use super::queue::Queue;
use crate::sync::{AtomicUsize, Mutex, Ordering, SPINS, lock, spin_loop, yield_now};

/// A lane has the turn.
const TAKEN: usize = 1;
/// The queue is not empty.
const QUEUED: usize = 2;
/// The lane that has the turn rests, as the poller of a stream that has nothing.
const RESTS: usize = 4;
/// A lane gave up spinning for this turn.
const LONG: usize = 8;
/// The source is at its end, or the intake is.
const CLOSED: usize = 16;

/// How long a lane spins for the turn. A lane that rests instead may need a thread that
/// sleeps by then, and waking one takes about as long as this.
const PATIENCE: Duration = if cfg!(selvedge_loom) {
    Duration::ZERO
} else {
    Duration::from_micros(50)
};

/// How a lane stands to the gate between two of its questions.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    No,
    /// It queues, or was called and has not come yet.
    Queued {
        ticket: u64,
    },
    /// It has the turn and rests: the stream has its waker.
    Holds,
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    /// Lanes that want the turn. Nonempty only if somebody has the turn, or a lane that was
    /// called has not come yet.
    queue: Queue<Waker>,
    /// The waker of the lane that rests with the turn, for `close`.
    poller: Option<Waker>,
}

/// What a lane gets at the gate.
pub(crate) enum Entry<'a> {
    Turn(Turn<'a>),
    /// Its waker will be woken when it is worth coming again.
    Wait,
    Closed,
}

/// The right to run the source's code. Dropping it, which a panic of that code does, closes
/// the gate, so that nobody calls a source again that has panicked.
#[must_use]
pub(crate) struct Turn<'a> {
    gate: &'a Gate,
    over: bool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            line: Mutex::new(Line {
                queue: Queue::new(),
                poller: None,
            }),
        }
    }

    fn turn(&self) -> Turn<'_> {
        Turn {
            gate: self,
            over: false,
        }
    }

    /// Takes the turn if it is free; spins for it, then queues.
    #[inline]
    pub(crate) fn enter(&self, ask: &mut Ask<'_>) -> Entry<'_> {
        // Acquire: pairs with the Release in `pass`; what the lane before has done is seen.
        let free = self
            .state
            .compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed);
        if free.is_ok() && *ask.waiting == Waiting::No {
            return Entry::Turn(self.turn());
        }
        self.enter_slowly(ask, free.is_ok())
    }

    #[cold]
    fn enter_slowly(&self, ask: &mut Ask<'_>, mine: bool) -> Entry<'_> {
        if *ask.waiting == Waiting::Holds {
            debug_assert!(!mine, "the turn was this lane's already");
            return self.resume(ask);
        }
        if !mine {
            match self.spin() {
                Tried::Taken => {}
                Tried::Closed => {
                    *ask.waiting = Waiting::No;
                    return Entry::Closed;
                }
                Tried::Busy { long } => return self.queue(ask, long),
            }
        }
        self.leave(ask);
        Entry::Turn(self.turn())
    }

    /// The lane that rested with the turn goes on.
    fn resume(&self, ask: &mut Ask<'_>) -> Entry<'_> {
        *ask.waiting = Waiting::No;
        let mut line = lock(&self.line);
        let poller = line.poller.take();
        // Relaxed: the turn never left this lane, and the lock orders the flags.
        let before = self.state.fetch_and(!RESTS, Ordering::Relaxed);
        drop(line);
        quietly(|| drop(poller));
        if before & CLOSED != 0 {
            return Entry::Closed;
        }
        Entry::Turn(self.turn())
    }

    fn spin(&self) -> Tried {
        let mut tries = 0;
        let mut since = None;
        loop {
            // Relaxed: a look; what counts is the exchange.
            let state = self.state.load(Ordering::Relaxed);
            if state & CLOSED != 0 {
                return Tried::Closed;
            }
            if state & TAKEN == 0 {
                if self.take(state) {
                    return Tried::Taken;
                }
            } else if state & RESTS != 0 {
                return Tried::Busy { long: false };
            }
            tries += 1;
            if tries < SPINS {
                spin_loop();
                continue;
            }
            if since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                return Tried::Busy { long: true };
            }
            yield_now();
        }
    }

    fn take(&self, state: usize) -> bool {
        // Acquire: as in `enter`.
        let taken =
            self.state
                .compare_exchange(state, state | TAKEN, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    /// Leaves the lane's waker with those who want the turn, unless it is free by now.
    fn queue(&self, ask: &mut Ask<'_>, long: bool) -> Entry<'_> {
        // A waker is user code: it is cloned, dropped and woken with nothing locked.
        let waker = ask.waker.clone();
        let mut line = lock(&self.line);
        loop {
            // Relaxed: flags of those who queue change under the lock only.
            let state = self.state.load(Ordering::Relaxed);
            if state & CLOSED != 0 {
                drop(line);
                quietly(|| drop(waker));
                *ask.waiting = Waiting::No;
                return Entry::Closed;
            }
            if state & TAKEN == 0 {
                if !self.take(state) {
                    continue;
                }
                drop(line);
                quietly(|| drop(waker));
                self.leave(ask);
                return Entry::Turn(self.turn());
            }
            let long = if long && state & RESTS == 0 { LONG } else { 0 };
            // Relaxed: whoever gives the turn back reads the queue under the lock.
            let noted = self.state.compare_exchange(
                state,
                state | QUEUED | long,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if noted.is_ok() {
                break;
            }
        }
        let place = match *ask.waiting {
            Waiting::Queued { ticket } => line.queue.get_mut(ticket),
            Waiting::No | Waiting::Holds => None,
        };
        let old = match place {
            Some(place) => Some(std::mem::replace(place, waker)),
            None => {
                let ticket = line.queue.push(waker);
                *ask.waiting = Waiting::Queued { ticket };
                None
            }
        };
        drop(line);
        quietly(|| drop(old));
        Entry::Wait
    }

    /// Called with the turn. The lane may not have been called: if it stayed in the queue, a call meant for a lane that
    /// waits would go to this one while it works.
    fn leave(&self, ask: &mut Ask<'_>) {
        let Waiting::Queued { ticket } = std::mem::replace(ask.waiting, Waiting::No) else {
            return;
        };
        let mut line = lock(&self.line);
        let gone = line.queue.remove(ticket);
        if line.queue.is_empty() {
            // Relaxed: under the lock, like every change of this flag.
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        drop(line);
        quietly(|| drop(gone));
    }

    /// Nothing is to be taken any more: wakes every lane that waits here.
    pub(crate) fn close(&self) {
        let mut line = lock(&self.line);
        // Relaxed: nothing is read on the strength of it.
        self.state.fetch_or(CLOSED, Ordering::Relaxed);
        let all = line.queue.take_all();
        let poller = line.poller.take();
        drop(line);
        for waker in poller.into_iter().chain(all) {
            // Each by itself, so that one that panics takes the call from no other.
            quietly(|| waker.wake());
        }
    }
}

/// How spinning ended.
enum Tried {
    Taken,
    Busy { long: bool },
    Closed,
}

impl Turn<'_> {
    /// Whether another lane gave up spinning for this turn, and rests.
    #[inline]
    pub(crate) fn is_long(&self) -> bool {
        // Relaxed: a hint. Who sets it too late finds the queue served all the same.
        self.gate.state.load(Ordering::Relaxed) & LONG != 0
    }

    /// Gives the turn back and calls the next lane of the queue.
    #[inline]
    pub(crate) fn pass(mut self) {
        self.over = true;
        // Release: pairs with the Acquire in `Gate::enter`.
        let alone =
            self.gate
                .state
                .compare_exchange(TAKEN, 0, Ordering::Release, Ordering::Relaxed);
        if alone.is_err() {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        let mut line = lock(&self.gate.line);
        let called = line.queue.pop();
        let left = if line.queue.is_empty() { 0 } else { QUEUED };
        // Relaxed: nobody but this lane changes the state without the lock now.
        let closed = self.gate.state.load(Ordering::Relaxed) & CLOSED;
        // Release: as in `pass`.
        self.gate.state.store(closed | left, Ordering::Release);
        drop(line);
        if let Some(waker) = called {
            quietly(|| waker.wake());
        }
    }

    /// Rests with the turn: `ask.waker` is registered with the stream. `false`: the intake is
    /// closed, and nobody would wake this lane.
    pub(crate) fn rest(mut self, ask: &mut Ask<'_>) -> bool {
        self.over = true;
        let waker = ask.waker.clone();
        let mut line = lock(&self.gate.line);
        // Relaxed: under the lock, like `close`.
        let state = self.gate.state.load(Ordering::Relaxed);
        if state & CLOSED != 0 {
            drop(line);
            quietly(|| drop(waker));
            return false;
        }
        let old = line.poller.replace(waker);
        debug_assert!(old.is_none(), "the lane that rested has taken its waker");
        // Relaxed: nobody but this lane changes the state without the lock now.
        self.gate
            .state
            .store((state | RESTS) & !LONG, Ordering::Relaxed);
        *ask.waiting = Waiting::Holds;
        true
    }

    /// The source is at its end.
    pub(crate) fn end(mut self) {
        self.over = true;
        self.gate.close();
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.over {
            self.gate.close();
        }
    }
}
