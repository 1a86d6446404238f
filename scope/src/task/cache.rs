//! Empty chunks kept for the next scope: a heap that gives pages back and takes them again at every large
//! scope costs more than running its children.

use crate::sync::plain::Mutex;

/// The one size of chunk that is kept.
pub(super) const BYTES: usize = 8 << 10;
/// How many are kept: one mebibyte in the whole process.
const MOST: usize = 128;

struct Shelf {
    chunks: [*mut u8; MOST],
    len: usize,
}

// SAFETY: the chunks on the shelf are empty and belong to nobody else.
unsafe impl Send for Shelf {}

static SHELF: Mutex<Shelf> = Mutex::new(Shelf {
    chunks: [std::ptr::null_mut(); MOST],
    len: 0,
});

/// A chunk from the shelf, if there is one and nobody else is at it.
pub(super) fn take() -> Option<*mut u8> {
    let mut shelf = SHELF.try_lock().ok()?;
    shelf.len = shelf.len.checked_sub(1)?;
    Some(shelf.chunks[shelf.len])
}

/// Puts an empty chunk on the shelf; `false` if there is no room.
pub(super) fn put(chunk: *mut u8) -> bool {
    let Ok(mut shelf) = SHELF.try_lock() else {
        return false;
    };
    let at = shelf.len;
    if at == MOST {
        return false;
    }
    shelf.chunks[at] = chunk;
    shelf.len = at + 1;
    true
}
