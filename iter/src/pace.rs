//! How many items a lane takes at a time, and for how long it works before it lets others
//! have a turn. All of this crate's time constants are here; none is calibrated at run time.

use std::time::{Duration, Instant};

/// A batch from a source that lanes take turns at is worth this much work. 2, 10 and 50 µs
/// measured equal; 10 keeps the lanes' ends close together.
const BATCH: Duration = Duration::from_micros(10);

/// A piece of a source that can be cut anywhere may be larger: the share that a lane may
/// take of what is left keeps the ends together, and fewer pieces mean fewer runs to join.
const PIECE: Duration = Duration::from_micros(50);

/// A lane yields after this long, so that its window, the body and cancellation get a turn.
pub(crate) const SLICE: Duration = Duration::from_micros(200);

/// The most items in a batch and in a piece. A batch is copied, a piece is not.
pub(crate) const BATCH_MAX: usize = 1 << 10;
pub(crate) const PIECE_MAX: usize = 1 << 20;

/// The most items between two looks at the clock, and how many there are where the user says how long batches are.
const BLOCK_MAX: usize = 1 << 10;
const BLOCK_FIXED: usize = 16;

/// Ending a run may take one part in so many of the time that the run took.
const UPKEEP: u32 = 16;

/// However dear the end of a run is, a batch is not made longer than this for its sake.
const LONGEST: Duration = Duration::from_millis(1);

/// The batch size of one lane, learnt from how long its batches take.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    size: usize,
    max: usize,
    growth: usize,
    goal: Duration,
    fixed: bool,
}

impl Pace {
    /// Starts at one item and adapts, up to `max`; `cuts` for sources that can be cut.
    pub(crate) fn adaptive(max: usize, cuts: bool) -> Self {
        let (growth, goal) = if cuts { (8, PIECE) } else { (4, BATCH) };
        Self {
            size: 1,
            max,
            growth,
            goal,
            fixed: false,
        }
    }

    /// Always the same number.
    pub(crate) fn fixed(size: usize) -> Self {
        Self {
            fixed: true,
            ..Self {
                size,
                ..Self::adaptive(size, false)
            }
        }
    }

    /// The largest size it can have.
    #[cfg(test)]
    pub(crate) fn most(&self) -> usize {
        self.max
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// After so many items of a batch the clock is read: they take about eight microseconds as things are, of which a
    /// reading is a small part. Should they have become dear all of a sudden, that is noticed after so many of them.
    #[inline]
    pub(crate) fn look(&self) -> u64 {
        let part = if self.fixed {
            BLOCK_FIXED
        } else {
            self.size * 8 / (self.goal.as_micros() as usize)
        };
        part.clamp(1, BLOCK_MAX) as u64
    }

    /// A batch of `count` items took this long, of which `upkeep` went into ending its run.
    pub(crate) fn learn(&mut self, count: usize, took: Duration, upkeep: Duration) {
        if self.fixed || count == 0 {
            return;
        }
        let goal = self.goal.max((upkeep * UPKEEP).min(LONGEST)).as_nanos();
        let took = took.as_nanos().max(1);
        let ideal = (count as u128 * goal / took).min(self.max as u128) as usize;
        // One odd batch changes the size by no more than this.
        let most = self.size.saturating_mul(self.growth);
        self.size = ideal.clamp((self.size / 2).max(1), most).min(self.max);
    }
}

/// Reads the clock once a batch: the end of one is the beginning of the next.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    last: Instant,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
        }
    }

    /// The time since the last lap.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.last;
        self.last = now;
        lap
    }

    /// Whether the slice was used up at the last lap.
    pub(crate) fn used_up(&self) -> bool {
        self.last - self.began >= SLICE
    }

    /// When the clock was last read.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    /// Whether the slice is used up by now. The lap goes on.
    pub(crate) fn is_over(&self) -> bool {
        self.began.elapsed() >= SLICE
    }

    /// Whether the slice is used up by now.
    pub(crate) fn over(&mut self) -> bool {
        self.lap();
        self.used_up()
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH_MAX, Pace};
    use std::time::Duration;

    const NO: Duration = Duration::ZERO;

    #[test]
    fn cheap_items_grow_the_batch_to_its_maximum() {
        let mut pace = Pace::adaptive(BATCH_MAX, false);
        for _ in 0..20 {
            let size = pace.size();
            pace.learn(size, Duration::from_nanos(size as u64), NO);
        }
        assert_eq!(pace.size(), BATCH_MAX);
    }

    #[test]
    fn heavy_items_shrink_the_batch_to_one() {
        let mut pace = Pace::adaptive(BATCH_MAX, false);
        pace.learn(1, Duration::from_nanos(1), NO);
        assert_eq!(pace.size(), 4);
        for _ in 0..3 {
            let size = pace.size();
            pace.learn(size, Duration::from_millis(size as u64), NO);
        }
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn dear_ends_of_runs_make_runs_longer() {
        let (mut cheap, mut dear) = (Pace::adaptive(1024, false), Pace::adaptive(1024, false));
        for _ in 0..20 {
            let size = cheap.size();
            cheap.learn(size, Duration::from_micros(size as u64), NO);
            let size = dear.size();
            dear.learn(
                size,
                Duration::from_micros(size as u64),
                Duration::from_micros(30),
            );
        }
        assert!(cheap.size() <= 10, "{}", cheap.size());
        assert!(dear.size() >= 400, "{}", dear.size());
    }

    #[test]
    fn fixed_size_stays() {
        let mut pace = Pace::fixed(7);
        pace.learn(7, Duration::from_secs(1), NO);
        assert_eq!(pace.size(), 7);
    }
}
