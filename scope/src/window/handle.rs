//! The scope as its body and children see it: spawn, and ask.
//!
//! The lifetime `'env` is what makes spawning safe: the engine that polls and drops the children carries
//! the same, invariant, so that everything a child borrows outlives it.

use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::NonNull;

use selvedge_cancel::{CancelToken, Cancelled, Cause, Instant, Phase, ambient};

use super::coop;
use super::core::Core;
use super::core_ref::CoreRef;
use super::here::{self, Lending, Role};
use super::inbox::Pushed;
use super::policy;
use crate::select_safe_child::{SelectSafeChild, TrySelectSafeChild};
use crate::task::{
    Header, Kept, Passed, Place as Room, Plain, RawJoin, RecordSlot, Settle, Task, TaskCell,
    Trying, WakerSlot, Whole, solo,
};

/// Where in the source something was written.
type Place = &'static Location<'static>;

/// A counted handle to a scope of one family.
pub(crate) struct Handle<'env, K> {
    core: CoreRef,
    env: PhantomData<fn(&'env ()) -> &'env ()>,
    family: PhantomData<fn(K) -> K>,
}

impl<K> Clone for Handle<'_, K> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            env: PhantomData,
            family: PhantomData,
        }
    }
}

impl<K> fmt::Debug for Handle<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.core.settings.name.get())
            .field("place", &format_args!("{}", self.core.place))
            .field("len", &self.core.len())
            .finish_non_exhaustive()
    }
}

/// Why a spawn was refused: the scope is over. The future is where it was.
pub(crate) struct Refusal {
    /// It is being dropped right now, perhaps under the caller's feet: refuse silently (rule W7).
    pub(crate) dying: bool,
}

impl<'env, K> Handle<'env, K> {
    /// # Safety
    /// `core` belongs to an engine with the same `'env` and of the same family.
    pub(super) unsafe fn new(core: CoreRef) -> Self {
        Self {
            core,
            env: PhantomData,
            family: PhantomData,
        }
    }

    /// The core, for the models.
    #[cfg(all(test, selvedge_loom))]
    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn len(&self) -> usize {
        self.core.len()
    }

    /// The scope's token, for somebody who may cancel it.
    pub(crate) fn token(&self) -> CancelToken {
        self.core.expose();
        self.core.token.clone()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.core.token.is_cancelled()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.core.token.phase()
    }

    /// Cancels the scope, in the name of the running task.
    pub(crate) fn cancel_with(&self, cause: Cause) {
        self.core.cancel_with(cause);
    }

    /// Asks the scope for a graceful end.
    pub(crate) fn stop_with(&self, cause: Cause) {
        self.core.stop_with(cause);
    }

    /// Moves the scope's deadline.
    pub(crate) fn set_deadline(&self, at: Option<Instant>, place: &'static Location<'static>) {
        self.core.move_deadline(at, place);
    }

    pub(crate) fn describe(&self) -> String {
        self.core.describe()
    }
}

impl<'env> Handle<'env, Plain> {
    #[inline]
    pub(crate) fn spawn<F>(
        &self,
        future: &mut Kept<F>,
        place: Place,
    ) -> Result<RawJoin<F::Output>, Refusal>
    where
        F: Future + Send + 'env,
        F::Output: Send + 'env,
    {
        // SAFETY: `F` and its output live as long as `'env`, which the engine carries; both are `Send`.
        unsafe { spawn::<_, F, Plain>(&self.core, future, place, false) }
    }

    /// The child may be dropped midway.
    pub(crate) fn spawn_select_safe<F>(
        &self,
        future: &mut Kept<F>,
        place: Place,
    ) -> Result<RawJoin<Result<F::Output, Cancelled>>, Refusal>
    where
        F: Future + Send + 'env,
        F::Output: Send + 'env,
    {
        let mut future = Whole::<_, SelectSafeChild<F>>(future, PhantomData);
        // SAFETY: as in `spawn`.
        unsafe { spawn::<_, SelectSafeChild<F>, Plain>(&self.core, &mut future, place, true) }
    }
}

/// A handle's end of a child of a `try_scope`.
type Tried<T> = RawJoin<Result<T, Cancelled>>;

impl<'env, E: Send + 'env> Handle<'env, Trying<E>> {
    #[inline]
    pub(crate) fn spawn<F, T>(
        &self,
        future: &mut Kept<F>,
        place: Place,
    ) -> Result<Tried<T>, Refusal>
    where
        F: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        // SAFETY: as for plain scopes; the engine's errors are of type `E`, which is `Send`.
        unsafe { spawn::<_, F, Trying<E>>(&self.core, future, place, false) }
    }

    /// The child may be dropped midway.
    pub(crate) fn spawn_select_safe<F, T>(
        &self,
        future: &mut Kept<F>,
        place: Place,
    ) -> Result<Tried<T>, Refusal>
    where
        F: Future<Output = Result<T, E>> + Send + 'env,
        T: Send + 'env,
    {
        let mut future = Whole::<_, TrySelectSafeChild<F>>(future, PhantomData);
        // SAFETY: as in `spawn`.
        unsafe {
            spawn::<_, TrySelectSafeChild<F>, Trying<E>>(&self.core, &mut future, place, true)
        }
    }
}

