//! What the code that runs on this thread right now belongs to: its cancel token and its timer.
//!
//! "Ambient" belongs to the stack: an executor or a scope swaps its things in around each poll
//! and back out after it. This module is for them, and hidden; users have `current` and its kin. What comes into force only
//! when somebody asks is in `late.rs`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::late;
use crate::{CallbacksElsewhere, CancelToken, Cancelled, Cause, Instant, TaskId, Timer};

/// What an engine knows of the task that is polled on this thread, which this crate does not.
///
/// Siblings run under one token, their scope's. A task gets a token of its own, below that, only when
/// somebody needs it: to cancel that task alone, to hang something below it, or to count what failed in it.
/// Every method is given the thread's current token, and answers `None` or `false` if that is not what the
/// engine has installed for the running task (a time-out inside the task has its own).
pub trait Host: fmt::Debug + Sync {
    /// The token of the running task or body, made if it has none yet.
    fn member(&self, token: &CancelToken) -> Option<CancelToken>;

    /// As `member`, for a task; `None` for a body, whose token is its scope's.
    fn task(&self, token: &CancelToken) -> Option<CancelToken>;

    /// Why the running task alone was cancelled, if it was.
    fn cause(&self, token: &CancelToken) -> Option<Cause>;

    /// What a leaf future finds that is polled with this waker, when `token` itself is not cancelled: whether the
    /// running task is, and if not, whether a cancellation of either polls whatever is behind the waker again,
    /// so that the future need not register anywhere. Asked at each poll, so it has to be quick.
    fn look(&self, token: &CancelToken, waker: &Waker) -> Look;

    /// The number of the running task, if one runs.
    fn task_id(&self) -> Option<TaskId> {
        None
    }
}

/// What a leaf future finds when it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The running code is to end.
    Cancelled,
    /// It is not, and whoever polls here will poll again if that changes; or it never will.
    Carried,
    /// It is not, and the future has to register to learn of it.
    Alone,
}

static HOST: OnceLock<&'static dyn Host> = OnceLock::new();

/// Installs the engine of this process; the first one stays.
pub fn set_host(host: &'static dyn Host) {
    let _ = HOST.set(host);
}

#[inline]
fn host() -> Option<&'static dyn Host> {
    HOST.get().copied()
}

/// What is in force on a thread, and what a later restore has to skip. It has no destructor, so it is there as long as
/// the thread runs code: also in the destructors of other thread-locals. Whoever puts something in takes it out again,
/// or it is leaked.
struct InForce<T> {
    now: RefCell<ManuallyDrop<Option<T>>>,
    /// Which of the thread's stays `now` is in: each time that something is put in force is a stay of its own, also of
    /// the same value. Zero: nothing was put in.
    stay: Cell<u64>,
    /// The number of the latest stay.
    latest: Cell<u64>,
    /// Stays that ended while one that had begun later had not. A stackful coroutine that suspends in the middle of a
    /// poll leaves them so.
    left: RefCell<ManuallyDrop<Vec<Outer<T>>>>,
}

/// What was in force before a stay, to be put back by its end.
#[derive(Debug)]
#[must_use = "what was put in force stays until this is left"]
pub struct Outer<T> {
    value: Option<T>,
    /// The stay that `value` was in.
    stay: u64,
    /// The stay that has replaced it.
    inner: u64,
}

impl<T> InForce<T> {
    const fn new() -> Self {
        Self {
            now: RefCell::new(ManuallyDrop::new(None)),
            stay: Cell::new(0),
            latest: Cell::new(0),
            left: RefCell::new(ManuallyDrop::new(Vec::new())),
        }
    }

    /// Swaps what is in force, within the present stay; the answer is what was.
    #[inline]
    fn swap(&self, new: Option<T>) -> Option<T> {
        ManuallyDrop::into_inner(self.now.replace(ManuallyDrop::new(new)))
    }

    /// Looks at what is in force.
    #[inline]
    fn look<R>(&self, look: impl FnOnce(&T) -> Option<R>) -> Option<R> {
        (**self.now.borrow()).as_ref().and_then(look)
    }

    #[inline]
    fn enter(&self, new: Option<T>) -> Outer<T> {
        let inner = self.latest.get() + 1;
        self.latest.set(inner);
        Outer {
            value: self.swap(new),
            stay: self.stay.replace(inner),
            inner,
        }
    }

    #[inline]
    fn leave(&self, outer: Outer<T>) -> Option<T> {
        if self.stay.get() != outer.inner || outer.stay != 0 && !self.left.borrow().is_empty() {
            return self.leave_out_of_order(outer);
        }
        self.stay.set(outer.stay);
        self.swap(outer.value)
    }

    #[cold]
    fn leave_out_of_order(&self, mut outer: Outer<T>) -> Option<T> {
        if self.stay.get() != outer.inner {
            self.left.borrow_mut().push(outer);
            return None;
        }
        // No value is dropped while a cell is borrowed: `outer` holds the last of each.
        while let Some(next) = self.skip(outer.stay) {
            outer = next;
        }
        self.stay.set(outer.stay);
        self.swap(outer.value)
    }

