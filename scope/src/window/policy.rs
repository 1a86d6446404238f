//! When to lend: what polls of each kind of future have cost, and what help costs.
//!
//! Every constant is here. They come from measurements on two cores (a sleeping pool thread costs its waker
//! 8 to 18 us and starts 40 us later; handing a child to another core costs 60 to 100 ns) and are flat: half
//! or double changes little. Costs are learnt from polls of the owner outside lending only; timing polls
//! while helpers contend for the same lines would feed the contention back and never stop lending.

use std::time::{Duration, Instant};

use super::costs::OUTLIER;
pub(super) use super::costs::{
    estimate, expected, has_surprised, is_known_short, learn, learn_stretch, needs_no_help,
    note_lent, note_stretch, set_cost, suspect, were_surprises,
};
use super::hint::{HINTED_HEAVY, Hint};
pub(super) use super::packets::{may_be_long, split_fitting, split_packet, worth};

/// Children that cost less are never lent.
pub(super) const HEAVY: u64 = 200;
/// Work that pays for waking a sleeping pool thread, in nanoseconds.
const ASK_COLD: u64 = 100_000;
/// Work that pays for a thread that is still awake.
pub(super) const ASK_HOT: u64 = 5_000;
/// Children in a packet at most.
pub(super) const PACKET_MOST: usize = 32;
/// Polls between two looks at the clock.
const LOOK: u32 = 16;
/// A window first reads the clock after so many polls of kinds that are known to be cheap: the smallest windows do not
/// pay for it; and looks again after twice as many, lest those kinds have become heavy.
pub(super) const LOOK_FIRST: u32 = 4;
/// The same among cheap children, whose polls a clock read would otherwise be felt in.
const LOOK_CHEAP: u32 = 64;
/// A child that costs this much is worth asking for help while it is polled.
pub(super) const BIG: u64 = 30_000;
/// Beside a poll that takes so long whoever is ready gets a helper, also for work that is not worth waking one.
pub(super) const VERY_BIG: u64 = LONG.as_nanos() as u64;
/// How long the owner spins for helpers before it parks; parking ruins the placement of threads.
pub(super) const SPIN: Duration = if cfg!(selvedge_loom) {
    Duration::ZERO
} else {
    Duration::from_micros(30)
};
/// Spins between two looks at the clock.
pub(super) const SPINS: u32 = if cfg!(selvedge_loom) { 1 } else { 32 };
/// How long a helper that is called back may go on with its packet, beside the poll that is under way.
pub(super) const CALLED_BACK: Duration = if cfg!(selvedge_loom) {
    Duration::ZERO
} else {
    Duration::from_micros(100)
};
/// The owner's nap when it is a worker of a rayon pool and has to look after its queue (rule W9).
pub(super) const NAP: Duration = if cfg!(selvedge_loom) {
    Duration::ZERO
} else {
    Duration::from_micros(200)
};
/// A wait that lasts longer lets the tasks beside the scope move to another thread first.
pub(super) const LONG: Duration = Duration::from_millis(1);
/// For waits that somebody is sure to end.
pub(super) const ENDLESS: Duration = Duration::from_secs(3600);
/// A body that is ready waits for its turn as everybody does, but for no more polls of children than these: of many
/// thousand that end one after another and wake it, it is to see some at a time.
pub(super) const BODY_EVERY: u64 = 256;
/// While helpers take part, the owner does not know who was ready before the body; it polls so many children first,
/// or fewer if there are fewer. A poll of the body after each child of 3 us would cost 2 %.
pub(super) const BODY_EVERY_LENT: usize = 16;
/// A body that has waited for so long is next, at the look at the clock that finds out: a bound in time where
/// children are many and each of them is looked at, short against the budget of a window.
pub(super) const BODY_WAIT: Duration = Duration::from_millis(1);
/// Polls between two looks at the inbox, if the owner has other things to do. A look is a load of a word that other
/// threads write, so it costs nothing while nobody does; tokio looks at its own after 31 or 61.
pub(super) const MAIL_EVERY: u32 = 32;
/// Of those that came through the inbox, so many at a time are put in front; then as many others are
/// polled, or all of them once, before the next.
pub(super) const MAIL_MOST: u64 = 16;
/// Polls timed one by one after a mixed stretch turned out heavy, or far longer than those before.
const PROBE: u32 = 64;
/// Not a kind that was doubted: so many are still to be timed, added to this.
const PROBES: usize = usize::MAX - PROBE as usize;
/// One window in this many takes samples.
const SAMPLE_EVERY: u32 = 16;
/// The golden ratio, as a part of `2^32`.
const GOLDEN: u32 = 0x9E37_79B1;
/// So many samples at most: where kinds alternate, each poll would be one.
const SAMPLES: u32 = 64;
/// The budget of a window (rule W5), in polls and in time. It bounds how long the tasks beside the scope
/// wait; closing and opening again costs about a tenth of a microsecond.
pub(super) const BUDGET_POLLS: u32 = 32_768;
pub(super) const BUDGET_TIME: Duration = if cfg!(selvedge_loom) {
    Duration::from_secs(3600)
} else if cfg!(miri) {
    // Its clock goes by steps: what takes a microsecond takes some milliseconds there.
    Duration::from_secs(1)
} else {
    Duration::from_millis(5)
};
/// What a window has in any case where several in one task have the time of one: helpers need some time to come and to leave.
pub(super) const BUDGET_LEAST: Duration = Duration::from_nanos(BUDGET_TIME.as_nanos() as u64 / 20);
/// Notices that one window takes.
pub(super) const NOTICES: u32 = 4096;
/// Polls while lending after which cheap children are taken back.
const LENT_LOOK: u64 = 512;
/// Polls of a cheap body between two looks at the clock: most windows poll it a few times only.
pub(super) const BODY_LOOK: u32 = 8;
/// The first of these looks.
pub(super) const BODY_LOOK_FIRST: u32 = 4;
/// Polls of a first window that goes straight: none of them looks at the clock.
pub(super) const STRAIGHT: u32 = 8;
/// How long scopes in one poll may go on, once one of them has used up its budget, under the embedded executor, where nothing
/// runs beside them, while nobody waits in the windows around.
pub(super) const TIME_ALONE: Duration = Duration::from_nanos(7 * BUDGET_TIME.as_nanos() as u64);

