//! `Alarm`: one entry in the timer, which can be moved, and what to do to a token when its moment has
//! come. It acts on the timer's thread, so that it is felt during a long poll too. Not a wait for a task; but where the
//! timer has no thread, the task that set the limit sees to it: [`Alarm::attend`].

use std::panic::Location;
use std::sync::Arc;
use std::task::{Wake, Waker};

use selvedge_cancel::{CallbacksElsewhere, CancelToken, Cause, CauseKind, Instant, Ticket};

use crate::sync::plain::{AtomicU32, Ordering};
use crate::sync::{Mutex, lock};
use crate::time::Clock;

/// Where the program asked for a limit.
pub(crate) type Place = &'static Location<'static>;

/// What to do to the token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Cancel it, with cause `Deadline`.
    Cancel,
    /// Let the abort phase begin, with cause `GraceExpired`.
    Abort,
    /// Take the shield away.
    Lower,
}

/// When to act, and the place to name for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) at: Instant,
    pub(crate) place: Place,
}

/// Acts on a token at a moment, which may be changed from any thread. Clones are handles to one alarm;
/// whoever made it sets it to `None` in the end, or the timer keeps it until its moment.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    bell: Arc<Bell>,
}

/// What the timer rings.
#[derive(Debug)]
struct Bell {
    token: CancelToken,
    act: Act,
    clock: Clock,
    /// The timer rang before the moment, and may not do so again.
    early: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: there is nothing to do, or it was done.
    target: Option<Target>,
    /// The entry in the timer and its moment; `None` also while somebody is exchanging it.
    entry: Option<(Ticket, Instant)>,
    /// The entry is to be made again, although its moment is right.
    renew: bool,
    /// Somebody is bringing the entry in line with the target, and will see what changed meanwhile: so
    /// the timer is called by one thread at a time, without the lock.
    exchanging: bool,
}

impl Alarm {
    pub(crate) fn new(token: CancelToken, act: Act, clock: Clock) -> Self {
        let state = State {
            target: None,
            entry: None,
            renew: false,
            exchanging: false,
        };
        Self {
            bell: Arc::new(Bell {
                token,
                act,
                clock,
                early: AtomicU32::new(0),
                state: Mutex::new(state),
            }),
        }
    }

    /// Replaces the target. A moment that has passed is acted upon before this returns.
    pub(crate) fn set(&self, target: Option<Target>) {
        self.aim(target);
        match target {
            Some(_) => self.settle(),
            None => self.align(),
        }
    }

    /// The first half of [`set`](Self::set), which calls nobody: for callers that hold a lock.
    pub(crate) fn aim(&self, target: Option<Target>) {
        lock(&self.bell.state).target = target;
    }

    /// The second half: acts if it is time, and brings the timer's entry in line with the target. Functions that the deadline
    /// reaches run where they would if the timer's thread had found it.
    pub(crate) fn settle(&self) {
        // Also for a timer that rings while an entry is made.
        let _elsewhere = CallbacksElsewhere::begin();
        self.bell.look();
        self.align();
    }

    /// The same for a target whose moment had come before it was aimed at: it is acted upon, whoever has replaced it since.
    pub(crate) fn settle_over(&self, target: Target) {
        let _elsewhere = CallbacksElsewhere::begin();
        self.bell.act(target);
        self.align();
    }

    /// For the task that set the limit, whenever it has been polled and waits. If the timer rang too early, the entry
    /// is renewed; and if it rings early again, because it has no thread, the task is woken, and comes by here again.
    pub(crate) fn attend(&self, waker: &Waker) {
        // Relaxed: the entry, which the flag is about, is under the lock.
        let early = &self.bell.early;
        if early.load(Ordering::Relaxed) == 0 || early.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let _elsewhere = CallbacksElsewhere::begin();
        if self.bell.look() {
            lock(&self.bell.state).renew = true;
            self.align();
        }
        if early.load(Ordering::Relaxed) != 0 {
            waker.wake_by_ref();
        }
    }

    fn align(&self) {
        let bell = &self.bell;
        loop {
            let (old, wanted) = {
                let mut state = lock(&bell.state);
                let wanted = state.target.map(|target| target.at);
                let is_right = !state.renew && state.entry.map(|(_, at)| at) == wanted;
                if state.exchanging || is_right {
                    return;
                }
                state.exchanging = true;
                state.renew = false;
                (state.entry.take(), wanted)
            };
            // Also when the timer panics, or the alarm would never be set again.
            let exchanging = Exchanging(bell);
            let entry = self.exchange(old, wanted);
            lock(&bell.state).entry = entry;
            drop(exchanging);
        }
    }

    /// Moves, makes or removes the entry. No lock is held: the timer may ring at once, in here.
    fn exchange(
        &self,
        old: Option<(Ticket, Instant)>,
        wanted: Option<Instant>,
    ) -> Option<(Ticket, Instant)> {
        let timer = self.bell.clock.timer();
        let Some(at) = wanted else {
            if let Some((ticket, _)) = old {
                timer.cancel(ticket);
            }
            return None;
        };
        let waker = Waker::from(Arc::clone(&self.bell));
        let ticket = match old {
            Some((ticket, _)) => timer.reset(ticket, at, &waker),
            None => timer.schedule(at, &waker),
        };
        Some((ticket, at))
    }
}

/// One thread at a time talks to the timer.
struct Exchanging<'a>(&'a Bell);

impl Drop for Exchanging<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).exchanging = false;
    }
}

impl Bell {
    /// Acts if the time has come; a timer may ring too often, never too seldom. The answer is whether there is something
    /// left to do, later. The target stays until it was acted upon, so that whoever finds none, and another thread that
    /// looks at the same time, can rely on that; both may act, which is the same as once.
    fn look(&self) -> bool {
        let now = self.clock.now();
        let due = {
            let state = lock(&self.state);
            match state.target {
                Some(due) if due.at <= now => due,
                other => return other.is_some(),
            }
        };
        self.act(due);
        false
    }

    /// The moment has come.
    fn act(&self, due: Target) {
        let Target { at, place } = due;
        match self.act {
            Act::Cancel => {
                // Of two limits that are over, the sooner is the cause.
                self.token.end_before(at, self.clock.installed());
                self.token
                    .cancel_with(Cause::new(CauseKind::Deadline).with_place(place));
            }
            Act::Abort => self
                .token
                .abort_with(Cause::new(CauseKind::GraceExpired).with_place(place)),
            Act::Lower => self.token.lower_shield(),
        }
        let mut state = lock(&self.state);
        state.target.take_if(|target| target.at == at);
    }
}

impl Bell {
    /// The timer's call: on its own thread, which must go on, or, where it has none, on one that polls.
    fn ring(&self) {
        let _elsewhere = CallbacksElsewhere::begin();
        if self.look() {
            // Relaxed: as in `attend`.
            self.early.store(1, Ordering::Relaxed);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
