//! The notice of a scope: how a cancellation reaches children that have registered nowhere.
//!
//! Whoever cancels the scope, or one child of it, gives notice; the owner takes it in the next window and queues
//! the children concerned, which then look at their token. A scope that hangs below others, or whose token
//! somebody has, enters the token's list of watchers, once a phase. What is kept here is `'static` (rule W10),
//! and no user code runs under its lock (rule W15). The races are told in `README.md`.

use std::mem::ManuallyDrop;
use std::panic::Location;
use std::task::{RawWaker, RawWakerVTable, Waker};

use selvedge_cancel::{Cause, Instant, Phase, Watching, ambient};

use super::body::{never_polled, no_output, nothing};
use super::core::Core;
use super::here::Role;
use super::inbox::Pushed;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::task::{Header, Kind, Rest, TaskWord, VTable, free_owned, links_of, quietly};
use crate::time::Clock;

static NOTICE: VTable = VTable {
    kind: Kind::Notice,
    poll: never_polled,
    drop_future: nothing,
    drop_output: no_output,
    output_needs_drop: false,
    free: nothing,
    output: 0,
    cut_short: None,
};

/// Somebody besides the owner may give notice, so there may be something to give back at the end.
const USED: u32 = 1;
/// The scope is over: nothing is entered any more.
const CLOSED: u32 = 2;

#[derive(Debug)]
pub(crate) struct Notice {
    /// What is pushed into the inbox.
    pub(super) header: Header,
    flags: AtomicU32,
    /// Whether the scope's first poll has begun, and by which clock: one of the three below.
    begun: AtomicU32,
    shared: Mutex<Shared>,
}

const FRESH: u32 = 0;
/// By the embedded clock.
const BEGUN: u32 = 1;
/// By the one that is kept in `shared`.
const BEGUN_BY: u32 = 2;

#[derive(Debug)]
struct Shared {
    /// Where the scope stands among its token's watchers.
    /// And for which phase; the place may have been served since.
    at: Option<(Phase, usize)>,
    /// Children that were cancelled one by one, each with a reference to its cell.
    marked: Vec<Marked>,
    /// The clock of the scope's first poll, if it is not the embedded one.
    clock: Clock,
}

/// A counted reference to a child's cell.
#[derive(Debug)]
struct Marked(*const Header);

// SAFETY: a header is reached through its atomics until the owner, or the last holder, has it.
unsafe impl Send for Marked {}

impl Notice {
    pub(super) fn new(core: *const Core) -> Self {
        Self {
            header: Header {
                word: TaskWord::idle(),
                ..Header::new(core, &NOTICE, false)
            },
            flags: AtomicU32::new(0),
            begun: AtomicU32::new(FRESH),
            shared: Mutex::new(Shared {
                at: None,
                marked: Vec::new(),
                clock: Clock::default(),
            }),
        }
    }
}

impl Notice {
    /// As it was made; nobody refers to it.
    pub(super) fn renew(&mut self) {
        let Self {
            header,
            flags,
            begun,
            shared,
        } = self;
        let shared = shared.get_mut();
        let shared = shared.unwrap_or_else(std::sync::PoisonError::into_inner);
        let Shared { at, marked, clock } = shared;
        *at = None;
        marked.clear();
        if clock.installed().is_some() {
            *clock = Clock::default();
        }
        header.renew(TaskWord::idle());
        *flags = AtomicU32::new(0);
        *begun = AtomicU32::new(FRESH);
    }
}

impl Core {
    /// The scope is polled for the first time: it takes its place in the tree, and its limits begin to count.
    pub(super) fn begin(&self) {
        if let Some(outer) = ambient::member() {
            self.token.attach_to(&outer);
            self.owner.attached.set(true);
        }
        let clock = Clock::current();
        let begun = match clock.installed() {
            None => BEGUN,
            Some(_) => {
                lock(&self.notice.shared).clock = clock;
                BEGUN_BY
            }
        };
        // Release: whoever sees it has all that the first poll does before anybody in the scope is polled. Pairs with
        // the Acquire in `move_deadline`.
        self.notice.begun.store(begun, Ordering::Release);
        if self.settings.limits.get().is_some() {
            self.expose();
            self.look_at_limits();
        }
    }