/// Takes the future out of `future`, in one copy, or refuses and leaves it there.
///
/// # Safety
/// 1. `F` and its output are `Send` and outlive the engine of `core`; 2. that engine is of the family `S`.
#[inline]
unsafe fn spawn<P: Passed<Into = F>, F: Future, S: Settle<F::Output>>(
    core: &CoreRef,
    future: &mut P,
    place: Place,
    select_safe: bool,
) -> Result<RawJoin<S::Out>, Refusal> {
    let role = core.role();
    let layout = const { Layout::new::<TaskCell<F, S>>() };
    let place_of_cell = match role {
        // SAFETY: this thread is the owner in an open window.
        Role::Owner => unsafe { core.owner.arena.place(core, layout) },
        _ if core.inbox.is_dead() => {
            let dying = core.is_dying();
            return Err(Refusal { dying });
        }
        _ => solo(core, layout),
    };
    let Room { cell, offset, solo } = place_of_cell;
    let cell = cell.cast::<TaskCell<F, S>>();
    let task = Task {
        header: Header::new(core.as_ptr(), const { &TaskCell::<F, S>::VTABLE }, true),
        joiner: WakerSlot::new(),
        place,
        record: RecordSlot::new(),
        offset,
        newborn: Cell::new(!matches!(role, Role::Owner)),
        solo,
        select_safe,
        waits: Cell::new(false),
    };
    // SAFETY: the place has the cell's layout and is nobody else's.
    let stage = unsafe { TaskCell::begin(cell, task) };
    // SAFETY: the stage has room for the future, which the caller has put there.
    unsafe { future.pass(stage) };
    let task = cell.cast::<Task>();
    let header = task.cast::<Header>().cast_const();
    match role {
        Role::Owner => {
            core.set_live(core.live() + 1);
            // SAFETY: the child is alive and new.
            unsafe { core.register(task) };
            // SAFETY: a new child holds its token and is in no queue.
            unsafe { core.owner.local.push_back(header) };
            let spawns = core.owner.spawns.get().wrapping_add(1);
            core.owner.spawns.set(spawns);
            if spawns % 16 == 0 {
                lend_while_spawning(core, header);
            }
        }
        Role::Helper(haul) => {
            core.expect_newborn();
            // SAFETY: the child is ours until it is queued; the mark is for the inbox only.
            unsafe { (*task).newborn.set(false) };
            // SAFETY: the haul lives as long as the helper's frame.
            let haul = unsafe { &*haul };
            // SAFETY: the child is alive and not registered.
            unsafe { haul.add_newborn(task) };
            // SAFETY: a new child holds its token and is in no queue.
            unsafe { haul.again.push_back(header) };
        }
        Role::Stranger => {
            core.expect_newborn();
            // SAFETY: the child is alive until it is taken out; the caller's handle keeps the core.
            if unsafe { core.push(header) } == Pushed::Dead {
                core.expect_no_newborn();
                // SAFETY: the child was refused, so the cell is whole and ours alone.
                unsafe { refuse(cell, stage, future) };
                return Err(Refusal {
                    dying: core.is_dying(),
                });
            }
        }
    }
    // SAFETY: a cell is not null.
    let task = unsafe { NonNull::new_unchecked(task) };
    // SAFETY: the cell was made with a handle, and its outputs are of this type.
    Ok(unsafe { RawJoin::new(task) })
}

/// Takes a refused child apart: the future goes back to where it was.
///
/// # Safety
/// Nobody else has seen the cell, which lies alone in its chunk, and the future came from there.
#[cold]
unsafe fn refuse<P: Passed<Into = F>, F: Future, S: Settle<F::Output>>(
    cell: *mut TaskCell<F, S>,
    stage: *mut F,
    future: &mut P,
) {
    // SAFETY: the future was never polled, and the cell is freed below without touching it.
    unsafe { future.take_back(stage) };
    let header = cell.cast::<Header>().cast_const();
    // SAFETY: the cell is still whole.
    unsafe { &*header }.word.finish(crate::task::Ended::Dropped);
    // SAFETY: nothing refers to the cell any more, and its future is moved out.
    unsafe { Header::free(header) };
}

/// A long spawn loop: heavy children need not wait for its end.
#[cold]
fn lend_while_spawning(core: &Core, header: *const Header) {
    // This is in a poll. Helpers are to run the siblings under what the window has, not under a time limit, a
    // shield or a clock of the spawning task's own.
    if !ambient::is_bare(&core.token)
        || core.owner.runtime.get() != coop::RuntimeId::current()
        || !core.knows_its_host()
    {
        return;
    }
    // SAFETY: the child was queued just now.
    let estimate = policy::estimate(unsafe { (*header).key() });
    let forced = here::lending() == Lending::Forced;
    let worth = policy::pays(estimate, core.owner.local.len(), || core.owner.lent.get());
    if (forced || worth) && core.may_lend() {
        core.lend(0);
    }
}
