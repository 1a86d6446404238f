//! Intrusive lists of headers: a queue through `Header::next`, and the list of a scope's single cells.
//!
//! Plain cells, no atomics: a list belongs to the owner, to one helper, or to the holder of the monitor's
//! lock. A list holds no reference (rule L5): what keeps a queued task alive is the scope's own reference.

use std::cell::Cell;
use std::ptr;

use super::chunk::links_of;
use super::{Header, Task};

/// A first-in first-out queue of headers.
#[derive(Debug)]
pub(crate) struct List {
    head: Cell<*const Header>,
    tail: Cell<*const Header>,
    len: Cell<usize>,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            head: Cell::new(ptr::null()),
            tail: Cell::new(ptr::null()),
            len: Cell::new(0),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// # Safety
    /// `node` is alive, in no other queue, and this thread may touch both it and the list.
    #[inline]
    pub(crate) unsafe fn push_back(&self, node: *const Header) {
        // SAFETY: the caller owns the node's link while it is in no queue.
        unsafe { (*node).next.set(ptr::null()) };
        let tail = self.tail.replace(node);
        if tail.is_null() {
            self.head.set(node);
        } else {
            // SAFETY: nodes of this list are alive and only the list's holder touches their links.
            unsafe { (*tail).next.set(node) };
        }
        self.len.set(self.len.get() + 1);
    }

    /// # Safety
    /// As for `push_back`.
    #[inline]
    pub(crate) unsafe fn push_front(&self, node: *const Header) {
        let head = self.head.replace(node);
        // SAFETY: the caller owns the node's link while it is in no queue.
        unsafe { (*node).next.set(head) };
        if head.is_null() {
            self.tail.set(node);
        }
        self.len.set(self.len.get() + 1);
    }

    #[inline]
    pub(crate) fn pop_front(&self) -> Option<*const Header> {
        self.pop_front_if(|_| true)
    }

    /// The first node, and what its cost is kept under.
    #[inline]
    pub(crate) fn pop_front_with_key(&self) -> Option<(*const Header, usize)> {
        let key = self.keys().next()?;
        Some((self.pop_front()?, key))
    }

    /// The first node, if there is one and it is as wanted.
    #[inline(always)]
    pub(crate) fn pop_front_if(
        &self,
        wanted: impl FnOnce(&Header) -> bool,
    ) -> Option<*const Header> {
        let node = self.head.get();
        // SAFETY: nodes of this list are alive and only the list's holder touches their links.
        let head = unsafe { node.as_ref() }?;
        if !wanted(head) {
            return None;
        }
        let next = head.next.get();
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null());
        }
        self.len.set(self.len.get() - 1);
        Some(node)
    }

    /// Moves all of `other` behind this list.
    pub(crate) fn append(&self, other: &List) {
        if other.is_empty() {
            return;
        }
        let tail = self.tail.replace(other.tail.replace(ptr::null()));
        let head = other.head.replace(ptr::null());
        if tail.is_null() {
            self.head.set(head);
        } else {
            // SAFETY: nodes of this list are alive and only the list's holder touches their links.
            unsafe { (*tail).next.set(head) };
        }
        self.len.set(self.len.get() + other.len.replace(0));
    }

    /// Moves all of `other` in front of this list.
    pub(crate) fn prepend(&self, other: &List) {
        other.append(self);
        self.append(other);
    }

    /// What the costs of the first nodes are kept under, in their order.
    #[inline]
    pub(crate) fn keys(&self) -> impl Iterator<Item = usize> {
        let mut node = self.head.get();
        std::iter::from_fn(move || {
            // SAFETY: nodes of this list are alive and only the list's holder touches their links.
            let head = unsafe { node.as_ref() }?;
            node = head.next.get();
            Some(head.key())
        })
    }

    /// Moves the first `n` to the back of `other`.
    pub(crate) fn split_to(&self, n: usize, other: &List) {
        if n >= self.len() {
            other.append(self);
            return;
        }
        for _ in 0..n {
            let Some(node) = self.pop_front() else { return };
            // SAFETY: the node has just left this list, and the caller holds both.
            unsafe { other.push_back(node) };
        }
    }
}

/// Neighbours of a single cell in its scope's list; owner only once it is registered.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) prev: Cell<*const Task>,
    pub(crate) next: Cell<*const Task>,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Self {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
        }
    }
}

/// The living children of a scope that are single cells, the newest first; the arena finds the others.
#[derive(Debug)]
pub(crate) struct AllList {
    head: Cell<*const Task>,
}

impl AllList {
    pub(crate) const fn new() -> Self {
        Self {
            head: Cell::new(ptr::null()),
        }
    }

    #[inline]
    pub(crate) fn first(&self) -> *const Task {
        self.head.get()
    }

    /// # Safety
    /// `task` is alive and in no list of tasks; the caller is the owner.
    #[inline]
    pub(crate) unsafe fn link(&self, task: *const Task) {
        let head = self.head.replace(task);
        // SAFETY: the task is alive and only the owner touches its links.
        let links = unsafe { links_of(task) };
        links.prev.set(ptr::null());
        links.next.set(head);
        if !head.is_null() {
            // SAFETY: linked tasks are alive: the scope's reference is given up only after `unlink`.
            unsafe { links_of(head) }.prev.set(task);
        }
    }

    /// # Safety
    /// `task` is in this list; the caller is the owner.
    #[inline]
    pub(crate) unsafe fn unlink(&self, task: *const Task) {
        // SAFETY: the task is alive and only the owner touches its links.
        let links = unsafe { links_of(task) };
        let (prev, next) = (links.prev.get(), links.next.get());
        if prev.is_null() {
            self.head.set(next);
        } else {
            // SAFETY: linked neighbours are alive.
            unsafe { links_of(prev) }.next.set(next);
        }
        if !next.is_null() {
            // SAFETY: linked neighbours are alive.
            unsafe { links_of(next) }.prev.set(prev);
        }
    }
}
