//! What a child does: nothing, wait once, or arithmetic for a given time.
//!
//! The arithmetic is calibrated once and then counted, not timed: a child that looked at the clock would
//! finish in time even if its thread had been put aside, and no contestant could lose.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Steps of arithmetic; each depends on the one before, so a step takes the same time wherever it runs.
#[inline]
#[must_use]
pub fn steps(count: u64, seed: u64) -> u64 {
    let mut x = seed | 1;
    for _ in 0..count {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x = black_box(x);
    }
    x
}

/// How many steps take a microsecond on this machine; measured at the first call.
#[must_use]
pub fn steps_a_microsecond() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let count = 200_000;
        let fastest = (0..25)
            .map(|seed| {
                let start = Instant::now();
                black_box(steps(count, seed));
                start.elapsed()
            })
            .min()
            .expect("there were runs");
        count as f64 / (fastest.as_nanos() as f64 / 1000.0)
    })
}

/// An amount of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work(u64);

impl Work {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// As much as takes so many microseconds.
    #[must_use]
    pub fn micros(micros: f64) -> Self {
        Self((micros * steps_a_microsecond()) as u64)
    }

    /// Does it.
    #[inline]
    #[must_use]
    pub fn done(self, seed: u64) -> u64 {
        black_box(steps(self.0, seed))
    }
}

/// Waits once: wakes itself and is ready at the second poll.
#[derive(Debug, Default)]
#[must_use = "futures do nothing unless polled"]
pub struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A future that waits once.
pub fn yield_once() -> YieldOnce {
    YieldOnce::default()
}

/// Keeps this thread busy, so that what comes next starts on a core that is awake.
pub fn keep_busy(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(steps(1000, 1));
    }
}
