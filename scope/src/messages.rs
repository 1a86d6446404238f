//! What a debug build has to say on standard error. Not for panics, nor for anything that a program could act on.
//!
//! Somebody may hold the lock of standard error while he waits for the very thread that has something to say: the body
//! of a scope for a helper, and everybody for the timer's. So a thread of its own writes each message. Whoever has the
//! message waits for that, because the program may end next, but not for long, and not where no thread can be had.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::sync::plain::{AtomicUsize, Ordering};
use crate::task::quietly;

/// A message is mostly written within 0.1 ms. It takes longer where the lock is held, or the machine is busy.
const PATIENCE: Duration = Duration::from_millis(200);

/// While so many wait for the lock, further ones are lost.
const MOST: usize = 32;

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// A message that is not written yet.
struct UnderWay;

impl UnderWay {
    fn begin() -> Option<Self> {
        // Relaxed: a count that nothing depends on; the same for the other two.
        let before = UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        let this = Self;
        (before < MOST).then_some(this)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many messages are not written yet.
pub(crate) fn under_way() -> usize {
    UNDER_WAY.load(Ordering::Relaxed)
}

/// Writes a line on standard error.
pub(crate) fn say(text: String) {
    // In one piece, among what others write.
    let line = format!("selvedge: {text}\n");
    // It panics where there is nobody to tell.
    let write = move || quietly(|| eprint!("{line}"));
    if cfg!(miri) {
        // Nobody holds the lock in its tests, and every thread must have ended before the program does.
        return write();
    }
    let Some(under_way) = UnderWay::begin() else {
        return;
    };
    // In a destructor of a thread-local, std may refuse.
    quietly(|| {
        let (written, is_written) = channel::<()>();
        let started = thread::Builder::new()
            .name("selvedge-message".into())
            .spawn(move || {
                write();
                drop(under_way);
                drop(written);
            });
        if started.is_ok() {
            let _ = is_written.recv_timeout(PATIENCE);
        }
    });
}