/// Whether the first polls of each kind in this window are timed in any case. Of every few windows in a row, and of every few of
/// those that come each so many others, some are among them: a loop opens the same ones again and again.
pub(super) fn takes_sample(window: u32) -> bool {
    window.wrapping_mul(GOLDEN) < u32::MAX / SAMPLE_EVERY
}

/// Whether a poll may begin although helpers have been called back so long ago: it is short, or takes no longer than that. So
/// the poll of the scope, which ends when all of them have, at most lasts twice as long for it; and those that are about to leave
/// have left by then.
pub(super) fn may_begin(key: usize, waited: Duration) -> bool {
    match estimate(key) {
        0 => waited >= LONG,
        known => known < BIG || u128::from(known) <= waited.as_nanos(),
    }
}

/// Whether others get a helper beside a poll of which that is known.
pub(super) fn may_be_very_big(known: u64) -> bool {
    known == 0 || known >= VERY_BIG
}

pub(super) fn nanos(since: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX)
}

/// The running estimates of one window.
#[derive(Debug)]
pub(super) struct Policy {
    key: usize,
    /// What is known of `key`.
    site: u64,
    /// Polls since the last look.
    run: u32,
    look: u32,
    /// All polls since the last look were of one kind.
    single: bool,
    /// When the last look was; `None` before the first.
    looked: Option<Instant>,
    /// Polls still to be timed one by one, after a mixed stretch turned out heavy.
    probe: u32,
    /// Time the next poll.
    timed: bool,
    /// So many more polls that are of another kind than those before are timed.
    samples: u32,
    /// The last stretch was not believed: of what kind it was, or zero.
    doubted: usize,
    /// Stretches are no longer than this: they begin short.
    ramp: u32,
    /// The owner's polls while lending, since the last look at them.
    lent_polls: u64,
    lent_time: u64,
    /// They were all of one kind: which, or zero.
    lent_key: usize,
    /// What was lent in this window has turned out cheap.
    withdrawn: bool,
    polls: u64,
    time: u64,
    hint: Option<Hint>,
}

impl Policy {
    /// `doubted`: what the last window of the scope [could not believe](Self::doubted).
    pub(super) fn new(window: u32, hint: Option<Hint>, doubted: usize) -> Self {
        let mut this = Self {
            hint,
            key: 0,
            site: 0,
            run: 0,
            look: LOOK_FIRST,
            single: true,
            looked: None,
            probe: 0,
            timed: false,
            samples: if takes_sample(window) { SAMPLES } else { 0 },
            doubted,
            ramp: LOOK_FIRST,
            lent_polls: 0,
            lent_time: 0,
            lent_key: 0,
            withdrawn: false,
            polls: 0,
            time: 0,
        };
        if doubted >= PROBES {
            this.probe_on();
        }
        this
    }

