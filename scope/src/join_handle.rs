//! Join handles: a child's result, by name.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_cancel::{Cancelled, Cause, CauseKind, SelectSafe, TaskId};

use crate::task::{Ending, Fault, RawJoin, Task};
use crate::window::{Hint, learn_hint};

/// Waits for a child and yields its output.
///
/// Dropping a handle does nothing to the child: the scope waits for it all the same. A handle is good
/// anywhere, also in another child and after the scope has ended.
///
/// In a plain [`scope`](crate::scope()) it yields `T`, and waits as long as the child runs. In a
/// [`try_scope`](crate::try_scope) it yields `Result<T, Cancelled>`: the child's error belongs to the
/// scope, and the wait also ends when the task that awaits is itself cancelled.
///
/// # Examples
/// ```
/// use selvedge_scope::{block_on, scope};
///
/// let text = String::from("warp and weft");
/// let words = block_on(scope(async |s| {
///     let words = s.spawn(async { text.split(' ').count() }).name("count");
///     words.await
/// }));
/// assert_eq!(words, 3);
/// ```
///
/// # Panics
/// Awaiting it panics with the child's own payload if the child panicked; with a message that names the
/// child if its scope was dropped before the child ended, and if a child awaits its own handle; and with one that
/// has no name to tell if the handle has yielded before.
///
/// # Deadlocks
/// A child that awaits its own handle inside a combinator that polls with wakers of its own, as `FuturesUnordered` does,
/// never ends, instead of panicking: a handle is known to be the child's own by the waker that it is polled with. An
/// executor inside a child may therefore poll a task that awaits the child.
///
/// Two children that await each other's handles never end, as with any executor. A debug build says so on standard
/// error, with their names and where they were spawned, if each waits for nothing else; also around more than two, and
/// where a child of a nested scope waits for the task that opened it.
///
/// # Cancel safety
/// Nothing is lost by dropping a pending wait, if the handle itself is kept: await `&mut handle`.
pub struct JoinHandle<'env, T> {
    raw: RawJoin<T>,
    env: PhantomData<fn(&'env ()) -> &'env ()>,
}

