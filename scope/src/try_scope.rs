//! `try_scope`: a scope whose members may fail; the first error cancels the rest and is the result.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::{
    CancelSource, CancelToken, Cancelled, Cause, CauseKind, Following, Instant, Phase, SelectSafe,
};

use crate::errors::{ScopeErrors, TaskError};
use crate::join_handle::JoinHandle;
use crate::knobs::{knobs, requests};
use crate::pool::Pool;
use crate::refused::{Refused, Why, refused};
use crate::scope::{cut, refuse};
use crate::state;
use crate::task::{Kept, Trying, quietly};
use crate::window::{Classify, Engine, Errors, Failed, Handle, Hint, Sort};

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
/// The first failure that came. Later ones are dropped when the scope ends, unless
/// [`all_errors`](TryScoped::all_errors) keeps them.
///
/// That a member was cancelled is no failure: its error counts as a cancellation if it still holds the
/// [`Cancelled`] of an operation that failed because the member, or something around it, was cancelled, however
/// deep inside. Another member may have handed it on: through its handle, or through a channel. It is found by looking into the error, which is what [`CancelSource`] is for: the error has to
/// implement `Debug`, and has to print in it what it holds. Where a `Cancelled` is logged, stored or sent plays no
/// part. Where none is found, the error counts as a failure: one made of the text of a `Cancelled` alone, say, or
/// one that hides what it holds, for which there is [`cancelled_if`](TryScoped::cancelled_if).
///
/// A scope that was cancelled itself gives the body's value all the same; one cancelled from outside passes on
/// the first cancellation that this was to one of its members. That a member was cancelled alone, through its handle, is
/// over with that member.
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
    E: CancelSource,
{
    let place = Location::caller();
    let sink = Errors::new(Classify::Search(|error, own, scope| {
        own.is_some_and(|own| own.has_live_own_in(error)) || scope.is_cause_of(error)
    }));
    // In one expression, as in `Engine::new`.
    TryScoped {
        engine: Engine::new(place, sink, |handle| body(TryScope { handle })),
        following: Vec::new(),
        place,
        cut: None,
        output: PhantomData,
    }
}

pin_project! {
    /// A scope that has been opened; from [`try_scope`].
    #[must_use = "a scope does nothing unless polled"]
    pub struct TryScoped<'env, F: Future, E, P = state::First> {
        #[pin]
        engine: Engine<'env, F, Trying<E>>,
        following: Vec<(CancelToken, Following)>,
        place: &'static Location<'static>,
        // What an expired grace becomes.
        cut: Option<fn(Cancelled) -> E>,
        output: PhantomData<fn() -> P>,
    }
}

impl<T, E, F: Future<Output = Result<T, E>>, P> TryScoped<'_, F, E, P> {
    knobs!();

    /// Says which errors are cancellations, instead of looking into them: for error types whose `Debug` hides the
    /// [`Cancelled`] they hold, or that are made from one and keep nothing of it.
    ///
    /// It is asked for the errors of members that are cancelled, and of no others; on any thread that polls the
    /// scope's children. If it panics, the panic goes on in the parent as a child's does.
    ///
    /// It decides for this scope alone: a scope or a limit around this one looks into the error that comes out, and finds
    /// a `Cancelled` in it that was no cancellation here.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, time::sleep, try_scope};
    /// use selvedge_cancel::Cancelled;
    /// use std::time::Duration;
    ///
    /// #[derive(Debug)]
    /// enum Failure {
    ///     Stopped,
    /// }
    ///
    /// impl From<Cancelled> for Failure {
    ///     fn from(_: Cancelled) -> Self {
    ///         Self::Stopped
    ///     }
    /// }
    ///
    /// let scope = try_scope(async |s| {
    ///     s.spawn(async { Ok(sleep(Duration::MAX).await?) }).cancel();
    ///     Ok::<_, Failure>("not failed")
    /// });
    /// let ended = block_on(scope.cancelled_if(|error| matches!(error, Failure::Stopped)));
    /// assert_eq!(ended.unwrap(), "not failed");
    /// ```
    ///
    /// An error that implements `Error` and gives the `Cancelled` as its source is searched with
    /// `|error| Cancelled::find_in(error).is_some()`.
    pub fn cancelled_if(mut self, is_cancellation: fn(&E) -> bool) -> Self {
        let classify = Classify::User(is_cancellation);
        self.engine.sink_mut().set_classify(classify);
        self
    }

    /// After a cancellation, waits this long for body and children, then drops what is left.
    ///
    /// If no member has failed, the scope then fails with a [`Cancelled`] of kind
    /// [`GraceExpired`](selvedge_cancel::CauseKind::GraceExpired) that names what was dropped. The time counts
    /// from the first poll that sees the cancellation. Shields inside end with it.
    #[track_caller]
    pub fn grace(mut self, after: Duration) -> Self
    where
        E: From<Cancelled>,
    {
        let settings = self.engine.settings();
        settings.limits().grace(after, Location::caller());
        settings.said.graced();
        self.cut = Some(E::from);
        self
    }
}

impl<'env, T, E, F: Future<Output = Result<T, E>>> TryScoped<'env, F, E> {
    /// Keeps every error: the scope fails with [`ScopeErrors`], in which the first one is primary. Those of members that
    /// were cancelled are kept, too, until the scope ends.
    pub fn all_errors(mut self) -> TryScoped<'env, F, E, state::All> {
        self.engine.sink_mut().keep_all();
        TryScoped {
            engine: self.engine,
            following: self.following,
            place: self.place,
            cut: self.cut,
            output: PhantomData,
        }
    }
}

