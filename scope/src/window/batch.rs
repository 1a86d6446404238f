//! The engine of a batch: like futures in one allocation, 32 bytes beside each, no handles and no body.

use std::alloc::Layout;
use std::future::Future;
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use selvedge_cancel::CancelToken;

use super::core::{Core, Settings};
use super::core_ref::CoreRef;
use super::engine::{Ambient, drop_child, raise};
use super::owner::{Body, Run, Turn, Window};
use super::policy;
use super::step::{Side, Stepped, step_by};
use crate::task::{BatchCell, BatchChunk, Ended, Header, Payload, quietly};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Running,
    Over,
}

/// Runs a fixed number of futures of one type.
pub(crate) struct BatchEngine<F: Future> {
    core: CoreRef,
    chunk: *const BatchChunk,
    len: usize,
    stage: Stage,
    /// Slots polled for the first time, or queued for it.
    started: usize,
    /// The outputs of the first so many slots, once they are there.
    outputs: Vec<F::Output>,
    token: Option<CancelToken>,
    futures: std::marker::PhantomData<F>,
    _pin: PhantomPinned,
}

// SAFETY: the engine owns futures and outputs of one type and shares nothing but a `Core`.
unsafe impl<F: Future<Output: Send> + Send> Send for BatchEngine<F> {}
// SAFETY: `&BatchEngine` reaches neither futures nor outputs.
unsafe impl<F: Future> Sync for BatchEngine<F> {}

/// Polls the futures of a batch for the first time, in order and straight from their slots, as long as
/// they are not worth lending; what is left then goes to the ready list. It plays the part of a body.
struct Starter<'a, F: Future> {
    chunk: *const BatchChunk,
    len: usize,
    started: &'a mut usize,
    outputs: &'a mut Vec<F::Output>,
    /// Slots that ended in the present stretch and are not counted off yet.
    ended: usize,
}

/// First polls between two looks at the clock.
const STRETCH: usize = 32;

impl<F: Future> Starter<'_, F> {
    fn slot(&self, index: usize) -> *const Header {
        // SAFETY: `len` slots were written, and the chunk lives until `retire`.
        unsafe { BatchChunk::slot(self.chunk, index) }
    }

    /// # Safety
    /// The slot was not started, and this thread is the owner in an open window of `core`.
    #[inline]
    unsafe fn start(&mut self, core: &Core, index: usize) {
        let header = self.slot(index);
        // SAFETY: a slot that was not started holds its token; the poll is that of its type.
        match unsafe { step_by(header, BatchCell::<F>::poll, Side::Owner) } {
            Stepped::Idle => {}
            // SAFETY: the token is ours, so the slot is in no queue.
            Stepped::Again => unsafe { core.owner.local.push_back(header) },
            Stepped::Ended(Ended::Value) if self.outputs.len() == index => {
                // SAFETY: it was written just now.
                self.outputs.push(unsafe { BatchCell::<F>::output(header) });
                // SAFETY: the scope's reference keeps the slot.
                let head = unsafe { &*header };
                head.word.finish(Ended::Dropped);
                let held = !head.life.release();
                let survivors = &core.owner.survivors;
                survivors.set(survivors.get() + usize::from(held));
                self.ended += 1;
            }
            // SAFETY: it has just ended.
            Stepped::Ended(ended) => unsafe { core.end_here(header, ended) },
        }
    }

    /// Leaves the rest to the window.
    fn queue_rest(&mut self, core: &Core) {
        for index in *self.started..self.len {
            // SAFETY: a slot that was not started is in no queue.
            unsafe { core.owner.local.push_back(self.slot(index)) };
        }
        *self.started = self.len;
    }
}

