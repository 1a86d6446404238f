//! A reader, writer, stream and sink that does nothing but count how often it is asked, and the
//! list of all operations on bytes. Not a pipe: `halves.rs` has one.

use std::io::{self, IoSlice, IoSliceMut, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, Sink, Stream};
use selvedge_cancel::{CancelToken, Cancellable, Cancelled, IoCancelExt, ambient};

/// What every operation of a probe gives that finishes.
pub(crate) const RESULT: u64 = 3;

#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// How many operations reached this.
    pub(crate) touched: usize,
    /// Whether operations finish at once; otherwise they never do.
    pub(crate) ready: bool,
    /// Cancelled by the next operation, in its midst.
    pub(crate) cancels: Option<CancelToken>,
    pub(crate) consumed: usize,
    pub(crate) items: Vec<u8>,
}

impl Probe {
    pub(crate) fn ready() -> Cancellable<Self> {
        let ready = true;
        Self {
            ready,
            ..Self::default()
        }
        .cancellable()
    }

    pub(crate) fn pending() -> Cancellable<Self> {
        Self::default().cancellable()
    }

    fn step<R>(&mut self, result: R) -> Poll<R> {
        self.touched += 1;
        if let Some(token) = self.cancels.take() {
            token.cancel();
        }
        match self.ready {
            true => Poll::Ready(result),
            false => Poll::Pending,
        }
    }
}

impl AsyncRead for Probe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().step(Ok(RESULT as usize))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        assert_eq!(bufs.len(), 2, "the buffers arrive as they are");
        self.get_mut().step(Ok(RESULT as usize))
    }
}

impl AsyncBufRead for Probe {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.get_mut().step(Ok(&[0; RESULT as usize]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        self.get_mut().consumed += amount;
    }
}

impl AsyncWrite for Probe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().step(Ok(RESULT as usize))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        assert_eq!(bufs.len(), 2, "the buffers arrive as they are");
        self.get_mut().step(Ok(RESULT as usize))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(Ok(()))
    }
}

impl AsyncSeek for Probe {
    fn poll_seek(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        position: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        assert_eq!(position, SeekFrom::Start(7));
        self.get_mut().step(Ok(RESULT))
    }
}

impl Stream for Probe {
    type Item = io::Result<u8>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().step(Some(Ok(RESULT as u8)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (2, Some(2))
    }
}

impl Sink<u8> for Probe {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, item: u8) -> io::Result<()> {
        self.get_mut().items.push(item);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(Ok(()))
    }
}

#[cfg(feature = "tokio")]
mod tokio_family {
    use super::{Context, IoSlice, Pin, Poll, Probe, RESULT, SeekFrom, io};
    use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

    impl AsyncRead for Probe {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let polled = self.get_mut().step(Ok(()));
            if polled.is_ready() {
                buf.put_slice(&[0; RESULT as usize]);
            }
            polled
        }
    }

    impl AsyncBufRead for Probe {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            self.get_mut().step(Ok(&[0; RESULT as usize]))
        }

        fn consume(self: Pin<&mut Self>, amount: usize) {
            self.get_mut().consumed += amount;
        }
    }

    impl AsyncWrite for Probe {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.get_mut().step(Ok(RESULT as usize))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            assert_eq!(bufs.len(), 2, "the buffers arrive as they are");
            self.get_mut().step(Ok(RESULT as usize))
        }

        fn is_write_vectored(&self) -> bool {
            self.ready
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().step(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().step(Ok(()))
        }
    }

    impl AsyncSeek for Probe {
        fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
            assert_eq!(position, SeekFrom::Start(7));
            self.get_mut().touched += 1;
            Ok(())
        }

        fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
            self.get_mut().step(Ok(RESULT))
        }
    }
}

