//! The embedded timer: one thread, started by the first sleep of a program without a timer of its
//! own, that wakes tasks from an ordered map. Not a clock to adjust: it goes by the system's.
//!
//! The thread only wakes. `on_cancel` functions that a limit reaches are called on other threads, and a waker must
//! not block. After a `fork` the child process starts a thread of its own. Where none can be had, whoever schedules an
//! entry is woken at once, and looks at the time himself.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::time::Duration;
use std::{iter, thread};

use selvedge_cancel::{CallbacksElsewhere, Instant, PerProcess, Ticket, Timer, quietly};

use crate::messages::say;
use crate::sync::plain::{AtomicUsize, Ordering};

/// How long the thread sleeps at most, so that the last moment there is needs no arithmetic that
/// a platform's condition variable might not survive.
const LONGEST_NAP: Duration = Duration::from_secs(24 * 60 * 60);

/// A waker that takes longer than this holds up whoever sleeps, and a debug build says so, once. Wakers take about a
/// microsecond; this is beyond what a thread that has lost its processor for a while takes.
const SLOW_WAKE: Duration = Duration::from_millis(200);

/// The most entries that are taken out under one lock, for which others wait: about ten microseconds.
const AT_ONCE: usize = 256;

/// The embedded timer of this process.
pub(crate) fn embedded() -> &'static dyn Timer {
    &Handle
}

static EMBEDDED: PerProcess<Embedded> = PerProcess::new(Embedded::new(State::new()));

/// Stands for the one [`Embedded`] of this process, which is static because its thread never ends.
#[derive(Debug)]
struct Handle;

/// Std's lock and condition variable, also under loom, which has no time and no statics.
#[derive(Debug)]
struct Embedded {
    state: Mutex<State>,
    sooner: Condvar,
    /// Held while the thread is started: who makes an entry meanwhile waits for what comes of it. Taken before `state`.
    starting: Mutex<()>,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    /// It was started, and does not end.
    has_thread: bool,
    /// Until when the thread sleeps; `None` while it is awake and will look at the map anyway.
    /// It may be earlier than the first entry, when that was cancelled: waking the thread for
    /// each first entry made a sleep that is soon dropped cost 1 µs instead of 0.2 µs.
    sleeps_until: Option<Instant>,
}

impl State {
    const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            next_id: 0,
            has_thread: false,
            sleeps_until: None,
        }
    }

    fn inherit(&mut self, old: &mut Self) {
        self.next_id = old.next_id;
        self.entries = std::mem::take(&mut old.entries);
    }

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

/// The timer of this process. It asks the system for the process's number, which takes some 50 ns.
fn of_this_process() -> &'static Embedded {
    EMBEDDED.get(|parents| {
        // The parent's entries are the child's too: the tasks behind them are in its memory. Should a thread of the
        // parent have held the lock during the `fork`, nobody will ever unlock it: those entries are lost.
        let mut state = State::new();
        match parents.state.try_lock() {
            Err(TryLockError::WouldBlock) => {
                // Far beyond the tickets that the parent has given.
                state.next_id = 1 << 60;
            }
            Ok(mut old) => state.inherit(&mut old),
            Err(TryLockError::Poisoned(old)) => state.inherit(&mut old.into_inner()),
        }
        Embedded::new(state)
    })
}

/// To be called before a thread sleeps until it is woken. In a child process that has not used the timer yet, it
/// starts the thread for what the parent had entered.
pub(super) fn look_after_fork() {
    if EMBEDDED.is_ours() {
        return;
    }
    let timer = of_this_process();
    if timer.lock().entries.is_empty() || timer.start_thread() {
        return;
    }
    // No other thread is here that could look for an entry while they are away.
    let entries = std::mem::take(&mut timer.lock().entries);
    let mut wakers = Vec::new();
    for waker in entries.values() {
        quietly(|| wakers.push(waker.clone()));
    }
    timer.lock().entries.extend(entries);
    // Whoever waits looks at the time himself, and comes again. That costs speed; but nobody waits for ever.
    for waker in wakers {
        quietly(|| waker.wake());
    }
}

impl Embedded {
    const fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            sooner: Condvar::new(),
            starting: Mutex::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock of the timer that was used last, for what need not know whether this is a child process: only a lock
    /// that somebody holds may be held for ever.
    fn lock_latest() -> MutexGuard<'static, State> {
        match EMBEDDED.latest().state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => of_this_process().lock(),
        }
    }

    /// Serves the entries, for ever.
    fn run(&self) {
        // The thread never ends, so neither does this.
        std::mem::forget(CallbacksElsewhere::begin());
        let mut due = Vec::new();
        let mut state = self.lock();
        loop {
            let now = Handle.now();
            let first_due = iter::from_fn(|| {
                let first = state.entries.first_entry()?;
                (first.key().0 <= now).then(|| first.remove())
            });
            due.extend(first_due.take(AT_ONCE));
            if !due.is_empty() {
                drop(state);
                for waker in due.drain(..) {
                    wake(waker);
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

    /// Starts the thread, if nobody has. `false`: none can be had. The entries stay, for the next attempt.
    fn start_thread(&'static self) -> bool {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().has_thread {
            return true;
        }
        let started = thread::Builder::new()
            .name("selvedge-timer".into())
            .spawn(|| self.run())
            .is_ok();
        self.lock().has_thread = started;
        started
    }
}

/// Wakes one entry, on the timer's thread.
fn wake(waker: Waker) {
    let from = cfg!(debug_assertions).then(|| Handle.now());
    quietly(|| waker.wake());
    let Some(from) = from else { return };
    let took = Handle.now().duration_since(from);
    // Relaxed: a count that nothing depends on.
    if took >= SLOW_WAKE && SLOW_WAKES.fetch_add(1, Ordering::Relaxed) == 0 {
        say(format!(
            "a waker that the timer woke took {took:?}. All sleeps and limits of the program wait for it: a waker \
             must not block or compute."
        ));
    }
}

static SLOW_WAKES: AtomicUsize = AtomicUsize::new(0);

impl Timer for Handle {
    fn now(&self) -> Instant {
        Instant::from_std(std::time::Instant::now())
    }

    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket {
        let entry = waker.clone();
        let timer = of_this_process();
        let mut state = timer.lock();
        let ticket = state.insert(at, entry);
        let must_start = !state.has_thread;
        let must_wake = state.must_wake_for(at);
        drop(state);
        if must_wake {
            timer.sooner.notify_one();
        }
        if must_start && !timer.start_thread() {
            // Its task looks at the time and comes again, and with it another attempt.
            quietly(|| waker.wake_by_ref());
            thread::yield_now();
        }
        ticket
    }

    fn reset(&self, ticket: Ticket, at: Instant, waker: &Waker) -> Ticket {
        if ticket.at() == at {
            let state = of_this_process().lock();
            let entry = state.entries.get(&(at, ticket.id()));
            if state.has_thread && entry.is_some_and(|old| old.will_wake(waker)) {
                return ticket;
            }
        }
        self.cancel(ticket);
        self.schedule(at, waker)
    }

    fn cancel(&self, ticket: Ticket) {
        let entry = Embedded::lock_latest()
            .entries
            .remove(&(ticket.at(), ticket.id()));
        // Out of the lock by now: dropping a waker may run anybody's code, and may panic where nobody expects it.
        quietly(|| drop(entry));
    }
}
