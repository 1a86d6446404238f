//! What polls of each kind of future have cost: learnt by whoever polls, kept for the process. What follows from it is
//! in [`policy`](super::policy).

use std::time::Instant;

use super::policy::{BIG, HEAVY, VERY_BIG, nanos, pays};
use crate::sync::plain::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};

/// A cost this many times what was known is strange, and needs a second look.
pub(super) const OUTLIER: u64 = 4;
/// A first sample that is believed at once.
const FIRST: u64 = 10_000;

/// Learnt costs by kind of future, in nanoseconds; zero is unknown. A collision costs a wrong guess.
static SITES: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];

/// Kinds that are short, but some of whose polls were very long: for how many more polls that is kept in mind.
static SURPRISES: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];
/// How often it was forgotten meanwhile.
static FORGOTTEN: [AtomicU8; 1024] = [const { AtomicU8::new(0) }; 1024];
/// Whether there ever was one: most programs need not look which kind it was.
static ANY_SURPRISE: AtomicBool = AtomicBool::new(false);
/// So many windows in a row look at the clock at their end.
static RECENT: AtomicU16 = AtomicU16::new(0);
/// From the second one on: a scope may have thousands of children, of which a few are long, in each of its rounds. If they are
/// long all at once and then not for long, it is kept for eight times as many, and once more.
const KEPT_IN_MIND: u32 = 60_000;
const FORGOTTEN_MOST: u8 = 2;
/// One alone: it may have been the system that put the thread aside.
const ONCE: u32 = 4096;
/// The same, where nobody knows whether it was one of them.
const SUSPECTED: u32 = 16;

fn place(key: usize) -> usize {
    // Fibonacci hashing: function addresses differ in their middle bits.
    let hash = (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> 54) as usize
}

fn site(key: usize) -> &'static AtomicU32 {
    &SITES[place(key)]
}

/// Whether there was a surprise of any kind, not long ago: not any more after so many questions.
pub(super) fn were_surprises() -> bool {
    let left = RECENT.load(Ordering::Relaxed);
    if left > 0 {
        RECENT.store(left - 1, Ordering::Relaxed);
    }
    left > 0
}

/// Whether some polls of this kind, which is short, were very long, not long ago.
#[inline]
pub(super) fn has_surprised(key: usize) -> bool {
    // Relaxed: a prediction. The same wherever these are used. Not in a model, which must not depend on how long anything took.
    !cfg!(selvedge_loom)
        && ANY_SURPRISE.load(Ordering::Relaxed)
        && SURPRISES[place(key)].load(Ordering::Relaxed) != 0
}

/// So many polls of this kind took this long together, which is `strange`, or as known.
#[inline]
pub(super) fn note_stretch(key: usize, polls: u64, time: u64, strange: bool) {
    if strange || has_surprised(key) {
        keep_in_mind(key, polls, time, strange);
    }
}

#[cold]
fn keep_in_mind(key: usize, polls: u64, time: u64, strange: bool) {
    let slot = &SURPRISES[place(key)];
    let left = slot.load(Ordering::Relaxed);
    // What is long by now is not strange any more, but of the same burst.
    let is_long = match strange {
        true => time >= VERY_BIG,
        false => time / polls.max(1) >= VERY_BIG,
    };
    let left = match is_long {
        true if left > SUSPECTED => kept_for(key, left <= ONCE),
        true => ONCE,
        false => left.saturating_sub(u32::try_from(polls).unwrap_or(u32::MAX)),
    };
    slot.store(left, Ordering::Relaxed);
    if left > 0 {
        ANY_SURPRISE.store(true, Ordering::Relaxed);
    }
    if strange && left > ONCE {
        RECENT.store(KEPT_IN_MIND as u16, Ordering::Relaxed);
    }
}

