//! `CancelToken`, the handle to one node of the cancellation tree, and the guards it gives out.
//! Not for the tree itself (`node.rs`), nor for which token is the current one (`ambient.rs`).

use std::fmt;
use std::panic::Location;

use crate::node::{Node, Watch};
use crate::slots::{NOWHERE, Watcher};
use crate::sync::Arc;
use crate::user::{Armed, Callback};
use crate::{Cause, CauseKind, WaitCancelled};

/// A node of the cancellation tree: cancelling it asks everything below it to stop.
///
/// A token goes from running to cancelled once and stays there; the first cause counts. Asking
/// is all that it does: nothing is torn down, but waits and wrapped I/O below begin to fail with
/// [`Cancelled`](crate::Cancelled). Clones are handles to the same node.
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
        let cause = Cause::new(CauseKind::Requested).with_place(Location::caller());
        self.node.cancel(cause);
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
        self.node.cancel(cause.into().or_place(Location::caller()));
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
    /// the cancelled token was marked. Dropping the guard takes the function back, unless its
    /// call has begun by then. A panic of the function is reported by the panic hook and goes
    /// no further, so that the other functions run.
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
        let at = match self.node.watch(Watcher::Callback(Arc::clone(&callback))) {
            Watch::At(at) => at,
            Watch::Never => NOWHERE,
            Watch::Late(cause) => {
                callback.call(&cause);
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

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
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
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}

/// Keeps a function registered with [`CancelToken::on_cancel`]; dropping it takes it back.
///
/// Dropping never waits for a call that has begun on another thread.
#[must_use = "dropping the guard takes the function back"]
pub struct OnCancel {
    node: Arc<Node>,
    at: usize,
    callback: Arc<dyn Callback>,
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        // Off the list first, or the list would keep the function's place for nothing.
        if self.at != NOWHERE {
            drop(self.node.unwatch(self.at));
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
