//! `CancelToken`, the handle to one node of the cancellation tree, and the guards it gives out.
//! Not for the tree itself (`node.rs`), nor for which token is the current one (`ambient.rs`).

use std::fmt;
use std::panic::Location;
use std::task::Waker;

use crate::node::{Node, Watch};
use crate::slots::{NOWHERE, Watcher};
use crate::sync::Arc;
use crate::user::{Armed, Callback};
use crate::{Cause, CauseKind, Instant, Phase, Stopping, WaitCancelled};

/// A node of the cancellation tree: cancelling it asks everything below it to stop.
///
/// A token goes through its [`Phase`]s in one direction; the first cause counts. Asking is all that
/// it does: nothing is torn down, but waits and wrapped I/O below a cancelled token begin to fail
/// with [`Cancelled`](crate::Cancelled). Clones are handles to the same node.
///
/// # Examples
/// ```
/// use selvedge_cancel::CancelToken;
///
/// let server = CancelToken::new();
/// let connection = server.child();
/// connection.cancel();
/// assert!(!server.is_cancelled());
///
/// let other = server.child();
/// server.cancel_with("shutting down");
/// assert!(other.is_cancelled());
/// assert_eq!(other.cause().unwrap().text(), Some("shutting down"));
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Arc<Node>,
}