    /// Moves the scope's deadline, from anywhere. In a scope that runs, one that has passed cancels before this returns.
    pub(super) fn move_deadline(&self, at: Option<Instant>, place: &'static Location<'static>) {
        let limits = self.settings.limits();
        self.expose();
        // Relaxed: `expose` wrote the same word after the limits were made. So the end of the scope, which swaps it
        // before it looks for limits, has either found these, or is seen here.
        if self.notice.flags.load(Ordering::Relaxed) & CLOSED != 0 {
            return limits.end();
        }
        // Acquire: pairs with the Release in `begin`.
        let clock = match self.notice.begun.load(Ordering::Acquire) {
            FRESH => None,
            BEGUN => Some(Clock::default()),
            _ => Some(lock(&self.notice.shared).clock.clone()),
        };
        if let Some(clock) = clock {
            // The limits may be new.
            limits.begin_by(&self.token, clock);
        }
        limits.set_deadline(&self.token, at, place);
        // If the first poll begins right now, it may have missed the limits: then the notice begins them.
        self.give_notice();
    }

    /// After a poll that left the scope waiting: where the timer has no thread, the limits need polls.
    pub(super) fn attend_limits(&self, waker: &Waker) {
        if let Some(limits) = self.settings.limits.get() {
            // It runs code of the timer.
            quietly(|| limits.attend(waker));
        }
    }

    /// The task around is another one, or will not be polled any more: its alarm is of no use.
    pub(super) fn silence(&self) {
        self.owner.put_off.replace(None);
        self.owner.alarm.replace(None);
    }

    /// The scope is over: it lets go of what may refer to it.
    pub(super) fn finish(&self) {
        self.deafen();
        self.unask();
        if let Some(pool) = self.settings.pool.take() {
            // With the last reference go its handlers, which are a user's.
            quietly(|| drop(pool));
        }
        self.silence();
        self.parent.clear();
        if let Some(limits) = self.settings.limits.get() {
            // It runs code of the timer.
            quietly(|| limits.end());
        }
        // Relaxed: written by the owner, in an earlier poll.
        if self.notice.begun.load(Ordering::Relaxed) == BEGUN_BY {
            // After the limits have ended, which go by it. And here, not with the core: a timer may be user code.
            let clock = std::mem::take(&mut lock(&self.notice.shared).clock);
            quietly(|| drop(clock));
        }
    }

    /// Tells the owner that there is something to look at. As its last act it may wake the parent.
    pub(crate) fn give_notice(&self) {
        if !self.notice.header.word.wake() {
            return;
        }
        match self.role() {
            Role::Owner => self.owner.noticed.set(true),
            // SAFETY: the helper's haul lives as long as its frame.
            Role::Helper(haul) => unsafe { (*haul).notice.set(true) },
            Role::Stranger => {
                // SAFETY: `wake` gave us the token; the caller keeps the core alive.
                if unsafe { self.push(&self.notice.header) } == Pushed::Dead {
                    self.give_back_marked();
                }
            }
        }
    }

    /// Cancels the scope with everything below it.
    pub(crate) fn cancel_with(&self, cause: Cause) {
        self.token.cancel_with(cause);
        self.give_notice();
    }

    /// Asks the scope, with everything below it, for a graceful end.
    pub(crate) fn stop_with(&self, cause: Cause) {
        self.token.stop_with(cause);
        self.count_from_stop();
        self.give_notice();
    }

    /// Somebody has asked for a stop, perhaps, from anywhere: its time counts from here.
    fn count_from_stop(&self) {
        if let Some(limits) = self.settings.limits.get() {
            quietly(|| limits.look_at_stop(&self.token));
        }
    }

    /// Somebody gets hold of the scope's token, so that a cancellation may come past the scope.
    pub(crate) fn expose(&self) {
        // AcqRel: the lock in `listen` orders the rest; this is for limits that were made before, which `deafen` is to
        // find, or for its swap, which is to be seen here.
        let before = self.notice.flags.fetch_or(USED, Ordering::AcqRel);
        // Whoever else gets hold of the token before this is done may cancel it: then it is late here.
        if before == 0 && self.listen(Phase::Running) {
            self.give_notice();
        }
    }

