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

/// Within a batch the clock is read after each block of items. Blocks grow while one takes no longer than this, of which
/// a reading is a small part.
const BLOCK: Duration = Duration::from_micros(4);

/// A block that takes so many times as long has items of another kind than those before.
const FAR: u32 = 4;

/// The most items in a block, however cheap they are: so many are begun at most before a lane notices that items have
/// become heavy. A reading takes 25 ns, so this costs a tenth of a nanosecond an item.
const BLOCK_MAX: u64 = 1 << 8;

/// Ending a run may take one part in so many of the time that the run took.
const UPKEEP: u32 = 16;

/// A batch is not made longer than this for the sake of that part.
const LONGEST: Duration = Duration::from_millis(1);

/// Unless the end of a run is so dear that it would be more than one part in so many then.
const DEAR: u32 = 4;

/// The batch size of one lane, learnt from how long its batches take.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    size: usize,
    block: u64,
    max: usize,
    growth: usize,
    goal: Duration,
    fixed: bool,
    /// Fewer items take less time than the end of their run.
    least: usize,
    /// So many items make a run, over several batches if need be.
    run: usize,
    /// How long the ends of the last runs took.
    ends: [Duration; 4],
    /// How long it takes, as far as two of them say so: one may have found no neighbour to be joined to, and the system may
    /// have put the thread aside in another.
    upkeep: Duration,
}

