//! `TryCancellable`: streams of results and sinks whose own error has room for a `Cancelled`, so
//! that items and errors keep their types. Not for readers and writers, which need no second form.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};
use futures_sink::Sink;

use super::{Waits, poll_fallible, poll_guarded};
use crate::Cancelled;

/// A stream of `Result`s, or a sink, that fails with an error of its own type once the code that
/// polls it is cancelled; from [`try_cancellable`](crate::IoCancelExt::try_cancellable).
///
/// What happens when is told at [`Cancellable`](crate::Cancellable).
///
/// # Cancel safety
/// As that of what it wraps: the wrapper holds no data.
#[derive(Debug)]
pub struct TryCancellable<S> {
    inner: S,
    waits: Waits,
}

impl<S> TryCancellable<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            waits: Waits::default(),
        }
    }

    /// What is wrapped.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// What is wrapped; operations on it do not notice a cancellation.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives back what is wrapped.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, T, E> Stream for TryCancellable<S>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    E: From<Cancelled>,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { inner, waits } = self.get_mut();
        let polled = poll_guarded(&mut waits.inward, cx, |cx| Pin::new(inner).poll_next(cx));
        polled.map(|result| result.unwrap_or_else(|cancelled| Some(Err(cancelled.into()))))
    }

    /// Without an upper bound: a cancelled stream gives an error each time it is asked.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.inner.size_hint().0, None)
    }
}

impl<S, T, E> FusedStream for TryCancellable<S>
where
    S: FusedStream<Item = Result<T, E>> + Unpin,
    E: From<Cancelled>,
{
    fn is_terminated(&self) -> bool {
        self.inner.is_terminated()
    }
}

impl<T, S: Sink<T> + Unpin> Sink<T> for TryCancellable<S>
where
    S::Error: From<Cancelled>,
{
    type Error = S::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| Pin::new(inner).poll_ready(cx))
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        // The place was given by `poll_ready`; to refuse here would lose the item.
        Pin::new(&mut self.get_mut().inner).start_send(item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| Pin::new(inner).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| Pin::new(inner).poll_close(cx))
    }
}