impl<T> JoinHandle<'_, T> {
    pub(crate) fn new(raw: RawJoin<T>) -> Self {
        Self {
            raw,
            env: PhantomData,
        }
    }

    /// Names the child, for messages and inspection. The first name stays.
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
        if let Some(task) = self.raw.task() {
            task.record.get().set_name(name.into());
        }
        self
    }

    /// Says that each poll of this kind of child, that is of futures of its type, computes for long: 100 µs, or more.
    ///
    /// It holds until such a poll has been timed; what the engine knows by itself stays.
    /// [`Scoped::heavy`](crate::Scoped::heavy) is the same for all children of a scope, and holds on.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, scope};
    ///
    /// let words = ["warp", "weft"];
    /// block_on(scope(async |s| {
    ///     for word in words {
    ///         s.spawn_fn(move || word.repeat(100_000)).heavy();
    ///     }
    /// }));
    /// ```
    pub fn heavy(self) -> Self {
        self.hint(Hint::Heavy)
    }

    /// Says that polls of this kind of child are short, as [`heavy`](Self::heavy) says that they are long.
    pub fn cheap(self) -> Self {
        self.hint(Hint::Cheap)
    }

    fn hint(self, hint: Hint) -> Self {
        if let Some(task) = self.raw.task() {
            learn_hint(task.header.key(), hint);
        }
        self
    }

    /// The child's number, unique in the process.
    ///
    /// # Panics
    /// If the handle has yielded its output, or the child was refused by a scope that was being dropped.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.raw
            .id()
            .expect("the handle of a child that was never started, or that has yielded, has no id")
    }

    /// Whether the child has ended, so that awaiting the handle will not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.raw.is_finished()
    }

    fn describe(&self) -> String {
        self.raw
            .task()
            .map_or_else(|| "a child".into(), Task::describe)
    }

    /// In a `try_scope`: the awaiting task is cancelled. What the child came to stays with the handle.
    #[cold]
    fn cut_short(&mut self, cancelled: Cancelled) -> Poll<T> {
        self.raw.end_watch();
        let output = self.raw.cut_short(|| Some(cancelled));
        output.map_or(Poll::Pending, Poll::Ready)
    }

    /// Asks the child, and everything below it, to stop; its siblings and its scope go on. Does not wait.
    ///
    /// The child is polled once more and sees it at its next cancellable operation. A child that has ended
    /// stays as it is.
    ///
    /// # Examples
    /// ```
    /// use selvedge_scope::{block_on, try_scope};
    /// use selvedge_cancel::{Cancelled, cancelled};
    ///
    /// let done = block_on(try_scope(async |s| {
    ///     let endless = s.spawn(async {
    ///         cancelled().await;
    ///         selvedge_cancel::check()
    ///     });
    ///     endless.cancel();
    ///     assert!(endless.await.is_err());
    ///     Ok::<_, Cancelled>("the scope goes on")
    /// }));
    /// assert_eq!(done.unwrap(), "the scope goes on");
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.raw
            .cancel(Cause::new(CauseKind::Requested).with_place(Location::caller()));
    }

    /// Asks the child to stop, as [`cancel`](Self::cancel), and waits until it has ended, clean-up included.
    /// Any number of tasks may wait.
    ///
    /// The request is made at once, the wait is the future. It does not fail when the awaiting task is
    /// cancelled itself.
    ///
    /// # Panics
    /// If the child waits for itself, with its own waker.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it; the request stays, and the waker of the last poll is let go of at once.
    #[track_caller]
    pub fn cancel_and_wait(&self) -> CancelAndWait<'_> {
        self.cancel();
        CancelAndWait {
            ending: self.raw.ending(),
        }
    }

    /// There is no value: panics with what became of the child.
    #[cold]
    fn fail(&mut self) -> ! {
        assert!(
            self.raw.task().is_some(),
            "a join handle has nothing to yield: it has yielded before, or its child was refused by a \
             scope that was being dropped"
        );
        let child = self.describe();
        match self.raw.fault() {
            Fault::Itself => panic!("{child} awaits its own handle, which would never end"),
            Fault::Dropped => panic!("{child} was dropped with its scope before it ended"),
            Fault::Panicked(Some(payload)) => resume_unwind(payload),
            Fault::Panicked(None) => {
                panic!("{child} panicked, and its scope has raised the panic already")
            }
        }
    }
}

impl<T> Future for JoinHandle<'_, T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let may_fail = this.raw.can_be_cut_short();
        if may_fail {
            // On entry, like every cancellable operation; the outcome stays for a later await.
            if let Err(cancelled) = selvedge_cancel::check() {
                return this.cut_short(cancelled);
            }
        }
        match this.raw.poll(cx.waker()) {
            Poll::Ready(Some(value)) => Poll::Ready(value),
            Poll::Ready(None) if may_fail => match this.raw.cut_off() {
                Some(value) => Poll::Ready(value),
                None => this.fail(),
            },
            Poll::Ready(None) => this.fail(),
            Poll::Pending if may_fail => match this.raw.watch(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(cancelled) => this.cut_short(cancelled),
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> SelectSafe for JoinHandle<'_, T> {}

impl<T> Unpin for JoinHandle<'_, T> {}

/// Waits until a child that was asked to stop has ended; from [`JoinHandle::cancel_and_wait`].
///
/// A clone waits by itself.
#[must_use = "futures do nothing unless polled"]
#[derive(Clone)]
pub struct CancelAndWait<'a> {
    ending: Ending<'a>,
}

impl Future for CancelAndWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert!(
            !self.ending.is_itself(cx.waker()),
            "{} waits for its own end, which would never come",
            self.ending
                .task()
                .map_or_else(|| "a child".into(), Task::describe)
        );
        self.ending.poll(cx.waker())
    }
}

impl SelectSafe for CancelAndWait<'_> {}

impl fmt::Debug for CancelAndWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelAndWait").finish_non_exhaustive()
    }
}

impl<T> Drop for JoinHandle<'_, T> {
    /// Says to the borrow checker that `'env` is alive here: the output may hold borrows of it.
    #[inline]
    fn drop(&mut self) {}
}

impl<T> fmt::Debug for JoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("child", &self.describe())
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