    /// What was in force before a stay that has ended already.
    fn skip(&self, stay: u64) -> Option<Outer<T>> {
        let mut left = self.left.borrow_mut();
        let at = left.iter().position(|outer| outer.inner == stay)?;
        let outer = left.swap_remove(at);
        if left.is_empty() {
            // Nobody drops it when the thread ends.
            **left = Vec::new();
        }
        Some(outer)
    }
}

#[cfg(not(selvedge_loom))]
thread_local! {
    static TOKEN: InForce<CancelToken> = const { InForce::new() };
    static TIMER: InForce<Arc<dyn Timer>> = const { InForce::new() };
    static CANCELLATIONS: Cell<Cancellations> = const { Cell::new(Cancellations { made: 0, gone: 0 }) };
}

// All threads of a model run on one thread of the system.
#[cfg(selvedge_loom)]
crate::sync::thread_local! {
    static TOKEN: InForce<CancelToken> = InForce::new();
    static TIMER: InForce<Arc<dyn Timer>> = InForce::new();
    static CANCELLATIONS: Cell<Cancellations> = Cell::new(Cancellations::default());
}

/// Swaps this thread's current token; touches no count. Works in the destructors of thread-locals, too. For callers that
/// put back what was there before in the reverse order, whatever happens; others [`enter`].
///
/// What is still in when the thread ends is leaked: put back what was there before.
#[inline]
pub fn replace(token: Option<CancelToken>) -> Option<CancelToken> {
    late::settle();
    TOKEN.with(|in_force| in_force.swap(token))
}

/// Puts this token in force on this thread, or none, until the answer is [left](leave).
#[inline]
pub fn enter(token: Option<CancelToken>) -> Outer<CancelToken> {
    late::settle();
    TOKEN.with(|in_force| in_force.enter(token))
}

/// Takes what was put in force out of force again, and puts back what that had replaced.
///
/// If something was put in force since and still is, that stays, the answer is `None`, and whoever takes it
/// out of force puts back the other.
#[inline]
pub fn leave(outer: Outer<CancelToken>) -> Option<CancelToken> {
    late::settle();
    TOKEN.with(|in_force| in_force.leave(outer))
}

/// Swaps this thread's timer; as [`replace`].
pub fn replace_timer(timer: Option<Arc<dyn Timer>>) -> Option<Arc<dyn Timer>> {
    TIMER.with(|in_force| in_force.swap(timer))
}

/// As [`enter`], for the timer.
pub fn enter_timer(timer: Option<Arc<dyn Timer>>) -> Outer<Arc<dyn Timer>> {
    TIMER.with(|in_force| in_force.enter(timer))
}

/// As [`leave`], for the timer.
pub fn leave_timer(outer: Outer<Arc<dyn Timer>>) -> Option<Arc<dyn Timer>> {
    TIMER.with(|in_force| in_force.leave(outer))
}

/// Looks at the current token in place. `look` is for our own code and the engine's, which swaps no
/// token meanwhile.
#[inline]
fn with_token<R>(look: impl FnOnce(&CancelToken) -> Option<R>) -> Option<R> {
    late::settle();
    TOKEN.with(|in_force| in_force.look(look))
}

/// The current token, if anything runs under one.
pub fn token() -> Option<CancelToken> {
    with_token(|token| Some(token.clone()))
}

/// The current timer, if one is installed.
pub fn timer() -> Option<Arc<dyn Timer>> {
    TIMER.with(|in_force| in_force.look(|timer| Some(Arc::clone(timer))))
}

/// What things that begin here hang below, and what counts their failures: the running task's own token.
pub fn member() -> Option<CancelToken> {
    let token = token()?;
    let own = host().and_then(|host| host.member(&token));
    Some(own.unwrap_or(token))
}

/// What a user is shown as current: as [`member`], but the scope's token in its body.
pub(crate) fn shown() -> Option<CancelToken> {
    let token = token()?;
    let own = host().and_then(|host| host.task(&token));
    Some(own.unwrap_or(token))
}

/// Whether a limit around the running code was over before this moment, which has come, on this clock. If its timer is
/// late, the limit cancels here and now.
#[must_use]
pub fn is_over_before(at: Instant, clock: Option<&Arc<dyn Timer>>) -> bool {
    // Cloned only where there is a limit: whoever hears of a cancellation may look at what is in force.
    let limited = with_token(|token| token.has_limit().then(|| token.clone()));
    // Whoever finds it, functions that a deadline reaches do not run here.
    let _elsewhere = CallbacksElsewhere::begin();
    limited.is_some_and(|token| token.end_before(at, clock))
}

/// The number of the running task.
pub(crate) fn task_id() -> Option<TaskId> {
    host()?.task_id()
}

/// What a leaf future that is polled with this waker finds.
#[inline]
#[must_use]
pub fn look(waker: &Waker) -> Look {
    let found = with_token(|token| {
        Some(match host() {
            _ if token.is_cancelled() => Look::Cancelled,
            Some(host) => host.look(token, waker),
            None => Look::Alone,
        })
    });
    found.unwrap_or(Look::Carried)
}

