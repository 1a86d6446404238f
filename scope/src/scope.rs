//! `scope`: runs a body and the children it spawns, and ends when all of them have.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::CancelToken;

use crate::alarm::Alarm;
use crate::join_handle::JoinHandle;
use crate::pool::Pool;
use crate::refused::{Refused, Why};
use crate::task::{Plain, RawJoin};
use crate::window::{Engine, Handle, Refusal};

/// Opens a scope: a future that runs `body` and every child spawned into it, and ends with the body's value
/// when all of them have ended.
///
/// Children may borrow whatever outlives the scope, and run in parallel with the body and each other.
/// Nothing runs before the scope is polled, or after it has ended or was dropped. The body closure itself
/// is called at once; its future is polled with the scope.
///
/// The poll of a scope lasts as long as the longest poll of a child that it lent to another thread;
/// between polls nothing runs. What is beside the scope in the same task waits meanwhile.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, scope};
///
/// let words = vec!["warp", "weft", "selvedge"];
/// let longest = block_on(scope(async |s| {
///     let lengths: Vec<_> = words.iter().map(|word| s.spawn(async { word.len() })).collect();
///     let mut longest = 0;
///     for length in lengths {
///         longest = longest.max(length.await);
///     }
///     longest
/// }));
/// assert_eq!(longest, 8);
/// ```
///
/// A child may borrow only what is declared outside the scope:
/// ```compile_fail,E0373
/// use selvedge_scope::{block_on, scope};
///
/// block_on(scope(async |s| {
///     let inside = 1;
///     s.spawn(async { println!("{inside}") });
/// }));
/// ```
///
/// # Panics
/// If the body or a child panics: the others are cancelled, all are awaited, then the first payload is
/// raised here. Polling it again after that, or after it has ended, panics.
///
/// # Cancel safety
/// Dropping the scope drops the body and all children where they are, without waiting. Nothing outlives it.
///
/// Compares with `futures::future::join_all` (one core, one type) and `std::thread::scope` (threads).
#[track_caller]
pub fn scope<'env, B, F>(body: B) -> Scoped<'env, F>
where
    B: FnOnce(Scope<'env>) -> F,
    F: Future,
{
    let place = Location::caller();
    let engine = Engine::new(place, |handle| body(Scope { handle }));
    Scoped {
        engine,
        alarm: None,
    }
}

pin_project! {
    /// A scope that has been opened; from [`scope`](crate::scope()).
    ///
    /// Its knobs hold for every child, also for those that the body closure has spawned already.
    #[must_use = "a scope does nothing unless polled"]
    pub struct Scoped<'env, F: Future> {
        #[pin]
        engine: Engine<'env, F, Plain>,
        alarm: Option<Alarm>,
    }
}

impl<F: Future> Scoped<'_, F> {
    /// Names the scope, for messages and inspection. The first name stays.
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
        let _ = self.engine.settings().name.set(name.into());
        self
    }

    /// Polls every child on the thread that polls the scope: for a body that holds a lock which children
    /// take, such as that of `stdout`. Children must be `Send` all the same.
    pub fn inline(self) -> Self {
        let _ = self.engine.settings().inline.set(());
        self
    }

    /// Lends children to this pool instead of the global one. The first pool given stays.
    pub fn on(self, pool: &Pool) -> Self {
        let _ = self.engine.settings().pool.set(pool.clone());
        self
    }

    /// Cancels the scope this long after its first poll, with cause `Deadline`. It is a request: awaits
    /// begin to fail, and the scope still waits for body and children. The sooner of two holds.
    ///
    /// Futures that know nothing of our cancellation are waited for, however long they take; wrap them
    /// in [`or_cancel`](selvedge_cancel::FutureCancelExt::or_cancel).
    #[track_caller]
    pub fn timeout(mut self, after: Duration) -> Self {
        let place = Location::caller();
        self.alarm
            .get_or_insert_with(|| Alarm::new(after, place))
            .at_most(after);
        self
    }
}

impl<F: Future> Future for Scoped<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(alarm) = this.alarm {
            alarm.look(this.engine.token());
        }
        let finished = ready!(this.engine.as_mut().poll(cx));
        *this.alarm = None;
        match (finished.panic, finished.output) {
            (None, Some(output)) => Poll::Ready(output),
            (Some(payload), output) => {
                crate::task::quietly(|| drop(output));
                resume_unwind(payload)
            }
            (None, None) => unreachable!("a body that did not panic has an output"),
        }
    }
}

