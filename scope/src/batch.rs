//! A fixed set of like futures run to their end: what `join_all` and the lanes of `par` stand on.
//! Not for children of different types: those go through a scope.

use std::borrow::Cow;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use selvedge_cancel::CancelToken;

use crate::pool::Pool;
use crate::window::{BatchEngine, Hint};

pin_project! {
    /// Runs a set of like futures as the children of one window.
    ///
    /// If one panics, the others are asked to stop, all are awaited, and the first payload is raised.
    #[doc(hidden)]
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Batch<F: Future> {
        #[pin]
        engine: BatchEngine<F>,
    }
}

impl<F: Future<Output: Send> + Send> Batch<F> {
    /// Takes the futures; nothing runs before the first poll.
    #[track_caller]
    pub fn new(futures: impl IntoIterator<Item = F>) -> Self {
        Self::at(Location::caller(), futures)
    }

    /// As [`new`](Self::new), for a call at this place.
    pub fn at(place: &'static Location<'static>, futures: impl IntoIterator<Item = F>) -> Self {
        Self {
            engine: BatchEngine::new(futures, place),
        }
    }
}

impl<F: Future> Batch<F> {
    /// Lends to this pool instead of the global one. The first pool given stays.
    pub fn on(self, pool: &Pool) -> Self {
        self.engine.settings().pool.set(pool);
        self
    }

    /// Polls everything on the thread that polls the batch.
    pub fn inline(self) -> Self {
        self.engine.settings().said.inline();
        self
    }

    /// Its polls are long.
    pub fn heavy(self) -> Self {
        self.engine.settings().said.hint(Hint::Heavy);
        self
    }

    /// Its polls are short.
    pub fn cheap(self) -> Self {
        self.engine.settings().said.hint(Hint::Cheap);
        self
    }

    /// Names the batch. The first name stays.
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Self {
        let _ = self.engine.settings().name.set(name.into());
        self
    }

    /// The token its children run under.
    pub fn token(&self) -> CancelToken {
        self.engine.token()
    }
}

impl<F: Future<Output: Send> + Send> Future for Batch<F> {
    type Output = Vec<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(self.project().engine.poll(cx)) {
            Ok(outputs) => Poll::Ready(outputs),
            Err(payload) => resume_unwind(payload),
        }
    }
}