/// For how many polls a kind is kept in mind of which several were long. `anew`: it was not, before.
fn kept_for(key: usize, anew: bool) -> u32 {
    let times = &FORGOTTEN[place(key)];
    let before = times.load(Ordering::Relaxed);
    if anew && before <= FORGOTTEN_MOST {
        times.store(before + 1, Ordering::Relaxed);
    }
    let before = if anew {
        before
    } else {
        before.saturating_sub(1)
    };
    KEPT_IN_MIND << (3 * before.min(FORGOTTEN_MOST))
}

/// What a poll of this kind is expected to cost: where nothing is known of later polls, a first poll that was big
/// says that they may be as well, and the other way round. Zero is unknown.
pub(super) fn expected(key: usize) -> u64 {
    match estimate(key) {
        0 => match estimate(key ^ 1) {
            sibling if sibling >= BIG => sibling,
            _ => 0,
        },
        known => known,
    }
}

/// What is known of this kind of future, in nanoseconds a poll.
pub(super) fn estimate(key: usize) -> u64 {
    if cfg!(selvedge_loom) {
        // A model decides by itself when to lend, and must not depend on how long anything took.
        return 1;
    }
    // Relaxed: a prediction; lost updates are harmless. The same in `learn`.
    u64::from(site(key).load(Ordering::Relaxed))
}

/// Whether a poll of this kind is known to be over soon, so that nobody has to look at the clock for it.
pub(super) fn is_known_short(key: usize) -> bool {
    (1..BIG).contains(&estimate(key))
}

/// Whether so many of this kind are known to be too little work for any helper.
pub(super) fn needs_no_help(key: usize, left: usize) -> bool {
    let known = estimate(key);
    known != 0 && !pays(known, left, || true)
}

/// Polls of this kind, which is short, may have been very long: the next few are to be looked at.
pub(super) fn suspect(key: usize) {
    let slot = &SURPRISES[place(key)];
    slot.fetch_max(SUSPECTED, Ordering::Relaxed);
    ANY_SURPRISE.store(true, Ordering::Relaxed);
}

/// Polls that were lent took this long together, all of one kind if that is given.
pub(super) fn note_lent(key: Option<usize>, from: Instant, until: Instant) {
    if let Some(key) = key.filter(|&key| is_known_short(key)) {
        let time = nanos(from, until);
        if time >= VERY_BIG {
            note_stretch(key, 1, time, true);
        }
    }
}

pub(super) fn learn(key: usize, sample: u64) {
    let slot = site(key);
    let old = u64::from(slot.load(Ordering::Relaxed));
    let sample = sample.clamp(1, u64::from(u32::MAX));
    let new = if old == 0 {
        sample
    } else if sample > old {
        old + (sample - old).div_ceil(2)
    } else {
        old - (old - sample) / 16
    };
    slot.store(u32::try_from(new).unwrap_or(u32::MAX), Ordering::Relaxed);
}

/// The time that so many polls of one kind took, by the owner outside lending. `false`: it is hard to believe.
pub(super) fn learn_stretch(key: usize, polls: usize, from: Instant, until: Instant) -> bool {
    let time = nanos(from, until);
    let mean = time / (polls as u64).max(1);
    let known = estimate(key);
    learn(key, believable(known, mean));
    let strange = known != 0 && mean > known * OUTLIER + HEAVY;
    note_stretch(key, polls as u64, time, strange);
    !strange
}

/// What to make of a poll, or a stretch, that took strangely long: the first poll of a kind runs on cold
/// memory, and below `FIRST` says no more than "not big"; later ones move the estimate step by step, since
/// the system may have put this thread aside.
fn believable(known: u64, cost: u64) -> u64 {
    match known {
        0 if cost < FIRST => cost.min(HEAVY * 3 / 4),
        0 => cost,
        known => cost.min(known * OUTLIER + HEAVY),
    }
}

/// It is known by now, whatever was known before.
pub(super) fn set_cost(key: usize, cost: u64) {
    // Relaxed: as in `learn`.
    site(key).store(u32::try_from(cost).unwrap_or(u32::MAX), Ordering::Relaxed);
}
