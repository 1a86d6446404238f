//! The futures that look at a token: `WaitCancelled` and `Stopping`, which wait for a phase, and
//! `Checkpoint`, which lets others run and then asks whether to go on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::node::Watch;
use crate::slots::{NOWHERE, Watcher};
use crate::{CancelToken, Cancelled, Cause, Phase, SelectSafe, ambient};

/// A place in the list of a token, for a phase, and the way in and out.
#[derive(Debug)]
struct Entry {
    token: CancelToken,
    from: Phase,
    /// Our position among the watchers, or `NOWHERE`.
    at: u32,
}

impl Entry {
    const fn new(token: CancelToken, from: Phase) -> Self {
        Self {
            token,
            from,
            at: NOWHERE,
        }
    }

    /// Asks, and makes sure that the waker is in the list before the answer is no.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl Fn(&CancelToken) -> Option<T>,
    ) -> Poll<T> {
        if let Some(answer) = ask(&self.token) {
            self.leave();
            return Poll::Ready(answer);
        }
        if self.at == NOWHERE {
            let watcher = Watcher::Waker(self.from, cx.waker().clone());
            match self.token.node().watch(watcher, self.from) {
                Watch::At(at) => self.at = at,
                Watch::Late => {}
                Watch::Never => return Poll::Pending,
            }
        } else if self.token.node().rewatch(self.at, cx.waker()) {
            return Poll::Pending;
        }
        // We entered the list now, or a request has just emptied it: it may have come before our
        // waker was there.
        match ask(&self.token) {
            Some(answer) => {
                self.leave();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    /// Leaves the list; the next poll enters it again.
    fn leave(&mut self) {
        let at = std::mem::replace(&mut self.at, NOWHERE);
        if at != NOWHERE {
            self.token.node().let_go(at);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until a token is cancelled; from [`CancelToken::cancelled`] and
/// [`cancelled`](crate::cancelled).
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct WaitCancelled(Entry);

impl WaitCancelled {
    pub(crate) const fn new(token: CancelToken) -> Self {
        Self(Entry::new(token, Phase::Cancelled))
    }

    pub(crate) const fn token(&self) -> &CancelToken {
        &self.0.token
    }
}

impl Future for WaitCancelled {
    type Output = Cause;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        self.0.poll(cx, CancelToken::cause)
    }
}

impl SelectSafe for WaitCancelled {}

/// Waits until a token is to come to an end, gracefully or not; from [`CancelToken::stopping`] and
/// [`stopping`](crate::stopping).
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug)]
pub struct Stopping(Entry);

impl Stopping {
    pub(crate) const fn new(token: CancelToken) -> Self {
        Self(Entry::new(token, Phase::Stopping))
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx, |token| token.is_stopping().then_some(()))
    }
}

impl SelectSafe for Stopping {}

/// A point at which a long computation lets others run and may be cancelled; from
/// [`checkpoint`](crate::checkpoint).
///
/// Polled again after it has failed, it fails again. Polled again after it was over, it asks again whether to go on,
/// without another pause.
///
/// # Cancel safety
/// Nothing is lost by dropping it.
#[must_use = "futures do nothing unless polled"]
#[derive(Debug, Default)]
pub struct Checkpoint {
    pause: Pause,
}

#[derive(Debug, Default)]
enum Pause {
    #[default]
    Ahead,
    Made,
    /// It was cancelled. The cause alone: a `Cancelled` that is kept would count as one that lives.
    Failed(Cause),
}

impl Checkpoint {
    pub(crate) const fn new() -> Self {
        Self {
            pause: Pause::Ahead,
        }
    }
}

impl Future for Checkpoint {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Pause::Failed(cause) = &self.pause {
            return Poll::Ready(Err(Cancelled::new(cause.clone())));
        }
        if let Err(cancelled) = ambient::check() {
            self.pause = Pause::Failed(cancelled.cause().clone());
            return Poll::Ready(Err(cancelled));
        }
        match std::mem::replace(&mut self.pause, Pause::Made) {
            Pause::Made => Poll::Ready(Ok(())),
            Pause::Ahead | Pause::Failed(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl SelectSafe for Checkpoint {}
