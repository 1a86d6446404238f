//! The embedded timer: one thread, started by the first sleep of a program without a timer of its
//! own, that wakes tasks from an ordered map. Not a clock to adjust: it goes by the system's.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use std::{iter, thread};

use selvedge_cancel::{Instant, Ticket, Timer, quietly};

/// How long the thread sleeps at most, so that the last moment there is needs no arithmetic that
/// a platform's condition variable might not survive.
const LONGEST_NAP: Duration = Duration::from_secs(24 * 60 * 60);

/// The embedded timer of this process.
pub(crate) fn embedded() -> &'static dyn Timer {
    &Handle
}

static EMBEDDED: Embedded = Embedded::new();

/// Stands for the one [`Embedded`], which is static because its thread never ends.
#[derive(Debug)]
struct Handle;

/// Std's lock and condition variable, also under loom, which has no time and no statics.
#[derive(Debug)]
struct Embedded {
    state: Mutex<State>,
    sooner: Condvar,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    has_thread: bool,
    /// Until when the thread sleeps; `None` while it is awake and will look at the map anyway.
    /// It may be earlier than the first entry, when that was cancelled: waking the thread for
    /// each first entry made a sleep that is soon dropped cost 1 µs instead of 0.2 µs.
    sleeps_until: Option<Instant>,
}

impl State {
    fn insert(&mut self, at: Instant, waker: Waker) -> Ticket {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.insert((at, id), waker);
        Ticket::new(at, id)
    }

    /// Whether the thread has to be woken to be in time for this moment; says so once.
    fn must_wake_for(&mut self, at: Instant) -> bool {
        let oversleeps = self.sleeps_until.is_some_and(|until| at < until);
        if oversleeps {
            self.sleeps_until = None;
        }
        oversleeps
    }
}

impl Embedded {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                entries: BTreeMap::new(),
                next_id: 0,
                has_thread: false,
                sleeps_until: None,
            }),
            sooner: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the entries, for ever.
    fn run(&self) {
        let mut due = Vec::new();
        let mut state = self.lock();
        loop {
            let now = Handle.now();
            due.extend(iter::from_fn(|| {
                let first = state.entries.first_entry()?;
                (first.key().0 <= now).then(|| first.remove())
            }));
            if !due.is_empty() {
                drop(state);
                for waker in due.drain(..) {
                    quietly(|| waker.wake());
                }
                state = self.lock();
                continue;
            }
            let nap = match state.entries.first_key_value() {
                None => LONGEST_NAP,
                Some(((at, _), _)) => at.duration_since(now).min(LONGEST_NAP),
            };
            state.sleeps_until = Some(now + nap);
            let woken = self.sooner.wait_timeout(state, nap);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.sleeps_until = None;
        }
    }

    /// Starts the thread, for the entry of this waker. Where none can be had, the entries stay, and the
    /// waker is woken: its task looks at the time and comes again, and with it another attempt. That
    /// costs speed, and an alarm, which has no task, rings late; but nobody waits for ever.
    fn start_thread(&'static self, waker: &Waker) {
        let started = thread::Builder::new()
            .name("selvedge-timer".into())
            .spawn(|| self.run());
        if started.is_err() {
            self.lock().has_thread = false;
            quietly(|| waker.wake_by_ref());
            thread::yield_now();
        }
    }
}

impl Timer for Handle {
    fn now(&self) -> Instant {
        Instant::from_std(std::time::Instant::now())
    }

    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket {
        let entry = waker.clone();
        let mut state = EMBEDDED.lock();
        let ticket = state.insert(at, entry);
        let must_start = !std::mem::replace(&mut state.has_thread, true);
        let must_wake = state.must_wake_for(at);
        drop(state);
        if must_start {
            EMBEDDED.start_thread(waker);
        } else if must_wake {
            EMBEDDED.sooner.notify_one();
        }
        ticket
    }

    fn reset(&self, ticket: Ticket, at: Instant, waker: &Waker) -> Ticket {
        if ticket.at() == at {
            let state = EMBEDDED.lock();
            let entry = state.entries.get(&(at, ticket.id()));
            if state.has_thread && entry.is_some_and(|old| old.will_wake(waker)) {
                return ticket;
            }
        }
        self.cancel(ticket);
        self.schedule(at, waker)
    }

    fn cancel(&self, ticket: Ticket) {
        let entry = EMBEDDED.lock().entries.remove(&(ticket.at(), ticket.id()));
        // Out of the lock by now: dropping a waker may run anybody's code, in a destructor that is unwinding perhaps.
        quietly(|| drop(entry));
    }
}