impl<T, E, F: Future<Output = Result<T, E>>, P> TryScoped<'_, F, E, P> {
    fn poll_members(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, ScopeErrors<E>>> {
        let mut this = self.project();
        let finished = ready!(this.engine.as_mut().poll(cx));
        let (cancelled, failed): (Vec<_>, Vec<_>) = this
            .engine
            .as_ref()
            .sink()
            .take()
            .into_iter()
            .partition(|failed| failed.sort != Sort::Failure);
        let passed_on = (cancelled.iter()).position(|failed| failed.sort == Sort::Cancelled);
        let mut cancelled: Vec<_> = cancelled.into_iter().map(named).collect();
        let mut others: Vec<_> = failed.into_iter().map(named).collect();
        if let Some(payload) = finished.panic {
            let output = finished.output;
            quietly(|| drop(output));
            drop_all(others);
            drop_all(cancelled);
            resume_unwind(payload);
        }
        let mut output = finished.output;
        let followed = this.engine.as_ref().has_followed()
            && (this.following.iter()).any(|(token, _)| token.is_cancelled());
        let primary = if !others.is_empty() {
            others.remove(0)
        } else if let (Some(left), Some(error)) = (&finished.cut, this.cut) {
            let error = error(cut(left, this.place));
            TaskError::new(error, this.engine.as_ref().body_id())
        } else {
            let is_from_outside = || followed || this.engine.is_cancelled_from_outside();
            match (&output, passed_on) {
                // One that was cancelled itself absorbs it; one cancelled from outside passes it on.
                (Some(Ok(_)), Some(at)) if is_from_outside() => cancelled.remove(at),
                (Some(_), _) => {
                    drop_all(cancelled);
                    match output.take() {
                        Some(Ok(value)) => return Poll::Ready(Ok(value)),
                        _ => unreachable!("the error of a body goes to the scope"),
                    }
                }
                // The body's own cancellation is returned as it is.
                (None, _) => {
                    let body = this.engine.as_ref().body_id();
                    let at = cancelled.iter().position(|error| error.task == body);
                    cancelled.remove(at.expect("a body without a value has failed or panicked"))
                }
            }
        };
        // A value beside the error, whose destructor may panic, before there is something in the caller's place to lose.
        quietly(|| drop(output));
        Poll::Ready(Err(ScopeErrors {
            primary,
            others,
            cancelled,
        }))
    }
}

fn named<E>(failed: Failed<E>) -> TaskError<E> {
    TaskError::new(failed.error, failed.task)
}

/// Drops errors, one of which may panic at it, without losing the others.
fn drop_all<E>(errors: Vec<TaskError<E>>) {
    for error in errors {
        quietly(|| drop(error));
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for TryScoped<'_, F, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = ready!(self.poll_members(cx));
        Poll::Ready(polled.map_err(|errors| {
            drop_all(errors.others);
            drop_all(errors.cancelled);
            errors.primary.error
        }))
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for TryScoped<'_, F, E, state::All> {
    type Output = Result<T, ScopeErrors<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_members(cx)
    }
}

impl<F: Future, E, P> fmt::Debug for TryScoped<'_, F, E, P> {
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
    /// # Deadlocks
    /// A child must not block until another member of its scope has done something: it may hold the only thread that
    /// would poll that member. [`Scope::spawn`](crate::Scope::spawn) has the remedies.
    ///
    /// # Panics
    /// As [`Scope::spawn`](crate::Scope::spawn).
    #[track_caller]
    pub fn spawn<Fut, T>(&self, future: Fut) -> JoinHandle<'env, Result<T, Cancelled>>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        let mut future = Kept::Here(future);
        match self.handle.spawn(&mut future, Location::caller()) {
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
    /// # Deadlocks
    /// A closure must not block until another member of its scope has done something: it may hold the only thread that
    /// would poll that member. [`Scope::spawn_fn`](crate::Scope::spawn_fn) has the remedies.
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

    /// Starts a child that is dropped as soon as it is cancelled, instead of being asked to stop; as
    /// [`Scope::spawn_select_safe`](crate::Scope::spawn_select_safe). That it was dropped fails nobody.
    ///
    /// # Panics
    /// As [`Scope::spawn`](crate::Scope::spawn).
    #[track_caller]
    pub fn spawn_select_safe<Fut, T>(&self, future: Fut) -> JoinHandle<'env, Result<T, Cancelled>>
    where
        Fut: SelectSafe<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        let mut future = Kept::Here(future);
        match self
            .handle
            .spawn_select_safe(&mut future, Location::caller())
        {
            Ok(raw) => JoinHandle::new(raw),
            Err(refusal) => JoinHandle::new(refuse(refusal, || self.handle.describe())),
        }
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
        let mut future = Kept::Here(future);
        if self.handle.is_cancelled() {
            return refused(&mut future, Why::Cancelled);
        }
        match self.handle.spawn(&mut future, Location::caller()) {
            Ok(raw) => Ok(JoinHandle::new(raw)),
            Err(_) => refused(&mut future, Why::Closed),
        }
    }
}

impl<E> TryScope<'_, E> {
    requests!();
}

impl<E> fmt::Debug for TryScope<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
