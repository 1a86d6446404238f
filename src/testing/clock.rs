//! `VirtualClock`: a timer whose time moves only when nothing else can, and an executor that
//! moves it. Not a simulation of threads: what other threads do still takes real time.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use std::{fmt, iter, mem};

use selvedge_cancel::ambient::{self, Outer};
use selvedge_cancel::{Instant, Ticket, Timer, quietly};

/// Deadlines further away than this mean "never" and are not jumped to: a century.
const HORIZON: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A clock for tests: time stands still while anything runs, and jumps to the next deadline when
/// everything waits.
///
/// Clones are handles to the same clock. Sleeps of [`time`](crate::time) and `.timeout` made while
/// [`block_on`](Self::block_on) runs go by it, on whichever thread a child is polled; those of
/// `tokio::time` and `std::time::Instant::now` do not.
///
/// # Examples
/// ```
/// use selvedge::testing::VirtualClock;
/// use selvedge::time::sleep;
/// use std::time::Duration;
///
/// const HOUR: Duration = Duration::from_secs(3600);
///
/// let clock = VirtualClock::new();
/// clock.block_on(sleep(HOUR)).unwrap();
/// assert_eq!(clock.elapsed(), HOUR);
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
    panics_when_stuck: bool,
}

impl VirtualClock {
    /// A clock that has just been started.
    #[must_use]
    pub fn new() -> Self {
        let start = Instant::from_std(std::time::Instant::now());
        Self {
            shared: Arc::new(Shared {
                start,
                state: Mutex::new(State {
                    now: start,
                    entries: BTreeMap::new(),
                    next_id: 0,
                }),
                changed: Condvar::new(),
            }),
            panics_when_stuck: false,
        }
    }

    /// Lets [`block_on`](Self::block_on) panic, instead of waiting for other threads, when the
    /// future waits and no deadline is left: for tests whose every event is on this clock. A function of
    /// [`on_cancel`](crate::CancelToken::on_cancel) that a deadline reaches is on a thread of its own, as ever.
    #[must_use]
    pub fn panics_when_stuck(mut self) -> Self {
        self.panics_when_stuck = true;
        self
    }

    /// The present moment of this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.now()
    }

    /// How far the clock has moved since it was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now() - self.shared.start
    }

    /// How many wake-ups are entered and yet to come.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.shared.lock().entries.len()
    }

    /// Moves the clock on, and wakes what has become due, in the order of the deadlines.
    ///
    /// What was woken runs when its executor gets to it, and finds the clock at the new time.
    ///
    /// # Examples
    /// ```
    /// use selvedge::testing::VirtualClock;
    /// use std::time::Duration;
    ///
    /// let clock = VirtualClock::new();
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(clock.elapsed(), Duration::from_secs(5));
    /// ```
    pub fn advance(&self, by: Duration) {
        let to = self.now() + by;
        self.shared.move_to(to);
    }

    /// The clock as a timer, for an executor other than [`block_on`](Self::block_on).
    #[must_use]
    pub fn timer(&self) -> Arc<dyn Timer> {
        self.shared.clone()
    }

    /// Runs a future to its end on this thread and on this clock.
    ///
    /// Whenever the future waits and was not woken, the clock jumps to the next deadline. It
    /// does so even if another thread is about to wake the future: wait for such a thread
    /// without a deadline beside it, or expect either order. With no deadline within a century,
    /// it waits for other threads.
    ///
    /// # Panics
    /// If nothing can wake the future any more: no deadline is left and nobody has kept its
    /// waker. With [`panics_when_stuck`](Self::panics_when_stuck), if no deadline is left. If
    /// the future panics.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        // In a `block_on` of ours: inside a task of tokio's a scope would leave its next turn to the worker, which does not come
        // to it before this has ended, and here it would look as if everybody waited.
        let mut future = Some(future);
        crate::block_on(poll_fn(|_| {
            Poll::Ready(self.drive(future.take().expect("it is driven once")))
        }))
    }

    fn drive<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let bell = Arc::new(Bell {
            rung: Mutex::new(false),
            clock: Arc::clone(&self.shared),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let _installed = Installed::new(self.timer());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            while !bell.answer() {
                if let Some(next) = self.shared.next_deadline() {
                    self.shared.move_to(next);
                    continue;
                }
                // Two references are ours: `bell`, and the one in `waker`.
                let abandoned = Arc::strong_count(&bell) == 2;
                // The one who held the last reference may have rung before letting go of it.
                if (abandoned || self.panics_when_stuck) && !bell.is_rung() {
                    self.give_up(abandoned);
                }
                bell.wait();
            }
        }
    }

    fn give_up(&self, abandoned: bool) -> ! {
        let why = if abandoned {
            "and nobody has kept its waker"
        } else {
            "and the clock is set to panic when stuck"
        };
        panic!(
            "deadlock: after {:?} of virtual time the future waits, no deadline is left, {why}",
            self.elapsed(),
        );
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock")
            .field("elapsed", &self.elapsed())
            .field("timers", &self.timers())
            .finish_non_exhaustive()
    }
}