    /// One child was cancelled: it is to look at its token.
    ///
    /// # Safety
    /// `header` opens a child's cell of this scope, which the caller keeps alive.
    pub(crate) unsafe fn mark(&self, header: *const Header) {
        // Relaxed: as in `expose`.
        self.notice.flags.fetch_or(USED, Ordering::Relaxed);
        {
            let mut shared = lock(&self.notice.shared);
            // Relaxed: set before the lock was taken to give everything back.
            if self.notice.flags.load(Ordering::Relaxed) & CLOSED != 0 {
                return;
            }
            // SAFETY: the caller keeps it alive.
            unsafe { &*header }.life.acquire();
            shared.marked.push(Marked(header));
        }
        self.give_notice();
    }

    /// Enters the token's list for the phase that matters next, after this one. `true`: it has come already.
    ///
    /// No lock is held while entering: a cancellation found on the way is spread from here, to whoever waits.
    fn listen(&self, after: Phase) -> bool {
        let from = match after {
            Phase::Running => Phase::Stopping,
            Phase::Stopping => Phase::Cancelled,
            Phase::Cancelled if self.minds_abort() => Phase::Aborting,
            _ => return false,
        };
        let stands = |shared: &Shared| shared.at.is_some_and(|(phase, _)| phase >= from);
        if stands(&lock(&self.notice.shared)) {
            return false;
        }
        // SAFETY: this one is borrowed, never dropped; clones are counted.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(notice_waker(self)) });
        let at = match self.token.watch_phase(&waker, from) {
            Watching::At(at) => at,
            Watching::Late => return true,
            Watching::Never => return false,
        };
        let spare = {
            let mut shared = lock(&self.notice.shared);
            // Relaxed: as in `mark`.
            let closed = self.notice.flags.load(Ordering::Relaxed) & CLOSED != 0;
            // Somebody else may have come first, for this phase or a later one.
            if closed || stands(&shared) {
                Some((from, at))
            } else {
                shared.at.replace((from, at))
            }
        };
        if let Some((_, at)) = spare {
            self.token.unwatch_phase(at);
        }
        false
    }

    /// Whether the token can be cancelled without the scope's being told.
    pub(super) fn is_exposed(&self) -> bool {
        // Relaxed: who has set it gives notice or listens by himself.
        self.notice.flags.load(Ordering::Relaxed) & USED != 0
    }

    /// Takes the notice: queues the children that have to look at their token. Owner only, in an open window.
    #[cold]
    pub(super) fn take_notice(&self) {
        self.owner.noticed.set(false);
        loop {
            self.notice.header.word.start_shared();
            let marked = std::mem::take(&mut lock(&self.notice.shared).marked);
            for Marked(header) in marked {
                // SAFETY: the mark is counted.
                unsafe { self.tell(header) };
                // SAFETY: as above; the count ends here.
                if unsafe { &*header }.life.release() {
                    // SAFETY: nothing refers to the cell any more, and this thread is the owner.
                    unsafe { free_owned(self, header) };
                }
            }
            // One look at the phase for all that follows: a later one is found by `listen`.
            let seen = self.token.phase();
            quietly(|| self.look_at_limits());
            if seen >= Phase::Cancelled && !self.owner.carried.replace(true) {
                self.carry_down();
            }
            if seen == Phase::Aborting && self.minds_abort() {
                self.owner.aborted.set(true);
            }
            // Not at rest in between: another thread would push the notice, and could not any more later.
            if self.is_exposed() && self.listen(seen) {
                continue;
            }
            if self.notice.header.word.rest() == Rest::Again {
                // After whatever else is ready: somebody who goes on and on must not outlast the budget.
                self.owner.noticed.set(true);
            }
            return;
        }
    }

    /// Wakes a task as its waker would, but on the owner's side. Owner only, in an open window.
    ///
    /// # Safety
    /// The cell is alive, of this core, and of a kind that is polled.
    pub(super) unsafe fn tell(&self, header: *const Header) {
        // SAFETY: handed on from the caller.
        if unsafe { &*header }.word.wake() {
            // SAFETY: the token is ours, so the task is in no queue.
            unsafe { self.owner.local.push_back(header) };
            self.owner.turns.told_before_body();
        }
    }

