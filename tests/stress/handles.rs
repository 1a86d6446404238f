//! Scopes and join handles of every type behind one face, so that one interpreter runs in all of them; and what a
//! handle must yield. Not what members do with them, which is in `ops`.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};

use futures::FutureExt;
use selvedge::{
    CancelAndWait, CancelToken, Cancelled, JoinHandle, Pool, Scope, TryScope, cancel, select_safe,
};

use crate::members::{Checked, Ended, Level};
use crate::ops::{Ctx, member};
use crate::plan::{End, How, Mode, Size, Spawn};
use crate::values::{
    Byte, Explosive, Failure, Line, NO_RUN, Output, Pad, PadLine, PadPage, Page, Plain, Zero, burn,
    is_planned, planned_panic,
};
use crate::world::{Fate, WORLD, is_expected};

pub(crate) type Payload = Box<dyn Any + Send>;
/// What the thread beside the root scope is given to do. It ends with `None`.
pub(crate) type Job<'env> = Option<Box<dyn FnOnce() + Send + 'env>>;

/// What holds for the whole seed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) pools: [Pool; 5],
    /// How many polls of others a ready member may wait for, on one thread and where members are lent.
    pub(crate) turns: [u64; 2],
}

impl Settings {
    pub(crate) fn level(&self, inline: bool, pool: Option<u8>) -> Level {
        let lends = self.mode != Mode::Never && !inline && pool != Some(0);
        Level::new(self.turns[usize::from(lends)])
    }
}

pub(crate) type AnyHandle<'env> = Box<dyn Handle + Send + 'env>;

/// Handles that members of a scope have left for others.
#[derive(Default)]
pub(crate) struct Slots<'env> {
    pub(crate) shared: Mutex<Vec<AnyHandle<'env>>>,
    pub(crate) kept: Mutex<Vec<AnyHandle<'env>>>,
}

#[derive(Clone)]
pub(crate) enum AnyScope<'env> {
    Plain(Scope<'env>),
    Try(TryScope<'env, Failure>),
}

/// The scope that a member belongs to.
#[derive(Clone)]
pub(crate) struct Home<'env> {
    pub(crate) scope: AnyScope<'env>,
    pub(crate) level: &'env Level,
    pub(crate) settings: &'env Settings,
    pub(crate) slots: Arc<Slots<'env>>,
    pub(crate) followed: CancelToken,
    pub(crate) remote: Option<Sender<Job<'env>>>,
}

macro_rules! either {
    ($any:expr, $scope:ident => $do:expr) => {
        match $any {
            $crate::handles::AnyScope::Plain($scope) => $do,
            $crate::handles::AnyScope::Try($scope) => $do,
        }
    };
}
pub(crate) use either;

/// A future of no size.
struct Tiny;

impl Tiny {
    fn new() -> Self {
        WORLD.make_zero();
        Self
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        WORLD.drop_zero();
    }
}

impl Future for Tiny {
    type Output = Zero;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Zero> {
        Poll::Ready(Zero::new())
    }
}