struct Shared {
    start: Instant,
    state: Mutex<State>,
    /// An entry was made, or a bell was rung.
    changed: Condvar,
}

struct State {
    now: Instant,
    entries: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.nearest(&self.lock())
    }

    fn nearest(&self, state: &State) -> Option<Instant> {
        let ((at, _), _) = state.entries.first_key_value()?;
        (*at - self.start <= HORIZON).then_some(*at)
    }

    fn move_to(&self, to: Instant) {
        let due: Vec<Waker> = {
            let mut state = self.lock();
            let now = state.now.max(to);
            state.now = now;
            iter::from_fn(|| {
                let first = state.entries.first_entry()?;
                (first.key().0 <= now).then(|| first.remove())
            })
            .collect()
        };
        for waker in due {
            quietly(|| waker.wake());
        }
    }
}

impl Drop for Shared {
    /// Drops what nobody took back, each by itself.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        for waker in mem::take(&mut state.entries).into_values() {
            quietly(|| drop(waker));
        }
    }
}

impl Timer for Shared {
    fn now(&self) -> Instant {
        self.lock().now
    }

    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket {
        let waker = waker.clone();
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        if at <= state.now {
            drop(state);
            quietly(|| waker.wake());
        } else {
            state.entries.insert((at, id), waker);
            self.changed.notify_all();
        }
        Ticket::new(at, id)
    }

    fn cancel(&self, ticket: Ticket) {
        let entry = self.lock().entries.remove(&(ticket.at(), ticket.id()));
        // Out of the lock by now: dropping a waker may run anybody's code, in a destructor that is unwinding perhaps.
        quietly(|| drop(entry));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualTimer").finish_non_exhaustive()
    }
}

/// What the waker of `block_on` rings. The clock's lock orders it with the making of entries, so
/// that one wait listens for both.
struct Bell {
    rung: Mutex<bool>,
    clock: Arc<Shared>,
}

impl Bell {
    fn rung(&self) -> MutexGuard<'_, bool> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_rung(&self) -> bool {
        *self.rung()
    }

    /// Whether it was rung since the last answer.
    fn answer(&self) -> bool {
        mem::take(&mut *self.rung())
    }

    /// Waits until it is rung or there is a deadline to jump to.
    fn wait(&self) {
        let mut state = self.clock.lock();
        while !self.is_rung() && self.clock.nearest(&state).is_none() {
            let woken = self.clock.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _state = self.clock.lock();
        *self.rung() = true;
        self.clock.changed.notify_all();
    }
}

/// Keeps a timer installed on this thread; also when the future unwinds.
struct Installed(Option<Outer<Arc<dyn Timer>>>);

impl Installed {
    fn new(timer: Arc<dyn Timer>) -> Self {
        Self(Some(ambient::enter_timer(Some(timer))))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(self.0.take().and_then(ambient::leave_timer));
    }
}
