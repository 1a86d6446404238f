//! `Stream` and `Sink` for `Cancellable`: the cancellation is put around the item of the one and
//! the error of the other. Those that have room for it are in `try_items.rs`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::stream::{FusedStream, Stream};
use futures_sink::Sink;

use super::{Cancellable, CancelledOr, poll_fallible, poll_guarded};
use crate::Cancelled;

impl<S: Stream + Unpin> Stream for Cancellable<S> {
    type Item = Result<S::Item, Cancelled>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { inner, waits } = self.get_mut();
        let polled = poll_guarded(&mut waits.inward, cx, |cx| Pin::new(inner).poll_next(cx));
        polled.map(Result::transpose)
    }

    /// Without an upper bound: a cancelled stream gives an error each time it is asked.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.inner.size_hint().0, None)
    }
}

impl<S: FusedStream + Unpin> FusedStream for Cancellable<S> {
    fn is_terminated(&self) -> bool {
        self.inner.is_terminated()
    }
}

impl<T, S: Sink<T> + Unpin> Sink<T> for Cancellable<S> {
    type Error = CancelledOr<S::Error>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| {
            Pin::new(inner).poll_ready(cx).map_err(CancelledOr::Other)
        })
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), Self::Error> {
        // The place was given by `poll_ready`; to refuse here would lose the item.
        let inner = Pin::new(&mut self.get_mut().inner);
        inner.start_send(item).map_err(CancelledOr::Other)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| {
            Pin::new(inner).poll_flush(cx).map_err(CancelledOr::Other)
        })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, waits } = self.get_mut();
        poll_fallible(&mut waits.outward, cx, |cx| {
            Pin::new(inner).poll_close(cx).map_err(CancelledOr::Other)
        })
    }
}
