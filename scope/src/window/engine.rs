//! The engine of a scope: the future that owns body, output and errors, and opens a window at each poll.
//!
//! What may borrow from `'env` lives here, never in the core (rule W10). `Drop` is the other place where
//! children are dropped; it never waits, since no helper is inside between polls.

use std::cell::UnsafeCell;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};

use selvedge_cancel::ambient::{self, Outer};
use selvedge_cancel::{CancelToken, FineDrop, Following, TaskId};

use super::body::body_waker;
use super::circle;
use super::core::Core;
use super::core_ref::CoreRef;
use super::handle::Handle;
use super::here;
use super::midway;
use super::owner::{self, Run, Turn, Window};
use super::settings::Settings;
use super::sinks::{Family, Sinks};
use super::{step, straight};
use crate::task::{Ended, Header, Payload, Rest, drop_payload, quietly};

/// How far a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Running,
    Over,
}

/// The place of a body, which may hold borrows of itself while it is suspended. In a cell of its own, so that a
/// reference to the whole scope, as `Debug` has it, makes none to the body.
struct Housed<F>(UnsafeCell<Option<F>>);

// SAFETY: `&Housed` gives access to nothing.
unsafe impl<F> Sync for Housed<F> {}

impl<F> Housed<F> {
    fn place(&mut self) -> &mut Option<F> {
        self.0.get_mut()
    }
}

/// Runs a body and its children. `Ready` hands out the body's output, if it has one.
pub(crate) struct Engine<'env, F: Future, K: Sinks> {
    body: Housed<F>,
    output: Option<F::Output>,
    sink: K::Sink,
    /// The scope's token, swapped in around each window without touching its count. It goes before the core does.
    token: Option<CancelToken>,
    core: CoreRef,
    stage: Stage,
    env: PhantomData<fn(&'env ()) -> &'env ()>,
    _pin: PhantomPinned,
}

/// What a scope came to.
pub(crate) struct Finished<O> {
    pub(crate) output: Option<O>,
    pub(crate) panic: Option<Payload>,
    /// The grace was over: these were dropped before they had ended.
    pub(crate) cut: Option<String>,
}

/// Puts the thread's own token back.
pub(super) struct Ambient<'a> {
    core: &'a Core,
    own: &'a mut Option<CancelToken>,
    /// `None` once it was left.
    outer: Option<Outer<CancelToken>>,
}

impl<'a> Ambient<'a> {
    #[inline]
    pub(super) fn enter(core: &'a Core, own: &'a mut Option<CancelToken>) -> Self {
        let outer = None;
        let mut this = Self { core, own, outer };
        // Should a timer of a user's panic in there, the token is put back.
        let own = this.own.take();
        this.outer = Some(ambient::enter(own));
        this
    }
}

impl Drop for Ambient<'_> {
    #[inline]
    fn drop(&mut self) {
        let scopes = &self.core.token;
        let own = self.outer.take().and_then(ambient::leave);
        let own = own.filter(|own| own.is_same(scopes));
        *self.own = Some(own.unwrap_or_else(|| scopes.clone()));
    }
}

