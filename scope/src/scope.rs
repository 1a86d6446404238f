//! `scope`: runs a body and the children it spawns, and ends when all of them have.

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
    CancelToken, Cancelled, Cause, CauseKind, Following, Instant, Phase, SelectSafe,
};

use crate::join_handle::JoinHandle;
use crate::knobs::{knobs, requests};
use crate::pool::Pool;
use crate::refused::{Refused, Why, refused};
use crate::state;
use crate::task::{Kept, Plain, RawJoin};
use crate::window::{Engine, Handle, Hint, Refusal};

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
/// A scope is cancelled with the code that polls it first. If it is polled by hand outside a scope and then awaited in one, it
/// does not hear that one; [`token`](Scoped::token) names one that it is to hear wherever it is polled.
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
/// Whoever awaits the handle of a child that has panicked gets its payload, as a panic, before that; the scope then ends
/// with a panic that says so, whether or not the first one was caught. A child whose panic is nobody else's affair catches
/// it itself, inside:
/// ```
/// use futures::FutureExt;
/// use selvedge_scope::{block_on, scope};
/// use std::panic::AssertUnwindSafe;
///
/// let answered = block_on(scope(async |s| {
///     let requests = [4, 0, 2].map(|n| {
///         s.spawn(AssertUnwindSafe(async move { 8 / n }).catch_unwind()) // one divides by zero
///     });
///     let mut answered = 0;
///     for request in requests {
///         answered += usize::from(request.await.is_ok());
///     }
///     answered
/// }));
/// assert_eq!(answered, 2);
/// ```
///
/// # Cancel safety
/// Dropping the scope drops the body and all children where they are, without waiting. Nothing outlives it.
///
/// # Turns
/// A scope gives way after 5 ms, also one whose tasks never have to wait. Those that are polled in one task have these 5 ms
/// together, one inside the other or side by side, but 250 us each at least. Where several in a row have kept their thread for so
/// long, the next ones give way in their first poll, until one of them is polled again or dropped: a scope that is polled by hand
/// may be pending, and will be woken, before anything in it has begun. So do sets of futures, and parallel streams; a scope without
/// children whose body never waits does not count, as no future does that never waits.
///
/// Compares with `futures::future::join_all` (one core, one type) and `std::thread::scope` (threads).
#[track_caller]
pub fn scope<'env, B, F>(body: B) -> Scoped<'env, F>
where
    B: FnOnce(Scope<'env>) -> F,
    F: Future,
{
    let place = Location::caller();
    // In one expression, as in `Engine::new`.
    Scoped {
        engine: Engine::new(place, (), |handle| body(Scope { handle })),
        following: Vec::new(),
        place,
        output: PhantomData,
    }
}

pin_project! {
    /// A scope that has been opened; from [`scope`](crate::scope()).
    ///
    /// Its knobs hold for every child, also for those that the body closure has spawned already.
    #[must_use = "a scope does nothing unless polled"]
    pub struct Scoped<'env, F: Future, G = state::Plain> {
        #[pin]
        engine: Engine<'env, F, Plain>,
        following: Vec<(CancelToken, Following)>,
        place: &'static Location<'static>,
        output: PhantomData<fn() -> G>,
    }
}

impl<F: Future, G> Scoped<'_, F, G> {
    knobs!();
}

impl<'env, F: Future> Scoped<'env, F> {
    /// After a cancellation, waits this long for body and children, then drops what is left.
    ///
    /// The output becomes `Result<R, Cancelled>`: `Ok` if everything ended by itself, cancelled or not, and
    /// otherwise an error of kind [`GraceExpired`](selvedge_cancel::CauseKind::GraceExpired) that names what was
    /// dropped. The time counts from the first poll that sees the cancellation. Shields inside end with it.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, scope};
    /// use std::time::Duration;
    ///
    /// let stubborn = scope(async |s| {
    ///     s.cancel();
    ///     std::future::pending::<()>().await;
    /// });
    /// let cut = block_on(stubborn.grace(Duration::from_millis(1)));
    /// assert!(cut.is_err());
    /// ```
    #[track_caller]
    pub fn grace(self, after: Duration) -> Scoped<'env, F, state::Graced> {
        let settings = self.engine.settings();
        settings.limits().grace(after, Location::caller());
        settings.said.graced();
        Scoped {
            engine: self.engine,
            following: self.following,
            place: self.place,
            output: PhantomData,
        }
    }
}

impl<F: Future, G> Scoped<'_, F, G> {
    /// The body's output, or which tasks were dropped when the grace was over.
    fn poll_members(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, (String, &'static Location<'static>)>> {
        let this = self.project();
        let finished = ready!(this.engine.poll(cx));
        match (finished.panic, finished.output, finished.cut) {
            (Some(payload), output, _) => {
                crate::task::quietly(|| drop(output));
                resume_unwind(payload)
            }
            (None, output, Some(left)) => {
                crate::task::quietly(|| drop(output));
                Poll::Ready(Err((left, this.place)))
            }
            (None, Some(output), None) => Poll::Ready(Ok(output)),
            (None, None, None) => unreachable!("a body that did not panic has an output"),
        }
    }
}