impl CancelToken {
    /// A token with nothing above it.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Node::root() }
    }

    /// The root that stands for "outside every scope"; cancelling it has no effect.
    pub(crate) fn never() -> Self {
        Self {
            node: Node::never(),
        }
    }

    /// A token below this one: cancelled with it, but not the other way round.
    ///
    /// One small allocation; the child is not entered anywhere until somebody waits on it.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            node: Node::child_of(&self.node),
        }
    }

    /// As it was made, if nobody else has it and nothing was ever asked of it; `false`: it is not.
    #[doc(hidden)]
    #[inline]
    pub fn renew(&mut self) -> bool {
        Node::renew(&mut self.node)
    }

    /// Puts this token, and all that is below it, under a parent. The first call counts.
    #[doc(hidden)]
    pub fn attach_to(&self, parent: &Self) {
        self.node.attach(&parent.node);
    }

    /// Whether both are handles to one node of the tree.
    #[doc(hidden)]
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }

    /// Asks everything at and below this token to stop; the cause is `Requested`, by the caller.
    ///
    /// Does not wait. Cancelling twice is the same as once.
    #[track_caller]
    pub fn cancel(&self) {
        self.raise(Phase::Cancelled, CauseKind::Requested.into());
    }

    /// Asks everything at and below this token to stop, and says why.
    ///
    /// Does not wait. If the token or one above it is cancelled already, the earlier cause
    /// stays. May be called from anywhere: a destructor, or a callback of this very token.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::{CancelToken, CauseKind};
    ///
    /// let token = CancelToken::new();
    /// token.cancel_with(CauseKind::Shutdown);
    /// token.cancel_with("too late to count");
    /// assert_eq!(token.cause().unwrap().kind(), CauseKind::Shutdown);
    /// ```
    #[track_caller]
    pub fn cancel_with(&self, cause: impl Into<Cause>) {
        self.raise(Phase::Cancelled, cause.into());
    }

    /// Asks everything at and below this token for a graceful end: everything still works, but
    /// [`stopping`](Self::stopping) is ready, so that loops take on nothing new.
    ///
    /// Does not wait. It has no effect on what is stopping or cancelled already.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::CancelToken;
    ///
    /// let server = CancelToken::new();
    /// let acceptor = server.child();
    /// server.stop();
    /// assert!(acceptor.is_stopping() && !acceptor.is_cancelled());
    /// ```
    #[track_caller]
    pub fn stop(&self) {
        self.raise(Phase::Stopping, CauseKind::Requested.into());
    }

    /// As [`stop`](Self::stop), and says why; see [`stop_cause`](Self::stop_cause).
    #[track_caller]
    pub fn stop_with(&self, cause: impl Into<Cause>) {
        self.raise(Phase::Stopping, cause.into());
    }

    /// Ends the time for clean-up at and below this token: shields no longer hide the cancellation,
    /// and scopes with a grace drop what is left. Cancels the token if that has not happened.
    ///
    /// Does not wait. Aborting twice is the same as once.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::{CancelToken, CauseKind, Phase};
    ///
    /// let token = CancelToken::new();
    /// token.cancel_with("enough");
    /// token.abort();
    /// assert_eq!(token.phase(), Phase::Aborting);
    /// assert_eq!(token.cause().unwrap().kind(), CauseKind::Requested);
    /// ```
    #[track_caller]
    pub fn abort(&self) {
        self.raise(Phase::Aborting, CauseKind::GraceExpired.into());
    }

    /// As [`abort`](Self::abort), and says why. What is cancelled already keeps its cause; this one
    /// is seen by what a shield has kept running until now.
    #[track_caller]
    pub fn abort_with(&self, cause: impl Into<Cause>) {
        self.raise(Phase::Aborting, cause.into());
    }

    #[track_caller]
    fn raise(&self, phase: Phase, cause: Cause) {
        self.node.raise(phase, cause.asked_at(Location::caller()));
    }

    /// How far the end of this token has come: its own phase or the furthest one above it, as far as
    /// shields let it through.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.node.phase()
    }

    /// Whether a graceful end is wanted, or more than that.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.node.is_stopping()
    }

    /// Why a graceful end is wanted; `None` if nobody asked for one, or this was cancelled at once.
    #[must_use]
    pub fn stop_cause(&self) -> Option<Cause> {
        self.node.stop_cause()
    }

    /// Waits until a graceful end is wanted, or more than that.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it; it is [`SelectSafe`](crate::SelectSafe).
    pub fn stopping(&self) -> Stopping {
        Stopping::new(self.clone())
    }

    /// The earliest deadline of this token and those above it, up to the nearest shield; once it is
    /// cancelled, a moment that has passed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.node.deadline();
        if !self.is_cancelled() {
            return deadline;
        }
        let now = Instant::now();
        Some(deadline.map_or(now, |deadline| deadline.min(now)))
    }

    /// Whether this token, or one above it, is cancelled.
    ///
    /// Costs one load for each token above, up to the nearest cancelled one.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Why it is cancelled; `None` while it is not.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.node.cause()
    }

    /// Waits until this token is cancelled, and gives the cause.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it; it is [`SelectSafe`](crate::SelectSafe).
    pub fn cancelled(&self) -> WaitCancelled {
        WaitCancelled::new(self.clone())
    }

    /// Calls the function once when this token is cancelled; at once, if it is already.
    ///
    /// The call comes from the thread that cancels, with no lock held, after everything below
    /// the cancelled token was marked. Three kinds of threads have to go on instead: a timer's, where a
    /// deadline cancels; the one that hears Ctrl-C; and one that cancels nothing, but opens a scope, or waits
    /// for a token, and finds a cancellation that has not come there yet. For these the function is called on a thread
    /// that is started for it, and may take long or block. (If no thread can be started, it is called
    /// at once, and the other thread waits for it.) A panic of the function is reported by the panic hook and goes no further,
    /// so that the other functions run.
    ///
    /// Dropping the guard takes the function back, unless the cancellation has reached it by then. Functions are reached
    /// before anybody is woken and before any of them is called. So a task that holds the guard, waits for the
    /// cancellation and then drops it is too late, whoever cancels; and so is one function that drops the guard of another
    /// which the same cancellation has reached.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::CancelToken;
    /// use std::sync::mpsc;
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// let token = CancelToken::new();
    /// let guard = token.on_cancel(move |cause| sender.send(cause.clone()).unwrap());
    /// token.cancel_with("stop");
    /// assert_eq!(receiver.recv().unwrap().text(), Some("stop"));
    /// drop(guard);
    /// ```
    pub fn on_cancel<F: FnOnce(&Cause) + Send + 'static>(&self, f: F) -> OnCancel {
        let callback: Arc<dyn Callback> = Arc::new(Armed::new(f));
        if let Some(cause) = self.cause() {
            callback.call(&cause);
            return OnCancel {
                node: Arc::clone(&self.node),
                at: NOWHERE,
                callback,
            };
        }
        let at = match self.watch(Watcher::Callback(Arc::clone(&callback)), Phase::Cancelled) {
            Watch::At(at) => at,
            Watch::Never => NOWHERE,
            Watch::Late => {
                if let Some(cause) = self.cause() {
                    callback.call(&cause);
                }
                NOWHERE
            }
        };
        OnCancel {
            node: Arc::clone(&self.node),
            at,
            callback,
        }
    }

    /// A guard that cancels this token when it is dropped.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let guard = token.clone().drop_guard();
    /// assert!(!token.is_cancelled());
    /// drop(guard);
    /// assert!(token.is_cancelled());
    /// ```
    #[track_caller]
    pub fn drop_guard(self) -> DropGuard {
        DropGuard {
            token: Some(self),
            place: Location::caller(),
        }
    }

    fn watch(&self, watcher: Watcher, from: Phase) -> Watch {
        self.node.watch(watcher, from)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn into_node(self) -> Arc<Node> {
        self.node
    }
}