impl<'env> Home<'env> {
    /// A child of no size, if the scope takes any.
    pub(crate) fn spawn_tiny(&self) -> Option<AnyHandle<'env>> {
        let run = NO_RUN;
        match &self.scope {
            AnyScope::Plain(scope) => {
                Some(held(scope.try_spawn(Tiny::new()).ok()?, NOBODY, run, judge))
            }
            AnyScope::Try(scope) => {
                let tiny = Tiny::new().map(Ok::<_, Failure>);
                Some(held(scope.try_spawn(tiny).ok()?, NOBODY, run, judge_result))
            }
        }
    }

    /// The child of a plan; `None` if the scope takes none.
    pub(crate) fn spawn(&self, plan: &'env Spawn) -> Option<AnyHandle<'env>> {
        match plan.size {
            Size::Nothing => self.spawn_tiny(),
            Size::Common => self.spawn_as::<(), Plain>(plan),
            Size::ZeroOutput => self.spawn_as::<(), Zero>(plan),
            Size::Byte => self.spawn_as::<u8, Byte>(plan),
            Size::Line => self.spawn_as::<PadLine, Line>(plan),
            Size::Page => self.spawn_as::<PadPage, Page>(plan),
            Size::Explosive => self.spawn_as::<(), Explosive>(plan),
        }
    }

    fn spawn_as<P: Pad, O: Output>(&self, plan: &'env Spawn) -> Option<AnyHandle<'env>> {
        let run = WORLD.new_run();
        let child = |home: Self| {
            let cx = Ctx::new(home, plan.task.id);
            Checked::<_, P>::new(self.level, run, member(cx, &plan.task, run))
        };
        let valued = |home| child(home).map(move |_| O::make(run));
        let tried = |home| child(home).map(move |ended| result::<O>(ended, run));
        Some(match &self.scope {
            AnyScope::Plain(scope) => match plan.how {
                How::Spawn => named(scope.spawn(valued(self.clone())), plan, run, judge),
                How::With => {
                    let with = |scope| {
                        valued(Self {
                            scope: AnyScope::Plain(scope),
                            ..self.clone()
                        })
                    };
                    named(scope.spawn_with(with), plan, run, judge)
                }
                How::Function => {
                    let level = self.level;
                    let function = move || {
                        let _ = function(level, plan, run, false);
                        O::make(run)
                    };
                    named(scope.spawn_fn(function), plan, run, judge)
                }
                How::Try => named(
                    scope.try_spawn(valued(self.clone())).ok()?,
                    plan,
                    run,
                    judge,
                ),
                How::SelectSafe => {
                    let child = select_safe(valued(self.clone()));
                    named(scope.spawn_select_safe(child), plan, run, judge_result)
                }
            },
            AnyScope::Try(scope) => match plan.how {
                How::Spawn => named(scope.spawn(tried(self.clone())), plan, run, judge_result),
                How::With => {
                    let with = |scope| {
                        tried(Self {
                            scope: AnyScope::Try(scope),
                            ..self.clone()
                        })
                    };
                    named(scope.spawn_with(with), plan, run, judge_result)
                }
                How::Function => {
                    let level = self.level;
                    let function = move || function(level, plan, run, true).map(|()| O::make(run));
                    named(scope.spawn_fn(function), plan, run, judge_result)
                }
                How::Try => named(
                    scope.try_spawn(tried(self.clone())).ok()?,
                    plan,
                    run,
                    judge_result,
                ),
                How::SelectSafe => {
                    let child = select_safe(tried(self.clone()));
                    named(scope.spawn_select_safe(child), plan, run, judge_result)
                }
            },
        })
    }
}

/// What a child of `spawn_fn` does.
fn function(level: &Level, plan: &Spawn, run: usize, tries: bool) -> Result<(), Failure> {
    level.look();
    burn(plan.task.id % 3);
    match plan.task.end {
        End::Panic { nasty } => {
            level.panicked.fetch_add(1, SeqCst);
            WORLD.set_fate(run, Fate::Panicked);
            planned_panic(nasty)
        }
        End::Error { nasty } if tries => {
            level.failed.fetch_add(1, SeqCst);
            WORLD.set_fate(run, Fate::Error);
            Err(Failure::new(run, None, nasty))
        }
        End::Value | End::Error { .. } => {
            WORLD.set_fate(run, Fate::Value);
            Ok(())
        }
    }
}

/// What a member of a `try_scope` returns.
pub(crate) fn result<O: Output>(ended: Ended, run: usize) -> Result<O, Failure> {
    match ended {
        Ended::Value => Ok(O::make(run)),
        Ended::Error(failure) => Err(failure),
    }
}

/// What came out of a handle.
#[derive(Debug)]
pub(crate) enum Joined {
    Value { right: bool },
    Cut,
}

fn judge<O: Output>(output: O, run: usize) -> Joined {
    Joined::Value {
        right: output.is_of(run),
    }
}

fn judge_result<O: Output>(output: Result<O, Cancelled>, run: usize) -> Joined {
    match output {
        Ok(output) => judge(output, run),
        Err(_) => Joined::Cut,
    }
}

pub(crate) trait Handle {
    /// The member's number in the plan.
    fn id(&self) -> u32;
    fn run(&self) -> usize;
    fn poll_join(&mut self, cx: &mut Context<'_>) -> Poll<Joined>;
    fn cancel(&self);
    fn cancel_and_wait(&self) -> CancelAndWait<'_>;
    fn look(&self);
    fn forget(self: Box<Self>);
}

struct Held<'env, R> {
    handle: JoinHandle<'env, R>,
    id: u32,
    run: usize,
    judge: fn(R, usize) -> Joined,
}

fn held<'env, R: Send + 'env>(
    handle: JoinHandle<'env, R>,
    id: u32,
    run: usize,
    judge: fn(R, usize) -> Joined,
) -> AnyHandle<'env> {
    Box::new(Held {
        handle,
        id,
        run,
        judge,
    })
}

