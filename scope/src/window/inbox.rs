//! The inbox: the one word through which everybody but the owner reaches a scope.
//!
//! It is either a mark or the newest node of a chain linked through `Header::next`. Wakes and spawns push,
//! the owner takes all at once; the same word says whether the window is open, closed, parked or dead, so
//! that every push learns in the same step whom to tell, and "dead" refuses spawns in one step (rule W7).

use std::ptr;

use crate::sync::{AtomicPtr, Ordering};
use crate::task::Header;

/// What a push leaves to its caller. Telling somebody is the last thing a waker does (rule W6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Pushed {
    /// The owner is at work, or has been told.
    Quiet,
    /// The window was closed: the caller wakes the parent.
    Closed,
    /// The owner was parked: the caller rings it.
    Parked,
    /// The scope is over: nothing was pushed.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Inbox(AtomicPtr<Header>);

/// The owner is at work and has seen everything.
const OPEN: *mut Header = ptr::null_mut();

fn closed() -> *mut Header {
    ptr::without_provenance_mut(1)
}

fn parked() -> *mut Header {
    ptr::without_provenance_mut(2)
}

fn dead() -> *mut Header {
    ptr::without_provenance_mut(3)
}

/// A chain that was taken, newest first.
#[derive(Debug)]
pub(crate) struct Chain(*const Header);

impl Chain {
    fn of(word: *mut Header) -> Self {
        Self(if word.addr() > 3 {
            word
        } else {
            ptr::null_mut()
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    /// The next node, which belongs to nobody else from here on.
    pub(crate) fn pop(&mut self) -> Option<*const Header> {
        if self.0.is_null() {
            return None;
        }
        let node = self.0;
        // SAFETY: nodes of a chain are alive: the scope's reference, or the spawn's, is given up only after
        // they were taken out; whoever took the chain owns the links.
        self.0 = unsafe { (*node).next.get() };
        Some(node)
    }
}

impl Inbox {
    /// A scope begins with its window closed.
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(closed()))
    }

    /// # Safety
    /// `node` is alive until it is taken out, and its link is the caller's (it holds the `QUEUED` token).
    pub(crate) unsafe fn push(&self, node: *const Header) -> Pushed {
        // Relaxed: the exchange below checks it.
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now == dead() {
                // Acquire: what the owner did before the end is visible to whoever is refused. A dead word
                // stays dead; a load and not a fence, because ThreadSanitizer understands it.
                self.0.load(Ordering::Acquire);
                return Pushed::Dead;
            }
            let below = if now.addr() > 3 { now } else { ptr::null_mut() };
            // SAFETY: the link is the caller's until the exchange succeeds.
            unsafe { (*node).next.set(below) };
            // AcqRel: releases the node to `take`. SeqCst is not needed to tell a parked or closing owner:
            // it changes this very word, so the two are ordered.
            match self.0.compare_exchange_weak(
                now,
                node.cast_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if now == closed() => return Pushed::Closed,
                Ok(_) if now == parked() => return Pushed::Parked,
                Ok(_) => return Pushed::Quiet,
                Err(other) => now = other,
            }
        }
    }

    /// The owner opens a window and takes what came meanwhile.
    pub(crate) fn open(&self) -> Chain {
        // Acquire: pairs with the Release of `push`; Release: of `close` by another thread's window.
        Chain::of(self.0.swap(OPEN, Ordering::AcqRel))
    }

    /// Takes what came, by the owner or a helper inside an open window.
    #[inline]
    pub(crate) fn take(&self) -> Chain {
        // Relaxed: the exchange below acquires.
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now.addr() <= 3 {
                return Chain(ptr::null());
            }
            // Acquire: pairs with `push`. It replaces a chain only, never a mark that the owner has set.
            match self
                .0
                .compare_exchange(now, OPEN, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Chain::of(now),
                Err(other) => now = other,
            }
        }
    }

    /// Whether something is in it; a hint.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        // Relaxed: a hint; `take` acquires.
        self.0.load(Ordering::Relaxed).addr() > 3
    }

    fn mark(&self, from: *mut Header, to: *mut Header) -> bool {
        // AcqRel: the owner's side of the exchange with `push`: either the push finds the mark and tells
        // the owner or parent, or this fails and the owner finds the push.
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The owner closes the window, unless something came.
    #[must_use]
    pub(crate) fn close(&self) -> bool {
        self.mark(OPEN, closed())
    }

    /// The owner is about to wait for helpers, unless something came.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        self.mark(OPEN, parked())
    }

    /// Whether the owner's mark still stands.
    pub(crate) fn is_parked(&self) -> bool {
        // Relaxed: asked under the monitor's lock, which whoever replaces the mark takes afterwards.
        self.0.load(Ordering::Relaxed) == parked()
    }

    /// The owner goes on; nothing to do if a push has replaced the mark.
    pub(crate) fn unpark(&self) {
        let _ = self.mark(parked(), OPEN);
    }

    /// The owner ends the scope, unless something came.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        self.mark(OPEN, dead())
    }

    /// The scope is dropped: refuses everything from here on and takes what is there.
    pub(crate) fn die(&self) -> Chain {
        // AcqRel: as `take`.
        Chain::of(self.0.swap(dead(), Ordering::AcqRel))
    }

    pub(crate) fn is_dead(&self) -> bool {
        // Acquire: what the owner did before the end is visible to whoever is refused.
        self.0.load(Ordering::Acquire) == dead()
    }
}