/// For engines, which build scopes, time-outs and shields from it.
#[doc(hidden)]
impl CancelToken {
    /// A token below this one that hides a cancellation above, but no abort, until the shield is
    /// lowered. A wish to stop passes; to what is in there, a cancellation is no more than that.
    #[must_use]
    pub fn child_shielded(&self) -> Self {
        Self {
            node: Node::shielded_child_of(&self.node),
        }
    }

    /// Makes an ordinary child of a shielded one: if its parent is cancelled, it is too from now on.
    pub fn lower_shield(&self) {
        self.node.lower_shield();
    }

    /// Whether a [`Cancelled`](crate::Cancelled) lives that was made at or below this token, because
    /// this token or one above it is cancelled.
    #[must_use]
    pub fn has_live(&self) -> bool {
        self.node.has_live()
    }

    /// As `has_live`, of those that were made because this very token was cancelled.
    #[must_use]
    pub fn has_live_own(&self) -> bool {
        self.node.has_live_own()
    }

    /// The cause, if this very token was cancelled, and not only one above it.
    #[must_use]
    pub fn own_cause(&self) -> Option<Cause> {
        self.node.own_cause()
    }

    /// Whether this very token was cancelled, by one that it follows.
    #[must_use]
    pub fn has_followed(&self) -> bool {
        self.node.has_followed()
    }

    /// Has the waker woken once when the token reaches this phase.
    pub fn watch_phase(&self, waker: &Waker, from: Phase) -> Watching {
        if from == Phase::Running {
            return Watching::Late;
        }
        match self.watch(Watcher::Waker(from, waker.clone()), from) {
            Watch::At(at) => Watching::At(at as usize),
            Watch::Late => Watching::Late,
            Watch::Never => Watching::Never,
        }
    }

    /// Takes back what `watch_phase` entered at this position; nothing happens if it was woken.
    pub fn unwatch_phase(&self, at: usize) {
        if let Ok(at) = u32::try_from(at) {
            self.node.let_go(at);
        }
    }

    /// Stops, cancels and aborts this token whenever that happens to the other, without being its
    /// child, until the guard is dropped. A request that is under way then may still arrive.
    pub fn follow(&self, other: &Self) -> Following {
        Following {
            leader: Arc::clone(&other.node),
            at: self.node.follow(&other.node).unwrap_or(NOWHERE),
        }
    }
}

/// What became of an attempt to watch a token.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// Watching, from this position.
    At(usize),
    /// The phase has come.
    Late,
    /// The token stands for "outside every scope" and keeps no watchers.
    Never,
}

/// Keeps a token following another one; from `CancelToken::follow`.
#[doc(hidden)]
#[must_use = "dropping the guard ends the following"]
pub struct Following {
    leader: Arc<Node>,
    at: u32,
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.at != NOWHERE {
            self.leader.let_go(self.at);
        }
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("phase", &self.phase())
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}

/// Keeps a function registered with [`CancelToken::on_cancel`]; dropping it takes it back.
///
/// A function that a cancellation has reached is called, now or soon, and dropping the guard is too late. Dropping never
/// waits for a call.
#[must_use = "dropping the guard takes the function back"]
pub struct OnCancel {
    node: Arc<Node>,
    at: u32,
    callback: Arc<dyn Callback>,
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        // Off the list first, or the list would keep the function's place for nothing.
        if self.at != NOWHERE {
            self.node.let_go(self.at);
        }
        self.callback.disarm();
    }
}

impl fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnCancel").finish_non_exhaustive()
    }
}

/// Cancels its token when dropped; from [`CancelToken::drop_guard`].
#[must_use = "dropping the guard cancels the token"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancelToken>,
    place: &'static Location<'static>,
}

impl DropGuard {
    /// Takes the token out, and cancels nothing.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::CancelToken;
    ///
    /// let token = CancelToken::new().drop_guard().disarm();
    /// assert!(!token.is_cancelled());
    /// ```
    pub fn disarm(mut self) -> CancelToken {
        self.token.take().unwrap_or_default()
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            token.cancel_with(Cause::from("guard dropped").with_place(self.place));
        }
    }
}
