//! A wake that a worker of tokio's has for later, when it has looked at its sockets and timers, and what to do with polls that
//! come before it: by the alarm, or for somebody beside the scope in its task.

use std::cell::Cell;
use std::task::Waker;

#[cfg(feature = "tokio")]
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Wake},
    time::{Duration, Instant},
};

#[cfg(feature = "tokio")]
use crate::sync::plain::{AtomicU32, Ordering};
#[cfg(feature = "tokio")]
use crate::task::quietly;

/// A worker comes to what it has put off after so many turns at the latest, unless it has been told otherwise: 61.
#[cfg(feature = "tokio")]
const TURNS: u32 = 64;
/// A `LocalSet` has as many turns of its own in one of the worker's.
#[cfg(feature = "tokio")]
const ASKED_MOST: u32 = TURNS * TURNS;
/// Where polls take long it is asked for no longer than that.
#[cfg(feature = "tokio")]
const ASKED_FOR: Duration = Duration::from_millis(20);

/// What is known of wakes that were put off: whether they come.
#[derive(Debug)]
pub(super) struct Lateness {
    /// So many are not put off, since others came late.
    at_once: Cell<u32>,
    /// How many in a row came late.
    lates: Cell<u32>,
}

impl Lateness {
    pub(super) const fn new() -> Self {
        Self {
            at_once: Cell::new(0),
            lates: Cell::new(0),
        }
    }

    /// Whether the next one may be put off.
    pub(super) fn may_put_off(&self) -> bool {
        let at_once = self.at_once.get();
        self.at_once.set(at_once.saturating_sub(1));
        at_once == 0
    }

    /// One came in time, or it did not: then it is tried again after some others, the more of them the more often in a row
    /// that was so, up to `most` times.
    pub(super) fn note(&self, came: bool, most: u32) {
        if came {
            self.lates.set(0);
            return;
        }
        let lates = (self.lates.get() + 1).min(most);
        self.lates.set(lates);
        self.at_once.set(8 << lates);
    }

    pub(super) fn swap(&self, other: &Self) {
        self.at_once.swap(&other.at_once);
        self.lates.swap(&other.lates);
    }
}

/// A wake that a worker of tokio's has for later.
#[derive(Debug)]
pub(super) struct PutOff {
    #[cfg(feature = "tokio")]
    caught: Arc<Caught>,
    /// The worker's thread.
    #[cfg(feature = "tokio")]
    thread: usize,
    /// The alarm has rung.
    #[cfg(feature = "tokio")]
    is_late: bool,
    /// How many polls only asked for it, and since when.
    #[cfg(feature = "tokio")]
    asked: Option<(u32, Instant)>,
}

/// What to do with a poll of a scope whose wake was put off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(feature = "tokio"),
    expect(dead_code, reason = "nothing is put off")
)]
pub(super) enum Due {
    /// The worker has come to the wake.
    Served,
    /// The poll is somebody's beside the scope in its task: the scope may go on.
    Beside,
    /// Nothing is to be done but to wake the task again, to see whether the worker goes on with its tasks.
    Ask,
    /// Nothing is to be done: somebody else asks.
    Wait,
    /// The worker does not come to it: somebody keeps it in a poll, and drives the scope in there.
    Blocked,
}

impl PutOff {
    /// Has the worker wake the task around as one that yields: after those who are ready, and after a look at its sockets
    /// and timers, which it would take otherwise after 61 tasks only.
    pub(super) fn begin(waker: &Waker) -> Self {
        #[cfg(feature = "tokio")]
        {
            let caught = Arc::new(Caught {
                waker: Some(waker.clone()),
                called: AtomicU32::new(0),
            });
            // Its one poll puts the waker off, or wakes it at once where there is no worker.
            let waker = Waker::from(Arc::clone(&caught));
            let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
            Self {
                caught,
                thread: this_thread(),
                is_late: false,
                asked: None,
            }
        }
        #[cfg(not(feature = "tokio"))]
        {
            waker.wake_by_ref();
            Self {}
        }
    }