impl<'env, F: Future, K: Family<F::Output>> Engine<'env, F, K> {
    /// Calls `make` at once and keeps the body it returns.
    pub(crate) fn new(
        place: &'static Location<'static>,
        sink: K::Sink,
        make: impl FnOnce(Handle<'env, K>) -> F,
    ) -> Self {
        let core = Core::make(place);
        let token = Some(core.token.clone());
        let mut begun = Begun(Some(core));
        // SAFETY: the handle's lifetime is the engine's, whose core it shares.
        let handle = unsafe { Handle::new(begun.core().clone()) };
        // In one expression, so that a big body is moved no more often than it must be.
        Self {
            body: Housed(UnsafeCell::new(Some(make(handle)))),
            output: None,
            sink,
            token,
            core: begun.go_on(),
            stage: Stage::Fresh,
            env: PhantomData,
            _pin: PhantomPinned,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Puts the scope under a further token.
    pub(crate) fn follow(&self, token: &CancelToken) -> Following {
        self.core.expose();
        self.core.token.follow(token)
    }

    /// Whether the scope was cancelled, and not itself.
    pub(crate) fn is_cancelled_from_outside(&self) -> bool {
        self.core.token.is_cancelled() && self.core.token.own_cause().is_none()
    }

    /// Whether it was cancelled itself, by a token that it was put under.
    pub(crate) fn has_followed(&self) -> bool {
        self.core.token.has_followed()
    }

    /// The body's number.
    pub(crate) fn body_id(&self) -> TaskId {
        self.core.body_id()
    }

    /// Before the first poll.
    pub(crate) fn sink_mut(&mut self) -> &mut K::Sink {
        &mut self.sink
    }

    pub(crate) fn sink(&self) -> &K::Sink {
        &self.sink
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.stage == Stage::Fresh
    }

    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished<F::Output>> {
        // SAFETY: the body is never moved: it is only pinned again below, and dropped in place.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(
            this.stage != Stage::Over,
            "a scope was polled after it had ended"
        );
        let is_first = this.stage == Stage::Fresh;
        if is_first {
            this.core.begin();
            this.stage = Stage::Running;
        }
        if this.core.puts_off_poll(is_first, cx.waker()) {
            return Poll::Pending;
        }
        this.core.set_sink(ptr::from_ref(&this.sink).cast());
        let ambient = Ambient::enter(&this.core, &mut this.token);
        let mut part: Part<'_, F, K> = Part {
            body: this.body.place(),
            output: &mut this.output,
            family: PhantomData,
        };
        let run = if is_first {
            straight::run(&this.core, cx, &mut part)
        } else {
            Window::open(&this.core).run(cx, &mut part)
        };
        drop(ambient);
        here::polled_in_a_row(&this.core, is_first && run != Run::Rest);
        let cut = match run {
            Run::Rest => {
                this.core.attend_limits(cx.waker());
                circle::asks_for_scope(&this.core, cx.waker());
                return Poll::Pending;
            }
            Run::Ended => {
                // SAFETY: the scope is over: this thread is the owner, and nothing is placed any more.
                unsafe { this.core.owner.arena.retire() };
                this.core.finish();
                None
            }
            Run::Abort if !this.core.is_left() => {
                // SAFETY: as above.
                unsafe { this.core.owner.arena.retire() };
                this.core.finish();
                None
            }
            Run::Abort => {
                let left = this.core.who_is_left();
                let fine = FineDrop::begin();
                this.drop_members();
                drop(fine);
                Some(left)
            }
        };
        this.stage = Stage::Over;
        Poll::Ready(Finished {
            output: this.output.take(),
            panic: this.core.finish_panics(),
            cut,
        })
    }
}

/// A scope whose body closure is being called: what that spawns before it panics is dropped here.
struct Begun(Option<CoreRef>);

impl Begun {
    fn core(&self) -> &CoreRef {
        self.0
            .as_ref()
            .expect("the core is here until the engine has it")
    }

    fn go_on(&mut self) -> CoreRef {
        self.0.take().expect("an engine is made once")
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(core) = &self.0 else { return };
        let _reported = midway::report(core);
        end_early(core, || {
            core.body.word.finish(Ended::Dropped);
            None
        });
        raise(core.finish_panics());
    }
}

impl<F: Future, K: Sinks> Engine<'_, F, K> {
    /// Drops the body and every child that has not ended. No helper is inside.
    fn drop_members(&mut self) {
        let core = &self.core;
        let body = self.body.place();
        end_early(core, || {
            circle::end_body(core);
            let dropped = catch_unwind(AssertUnwindSafe(|| clear(body)));
            core.body.word.finish(Ended::Dropped);
            dropped.err()
        });
    }
}

/// Drops a body in place. Apart from where it is polled, whose frame would have room for a second one.
fn clear<F>(body: &mut Option<F>) {
    *body = None;
}

/// The body's places, lent to a window.
struct Part<'a, F: Future, K> {
    body: &'a mut Option<F>,
    output: &'a mut Option<F::Output>,
    family: PhantomData<K>,
}

