//! `.cancellable()`: readers, writers, streams and sinks whose operations fail once the code that
//! polls them is cancelled. One blanket trait, and the wrapper that it gives.
//!
//! Here is what all families of traits share: how one poll of an operation goes. The traits
//! themselves are in a file each. Not for futures, which have `or_cancel`, and not for calls that
//! block a thread.

mod error;
mod futures_io;
mod items;
#[cfg(feature = "tokio")]
mod tokio_io;
mod try_items;

use std::io;
use std::task::{Context, Poll};

pub use error::CancelledOr;
pub use try_items::TryCancellable;

use crate::{Cancelled, Watch, ambient};

/// Adds [`cancellable`](IoCancelExt::cancellable) to everything; it is of use on what reads,
/// writes, or is a stream or sink.
pub trait IoCancelExt: Sized {
    /// Makes the operations of this reader, writer, stream or sink fail with [`Cancelled`] once
    /// the code that polls them is asked to stop.
    ///
    /// The result has whichever of these this has: `AsyncRead`, `AsyncWrite`, `AsyncBufRead` and
    /// `AsyncSeek` of futures-io and, with feature `tokio`, of tokio; `Stream` and `Sink`. It
    /// needs `Self: Unpin`; wrap what is not in `Box::pin`. See [`Cancellable`] for what happens
    /// when.
    ///
    /// # Examples
    /// ```
    /// use futures::{AsyncReadExt, executor::block_on};
    /// use selvedge_cancel::{CancelToken, Cancelled, IoCancelExt, ambient};
    ///
    /// let mut reader = (&b"weft"[..]).cancellable();
    /// let mut letter = [0];
    /// block_on(reader.read_exact(&mut letter)).unwrap();
    ///
    /// let token = CancelToken::new();
    /// ambient::replace(Some(token.clone())); // as a scope does for its tasks
    /// token.cancel_with("enough");
    /// let error = block_on(reader.read_exact(&mut letter)).unwrap_err();
    /// assert!(Cancelled::find_in(&error).is_some());
    /// assert_eq!((letter, *reader.get_ref()), (*b"w", &b"eft"[..]));
    /// ```
    fn cancellable(self) -> Cancellable<Self> {
        Cancellable::new(self)
    }

    /// As [`cancellable`](IoCancelExt::cancellable), for a stream of `Result`s or a sink whose
    /// error can be made from [`Cancelled`], such as `io::Error`: items and errors keep their
    /// types.
    ///
    /// # Examples
    /// ```
    /// use futures::{TryStreamExt, executor::block_on, stream};
    /// use selvedge_cancel::{CancelToken, Cancelled, IoCancelExt, ambient};
    /// use std::io;
    ///
    /// let mut lines = stream::iter([io::Result::Ok("warp"), Ok("weft")]).try_cancellable();
    /// assert_eq!(block_on(lines.try_next()).unwrap(), Some("warp"));
    ///
    /// let token = CancelToken::new();
    /// ambient::replace(Some(token.clone())); // as a scope does for its tasks
    /// token.cancel();
    /// let error: io::Error = block_on(lines.try_next()).unwrap_err();
    /// assert!(Cancelled::find_in(&error).is_some());
    /// ```
    fn try_cancellable(self) -> TryCancellable<Self> {
        TryCancellable::new(self)
    }
}

impl<T> IoCancelExt for T {}

/// A reader, writer, stream or sink whose operations fail once the code that polls them is
/// cancelled; from [`cancellable`](IoCancelExt::cancellable).
///
/// Which cancellation counts is asked at each poll: that of the scope, task, time limit or shield
/// in which the poll happens. So a connection may go from task to task, and inside a shield its
/// operations work. A scope that is only asked to stop is not cancelled yet: there they work too.
///
/// * An operation that is begun when the cancellation has come fails, although it could have
///   finished at once.
/// * One that waits when it comes is woken and fails. It has read and written nothing, so
///   whoever reads on later, for instance in a shield, misses nothing.
/// * One that has finished gives its result.
/// * A retry fails the same way.
///
/// Reads and writes fail with an [`io::Error`] of kind `Other`, which no helper of std, futures
/// or tokio takes for a reason to try again; [`Cancelled::find_in`] finds the `Cancelled` in it,
/// also below `anyhow`, boxes and enums. A stream gives `Some(Err(Cancelled))`, each time it is
/// polled; so end a loop on it with `?` or `while let Some(Ok(item))`. A sink fails with
/// [`CancelledOr`]; only `start_send` does not, whose place in the sink was given before by
/// `poll_ready`: to refuse would lose the item.
///
/// Flushing, shutting down and closing fail like the rest. A clean-up that has to say goodbye
/// does it in a shield, or with what [`get_mut`](Self::get_mut) and
/// [`into_inner`](Self::into_inner) give. Dropping the wrapper drops what it wraps.
///
/// Reading and writing wait apart from one another: after a `split` into halves, two tasks may
/// use one each.
///
/// # Cancel safety
/// As that of what it wraps: the wrapper holds no data. A future such as `read_exact` or
/// `write_all`, which is many operations, forgets on its failure or drop how far it had come, as
/// it does after any other error.
#[derive(Debug)]
pub struct Cancellable<T> {
    inner: T,
    waits: Waits,
}

impl<T> Cancellable<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            waits: Waits::default(),
        }
    }

    /// What is wrapped.
    pub const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What is wrapped; operations on it do not notice a cancellation.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Gives back what is wrapped.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// One wait for each direction: with a single one, a writing task would take the place of the
/// task that reads, which then would never hear of the cancellation.
#[derive(Debug, Default)]
struct Waits {
    /// Reading, seeking, taking from a stream.
    inward: Watch,
    /// Writing, flushing, closing, sending into a sink.
    outward: Watch,
}

/// One poll of an operation that a cancellation makes fail.
///
/// The operation goes first once the token has been asked, so that what is ready costs no
/// registration; and it is pending when the wait fails it, so nothing that it did is thrown away.
fn poll_guarded<R>(
    watch: &mut Watch,
    cx: &mut Context<'_>,
    operation: impl FnOnce(&mut Context<'_>) -> Poll<R>,
) -> Poll<Result<R, Cancelled>> {
    if let Err(cancelled) = ambient::check() {
        watch.clear();
        return Poll::Ready(Err(cancelled));
    }
    match operation(cx) {
        Poll::Ready(result) => {
            // A finished operation waits for nothing: the connection may outlive the token.
            watch.clear();
            Poll::Ready(Ok(result))
        }
        Poll::Pending => watch.poll(cx).map(Err),
    }
}

/// The same for an operation that fails with an error of its own.
fn poll_fallible<R, E: From<Cancelled>>(
    watch: &mut Watch,
    cx: &mut Context<'_>,
    operation: impl FnOnce(&mut Context<'_>) -> Poll<Result<R, E>>,
) -> Poll<Result<R, E>> {
    poll_guarded(watch, cx, operation).map(|result| match result {
        Ok(result) => result,
        Err(cancelled) => Err(cancelled.into()),
    })
}

/// The same for operations on bytes, of either family.
fn poll_io<R>(
    watch: &mut Watch,
    cx: &mut Context<'_>,
    operation: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
) -> Poll<io::Result<R>> {
    poll_fallible(watch, cx, operation)
}
