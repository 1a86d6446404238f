//! What this thread is doing right now: whose window it is in, and as what.
//!
//! One thread-local of plain cells, without a destructor, so that wakers may look at it at any time, even
//! from the destructor of another thread-local (rule W6). A dying scope has no frame (rule W12).

use std::cell::Cell;
use std::ptr;

use super::core::Core;
use super::helper::Haul;
use crate::task::Header;

/// The role of the thread in the innermost window it is in.
#[derive(Clone, Copy, Debug)]
struct Place {
    core: *const Core,
    /// Null: the owner. Otherwise what the helper has gathered.
    haul: *const Haul,
    task: *const Header,
}

const NOWHERE: Place = Place {
    core: ptr::null(),
    haul: ptr::null(),
    task: ptr::null(),
};

struct Here {
    core: Cell<*const Core>,
    haul: Cell<*const Haul>,
    task: Cell<*const Header>,
    lending: Cell<Lending>,
    windows: Cell<u32>,
}

/// Whether scopes polled on this thread lend their children to the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lending {
    /// When the learnt cost of the children says that help pays.
    #[default]
    Adaptive,
    /// Never: children are polled by the thread that polls the scope.
    Never,
    /// Always, whatever it costs: to test that children do not depend on their thread.
    Forced,
}

#[cfg(not(selvedge_loom))]
thread_local! {
    static HERE: Here = const {
        Here {
            core: Cell::new(ptr::null()),
            haul: Cell::new(ptr::null()),
            task: Cell::new(ptr::null()),
            lending: Cell::new(Lending::Adaptive),
            windows: Cell::new(0),
        }
    };
}

#[cfg(selvedge_loom)]
crate::sync::thread_local! {
    static HERE: Here = Here {
        core: Cell::new(ptr::null()),
        haul: Cell::new(ptr::null()),
        task: Cell::new(ptr::null()),
        lending: Cell::new(Lending::Adaptive),
        windows: Cell::new(0),
    };
}

/// Puts this thread into a window until it is dropped.
#[derive(Debug)]
pub(crate) struct Frame {
    before: Place,
}

impl Frame {
    pub(crate) fn owner(core: &Core) -> Self {
        Self::enter(core, ptr::null())
    }

    pub(crate) fn helper(core: &Core, haul: *const Haul) -> Self {
        Self::enter(core, haul)
    }

    fn enter(core: *const Core, haul: *const Haul) -> Self {
        HERE.with(|here| Self {
            before: Place {
                core: here.core.replace(core),
                haul: here.haul.replace(haul),
                task: here.task.replace(ptr::null()),
            },
        })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut self.before, NOWHERE);
        HERE.with(|here| {
            here.core.set(before.core);
            here.haul.set(before.haul);
            here.task.set(before.task);
        });
    }
}

/// What this thread is to a core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Stranger,
    Owner,
    Helper(*const Haul),
}

#[inline]
pub(crate) fn role_in(core: *const Core) -> Role {
    HERE.with(|here| {
        if here.core.get() != core {
            Role::Stranger
        } else if here.haul.get().is_null() {
            Role::Owner
        } else {
            Role::Helper(here.haul.get())
        }
    })
}

/// Whether this thread is the owner in an open window of the core.
#[inline]
pub(crate) fn owned_here(core: *const Core) -> bool {
    HERE.with(|here| here.core.get() == core && here.haul.get().is_null())
}

/// Whether this thread is inside a window of any scope, so that a helper job must not start (rule L1).
pub(crate) fn in_window() -> bool {
    HERE.with(|here| !here.core.get().is_null())
}

/// Notes which task is polled; `null` when none is.
#[inline]
pub(crate) fn set_task(task: *const Header) {
    HERE.with(|here| here.task.set(task));
}

/// The core of the innermost window that this thread is in.
pub(super) fn innermost() -> Option<*const Core> {
    let core = HERE.with(|here| here.core.get());
    (!core.is_null()).then_some(core)
}

/// The innermost window that this thread is in and the task that it polls there, if it does.
#[inline]
pub(super) fn polled() -> Option<(*const Core, *const Header)> {
    HERE.with(|here| {
        let task = here.task.get();
        (!task.is_null()).then(|| (here.core.get(), task))
    })
}

/// Whether this thread is polling that very task.
#[inline]
pub(crate) fn is_current_task(task: *const Header) -> bool {
    HERE.with(|here| here.task.get() == task)
}

/// Counts windows, so that one in a few can be used to take samples.
#[inline]
pub(crate) fn next_window() -> u32 {
    HERE.with(|here| {
        let n = here.windows.get().wrapping_add(1);
        here.windows.set(n);
        n
    })
}

#[inline]
pub(crate) fn lending() -> Lending {
    HERE.with(|here| here.lending.get())
}

/// Sets the mode of this thread; the old one is returned.
pub(crate) fn set_lending(lending: Lending) -> Lending {
    HERE.with(|here| here.lending.replace(lending))
}
