//! Our tokens and those of tokio-util, each made from the other (feature `tokio-util`).
//!
//! A node has at most one *twin* among tokio's tokens and keeps it: what is converted again gives the same one, so
//! that conversions leave nothing behind. Not for waiting on a tokio token: that is `select_safe(token.cancelled())`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::node::{Node, Watch};
use crate::slots::Watcher;
use crate::sync::{Arc, Weak};
use crate::user::{Callback, quietly};
use crate::{CancelToken, Cause, Phase};

/// What our node keeps of tokio's side. Nothing there keeps our node alive.
#[derive(Debug)]
struct Twin {
    token: CancellationToken,
    /// Polled once, and kept because its waker is in tokio's list for as long as it lives.
    _waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Cancels our node when tokio's token wakes it.
#[derive(Debug)]
struct ToOurs(Weak<Node>);

impl Wake for ToOurs {
    fn wake(self: Arc<Self>) {
        if let Some(node) = self.0.upgrade() {
            cancel(&node);
        }
    }
}

/// Cancels tokio's token when our node is cancelled.
#[derive(Debug)]
struct ToTokio(CancellationToken);

impl Callback for ToTokio {
    fn call(&self, _: &Cause) {
        // It wakes whoever waits on tokio's side.
        quietly(|| self.0.cancel());
    }

    fn disarm(&self) {}

    fn is_ours(&self) -> bool {
        true
    }
}

fn cancel(node: &Arc<Node>) {
    node.raise(Phase::Cancelled, Cause::from("tokio token"));
}

/// Makes the two one: whichever is cancelled cancels the other. The answer is the twin the node has then, which is
/// another one if it had one before.
fn link(node: &Arc<Node>, token: CancellationToken) -> CancellationToken {
    let mut waiting = Box::pin(token.clone().cancelled_owned());
    let waker = Waker::from(Arc::new(ToOurs(Arc::downgrade(node))));
    if let Poll::Ready(()) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
        cancel(node);
    }
    let twin = Arc::new(Twin {
        token: token.clone(),
        _waiting: waiting,
    });
    if let Err(earlier) = node.keep(twin) {
        return twin_in(&*earlier).unwrap_or(token);
    }
    // Nobody takes it back: it goes with the node.
    let callback = Arc::new(ToTokio(token.clone()));
    if let Watch::Late = node.watch(Watcher::Callback(callback), Phase::Cancelled) {
        quietly(|| token.cancel());
    }
    token
}

fn twin_in(kept: &(dyn std::any::Any + Send + Sync)) -> Option<CancellationToken> {
    Some(kept.downcast_ref::<Twin>()?.token.clone())
}

/// A token of ours that is cancelled with tokio's, and cancels it.
///
/// It has no parent; its cause, if tokio's token was first, is `Requested` with the text "tokio token". The link
/// needs no task, and ends when the last handle to the new token, and whatever hangs below it, is dropped.
/// Only cancellation passes: `stop` has no counterpart there. Each conversion makes a token of its own.
///
/// # Examples
/// ```
/// use selvedge_cancel::CancelToken;
/// use tokio_util::sync::CancellationToken;
///
/// let theirs = CancellationToken::new();
/// let ours = CancelToken::from(theirs.clone());
/// theirs.cancel();
/// assert_eq!(ours.cause().unwrap().text(), Some("tokio token"));
/// ```
impl From<CancellationToken> for CancelToken {
    fn from(theirs: CancellationToken) -> Self {
        let ours = Self::new();
        link(ours.node(), theirs);
        ours
    }
}

/// A tokio token that is cancelled with ours, and cancels it.
///
/// All conversions of one token of ours give clones of one tokio token; one that was made from a tokio token
/// gives that one back. The link needs no task, and lives as long as ours does, by another handle or by a scope: so
/// convert a clone, and keep the token. `token.child().into()` makes a tokio token that nothing of ours cancels.
///
/// # Examples
/// ```
/// use selvedge_cancel::CancelToken;
/// use tokio_util::sync::CancellationToken;
///
/// let ours = CancelToken::new();
/// let theirs = CancellationToken::from(ours.clone());
/// ours.cancel();
/// assert!(theirs.is_cancelled());
/// ```
impl From<CancelToken> for CancellationToken {
    fn from(ours: CancelToken) -> Self {
        let kept = ours.node().kept();
        let twin = kept.and_then(|kept| twin_in(&*kept));
        twin.unwrap_or_else(|| link(ours.node(), Self::new()))
    }
}

#[cfg(all(test, not(selvedge_loom)))]
mod tests {
    use super::{Arc, CancelToken, CancellationToken};

    #[test]
    fn converted_and_dropped_tokens_leave_no_node_behind() {
        let theirs = CancellationToken::new();
        let nodes: Vec<_> = (0..1000)
            .map(|_| Arc::downgrade(CancelToken::from(theirs.clone()).node()))
            .collect();
        assert!(nodes.iter().all(|node| node.strong_count() == 0));
        let ours = CancelToken::new();
        let node = Arc::downgrade(ours.node());
        let twin = CancellationToken::from(ours.clone());
        assert_eq!(node.strong_count(), 1, "tokio's side holds none");
        drop(ours);
        assert_eq!(node.strong_count(), 0);
        drop(twin);
    }
}