impl<F: Future> Body for Starter<'_, F> {
    fn key(&self) -> Option<usize> {
        None
    }

    fn poll(&mut self, core: &Core) -> Turn {
        let left = self.len - *self.started;
        let none = Turn {
            ended: true,
            polls: 0,
            looked: None,
        };
        if left == 0 {
            return none;
        }
        // SAFETY: the slot is not retired before it was started.
        let key = unsafe { &*self.slot(*self.started) }.key();
        let known = policy::estimate(key);
        if core.may_lend_now(known, left) {
            self.queue_rest(core);
            return none;
        }
        let stretch = match known {
            0 => 1,
            cost if cost >= policy::BIG => 1,
            cost if cost >= policy::HEAVY => 8,
            _ => STRETCH,
        };
        let polls = stretch.min(left);
        let from = Instant::now();
        for _ in 0..polls {
            let index = *self.started;
            *self.started += 1;
            // SAFETY: it was counted as started just now, by the owner.
            unsafe { self.start(core, index) };
        }
        core.set_live(core.live() - std::mem::take(&mut self.ended));
        let until = Instant::now();
        policy::learn_stretch(key, polls, from, until);
        let ended = *self.started == self.len;
        if !ended {
            // They are ready since the beginning, before whoever has been polled and woke itself.
            core.owner.turns.body_woken(0);
        }
        Turn {
            ended,
            polls: u32::try_from(polls).unwrap_or(u32::MAX),
            looked: Some((from, until)),
        }
    }
}

impl<F: Future> BatchEngine<F> {
    pub(crate) fn new(
        futures: impl IntoIterator<Item = F>,
        place: &'static Location<'static>,
    ) -> Self {
        let core = Core::make(place, true);
        let token = Some(core.token.clone());
        let mut engine = Self {
            core,
            chunk: std::ptr::null(),
            len: 0,
            stage: Stage::Fresh,
            started: 0,
            outputs: Vec::new(),
            token,
            futures: std::marker::PhantomData,
            _pin: PhantomPinned,
        };
        let iter = futures.into_iter();
        match iter.size_hint() {
            (least, Some(most)) if least == most => engine.fill(iter, most),
            _ => engine.refill(iter.collect()),
        }
        engine
    }

    /// Takes up to `room` futures, which the iterator was said to have.
    fn fill(&mut self, iter: impl Iterator<Item = F>, room: usize) {
        self.chunk = BatchChunk::make(&self.core, Layout::new::<BatchCell<F>>(), room);
        self.core.batch.set(self.chunk);
        let mut iter = iter;
        // One that panics leaves a shorter batch.
        while self.len < room {
            let Some(future) = iter.next() else { break };
            let header = Header::new(self.core.as_ptr(), const { &BatchCell::<F>::VTABLE }, false);
            // SAFETY: the chunk has room for this slot.
            let slot = unsafe { BatchChunk::slot(self.chunk, self.len) };
            // SAFETY: the slot has the cell's layout and nobody has seen it.
            unsafe { BatchCell::write(slot.cast_mut().cast(), header, future) };
            self.len += 1;
            // At once: if `next` panics, `Drop` retires what is there.
            self.core.set_live(self.len);
            self.core.slots.set(self.len);
        }
        let mut more = iter.peekable();
        if more.peek().is_some() {
            // It had more than it said.
            let mut all = self.take_back();
            all.extend(more);
            self.refill(all);
        }
    }

    fn refill(&mut self, all: Vec<F>) {
        let len = all.len();
        self.fill(all.into_iter(), len);
    }