impl<F: Future> fmt::Debug for Scoped<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped")
            .field("fresh", &self.engine.is_fresh())
            .finish_non_exhaustive()
    }
}

/// A handle to a running scope: spawns children into it and asks about it.
///
/// Clones are handles to the same scope; children and other threads may have them. One that is kept past
/// the scope's end is harmless.
#[derive(Clone)]
pub struct Scope<'env> {
    handle: Handle<'env, Plain>,
}

#[cfg(all(test, selvedge_loom))]
impl<'env> Scope<'env> {
    /// What the models drive from below.
    pub(crate) fn handle(&self) -> &Handle<'env, Plain> {
        &self.handle
    }
}

impl<'env> Scope<'env> {
    /// Starts a child. It runs on its own; await the handle for its output, or drop the handle.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let name = String::from("loom");
    /// let length = block_on(scope(async |s| s.spawn(async { name.len() }).await));
    /// assert_eq!(length, 4);
    /// ```
    ///
    /// # Panics
    /// If the scope has ended. While the scope is being dropped, which may run this very code, the future
    /// is dropped instead and the handle is dead; [`try_spawn`](Self::try_spawn) gives it back.
    #[track_caller]
    pub fn spawn<Fut>(&self, future: Fut) -> JoinHandle<'env, Fut::Output>
    where
        Fut: Future + Send + 'env,
        Fut::Output: Send + 'env,
    {
        match self.handle.spawn(future, Location::caller()) {
            Ok(raw) => JoinHandle::new(raw),
            Err(refusal) => JoinHandle::new(refuse(refusal, || self.handle.describe())),
        }
    }

    /// Starts a child that gets its own handle to the scope. `body` is called before this returns.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let sum = block_on(scope(async |s| {
    ///     let outer = s.spawn_with(async |s| s.spawn(async { 1 }).await + 1);
    ///     outer.await + 1
    /// }));
    /// assert_eq!(sum, 3);
    /// ```
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_with<B, Fut>(&self, body: B) -> JoinHandle<'env, Fut::Output>
    where
        B: FnOnce(Scope<'env>) -> Fut,
        Fut: Future + Send + 'env,
        Fut::Output: Send + 'env,
    {
        self.spawn(body(self.clone()))
    }

    /// Starts a child whose one poll is the closure. That poll, and so the scope's, lasts as long.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let numbers = [1, 2, 3];
    /// let sum = block_on(scope(async |s| s.spawn_fn(|| numbers.iter().sum::<i32>()).await));
    /// assert_eq!(sum, 6);
    /// ```
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_fn<B, T>(&self, f: B) -> JoinHandle<'env, T>
    where
        B: FnOnce() -> T + Send + 'env,
        T: Send + 'env,
    {
        self.spawn(async move { f() })
    }

    /// Starts a child if the scope takes any.
    ///
    /// # Errors
    /// The future comes back, never polled, if the scope is cancelled or has ended.
    #[track_caller]
    pub fn try_spawn<Fut>(&self, future: Fut) -> Result<JoinHandle<'env, Fut::Output>, Refused<Fut>>
    where
        Fut: Future + Send + 'env,
        Fut::Output: Send + 'env,
    {
        let place = Location::caller();
        if self.is_cancelled() {
            return Err(Refused::new(future, Why::Cancelled));
        }
        match self.handle.spawn(future, place) {
            Ok(raw) => Ok(JoinHandle::new(raw)),
            Err(refusal) => Err(Refused::new(refusal.future, Why::Closed)),
        }
    }

    /// Asks the body, all children, and everything below them to stop.
    #[track_caller]
    pub fn cancel(&self) {
        self.handle.token().cancel();
    }

    /// The scope's token: cancelled with the scope, and it cancels the scope.
    #[must_use]
    pub fn token(&self) -> CancelToken {
        self.handle.token().clone()
    }

    /// Whether the scope, or anything it is inside of, was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.handle.token().is_cancelled()
    }

    /// How many children have not ended; a snapshot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handle.len()
    }

    /// Whether every child has ended; a snapshot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// A spawn into a scope that takes no more: silent while the scope is dropped, a panic after its end.
#[track_caller]
pub(crate) fn refuse<F, T>(refusal: Refusal<F>, describe: impl FnOnce() -> String) -> RawJoin<T> {
    assert!(
        refusal.dying,
        "spawn into {}, which has ended; use `try_spawn` to get the future back",
        describe()
    );
    drop(refusal.future);
    RawJoin::refused()
}
