//! `try_scope`: a scope whose members may fail; the first error cancels the rest and is the result.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{CancelToken, Cancelled};

use crate::alarm::Alarm;
use crate::join_handle::JoinHandle;
use crate::pool::Pool;
use crate::refused::{Refused, Why};
use crate::scope::refuse;
use crate::task::{Trying, quietly};
use crate::window::{Engine, Handle};

/// Opens a scope whose members return `Result`s: the first error, of the body or a child, cancels the
/// others and, once all have ended, becomes the result.
///
/// The scope owns the errors. A child's handle yields `Result<T, Cancelled>`, so `handle.await?` in the
/// body needs only `E: From<Cancelled>`, and only if it is written.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, try_scope};
///
/// let lines = ["12", "30", "x"];
/// let sum = block_on(try_scope(async |s| {
///     for line in lines {
///         s.spawn(async move { line.parse::<u32>() });
///     }
///     Ok(())
/// }));
/// assert_eq!(sum.unwrap_err(), "x".parse::<u32>().unwrap_err());
/// ```
///
/// Without that conversion `handle.await?` fails with E0277; `io::Error` and boxed errors have it.
/// ```
/// use selvedge_scope::{block_on, try_scope};
/// use std::io;
///
/// let sum = block_on(try_scope(async |s| {
///     let one = s.spawn(async { io::Result::Ok(1) });
///     let two = s.spawn(async { io::Result::Ok(2) });
///     io::Result::Ok(one.await? + two.await?)
/// }));
/// assert_eq!(sum.unwrap(), 3);
/// ```
///
/// # Errors
/// The first error that came. Later ones are dropped when the scope ends.
///
/// # Panics
/// As [`scope`](crate::scope()); a panic goes before an error.
///
/// # Cancel safety
/// As [`scope`](crate::scope()).
#[track_caller]
pub fn try_scope<'env, T, E, B, F>(body: B) -> TryScoped<'env, F, E>
where
    B: FnOnce(TryScope<'env, E>) -> F,
    F: Future<Output = Result<T, E>>,
{
    let place = Location::caller();
    let engine = Engine::new(place, |handle| body(TryScope { handle }));
    TryScoped {
        engine,
        alarm: None,
    }
}

pin_project! {
    /// A scope that has been opened; from [`try_scope`].
    #[must_use = "a scope does nothing unless polled"]
    pub struct TryScoped<'env, F: Future, E> {
        #[pin]
        engine: Engine<'env, F, Trying<E>>,
        alarm: Option<Alarm>,
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> TryScoped<'_, F, E> {
    /// As [`Scoped::name`](crate::Scoped::name).
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
        let _ = self.engine.settings().name.set(name.into());
        self
    }

    /// As [`Scoped::inline`](crate::Scoped::inline).
    pub fn inline(self) -> Self {
        let _ = self.engine.settings().inline.set(());
        self
    }

    /// As [`Scoped::on`](crate::Scoped::on).
    pub fn on(self, pool: &Pool) -> Self {
        let _ = self.engine.settings().pool.set(pool.clone());
        self
    }

    /// As [`Scoped::timeout`](crate::Scoped::timeout).
    #[track_caller]
    pub fn timeout(mut self, after: Duration) -> Self {
        let place = Location::caller();
        self.alarm
            .get_or_insert_with(|| Alarm::new(after, place))
            .at_most(after);
        self
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for TryScoped<'_, F, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(alarm) = this.alarm {
            alarm.look(this.engine.token());
        }
        let finished = ready!(this.engine.as_mut().poll(cx));
        *this.alarm = None;
        let mut errors = this
            .engine
            .sink()
            .take()
            .into_iter()
            .map(|(error, _)| error);
        let first = errors.next();
        errors.for_each(|late| quietly(|| drop(late)));
        match (finished.panic, first, finished.output) {
            (Some(payload), first, output) => {
                quietly(|| drop(first));
                quietly(|| drop(output));
                resume_unwind(payload)
            }
            (None, Some(error), output) => {
                quietly(|| drop(output));
                Poll::Ready(Err(error))
            }
            (None, None, Some(output)) => Poll::Ready(output),
            (None, None, None) => unreachable!("a body without a value has failed or panicked"),
        }
    }
}

impl<F: Future, E> fmt::Debug for TryScoped<'_, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScoped").finish_non_exhaustive()
    }
}

/// A handle to a running [`try_scope`]; see [`Scope`](crate::Scope).
pub struct TryScope<'env, E> {
    handle: Handle<'env, Trying<E>>,
}

impl<E> Clone for TryScope<'_, E> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
        }
    }
}

impl<'env, E: Send + 'env> TryScope<'env, E> {
    /// Starts a child. Its error, if it has one, goes to the scope.
    ///
    /// # Panics
    /// As [`Scope::spawn`](crate::Scope::spawn).
    #[track_caller]
    pub fn spawn<Fut, T>(&self, future: Fut) -> JoinHandle<'env, Result<T, Cancelled>>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        match self.handle.spawn(future, Location::caller()) {
            Ok(raw) => JoinHandle::new(raw),
            Err(refusal) => JoinHandle::new(refuse(refusal, || self.handle.describe())),
        }
    }

    /// Starts a child that gets its own handle to the scope. `body` is called before this returns.
    ///
    /// # Panics
    /// As [`Scope::spawn`](crate::Scope::spawn).
    #[track_caller]
    pub fn spawn_with<B, Fut, T>(&self, body: B) -> JoinHandle<'env, Result<T, Cancelled>>
    where
        B: FnOnce(TryScope<'env, E>) -> Fut,
        Fut: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        self.spawn(body(self.clone()))
    }

    /// Starts a child whose one poll is the closure. That poll, and so the scope's, lasts as long.
    ///
    /// # Panics
    /// As [`Scope::spawn`](crate::Scope::spawn).
    #[track_caller]
    pub fn spawn_fn<B, T>(&self, f: B) -> JoinHandle<'env, Result<T, Cancelled>>
    where
        B: FnOnce() -> Result<T, E> + Send + 'env,
        T: Send + 'env,
    {
        self.spawn(async move { f() })
    }

    /// Starts a child if the scope takes any.
    ///
    /// # Errors
    /// The future comes back, never polled, if the scope is cancelled or has ended.
    #[track_caller]
    pub fn try_spawn<Fut, T>(
        &self,
        future: Fut,
    ) -> Result<JoinHandle<'env, Result<T, Cancelled>>, Refused<Fut>>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
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
}

impl<E> TryScope<'_, E> {
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

impl<E> fmt::Debug for TryScope<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