/// One poll of an operation, made comparable: a number of bytes, a position, or `RESULT` for what
/// has none.
pub(crate) type Operation = fn(&mut Cancellable<Probe>, &mut Context<'_>) -> Poll<io::Result<u64>>;

fn number<N: TryInto<u64>>(polled: Poll<io::Result<N>>) -> Poll<io::Result<u64>> {
    polled.map_ok(|n| n.try_into().unwrap_or_else(|_| panic!("it is small")))
}

fn nothing(polled: Poll<io::Result<()>>) -> Poll<io::Result<u64>> {
    polled.map_ok(|()| RESULT)
}

fn length(polled: Poll<io::Result<&[u8]>>) -> Poll<io::Result<u64>> {
    polled.map_ok(|bytes| bytes.len() as u64)
}

/// All that can wait, by name; those of tokio with its feature.
pub(crate) fn operations() -> Vec<(&'static str, Operation)> {
    [of_futures(), of_tokio()].concat()
}

fn of_futures() -> Vec<(&'static str, Operation)> {
    vec![
        ("read", |io, cx| {
            number(AsyncRead::poll_read(Pin::new(io), cx, &mut [0; 8]))
        }),
        ("read_vectored", |io, cx| {
            let (mut one, mut two) = ([0; 4], [0; 4]);
            let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            number(AsyncRead::poll_read_vectored(Pin::new(io), cx, bufs))
        }),
        ("fill_buf", |io, cx| {
            length(AsyncBufRead::poll_fill_buf(Pin::new(io), cx))
        }),
        ("write", |io, cx| {
            number(AsyncWrite::poll_write(Pin::new(io), cx, &[0; 8]))
        }),
        ("write_vectored", |io, cx| {
            let bufs = &[IoSlice::new(&[0; 4]), IoSlice::new(&[0; 4])];
            number(AsyncWrite::poll_write_vectored(Pin::new(io), cx, bufs))
        }),
        ("flush", |io, cx| {
            nothing(AsyncWrite::poll_flush(Pin::new(io), cx))
        }),
        ("close", |io, cx| {
            nothing(AsyncWrite::poll_close(Pin::new(io), cx))
        }),
        ("seek", |io, cx| {
            number(AsyncSeek::poll_seek(Pin::new(io), cx, SeekFrom::Start(7)))
        }),
    ]
}

#[cfg(not(feature = "tokio"))]
fn of_tokio() -> Vec<(&'static str, Operation)> {
    Vec::new()
}

#[cfg(feature = "tokio")]
fn of_tokio() -> Vec<(&'static str, Operation)> {
    use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

    vec![
        ("tokio read", |io, cx| {
            let mut bytes = [0; 8];
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = AsyncRead::poll_read(Pin::new(io), cx, &mut buf);
            polled.map_ok(|()| buf.filled().len() as u64)
        }),
        ("tokio fill_buf", |io, cx| {
            length(AsyncBufRead::poll_fill_buf(Pin::new(io), cx))
        }),
        ("tokio write", |io, cx| {
            number(AsyncWrite::poll_write(Pin::new(io), cx, &[0; 8]))
        }),
        ("tokio write_vectored", |io, cx| {
            let bufs = &[IoSlice::new(&[0; 4]), IoSlice::new(&[0; 4])];
            number(AsyncWrite::poll_write_vectored(Pin::new(io), cx, bufs))
        }),
        ("tokio flush", |io, cx| {
            nothing(AsyncWrite::poll_flush(Pin::new(io), cx))
        }),
        ("tokio shutdown", |io, cx| {
            nothing(AsyncWrite::poll_shutdown(Pin::new(io), cx))
        }),
        ("tokio seek", |io, cx| {
            number(AsyncSeek::poll_complete(Pin::new(io), cx))
        }),
    ]
}

/// A waker that counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Rings(AtomicUsize);

impl Rings {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn get(&self) -> usize {
        // Relaxed: one thread.
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        // Relaxed: one thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs one poll as an engine would: under this token, with this waker.
pub(crate) fn under<R>(
    token: &CancelToken,
    rings: &Arc<Rings>,
    poll: impl FnOnce(&mut Context<'_>) -> R,
) -> R {
    let before = ambient::replace(Some(token.clone()));
    let waker = Waker::from(Arc::clone(rings));
    let result = poll(&mut Context::from_waker(&waker));
    ambient::replace(before);
    result
}

/// The text of the cause, if this operation failed because it was cancelled.
pub(crate) fn cancelled_text<R>(polled: &Poll<io::Result<R>>) -> Option<&str> {
    let Poll::Ready(Err(error)) = polled else {
        return None;
    };
    assert_eq!(error.kind(), io::ErrorKind::Other);
    Cancelled::find_in(error)?.cause().text()
}