fn named<'env, R: Send + 'env>(
    handle: JoinHandle<'env, R>,
    plan: &Spawn,
    run: usize,
    judge: fn(R, usize) -> Joined,
) -> AnyHandle<'env> {
    let handle = match plan.name {
        true => handle.name(format!("member {}", plan.task.id)),
        false => handle,
    };
    held(handle, plan.task.id, run, judge)
}

/// The number of a child that waits for nobody.
const NOBODY: u32 = u32::MAX;

impl<R> Handle for Held<'_, R> {
    fn id(&self) -> u32 {
        self.id
    }

    fn run(&self) -> usize {
        self.run
    }

    fn poll_join(&mut self, cx: &mut Context<'_>) -> Poll<Joined> {
        let polled = Pin::new(&mut self.handle).poll(cx);
        polled.map(|output| (self.judge)(output, self.run))
    }

    fn cancel(&self) {
        self.handle.cancel();
    }

    fn cancel_and_wait(&self) -> CancelAndWait<'_> {
        self.handle.cancel_and_wait()
    }

    fn look(&self) {
        let _ = format!("{:?} {}", self.handle, self.handle.is_finished());
    }

    fn forget(self: Box<Self>) {
        // An output that nobody takes is dropped by the scope, unless its handle is forgotten after the child's end.
        WORLD.forget();
        mem::forget(self);
    }
}

/// Judges what one poll of a handle gave.
fn check(run: usize, polled: Result<Joined, Payload>) -> Option<Payload> {
    if run == NO_RUN {
        // A child of no size cannot tell its fate.
        return polled.err();
    }
    let fate = WORLD.fate(run);
    match polled {
        Ok(Joined::Value { right }) => {
            if fate != Fate::Value || !right {
                WORLD.fail(format!(
                    "a handle yielded a value (right: {right}) of a child that is {fate:?}"
                ));
            }
            None
        }
        Ok(Joined::Cut) => {
            if fate == Fate::Value && cancel::check().is_ok() {
                WORLD.fail(
                    "the value of a child did not arrive: its handle says that it was cancelled",
                );
            }
            None
        }
        Err(payload) => {
            let fits = matches!(fate, Fate::Panicked | Fate::Dropped | Fate::Made);
            // A value whose drop panics goes off where it is judged; a child of no size has no fate.
            if !fits && !payload.is::<crate::values::FromDrop>() && !is_about_drop(&payload) {
                WORLD.fail(format!(
                    "a handle panicked, and its child is {fate:?}: {:?}",
                    text(&payload)
                ));
            }
            Some(payload)
        }
    }
}

fn is_about_drop(payload: &Payload) -> bool {
    text(payload).contains("was dropped with its scope")
        || text(payload).contains("nothing to yield")
}

pub(crate) fn text(payload: &Payload) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// Whether a panic may come out of a scope, batch or pipeline although none of its members was seen to panic: a future
/// that is dropped midway raises what panicked in a scope inside of it.
pub(crate) fn may_come(payload: &Payload) -> bool {
    is_planned(&**payload) || is_expected(text(payload))
}

/// Awaits a handle. The payload is what it panicked with.
pub(crate) async fn join(handle: &mut AnyHandle<'_>) -> Option<Payload> {
    let run = handle.run();
    let polled = poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| handle.poll_join(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(joined)) => Poll::Ready(Ok(joined)),
            Err(payload) => Poll::Ready(Err(payload)),
        },
    );
    check(run, polled.await)
}

/// A handle whose scope is over does not wait. `is_forgotten`: the scope is not over, and never will be.
pub(crate) fn join_after_end(mut handle: AnyHandle<'_>, is_forgotten: bool) -> Option<Payload> {
    let waker = std::task::Waker::noop();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        handle.poll_join(&mut Context::from_waker(waker))
    }));
    match polled {
        Ok(Poll::Pending) => {
            if !is_forgotten {
                WORLD.fail("a handle waits though its scope is over");
            }
            None
        }
        Ok(Poll::Ready(joined)) => check(handle.run(), Ok(joined)),
        Err(payload) => check(handle.run(), Err(payload)),
    }
}
