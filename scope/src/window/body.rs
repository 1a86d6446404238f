//! The body as a queue node and as a waker: it has no cell, its header is the first field of the core.

use std::mem::offset_of;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::circle;
use super::core::Core;
use super::here::Role;
use crate::task::{Header, Kind, Payload, Polled, VTable};

pub(super) static BODY: VTable = VTable {
    kind: Kind::Body,
    poll: never_polled,
    drop_future: nothing,
    drop_output: no_output,
    output_needs_drop: false,
    free: nothing,
    output: 0,
    cut_short: None,
};

/// # Safety
/// None is needed: the body's header is never polled as a child.
pub(super) unsafe fn never_polled(_: *const Header, _: &mut Context<'_>) -> Polled {
    Polled::Pending
}

/// # Safety
/// None is needed.
pub(super) unsafe fn nothing(_: *const Header) {}

/// # Safety
/// None is needed.
pub(super) unsafe fn no_output(_: *const Header) -> Option<Payload> {
    None
}

static BODY_WAKER: RawWakerVTable =
    RawWakerVTable::new(clone_body, wake_body, wake_body_by_ref, drop_body);

/// The raw waker of a scope's body, not counted.
pub(super) fn body_waker(core: &Core) -> RawWaker {
    const { assert!(offset_of!(Core, body) == 0) };
    RawWaker::new(core.as_ptr().cast(), &BODY_WAKER)
}

/// Whether this is a waker of the body of that very scope.
#[inline]
pub(super) fn is_body_waker(core: &Core, waker: &Waker) -> bool {
    waker.data() == core.as_ptr().cast() && std::ptr::eq(waker.vtable(), &BODY_WAKER)
}

/// # Safety
/// `data` is a core that the waker holds a reference to. The same for the three below.
unsafe fn clone_body(data: *const ()) -> RawWaker {
    // SAFETY: the waker keeps the core alive.
    let core = unsafe { &*data.cast::<Core>() };
    core.acquire();
    if circle::ON {
        core.body.life.acquire();
        circle::waker_is_cloned(&raw const core.body);
    }
    body_waker(core)
}

unsafe fn wake_body(data: *const ()) {
    // SAFETY: handed on; the reference is given up only after the parent was told.
    unsafe { wake_body_by_ref(data) };
    // SAFETY: `wake` consumes the waker.
    unsafe { drop_body(data) };
}

unsafe fn wake_body_by_ref(data: *const ()) {
    // SAFETY: the waker keeps the core alive.
    let core = unsafe { &*data.cast::<Core>() };
    if !core.body.word.wake() {
        return;
    }
    match core.role() {
        Role::Owner => core.owner.wake_body(),
        // SAFETY: the helper's haul lives as long as its frame.
        Role::Helper(haul) => unsafe { (*haul).body.set(true) },
        Role::Stranger => {
            // SAFETY: `wake` gave us the token; the waker keeps the core alive.
            let _ = unsafe { core.push(&core.body) };
        }
    }
}

unsafe fn drop_body(data: *const ()) {
    if circle::ON {
        // SAFETY: the waker keeps the core alive until the end of this function.
        let _ = unsafe { &*data.cast::<Core>() }.body.life.release();
    }
    // SAFETY: the waker's reference ends here.
    unsafe { Core::release(data.cast()) };
}