/// `Err` if the current token or the running task is cancelled, without touching a count.
#[inline]
pub(crate) fn check() -> Result<(), Cancelled> {
    match cause() {
        Some(cause) => Err(Cancelled::new(cause)),
        None => Ok(()),
    }
}

/// Why the running code is to end, if it is.
pub(crate) fn cause() -> Option<Cause> {
    with_token(|token| match token.is_cancelled() {
        true => token.cause(),
        false => host().and_then(|host| host.cause(token)),
    })
}

/// How many `Cancelled`s were made on a thread, and how many were dropped there; clones are not counted.
///
/// Compare it before and after a poll: if more were made, an operation in there was refused because of a
/// cancellation, whatever the error is that came out; and if as many were dropped, none of them is kept anywhere.
/// What a poll had done on other threads is seen if it was [passed on](pass_on), as the engine does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancellations {
    /// Made on this thread, or passed on to it.
    pub made: u64,
    /// The last clone was dropped on this thread, or that was passed on to it.
    pub gone: u64,
}

impl Cancellations {
    /// How many were made, and how many dropped, since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            made: self.made.wrapping_sub(before.made),
            gone: self.gone.wrapping_sub(before.gone),
        }
    }

    /// How many more were made than dropped since then.
    #[must_use]
    pub fn kept_since(self, before: Self) -> i64 {
        let since = self.since(before);
        since.made.wrapping_sub(since.gone) as i64
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, counted: Self) {
        self.made = self.made.wrapping_add(counted.made);
        self.gone = self.gone.wrapping_add(counted.gone);
    }
}

/// What this thread has counted so far.
#[inline]
#[must_use]
pub fn cancellations() -> Cancellations {
    CANCELLATIONS.with(Cell::get)
}

fn count(by: impl FnOnce(&mut Cancellations)) {
    CANCELLATIONS.with(|cell| {
        let mut count = cell.get();
        by(&mut count);
        cell.set(count);
    });
}

/// A `Cancelled` was made.
pub(crate) fn count_made() {
    count(|count| count.made = count.made.wrapping_add(1));
}

/// The last clone of a `Cancelled` was dropped.
pub(crate) fn count_gone() {
    count(|count| count.gone = count.gone.wrapping_add(1));
}

/// What helpers have counted, who did a part of the present poll's work, counts for this thread, too.
pub fn pass_on(counted: Cancellations) {
    count(|count| count.add(counted));
}

/// Whether this thread runs under that very token, with no timer installed.
#[must_use]
pub fn is_bare(token: &CancelToken) -> bool {
    with_token(|current| current.is_same(token).then_some(())).is_some() && timer().is_none()
}

/// All ambient things of one thread, to be carried to another.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The current token; `None` outside every scope.
    pub token: Option<CancelToken>,
    /// The installed timer; `None` stands for the embedded one.
    pub timer: Option<Arc<dyn Timer>>,
}

impl Context {
    /// What this thread has.
    #[must_use]
    pub fn capture() -> Self {
        Self {
            token: token(),
            timer: timer(),
        }
    }

    /// Puts this in force on this thread, until the answer is left.
    pub fn enter(self) -> Outside {
        Outside {
            token: enter(self.token),
            timer: enter_timer(self.timer),
        }
    }
}

/// What a thread had before a [`Context`] was put in force.
#[derive(Debug)]
#[must_use = "the context stays in force until this is left"]
pub struct Outside {
    token: Outer<CancelToken>,
    timer: Outer<Arc<dyn Timer>>,
}

impl Outside {
    /// Takes the context out of force again, token and timer each as [`leave`] does.
    pub fn leave(self) {
        drop(leave(self.token));
        drop(leave_timer(self.timer));
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::{Cancellations, cancellations, pass_on};
    use crate::{CancelToken, Cancelled};

    #[test]
    fn cancelled_is_counted_where_it_is_made_and_where_its_last_clone_is_dropped() {
        let token = CancelToken::new();
        token.cancel();
        let cause = token.cause().expect("it is cancelled");
        let before = cancellations();
        let since = |before: Cancellations| {
            let now = cancellations();
            (now.made - before.made, now.gone - before.gone)
        };
        let made = Cancelled::new(cause);
        assert_eq!(since(before), (1, 0));
        drop(made.clone());
        assert_eq!(since(before), (1, 0));
        drop(Cancelled::uncounted("by the engine"));
        assert_eq!(since(before), (1, 0));
        assert_eq!(cancellations().kept_since(before), 1);
        let elsewhere = std::thread::spawn(move || {
            drop(Cancelled::new(made.cause().clone()));
            drop(made);
            cancellations()
        });
        assert_eq!(
            elsewhere.join().unwrap(),
            Cancellations { made: 1, gone: 2 }
        );
        assert_eq!(since(before), (1, 0));
        let (made, gone) = (3, 2);
        pass_on(Cancellations { made, gone });
        assert_eq!(since(before), (4, 2));
        assert_eq!(cancellations().kept_since(before), 2);
        let only_gone = Cancellations { made: 0, gone: 4 };
        pass_on(only_gone);
        assert_eq!(cancellations().kept_since(before), -2);
    }
}