impl Pace {
    /// Starts at one item and adapts, up to `max`; `cuts` for sources that can be cut.
    pub(crate) fn adaptive(max: usize, cuts: bool) -> Self {
        let (growth, goal) = if cuts { (8, PIECE) } else { (4, BATCH) };
        Self {
            size: 1,
            block: 1,
            max,
            growth,
            goal,
            fixed: false,
            least: 1,
            run: 1,
            ends: [Duration::ZERO; 4],
            upkeep: Duration::ZERO,
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

    /// How many items make a run that is dear to end.
    pub(crate) fn run(&self) -> usize {
        self.run
    }

    /// Where fewer are left than lanes might share, a lane takes so many all the same.
    pub(crate) fn least(&self) -> usize {
        self.least
    }

    /// After so many items of a batch the clock is read.
    #[inline]
    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// A block took this long. The next may be longer.
    #[inline]
    pub(crate) fn looked(&mut self, took: Duration) {
        if took <= BLOCK {
            self.block = (2 * self.block).min(BLOCK_MAX);
        }
        self.looked_early(took);
    }

    /// What there was of a block when the batch ended took this long. If it was far too long, the next block is one item,
    /// until items are cheap again.
    #[inline]
    pub(crate) fn looked_early(&mut self, took: Duration) {
        if took > FAR * BLOCK {
            self.block = 1;
        }
    }

    /// Ending a run took this long.
    pub(crate) fn run_ended(&mut self, upkeep: Duration) {
        self.ends.rotate_left(1);
        self.ends[3] = upkeep;
        let mut ends = self.ends;
        ends.sort_unstable();
        self.upkeep = ends[2];
    }

    /// Runs are worth more than a slice.
    pub(crate) fn is_dear(&self) -> bool {
        !self.fixed && self.upkeep * UPKEEP > SLICE
    }

    /// A batch of `count` items, or a part of one, took this long, its end not counted.
    pub(crate) fn learn(&mut self, count: usize, took: Duration) {
        if self.fixed || count == 0 {
            return;
        }
        let took = took.as_nanos().max(1);
        let worth = |time: Duration| {
            usize::try_from(count as u128 * time.as_nanos() / took).unwrap_or(usize::MAX)
        };
        let dear = (self.upkeep * UPKEEP).min(LONGEST.max(self.upkeep * DEAR));
        let ideal = worth(self.goal.max(dear));
        let least = worth(self.upkeep);
        self.run = ideal.max(1);
        // One odd batch changes the size by no more than this.
        let most = self.size.saturating_mul(self.growth);
        self.size = ideal
            .min(self.max)
            .clamp((self.size / 2).max(1), most)
            .min(self.max);
        self.least = least.clamp(1, self.size);
    }
}

/// Reads the clock once a batch, where the end of one is the beginning of the next, and between blocks.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    lap: Instant,
    /// The last two readings.
    before: Instant,
    last: Instant,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            lap: now,
            before: now,
            last: now,
        }
    }

    /// The time since the last lap.
    pub(crate) fn lap(&mut self) -> Duration {
        self.look();
        let lap = self.last - self.lap;
        self.lap = self.last;
        lap
    }

    /// Reads the clock, and says how long it was not read. The lap goes on.
    #[inline]
    pub(crate) fn look(&mut self) -> Duration {
        self.before = std::mem::replace(&mut self.last, Instant::now());
        self.unread()
    }

    /// How long the clock was not read before it was last read.
    pub(crate) fn unread(&self) -> Duration {
        self.last - self.before
    }

    /// Whether the slice was used up when the clock was last read.
    #[inline]
    pub(crate) fn used_up(&self) -> bool {
        self.last - self.began >= SLICE
    }

    /// When the clock was last read.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    /// Whether the slice is used up by now. The lap goes on.
    pub(crate) fn is_over(&mut self) -> bool {
        self.look();
        self.used_up()
    }

    /// Whether the slice is used up by now.
    pub(crate) fn over(&mut self) -> bool {
        self.lap();
        self.used_up()
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH_MAX, BLOCK, PIECE_MAX, Pace};
    use std::time::Duration;

    const NO: Duration = Duration::ZERO;

    #[test]
    fn cheap_items_grow_the_batch_to_its_maximum() {
        let mut pace = Pace::adaptive(BATCH_MAX, false);
        for _ in 0..20 {
            let size = pace.size();
            pace.learn(size, Duration::from_nanos(size as u64));
        }
        assert_eq!(pace.size(), BATCH_MAX);
    }

    #[test]
    fn heavy_items_shrink_the_batch_to_one() {
        let mut pace = Pace::adaptive(BATCH_MAX, false);
        pace.learn(1, Duration::from_nanos(1));
        assert_eq!(pace.size(), 4);
        for _ in 0..3 {
            let size = pace.size();
            pace.learn(size, Duration::from_millis(size as u64));
        }
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn dear_ends_of_runs_make_runs_longer() {
        let (mut cheap, mut dear) = (Pace::adaptive(1024, false), Pace::adaptive(1024, false));
        for _ in 0..20 {
            let size = cheap.size();
            cheap.learn(size, Duration::from_micros(size as u64));
            let size = dear.size();
            dear.run_ended(Duration::from_micros(30));
            dear.learn(size, Duration::from_micros(size as u64));
        }
        assert!(cheap.size() <= 10, "{}", cheap.size());
        assert!(dear.size() >= 400, "{}", dear.size());
    }

    // The dearer it was, the shorter they became, beyond a millisecond.
    #[test]
    fn very_dear_ends_of_runs_make_runs_longer_still() {
        let item = Duration::from_micros(5);
        for upkeep in [1, 2, 5, 100] {
            let upkeep = Duration::from_millis(upkeep);
            let mut pace = Pace::adaptive(PIECE_MAX, true);
            for _ in 0..40 {
                let size = pace.size();
                pace.run_ended(upkeep);
                pace.learn(size, size as u32 * item);
            }
            let work = pace.size() as u32 * item;
            assert!(work >= 3 * upkeep, "{upkeep:?}: {work:?}");
            assert!(work <= 5 * upkeep, "{upkeep:?}: {work:?}");
            assert!(pace.least() as u32 * item >= upkeep / 2, "{upkeep:?}");
            assert!(pace.least() <= pace.size());
        }
    }

    #[test]
    fn one_end_of_a_run_that_took_long_says_nothing() {
        let mut pace = Pace::adaptive(PIECE_MAX, true);
        let mut learn = |upkeep| {
            pace.run_ended(Duration::from_micros(upkeep));
            let size = pace.size();
            pace.learn(size, size as u32 * Duration::from_micros(1));
            pace.size()
        };
        assert!((0..10).map(|_| learn(0)).last() < Some(100));
        assert!(learn(20_000) < 100);
        assert!((0..10).map(|_| learn(0)).last() < Some(100));
        // Where each second one has nothing to join.
        let sizes: Vec<_> = (0..40).map(|n| learn(n % 2 * 5000)).collect();
        assert!(sizes[20..].iter().all(|size| *size > 15_000), "{sizes:?}");
    }

    #[test]
    fn blocks_grow_to_their_bound_and_one_far_too_long_makes_them_single_items() {
        // Also where the user says how long batches are.
        for mut pace in [Pace::adaptive(BATCH_MAX, true), Pace::fixed(7)] {
            let mut sizes = Vec::new();
            for _ in 0..10 {
                sizes.push(pace.block());
                pace.looked(Duration::from_nanos(pace.block()));
            }
            assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
            pace.looked(2 * BLOCK);
            assert_eq!(pace.block(), 256, "they take longer, and not far too long");
            pace.looked(Duration::from_millis(256));
            assert_eq!(pace.block(), 1);
            pace.looked(NO);
            pace.looked(NO);
            pace.looked_early(NO);
            assert_eq!(pace.block(), 4, "a part of a block says nothing good");
            pace.looked_early(Duration::from_millis(1));
            assert_eq!(pace.block(), 1);
        }
    }

    #[test]
    fn fixed_size_stays() {
        let mut pace = Pace::fixed(7);
        pace.learn(7, Duration::from_secs(1));
        assert_eq!(pace.size(), 7);
    }
}