    /// Moves all futures out again, before the first poll, and gives the slots back.
    fn take_back(&mut self) -> Vec<F> {
        let mut all = Vec::with_capacity(self.len);
        for index in 0..std::mem::take(&mut self.len) {
            // SAFETY: the slot was written.
            let slot = unsafe { BatchChunk::slot(self.chunk, index) };
            // SAFETY: it was never polled, and its chunk is given back below.
            all.push(unsafe { BatchCell::<F>::take_back(slot) });
        }
        self.core.set_live(0);
        self.core.slots.set(0);
        let chunk = std::mem::replace(&mut self.chunk, std::ptr::null());
        // SAFETY: every slot is empty, and no waker of one exists.
        unsafe { BatchChunk::retire(chunk, 0) };
        all
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// The token its futures run under, for somebody who may cancel it.
    pub(crate) fn token(&self) -> CancelToken {
        self.core.expose();
        self.core.token.clone()
    }

    fn slot(&self, index: usize) -> *const Header {
        debug_assert!(index < self.len, "slots of a batch are counted");
        // SAFETY: `len` slots were written, and the chunk lives until `retire`.
        unsafe { BatchChunk::slot(self.chunk, index) }
    }

    /// Runs the batch. `Ready`: every output in order, or the first payload.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<F::Output>, Payload>> {
        // SAFETY: nothing in the engine is pinned structurally; the cells lie elsewhere.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(
            this.stage != Stage::Over,
            "a batch was polled after it had ended"
        );
        if this.stage == Stage::Fresh {
            this.core.begin();
            this.outputs.reserve_exact(this.len);
            this.stage = Stage::Running;
        }
        this.core.parent.register(cx.waker());
        let ambient = Ambient::enter(&this.core, &mut this.token);
        let mut window = Window::open(&this.core);
        let mut starter: Starter<'_, F> = Starter {
            chunk: this.chunk,
            len: this.len,
            started: &mut this.started,
            outputs: &mut this.outputs,
            ended: 0,
        };
        let run = window.run(cx, &mut starter);
        drop(window);
        drop(ambient);
        if run == Run::Rest {
            return Poll::Pending;
        }
        this.stage = Stage::Over;
        Poll::Ready(this.finish())
    }

    /// Everything has ended: moves the outputs out and gives the memory back.
    fn finish(&mut self) -> Result<Vec<F::Output>, Payload> {
        let panic = self.core.finish_panics();
        let mut outputs = std::mem::take(&mut self.outputs);
        for index in outputs.len()..self.len {
            let header = self.slot(index);
            // SAFETY: the slot is the batch's until it is retired.
            if unsafe { &*header }.word.ended() != Some(Ended::Value) {
                continue;
            }
            // SAFETY: it was written and is read once.
            let output = unsafe { BatchCell::<F>::output(header) };
            if panic.is_some() {
                quietly(|| drop(output));
            } else {
                outputs.push(output);
            }
        }
        if panic.is_some() {
            for output in std::mem::take(&mut outputs) {
                quietly(|| drop(output));
            }
        }
        self.give_back();
        panic.map_or(Ok(outputs), Err)
    }

    fn give_back(&mut self) {
        self.core.finish();
        self.core.slots.set(0);
        let chunk = std::mem::replace(&mut self.chunk, std::ptr::null());
        self.len = 0;
        if !chunk.is_null() {
            // SAFETY: every slot was let go of, by `Core::retire`, which counted the survivors.
            unsafe { BatchChunk::retire(chunk, self.core.owner.survivors.get()) };
        }
    }
}

impl<F: Future> Drop for BatchEngine<F> {
    fn drop(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.core.begin_dying();
        self.core.sort(self.core.inbox.die());
        // What an earlier window has left, should it have unwound.
        quietly(|| self.core.retire_done());
        // In reverse order of construction, like a scope's children.
        for index in (0..self.len).rev() {
            let header = self.slot(index);
            // SAFETY: the slot is the batch's until it is retired.
            match unsafe { (*header).word.ended() } {
                None => {
                    // SAFETY: the future lives, and between polls nobody polls it.
                    unsafe { drop_child(&self.core, header) };
                    // SAFETY: it has ended just now.
                    unsafe { self.core.retire(header) };
                }
                Some(Ended::Value) => {
                    // SAFETY: the output was written and not taken.
                    if let Some(payload) = unsafe { Header::drop_output(header) } {
                        self.core.panicked(header, payload);
                    }
                }
                Some(_) => {}
            }
        }
        for output in std::mem::take(&mut self.outputs).into_iter().rev() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(output))) {
                self.core.panicked(&raw const self.core.body, payload);
            }
        }
        let panic = self.core.finish_panics();
        self.give_back();
        raise(panic);
    }
}

impl<F: Future> std::fmt::Debug for BatchEngine<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len)
            .field("stage", &self.stage)
            .finish()
    }
}
