//! Cores used again by the thread that gave them up last: most scopes are small, and making a core costs more than
//! running them.
//!
//! What is kept is as it was made ([`Core::renew`]), and nobody refers to it. So it is as good as memory that an allocator
//! hands out again, and less is written. Under loom, whose objects end with the execution, and with
//! `--cfg selvedge_no_recycle`, which has AddressSanitizer see every use of a core that is gone, nothing is kept.

use std::cell::Cell;

use super::core::Core;

/// As many as scopes may be open in one another without an allocation.
const MOST: usize = 4;

thread_local! {
    static SPARE: [Cell<Option<Box<Core>>>; MOST] = const { [const { Cell::new(None) }; MOST] };
}

/// A core as [`Core::make`] makes them, but for who it is.
pub(super) fn take() -> Option<Box<Core>> {
    let taken = SPARE.try_with(|spare| spare.iter().find_map(Cell::take));
    // Late in the thread's end there are none.
    taken.unwrap_or(None)
}

/// Keeps a core that nobody refers to, or drops it.
pub(super) fn keep(mut core: Box<Core>) {
    if cfg!(any(selvedge_loom, selvedge_no_recycle)) || !core.renew() {
        return;
    }
    let mut core = Some(core);
    let _ = SPARE.try_with(|spare| {
        for place in spare {
            match place.take() {
                None => return place.set(core.take()),
                other => place.set(other),
            }
        }
    });
}
