//! What several test programs share. No test lives here.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of this"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Raised when it is dropped, also by a panic: once that has been told, which takes as long as its backtrace is.
pub struct Raise<'a>(pub &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Spins for about that long.
pub fn burn(time: Duration) {
    let from = Instant::now();
    while from.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Whether this thread helps a pool of ours.
pub fn on_helper() -> bool {
    std::thread::current()
        .name()
        .is_some_and(|name| name.starts_with("selvedge-"))
}