impl<F: Future> Future for Scoped<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(self.poll_members(cx)) {
            Ok(output) => Poll::Ready(output),
            Err(_) => unreachable!("only a scope with a grace is cut"),
        }
    }
}

impl<F: Future> Future for Scoped<'_, F, state::Graced> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = ready!(self.poll_members(cx));
        Poll::Ready(polled.map_err(|(left, place)| cut(&left, place)))
    }
}

/// The error of a scope whose grace was over.
pub(crate) fn cut(left: &str, place: &'static Location<'static>) -> Cancelled {
    let cause = Cause::new(CauseKind::GraceExpired);
    Cancelled::new(
        cause
            .with_text(format!("dropped: {left}"))
            .with_place(place),
    )
}

impl<F: Future, G> fmt::Debug for Scoped<'_, F, G> {
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
    /// # Deadlocks
    /// A child must not *block* until another member of its scope has done something: on a channel, barrier, condition
    /// variable or thread of `std`, say. Nothing promises that a second thread polls the other member: the engine
    /// asks for help only when that pays, and there may be one core. Then the blocked thread is the only one that
    /// would poll it, and the program hangs. *Await* instead; the channels, barriers and locks of `futures` and
    /// `tokio::sync` are made for that:
    /// ```
    /// use futures::channel::oneshot;
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let (send, receive) = oneshot::channel();
    /// let answer = block_on(scope(async |s| {
    ///     let answer = s.spawn(receive); // with `std::sync::mpsc` and `recv()`, this could wait for ever
    ///     s.spawn(async { send.send(42) });
    ///     answer.await
    /// }));
    /// assert_eq!(answer, Ok(42));
    /// ```
    /// A lock of `std` is such a place too: a member that holds its guard over an `await` keeps it while others are polled,
    /// and one of these that calls `lock` on the same thread waits for ever. That holds for the body, which need not be
    /// `Send`, so that the compiler does not object. Let go of the guard before the `await`, or take a lock of
    /// `tokio::sync` or `async-lock`.
    ///
    /// For code that can only block, see [`spawn_fn`](Self::spawn_fn).
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
        let mut future = Kept::Here(future);
        match self.handle.spawn(&mut future, Location::caller()) {
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
    /// # Deadlocks
    /// A closure must not block until another member of the scope has done something; see [`spawn`](Self::spawn). Two
    /// closures that meet at a `Barrier` hang if one thread runs them one after the other, and no number of threads
    /// in the [`Pool`] promises that it will be two. Code that has to block on code beside it needs threads of its
    /// own. They borrow too, in one child that waits for all of them:
    /// ```
    /// use selvedge_scope::{block_on, scope};
    /// use std::sync::mpsc;
    ///
    /// let words = ["warp", "weft"];
    /// let letters = block_on(scope(async |s| {
    ///     let blocking = s.spawn_fn(|| {
    ///         let (send, receive) = mpsc::channel();
    ///         std::thread::scope(|threads| {
    ///             threads.spawn(|| words.iter().try_for_each(|word| send.send(word.len())));
    ///             receive.iter().take(words.len()).sum::<usize>() // blocks, and is answered
    ///         })
    ///     });
    ///     blocking.await
    /// }));
    /// assert_eq!(letters, 8);
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
        let mut future = Kept::Here(future);
        if self.handle.is_cancelled() {
            return refused(&mut future, Why::Cancelled);
        }
        match self.handle.spawn(&mut future, Location::caller()) {
            Ok(raw) => Ok(JoinHandle::new(raw)),
            Err(_) => refused(&mut future, Why::Closed),
        }
    }

    /// Starts a child that is dropped as soon as it is cancelled, instead of being asked to stop.
    ///
    /// The handle then yields `Err`. The drop happens in the scope's next poll, since a task is only touched
    /// there; a poll of the child that is under way ends first.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::select_safe;
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let cut = block_on(scope(async |s| {
    ///     let foreign = s.spawn_select_safe(select_safe(std::future::pending::<()>()));
    ///     s.cancel();
    ///     foreign.await
    /// }));
    /// assert!(cut.is_err());
    /// ```
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_select_safe<Fut>(
        &self,
        future: Fut,
    ) -> JoinHandle<'env, Result<Fut::Output, Cancelled>>
    where
        Fut: SelectSafe + Send + 'env,
        Fut::Output: Send + 'env,
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

    requests!();
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// A spawn into a scope that takes no more: silent while the scope is dropped, a panic after its end. The
/// caller has the future still, and drops it.
#[track_caller]
pub(crate) fn refuse<T>(refusal: Refusal, describe: impl FnOnce() -> String) -> RawJoin<T> {
    assert!(
        refusal.dying,
        "spawn into {}, which has ended; use `try_spawn` to get the future back",
        describe()
    );
    RawJoin::refused()
}
