//! `fut.or_cancel()`: a foreign future, which knows nothing of our cancellation, made to end with
//! the current token, by dropping it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::ambient::{self, Look};
use crate::fine_drop::FineDrop;
use crate::{Cancelled, SelectSafe, Watch};

/// Adds [`or_cancel`](FutureCancelExt::or_cancel) to every future.
pub trait FutureCancelExt: Future + Sized {
    /// Waits for this future or for the cancellation of the current token, whichever is first.
    ///
    /// A cancellation **drops the future where it stands**; whoever writes this says that this
    /// is fine. The token is the one that is current at each poll. A future that is ready
    /// when it is polled again gives its value, cancelled or not; one that was not begun before
    /// the cancellation is never polled.
    ///
    /// # Examples
    /// ```
    /// use selvedge_cancel::{CancelToken, FutureCancelExt, ambient};
    /// use std::future::{Future, pending};
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    ///
    /// let token = CancelToken::new();
    /// ambient::replace(Some(token.clone()));
    /// let mut wait = pin!(pending::<()>().or_cancel());
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert!(wait.as_mut().poll(&mut cx).is_pending());
    /// token.cancel();
    /// assert!(matches!(wait.poll(&mut cx), Poll::Ready(Err(_))));
    /// ```
    ///
    /// # Errors
    /// [`Cancelled`], if the cancellation came first.
    ///
    /// # Cancel safety
    /// Dropping it drops the future inside, as a cancellation would.
    fn or_cancel(self) -> OrCancel<Self> {
        OrCancel {
            future: Some(self),
            watch: Watch::new(),
            begun: false,
        }
    }
}

impl<F: Future> FutureCancelExt for F {}

pin_project! {
    /// A future or the cancellation of the current token; from
    /// [`or_cancel`](FutureCancelExt::or_cancel).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct OrCancel<F> {
        #[pin]
        future: Option<F>,
        watch: Watch,
        begun: bool,
    }

    impl<F> PinnedDrop for OrCancel<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Looked at through the projection: a shared reference to the whole future would end its borrows of itself.
            if this.future.as_mut().as_pin_mut().is_some() {
                // Whoever wrote it said that this is fine: nothing to report.
                let _fine = FineDrop::begin();
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for OrCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut carried = false;
        if !std::mem::replace(this.begun, true) {
            match ambient::look(cx.waker()) {
                Look::Cancelled => {
                    if let Err(cancelled) = ambient::check() {
                        let _fine = FineDrop::begin();
                        clear(this.future.as_mut());
                        return Poll::Ready(Err(cancelled));
                    }
                }
                found => carried = found == Look::Carried,
            }
        }
        let future = this.future.as_mut().as_pin_mut();
        let polled = future
            .expect("`OrCancel` polled after it was ready")
            .poll(cx);
        if let Poll::Ready(value) = polled {
            this.watch.clear();
            clear(this.future.as_mut());
            return Poll::Ready(Ok(value));
        }
        if carried {
            // A cancellation that came during this very poll has us polled again.
            return Poll::Pending;
        }
        this.watch.poll(cx).map(|cancelled| {
            let _fine = FineDrop::begin();
            clear(this.future.as_mut());
            Err(cancelled)
        })
    }
}

/// Drops the future in place. Apart from its poll, whose frame would have room for a second one.
fn clear<F>(mut future: Pin<&mut Option<F>>) {
    future.set(None);
}

impl<F: Future> SelectSafe for OrCancel<F> {}
