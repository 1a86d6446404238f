//! The I/O traits of futures-io, which smol, async-std and most codecs use, for `Cancellable`.
//! Each method hands on to what is wrapped, through the guarded poll; no logic of its own.

use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};

use super::{Cancellable, poll_io};

impl<T: AsyncRead + Unpin> AsyncRead for Cancellable<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.inward, cx, |cx| {
            Pin::new(inner).poll_read(cx, buf)
        })
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.inward, cx, |cx| {
            Pin::new(inner).poll_read_vectored(cx, bufs)
        })
    }
}

impl<T: AsyncBufRead + Unpin> AsyncBufRead for Cancellable<T> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.inward, cx, |cx| {
            Pin::new(inner).poll_fill_buf(cx)
        })
    }

    /// Passes always: the bytes were seen already.
    fn consume(self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.get_mut().inner).consume(amount);
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cancellable<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.outward, cx, |cx| {
            Pin::new(inner).poll_write(cx, buf)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.outward, cx, |cx| {
            Pin::new(inner).poll_write_vectored(cx, bufs)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.outward, cx, |cx| Pin::new(inner).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.outward, cx, |cx| Pin::new(inner).poll_close(cx))
    }
}

impl<T: AsyncSeek + Unpin> AsyncSeek for Cancellable<T> {
    fn poll_seek(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        position: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        let Self { inner, waits } = self.get_mut();
        poll_io(&mut waits.inward, cx, |cx| {
            Pin::new(inner).poll_seek(cx, position)
        })
    }
}
