//! The engine of a batch: like futures in one slab, which wakers do not keep; no handles and no body.

use std::future::Future;
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};
use std::time::Instant;

use selvedge_cancel::CancelToken;

use super::circle;
use super::core::Core;
use super::core_ref::CoreRef;
use super::engine::{Ambient, drop_child, raise};
use super::here;
use super::owner::{Body, Run, Turn, Window};
use super::policy;
use super::settings::Settings;
use super::step::{Side, Stepped, step_by};
use crate::task::{BatchCell, Ended, Header, Holds, List, Payload, Slab, quietly};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Running,
    Over,
}

/// Runs a fixed number of futures of one type.
pub(crate) struct BatchEngine<F: Future> {
    /// As a scope has it.
    token: Option<CancelToken>,
    core: CoreRef,
    slab: Slab<F>,
    /// Slots that were filled.
    len: usize,
    stage: Stage,
    /// Slots polled for the first time, or queued for it.
    started: usize,
    /// The outputs of the first so many slots, once they are there.
    outputs: Vec<F::Output>,
    _pin: PhantomPinned,
}

// SAFETY: the engine owns futures and outputs of one type and shares nothing but a `Core`.
unsafe impl<F: Future<Output: Send> + Send> Send for BatchEngine<F> {}
// SAFETY: `&BatchEngine` reaches neither futures nor outputs.
unsafe impl<F: Future> Sync for BatchEngine<F> {}

/// Polls the futures of a batch for the first time, in order and straight from their slots, each in a seat that the next one has again, as long as
/// they are not worth lending; what is left then goes to the ready list. It plays the part of a body.
struct Starter<'a, F: Future> {
    slab: &'a Slab<F>,
    len: usize,
    started: &'a mut usize,
    outputs: &'a mut Vec<F::Output>,
    /// The next stretch is no longer: in each window they begin short, lest a kind that was cheap has become heavy.
    ramp: usize,
    /// Slots that ended in the present stretch and are not counted off yet.
    ended: usize,
    /// A seat for the next one, which nobody else refers to; null if there is none.
    spare: *const Header,
}

/// First polls between two looks at the clock.
const STRETCH: usize = 32;
/// The same at first in a window.
const STRETCH_FIRST: usize = 4;
/// So many seats at a time that futures are queued in which were not polled yet: more than helpers can get
/// through before the owner queues the next, and few enough that their chunks are kept from batch to batch.
const SEATED: usize = 16 << 10;

impl<F: Future> Starter<'_, F> {
    /// # Safety
    /// The slot was not started, and this thread is the owner in an open window of `core`.
    #[inline]
    unsafe fn start(&mut self, core: &Core, index: usize) {
        let header = match std::mem::replace(&mut self.spare, ptr::null()) {
            // SAFETY: a slot that was not started has no seat; the engine keeps the slab while there are any.
            spare if spare.is_null() => unsafe { self.slab.seat(core, index) },
            spare => {
                // SAFETY: as above; the spare seat is nobody's.
                unsafe { self.slab.seat_again(spare, index) };
                spare
            }
        };
        // SAFETY: a seat that was not started holds its token; the poll is that of its type.
        match unsafe { step_by(header, BatchCell::<F>::poll, Side::Owner) } {
            // SAFETY: it sits there.
            Stepped::Idle => unsafe { self.slab.note_seat(header, index) },
            Stepped::Again => {
                core.owner.came_back.set(true);
                // SAFETY: it sits there.
                unsafe { self.slab.note_seat(header, index) };
                // SAFETY: the token is ours, so the seat is in no queue.
                unsafe { core.owner.local.push_back(header) };
            }
            Stepped::Ended(Ended::Value) if self.outputs.len() == index => {
                // SAFETY: it was written just now.
                self.outputs.push(unsafe { self.slab.take_output(index) });
                // SAFETY: the scope's reference keeps the seat.
                let head = unsafe { &*header };
                if head.life.is_last() {
                    self.spare = header;
                } else {
                    head.word.finish(Ended::Dropped);
                    if head.life.release() {
                        // SAFETY: nothing refers to the seat, and this thread is the owner.
                        unsafe { core.owner.arena.take_in(header) };
                    }
                }
                self.ended += 1;
            }
            // SAFETY: it has just ended.
            Stepped::Ended(ended) => unsafe { core.end_here(header, ended) },
        }
    }

    /// Leaves the rest to the window, or as much of it as there shall be seats at a time, before those who have been polled and
    /// woke themselves; `true`: all of it.
    fn queue_rest(&mut self, core: &Core) -> bool {
        let left = self.len - *self.started;
        let seated = core.live() - left;
        let most = SEATED.saturating_sub(seated).max(STRETCH).min(left);
        let seats = List::new();
        for _ in 0..most {
            // SAFETY: a slot that was not started has no seat; the engine keeps the slab while there are any.
            let header = unsafe { self.slab.seat(core, *self.started) };
            // SAFETY: it sits there.
            unsafe { self.slab.note_seat(header, *self.started) };
            *self.started += 1;
            // SAFETY: a new seat is in no queue.
            unsafe { seats.push_back(header) };
        }
        core.owner.local.prepend(&seats);
        if most < left {
            // The next ones come behind these, and before whoever wakes itself, too.
            core.owner.turns.body_woken(most);
        }
        most == left
    }
}

