//! The engine of a batch: like futures in one allocation, 32 bytes beside each, no handles and no body.

use std::alloc::Layout;
use std::future::Future;
use std::marker::PhantomPinned;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_cancel::{CancelToken, ambient};

use super::core::{Core, CoreRef, Settings};
use super::engine::{drop_child, raise};
use super::owner::{Body, Window};
use crate::task::{BatchCell, BatchChunk, Ended, Header, Payload, place, quietly};

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
    token: Option<CancelToken>,
    futures: std::marker::PhantomData<F>,
    _pin: PhantomPinned,
}

// SAFETY: the engine owns futures and outputs of one type and shares nothing but a `Core`.
unsafe impl<F: Future<Output: Send> + Send> Send for BatchEngine<F> {}
// SAFETY: `&BatchEngine` reaches neither futures nor outputs.
unsafe impl<F: Future> Sync for BatchEngine<F> {}

/// A batch has no body.
struct NoBody;

impl Body for NoBody {
    fn poll(&mut self, _: &Core) -> bool {
        true
    }
}

impl<F: Future> BatchEngine<F> {
    pub(crate) fn new(
        futures: impl IntoIterator<Item = F>,
        place: &'static Location<'static>,
    ) -> Self {
        let core = Core::make(place, false);
        let token = Some(core.token.clone());
        let mut engine = Self {
            core,
            chunk: std::ptr::null(),
            len: 0,
            stage: Stage::Fresh,
            token,
            futures: std::marker::PhantomData,
            _pin: PhantomPinned,
        };
        let iter = futures.into_iter();
        match iter.size_hint() {
            (least, Some(most)) if least == most => engine.fill(iter, most),
            _ => {
                let all: Vec<F> = iter.collect();
                let len = all.len();
                engine.fill(all.into_iter(), len);
            }
        }
        engine
    }

    /// Takes up to `room` futures, which the iterator was said to have.
    fn fill(&mut self, mut iter: impl Iterator<Item = F>, room: usize) {
        self.chunk = BatchChunk::make(&self.core, Layout::new::<BatchCell<F>>(), room);
        self.core.batch.set(self.chunk);
        let mut before: Option<*const Header> = None;
        // An iterator that lies about its length is cut off; one that panics leaves a shorter batch.
        while self.len < room {
            let Some(future) = iter.next() else { break };
            let header = Header::new(
                &raw const *self.core,
                const { &BatchCell::<F>::VTABLE },
                false,
            );
            // SAFETY: the chunk has room for this slot.
            let slot = unsafe { BatchChunk::slot(self.chunk, self.len) };
            // SAFETY: the slot has the cell's layout and nobody has seen it.
            unsafe { BatchCell::write(slot.cast_mut().cast(), header, future) };
            if let Some(before) = before.replace(slot) {
                // SAFETY: both slots are written and in no queue.
                unsafe { &*before }.next.set(slot);
            }
            self.len += 1;
            // At once: if `next` panics, `Drop` retires what is there.
            self.core.set_live(self.len);
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.core.settings
    }

    pub(crate) fn token(&self) -> &CancelToken {
        &self.core.token
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
        assert!(
            self.stage != Stage::Over,
            "a batch was polled after it had ended"
        );
        // SAFETY: nothing in the engine is pinned structurally; the cells lie elsewhere.
        let this = unsafe { self.get_unchecked_mut() };
        if this.stage == Stage::Fresh {
            if let Some(outer) = ambient::token() {
                this.core.token.attach_to(&outer);
            }
            if this.len > 0 {
                let (head, tail) = (this.slot(0), this.slot(this.len - 1));
                // SAFETY: `fill` has linked the slots, which are in no queue.
                unsafe { this.core.owner.local.install(head, tail, this.len) };
            }
            this.stage = Stage::Running;
        }
        this.core.parent.register(cx.waker());
        let outer = ambient::replace(this.token.take());
        let mut window = Window::open(&this.core);
        let ended = window.run(cx, &mut NoBody);
        drop(window);
        this.token = ambient::replace(outer);
        if ended.is_pending() {
            return Poll::Pending;
        }
        this.stage = Stage::Over;
        Poll::Ready(this.finish())
    }

    /// Everything has ended: moves the outputs out and gives the memory back.
    fn finish(&mut self) -> Result<Vec<F::Output>, Payload> {
        let panic = self.core.finish_panics();
        let mut outputs = Vec::with_capacity(if panic.is_some() { 0 } else { self.len });
        for index in 0..self.len {
            let header = self.slot(index);
            // SAFETY: the slot is the batch's until it is retired.
            if unsafe { (*header).word.ended() } != Some(Ended::Value) {
                continue;
            }
            // SAFETY: the output lies at this offset of the cell.
            let output = unsafe { place::<F::Output>(header, BatchCell::<F>::VTABLE.output) };
            // SAFETY: it was written and is read once.
            let output = unsafe { output.read() };
            if panic.is_some() {
                quietly(|| drop(output));
            } else {
                outputs.push(output);
            }
        }
        self.give_back();
        panic.map_or(Ok(outputs), Err)
    }

    fn give_back(&mut self) {
        self.core.parent.clear();
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