    /// The worker has not come to it yet, and still has it: a runtime's `block_on` that returns drops what was put off in it.
    #[cfg(feature = "tokio")]
    fn is_open(&self) -> bool {
        self.caught.is_open() && Arc::strong_count(&self.caught) > 1
    }

    /// The worker of this thread will come to it.
    pub(super) fn is_open_here(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.is_open() && self.thread == this_thread();
        #[cfg(not(feature = "tokio"))]
        false
    }

    /// Whatever was asked, it was not for the window that opens now.
    pub(super) fn begin_anew(&mut self) {
        #[cfg(feature = "tokio")]
        {
            self.is_late = false;
            self.asked = None;
        }
    }

    /// A poll begins. `rung`: the alarm has woken the task. Then the worker goes on with its tasks, and has many or long ones;
    /// or somebody drives the scope in another executor, and blocks it. In the one case a window would keep it from its
    /// sockets and timers, in the other the scope must go on. Which one it is shows in a few polls that do nothing, since a
    /// worker comes to what it has put off after a number of turns.
    pub(super) fn polled(&mut self, rung: bool, waker: &Waker) -> Due {
        let _ = (rung, waker);
        #[cfg(feature = "tokio")]
        if self.is_open() {
            return self.polled_early(rung, waker);
        }
        Due::Served
    }

    #[cfg(feature = "tokio")]
    fn polled_early(&mut self, rung: bool, waker: &Waker) -> Due {
        self.is_late |= rung;
        let is_here = self.thread == this_thread();
        let has_its_turn = !(is_here && is_asked_here());
        if has_its_turn && !self.is_late {
            return Due::Beside;
        }
        if !is_here {
            // It is this worker that matters now.
            let here = Self::begin(waker);
            (self.caught, self.thread) = (here.caught, here.thread);
        }
        let (asked, since) = self.asked.get_or_insert_with(|| (0, Instant::now()));
        *asked += 1;
        if *asked >= ASKED_MOST || (*asked % TURNS == 0 && since.elapsed() >= ASKED_FOR) {
            // Nobody is to wait for that any more.
            let _ = ASKED.try_with(Cell::take);
            return Due::Blocked;
        }
        if !self.is_late {
            return Due::Wait;
        }
        let _ = ASKED.try_with(|asked| asked.set(Some(Arc::downgrade(&self.caught))));
        Due::Ask
    }
}

#[cfg(feature = "tokio")]
thread_local! {
    /// What somebody asks this thread's worker for. Others wait for theirs meanwhile: it comes to all at once.
    static ASKED: Cell<Option<Weak<Caught>>> = const { Cell::new(None) };
    static PLACE: u8 = const { 0 };
}

/// A number of this thread's, while it lives.
#[cfg(feature = "tokio")]
fn this_thread() -> usize {
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

#[cfg(feature = "tokio")]
fn is_asked_here() -> bool {
    let is_asked = |asked: &Cell<Option<Weak<Caught>>>| {
        let Some(caught) = asked.take() else {
            return false;
        };
        let is_open = caught.upgrade().is_some_and(|caught| caught.is_open());
        asked.set(is_open.then_some(caught));
        is_open
    };
    ASKED.try_with(is_asked).unwrap_or(false)
}

/// A waker that the worker has for later. Should it panic there, that would end the runtime.
#[cfg(feature = "tokio")]
#[derive(Debug)]
struct Caught {
    waker: Option<Waker>,
    /// Not zero: it was woken.
    called: AtomicU32,
}

#[cfg(feature = "tokio")]
impl Caught {
    fn is_open(&self) -> bool {
        // Relaxed: a hint.
        self.called.load(Ordering::Relaxed) == 0
    }
}

#[cfg(feature = "tokio")]
impl Wake for Caught {
    fn wake(self: Arc<Self>) {
        // Relaxed: a hint.
        self.called.store(1, Ordering::Relaxed);
        if let Some(waker) = &self.waker {
            quietly(|| waker.wake_by_ref());
        }
    }
}

#[cfg(feature = "tokio")]
impl Drop for Caught {
    fn drop(&mut self) {
        let waker = self.waker.take();
        quietly(|| drop(waker));
    }
}