impl<F: Future> Body for Starter<'_, F> {
    fn key(&self) -> Option<usize> {
        None
    }

    fn next_key(&self, _: &Core) -> usize {
        BatchCell::<F>::fresh_key()
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
        let key = BatchCell::<F>::fresh_key();
        let known = policy::estimate(key);
        if core.may_lend_now(known, left) {
            let ended = self.queue_rest(core);
            return Turn { ended, ..none };
        }
        let stretch = match known {
            0 => 1,
            cost if cost >= policy::BIG => 1,
            _ if policy::has_surprised(key) => STRETCH_FIRST,
            cost if cost >= policy::HEAVY => 8,
            _ => STRETCH,
        };
        let polls = stretch.min(self.ramp).min(left);
        if left > 1 {
            // They are ready since the beginning, before whoever has been polled and woke itself; and a window that
            // is opened by the one polled now is to see that somebody waits.
            core.owner.turns.body_woken(0);
        }
        let from = Instant::now();
        for _ in 0..polls {
            let index = *self.started;
            *self.started += 1;
            // SAFETY: it was counted as started just now, by the owner.
            unsafe { self.start(core, index) };
        }
        core.set_live(core.live() - std::mem::take(&mut self.ended));
        let spare = std::mem::replace(&mut self.spare, ptr::null());
        if !spare.is_null() {
            // SAFETY: the seat is ours.
            unsafe { &*spare }.word.finish(Ended::Dropped);
            // SAFETY: nothing refers to the seat, and this thread is the owner.
            unsafe { core.owner.arena.take_in(spare) };
        }
        let until = Instant::now();
        let believed = policy::learn_stretch(key, polls, from, until);
        self.ramp = if believed {
            STRETCH.min(self.ramp * 2)
        } else {
            1
        };
        let ended = *self.started == self.len;
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
        let core = Core::make(place);
        let token = Some(core.token.clone());
        let mut engine = Self {
            core,
            slab: Slab::new(0),
            len: 0,
            stage: Stage::Fresh,
            started: 0,
            outputs: Vec::new(),
            token,
            _pin: PhantomPinned,
        };
        let mut iter = futures.into_iter();
        match iter.size_hint() {
            (least, Some(most)) if least == most => engine.fill(&mut iter, most),
            _ => engine.collect(&mut iter),
        }
        engine
    }

    /// Takes up to `room` futures, which the iterator was said to have.
    fn fill(&mut self, iter: &mut impl Iterator<Item = F>, room: usize) {
        self.slab = Slab::new(room);
        self.core.owner.arena.expect_seats(room);
        // One that panics leaves a shorter batch.
        while self.len < room && self.fill_one(iter) {}
        if self.len == room {
            self.fill_more(iter);
        }
    }

    /// Moves one future from the iterator to its slot; `false`: there is none.
    fn fill_one(&mut self, iter: &mut impl Iterator<Item = F>) -> bool {
        // No pattern takes the future out of here: each would be a copy on the stack.
        let mut next = iter.next();
        if next.is_none() {
            return false;
        }
        // SAFETY: the caller has seen to it that there is room for this slot, which is empty, and nobody has seen
        // the slab.
        let vacancy = unsafe { self.slab.vacancy(self.len) };
        // SAFETY: the vacancy has room for the future, which is there.
        unsafe { move_out(&mut next, vacancy) };
        self.len += 1;
        // At once: if `next` panics, `Drop` drops what is there.
        self.core.set_live(self.len);
        true
    }

    /// Should the iterator have more than it said: all of them.
    fn fill_more(&mut self, iter: &mut impl Iterator<Item = F>) {
        if let Some(one) = iter.next() {
            let mut all = Gathered(self.take_back());
            all.0.push(one);
            all.0.extend(iter);
            self.refill(all);
        }
    }

    fn collect(&mut self, iter: &mut impl Iterator<Item = F>) {
        let mut gathered = Gathered(Vec::<F>::with_capacity(iter.size_hint().0));
        loop {
            let all = &mut gathered.0;
            // As in `fill_one`.
            let mut next = iter.next();
            if next.is_none() {
                break;
            }
            all.reserve(1);
            let len = all.len();
            // SAFETY: there is room for one more.
            let place = unsafe { all.as_mut_ptr().add(len) };
            // SAFETY: as said; the future is there.
            unsafe { move_out(&mut next, place) };
            // SAFETY: it was written just now.
            unsafe { all.set_len(len + 1) };
        }
        self.refill(gathered);
    }

    fn refill(&mut self, mut all: Gathered<F>) {
        let all = std::mem::take(&mut all.0);
        let len = all.len();
        self.fill(&mut all.into_iter(), len);
    }

    /// Moves all futures out again, before the first poll, and gives the slots back.
    fn take_back(&mut self) -> Vec<F> {
        let mut all = Vec::with_capacity(self.len);
        for index in 0..std::mem::take(&mut self.len) {
            // SAFETY: the slot was filled and never polled.
            all.push(unsafe { self.slab.take_future(index) });
        }
        self.core.set_live(0);
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
        let is_first = this.stage == Stage::Fresh;
        if is_first {
            this.core.begin();
            this.core.owner.spawns.set(1);
            this.outputs.reserve_exact(this.len);
            this.stage = Stage::Running;
        }
        if this.core.puts_off_poll(is_first, cx.waker()) {
            return Poll::Pending;
        }
        if is_first {
            this.core.polled_with(cx.waker());
        }
        let ambient = Ambient::enter(&this.core, &mut this.token);
        let mut window = Window::open(&this.core);
        let mut starter: Starter<'_, F> = Starter {
            slab: &this.slab,
            len: this.len,
            started: &mut this.started,
            outputs: &mut this.outputs,
            ramp: STRETCH_FIRST,
            ended: 0,
            spare: ptr::null(),
        };
        let run = window.run(cx, &mut starter);
        drop(window);
        drop(ambient);
        // Its members' polls are the task's time, whether or not one of them had to wait.
        here::polled_in_a_row(&this.core, is_first && run != Run::Rest);
        if run == Run::Rest {
            circle::asks_for_scope(&this.core, cx.waker());
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
            // SAFETY: the slot was filled.
            if unsafe { self.slab.holds(index) } != Holds::Output {
                continue;
            }
            // SAFETY: just seen.
            let output = unsafe { self.slab.take_output(index) };
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

    /// The memory goes, all but what a waker keeps: the chunk of its seat, and the core.
    fn give_back(&mut self) {
        // SAFETY: the scope is over: this thread is the owner, and nothing is placed any more.
        unsafe { self.core.owner.arena.retire() };
        self.core.finish();
        self.len = 0;
        self.slab = Slab::new(0);
    }

    /// Drops what a slot holds, in a scope that is dropped early.
    fn drop_slot(&self, index: usize) {
        // SAFETY: the slot was filled, and this thread drops the scope, so it is the owner.
        match unsafe { self.slab.holds(index) } {
            Holds::Fresh => self.core.set_live(self.core.live() - 1),
            Holds::Seated(header) => {
                // SAFETY: the scope has not let go of the seat.
                if unsafe { (*header).word.ended() }.is_none() {
                    // SAFETY: the future lives, and between polls nobody polls it.
                    unsafe { drop_child(&self.core, header) };
                }
                // SAFETY: it has ended, and was not retired, or the slot would say so.
                unsafe { self.core.retire(header) };
            }
            Holds::Output | Holds::Nothing => {}
        }
        // SAFETY: it has no seat by now.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
            self.slab.drop_content(index)
        }));
        if let Err(payload) = dropped {
            self.core.panicked(&raw const self.core.body, payload);
        }
    }
}

/// Moves a value in one copy. Apart from where it is used: what marks it as gone has room for another one.
///
/// # Safety
/// There is a value, and `to` is valid for a write of it.
unsafe fn move_out<F>(from: &mut Option<F>, to: *mut F) {
    let Some(value) = from else { return };
    // SAFETY: handed on from the caller; a new place does not overlap with this one.
    unsafe { ptr::from_mut(value).copy_to_nonoverlapping(to, 1) };
    // SAFETY: the value is there now, so that nothing is dropped here.
    unsafe { ptr::write(from, None) };
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
            self.drop_slot(index);
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

/// Futures that are gathered while code of a user's runs, which may panic: dropped one by one then, for so may they.
struct Gathered<F>(Vec<F>);

impl<F> Drop for Gathered<F> {
    fn drop(&mut self) {
        for future in std::mem::take(&mut self.0) {
            quietly(|| drop(future));
        }
    }
}