    /// What was doubted is not a kind, but so many polls that are to be timed.
    #[cold]
    fn probe_on(&mut self) {
        self.probe = (std::mem::take(&mut self.doubted) - PROBES) as u32;
        if self.probe > 0 {
            self.look = 0;
        }
    }

    /// The kind of the last polls outside lending.
    #[inline]
    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// So many more polls of that kind may follow before [`pause`](Self::pause).
    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.look.saturating_sub(self.run + 1)
    }

    /// So many were made.
    #[inline]
    pub(super) fn ran(&mut self, polls: u32) {
        self.run += polls;
    }

    /// Before a poll, if it is one of another kind or time to look at the clock.
    pub(super) fn pause(&mut self, key: usize) {
        self.run += 1;
        let is_other = key != self.key;
        let first = if is_other { look_at(key) } else { 0 };
        let look = match is_other {
            true => first.min(self.ramp),
            false => self.look,
        };
        let probes = self.probe > 0;
        if probes {
            // Every poll pauses until the probe is over.
            self.timed = true;
            self.run = 0;
            self.looked = None;
        } else if self.run >= look {
            // At those before this one.
            self.look();
        }
        if is_other {
            self.single = self.run == 0;
            self.key = key;
            self.site = expected(key);
            self.timed = probes || self.samples > 0 || estimate(key) == 0 || self.doubted == key;
            self.samples = self.samples.saturating_sub(1);
            self.look = match self.probe {
                // What the others were like says nothing of it.
                0 => first.min(self.ramp),
                _ => 0,
            };
        }
    }

    #[cold]
    fn look(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.looked.replace(now) {
            let polls = u64::from(self.run);
            let time = self.doubt(nanos(last, now), polls);
            self.time += time;
            self.polls += polls;
            let mean = time / polls;
            if self.single {
                learn(self.key, mean);
                self.site = estimate(self.key);
            } else if mean > HEAVY {
                self.probe = PROBE;
            }
            self.look = if self.probe > 0 {
                0
            } else if mean >= BIG || (self.single && self.site >= BIG) {
                // A short one among many that are long says nothing of the next.
                1
            } else if mean < HEAVY / 4 {
                look_after(self.key, LOOK_CHEAP)
            } else {
                look_after(self.key, LOOK)
            };
        }
        self.ramp = (self.ramp * 2).min(LOOK_CHEAP);
        self.look = self.look.min(self.ramp);
        self.run = 0;
        self.single = true;
    }

    /// A stretch that took far longer than was known. The system may have put this thread aside meanwhile,
    /// so the first of its kind is not believed; a second one in a row is.
    fn doubt(&mut self, time: u64, polls: u64) -> u64 {
        let known = if self.single { self.site } else { 0 };
        let known = known.max(self.time.checked_div(self.polls).unwrap_or(0));
        let strange = known != 0 && time / polls > known * OUTLIER + HEAVY;
        if self.single {
            note_stretch(self.key, polls, time, strange);
        } else if strange {
            // Whichever of these kinds it was. The last one is no more likely than others.
            self.probe = PROBE;
            self.doubted = 0;
            return polls * known;
        }
        let before = std::mem::replace(&mut self.doubted, if strange { self.key } else { 0 });
        if strange && before == 0 {
            return polls * known;
        }
        time
    }

    /// The kind whose last stretch took far longer than was known, and was not believed: a window that is over with it
    /// leaves the second look to the next. Or how many polls of whatever kinds it has left to time.
    pub(super) fn doubted(&self) -> usize {
        match (self.doubted, self.probe) {
            (0, 1..) => PROBES + self.probe as usize,
            (doubted, _) => doubted,
        }
    }

    /// So many polls were made before the window began to count.
    pub(super) fn begins_after(&mut self, polls: u32) {
        self.run = polls;
    }

    /// Whether the last poll was of a kind that is looked at one by one.
    pub(super) fn is_big(&self) -> bool {
        self.site >= BIG
    }

    /// Whether the next poll is to be timed by itself.
    #[inline]
    pub(super) fn wants_time(&self) -> bool {
        self.timed
    }

    /// Whether somebody says so of a kind of which nothing is known.
    pub(super) fn is_said_short(&self, key: usize) -> bool {
        self.hint == Some(Hint::Cheap) && estimate(key) == 0
    }

    /// Whether this poll of the body is to be timed although its cost is known: the first of one window in a few.
    pub(super) fn samples_body(&self, bodies: u32) -> bool {
        self.samples > 0 && bodies == 1
    }

    /// The poll took this long.
    #[cold]
    pub(super) fn timed(&mut self, from: Instant, until: Instant) {
        self.timed = false;
        if self.probe > 0 {
            self.probe -= 1;
            if self.probe == 0 {
                self.look = LOOK;
            }
        }
        if std::mem::take(&mut self.doubted) == self.key {
            // The second in a row.
            learn(self.key, nanos(from, until));
        } else {
            // As in `doubt`: one poll that took strangely long moves the estimate a little only. The next one tells.
            if !learn_stretch(self.key, 1, from, until) {
                self.doubted = self.key;
                self.timed = true;
            }
        }
        self.site = estimate(self.key);
        if self.timed {
            self.look = 1;
        } else if self.probe == 0 {
            self.look = look_for(self.key).min(self.look);
        }
    }

    /// What the polls of this window have cost on average, if there were enough of them.
    pub(super) fn mean(&self) -> u64 {
        if self.polls >= 32 {
            self.time / self.polls
        } else {
            0
        }
    }

    /// What each child is taken to cost at least.
    pub(super) fn least(&self) -> u64 {
        match self.hint {
            Some(Hint::Heavy) => self.mean().max(HINTED_HEAVY),
            Some(Hint::Cheap) | None => self.mean(),
        }
    }

    /// What the next children are taken to cost each.
    pub(super) fn estimate(&self) -> u64 {
        if self.hint == Some(Hint::Heavy) {
            return self.site.max(self.least());
        }
        if self.withdrawn {
            // What was expected of these kinds has turned out wrong once.
            return self.mean();
        }
        self.site.max(self.mean())
    }

    /// Nothing is known of the kind that comes up.
    pub(super) fn is_unknown(&self) -> bool {
        self.site == 0 && !self.withdrawn && self.hint.is_none()
    }

    /// It is known by now, and too cheap for help.
    pub(super) fn is_cheap(&self) -> bool {
        self.site != 0 && self.site < HEAVY
    }

    /// Whether help pays for so many children; `hot` tells whether a pool thread is awake.
    pub(super) fn pays(&self, left: usize, hot: impl FnOnce() -> bool) -> bool {
        pays(self.estimate(), left, hot)
    }

    /// The clock, if it was read a short while ago.
    pub(super) fn looked(&self) -> Option<Instant> {
        self.looked
    }

    /// Polls of the owner while lending, of one kind if `key` says so. `true`: enough of them say that the children
    /// are cheap after all, whatever was known of their kinds. Estimates never rise here, since helpers and owner
    /// contend for the same lines. A few packets say nothing: where one child in a hundred is heavy, most are cheap.
    pub(super) fn lent(
        &mut self,
        key: Option<usize>,
        polls: u64,
        from: Instant,
        until: Instant,
    ) -> bool {
        let key = key.unwrap_or(0);
        if self.lent_polls == 0 {
            self.lent_key = key;
        } else if self.lent_key != key {
            self.lent_key = 0;
        }
        self.lent_time += nanos(from, until);
        self.lent_polls += polls;
        if self.lent_polls < LENT_LOOK || self.hint == Some(Hint::Heavy) {
            return false;
        }
        let mean = self.lent_time / self.lent_polls;
        (self.lent_time, self.lent_polls) = (0, 0);
        if mean >= HEAVY {
            return false;
        }
        if self.lent_key != 0 {
            set_cost(self.lent_key, mean);
        }
        (self.time, self.polls) = (0, 0);
        self.key = 0;
        self.withdrawn = true;
        true
    }
}

/// Polls between two looks at the clock, for children of this kind: big ones are looked at one by one, so that a
/// window of them keeps its budget.
fn look_for(key: usize) -> u32 {
    if expected(key) >= BIG {
        1
    } else {
        look_after(key, LOOK)
    }
}

/// The same for the first of them. The clock is read soon where some were very long, so that those beside the scope are told of
/// the time that it takes; but none of them is timed by itself, or it would always be the first one that is learnt.
fn look_at(key: usize) -> u32 {
    match has_surprised(key) {
        true => 1,
        false => look_for(key),
    }
}

/// So many polls at most, or a few if some of that kind are long.
fn look_after(key: usize, most: u32) -> u32 {
    if has_surprised(key) { LOOK_FIRST } else { most }
}

/// As [`Policy::pays`], with an estimate of the caller's.
pub(super) fn pays(estimate: u64, left: usize, hot: impl FnOnce() -> bool) -> bool {
    if left == 0 || estimate < HEAVY {
        return false;
    }
    is_worth(estimate.saturating_mul(left as u64), hot)
}

/// Whether so much work pays for a helper.
pub(super) fn is_worth(work: u64, hot: impl FnOnce() -> bool) -> bool {
    work >= ASK_COLD || (work >= ASK_HOT && hot())
}