impl<F: Future, K: Family<F::Output>> owner::Body for Part<'_, F, K> {
    fn key(&self) -> Option<usize> {
        Some(<Self as owner::Body>::poll as *const () as usize)
    }

    fn next_key(&self, core: &Core) -> usize {
        core.body_key(<Self as owner::Body>::poll as *const () as usize)
    }

    fn poll(&mut self, core: &Core) -> Turn {
        let turn = |ended| Turn {
            ended,
            polls: 1,
            looked: None,
        };
        let Some(body) = self.body.as_mut() else {
            return turn(true);
        };
        core.body.word.start();
        core.owner.node.set_task(&raw const core.body);
        circle::begin_body(core);
        // SAFETY: the body is pinned with the engine, which never moves it.
        let pinned = unsafe { Pin::new_unchecked(body) };
        // SAFETY: the core outlives the call, and the waker is not dropped, so it need not be counted.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(body_waker(core)) });
        let polled = catch_unwind(AssertUnwindSafe(|| {
            pinned.poll(&mut Context::from_waker(&waker))
        }));
        if let Ok(Poll::Pending) = polled {
            core.owner.node.set_task(ptr::null());
            let wait = circle::rest_body(core);
            match core.body.word.rest() {
                Rest::Again => core.owner.wake_body(),
                Rest::Idle => circle::settle(wait),
            }
            return turn(false);
        }
        let dropped = catch_unwind(AssertUnwindSafe(|| clear(self.body)));
        let settled = match (polled, dropped) {
            (Ok(Poll::Ready(output)), dropped) => {
                if let Err(payload) = dropped {
                    core.panicked(&raw const core.body, payload);
                }
                // SAFETY: we are inside the window, and the engine's family is `K`.
                catch_unwind(AssertUnwindSafe(|| unsafe { K::body_ended(core, output) }))
            }
            (Ok(Poll::Pending), _) => Ok(None),
            (Err(payload), dropped) => {
                if let Err(second) = dropped {
                    drop_payload(second);
                }
                Err(payload)
            }
        };
        core.owner.node.set_task(ptr::null());
        match settled {
            Ok(output) => {
                core.body.word.finish(Ended::Value);
                *self.output = output;
            }
            Err(payload) => {
                core.body.word.finish(Ended::Panicked);
                core.panicked(&raw const core.body, payload);
            }
        }
        turn(true)
    }
}

impl<F: Future, K: Sinks> Drop for Engine<'_, F, K> {
    fn drop(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        let _reported = midway::report(&self.core);
        self.drop_members();
        let core = &self.core;
        let output = self.output.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(output))) {
            core.panicked(&raw const core.body, payload);
        }
        K::drain(&self.sink, core);
        raise(core.finish_panics());
    }
}

/// Raises what panicked while a scope was dropped, unless a panic is under way already.
pub(super) fn raise(panic: Option<Payload>) {
    if let Some(payload) = panic {
        if std::thread::panicking() {
            drop_payload(payload);
        } else {
            resume_unwind(payload);
        }
    }
}

/// Drops a scope that has not ended: refuses everything from here on, then drops the body and every child,
/// whatever panics meanwhile (rule W7). Runs between polls, so nobody else touches a future.
pub(super) fn end_early(core: &Core, drop_body: impl FnOnce() -> Option<Payload>) {
    core.begin_dying();
    let mail = core.inbox.die();
    core.sort(mail);
    if let Some(payload) = drop_body() {
        core.panicked(&raw const core.body, payload);
    }
    // What an earlier window has left, should it have unwound.
    quietly(|| core.retire_done());
    let drop_and_retire = |header: *const Header| {
        // SAFETY: the scope's reference keeps the cell of a registered child.
        if unsafe { &*header }.word.ended().is_none() {
            core.ends_away();
            // SAFETY: it has not ended, and is in no poll.
            unsafe { drop_child(core, header) };
        }
        // SAFETY: the child is registered, its future gone and its outcome published.
        quietly(|| unsafe { core.retire(header) });
    };
    // SAFETY: this thread drops the scope, so it is the owner, and spawns are refused.
    unsafe { core.owner.arena.each_living(drop_and_retire) };
    loop {
        let task = core.owner.all.first();
        if task.is_null() {
            break;
        }
        drop_and_retire(task.cast());
    }
    // SAFETY: this thread drops the scope, so it is the owner, and spawns are refused.
    unsafe { core.owner.arena.retire() };
    core.finish();
}

/// # Safety
/// The child's future lives, nobody polls it, and the scope's reference keeps its cell.
pub(super) unsafe fn drop_child(core: &Core, header: *const Header) {
    // SAFETY: the cell is alive, says the caller.
    circle::end(unsafe { Header::task(header) });
    // SAFETY: handed on from the caller.
    unsafe { Header::drop_future(header) };
    // SAFETY: the future is gone; there is no output.
    unsafe { step::end(core, header, Ended::Dropped) };
}