    /// The scope is cancelled: every child looks at its token, once. One that is polled now looks again.
    fn carry_down(&self) {
        // SAFETY: children that have not ended are alive.
        self.each_living(|header| unsafe { self.tell(header) });
        if !self.owner.body_done.get() && self.body.word.wake() {
            self.owner.wake_body();
        }
    }

    /// Visits every child that has not ended. Owner only; no child is placed meanwhile.
    pub(super) fn each_living(&self, mut visit: impl FnMut(*const Header)) {
        // SAFETY: this thread is the owner, and no cell is placed, says the caller.
        unsafe { self.owner.arena.each_living(&mut visit) };
        let mut visit = |header: *const Header| {
            // SAFETY: listed tasks are alive, ended or not.
            if unsafe { &*header }.word.ended().is_none() {
                visit(header);
            }
        };
        let mut task = self.owner.all.first();
        while !task.is_null() {
            // SAFETY: listed tasks are alive, and single cells.
            let next = unsafe { links_of(task) }.next.get();
            visit(task.cast());
            task = next;
        }
    }

    /// To be called before time passes in which this scope does nothing: before its first rest, and before the
    /// first window that gives way or waits. One that hangs below another token enters that list; from here on
    /// its own poll carries a cancellation down. `true`: there is a notice to take. Owner only.
    pub(super) fn hear_at_last(&self) -> bool {
        if !self.owner.attached.replace(false) {
            return false;
        }
        // Relaxed: as in `expose`.
        self.notice.flags.fetch_or(USED, Ordering::Relaxed);
        // Entering may find that the cancellation is on its way, and give notice right there; and one that had
        // come before anything was entered gives none.
        let news =
            self.listen(Phase::Running) || self.owner.noticed.get() || self.token.is_cancelled();
        if news {
            self.give_notice();
        }
        news
    }

    /// The scope is over: leaves the token's list, and lets go of marked children.
    pub(super) fn deafen(&self) {
        // AcqRel: whoever entered something before is seen; whoever comes later sees the mark.
        if self.notice.flags.swap(CLOSED, Ordering::AcqRel) == 0 {
            return;
        }
        let at = lock(&self.notice.shared).at.take();
        if let Some((_, at)) = at {
            self.token.unwatch_phase(at);
        }
        self.give_back_marked();
    }

    #[cold]
    fn give_back_marked(&self) {
        let marked = std::mem::take(&mut lock(&self.notice.shared).marked);
        for Marked(header) in marked {
            // SAFETY: the mark is counted, and the count ends here.
            if unsafe { &*header }.life.release() {
                // SAFETY: nothing refers to the cell any more.
                unsafe { Header::free(header) };
            }
        }
    }
}

static NOTICE_WAKER: RawWakerVTable =
    RawWakerVTable::new(clone_notice, wake_notice, wake_notice_by_ref, drop_notice);

/// The raw waker that rings, not counted.
fn notice_waker(core: &Core) -> RawWaker {
    RawWaker::new(core.as_ptr().cast(), &NOTICE_WAKER)
}

/// # Safety
/// `data` is a core that the waker holds a reference to. The same for the three below.
unsafe fn clone_notice(data: *const ()) -> RawWaker {
    // SAFETY: the waker keeps the core alive.
    let core = unsafe { &*data.cast::<Core>() };
    core.acquire();
    notice_waker(core)
}

unsafe fn wake_notice(data: *const ()) {
    // SAFETY: handed on; the reference is given up only after the parent was told.
    unsafe { wake_notice_by_ref(data) };
    // SAFETY: `wake` consumes the waker.
    unsafe { drop_notice(data) };
}

unsafe fn wake_notice_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the core alive.
    let core = unsafe { &*data.cast::<Core>() };
    core.count_from_stop();
    core.give_notice();
}

unsafe fn drop_notice(data: *const ()) {
    // SAFETY: the waker's reference ends here.
    unsafe { Core::release(data.cast()) };
}
