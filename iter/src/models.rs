//! Loom models of what lanes share, on the real types: the [gate](crate::source::gate) before a source that one lane at a
//! time may ask, and the [roster](crate::roster) of lanes that are up. Run them with `scripts/loom`.
//!
//! A wake that is lost leaves a lane waiting, which loom reports as a deadlock. Each model says what it must have come by,
//! so that it cannot pass by never reaching its subject.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::roster::Roster;
use crate::source::gate::{Entry, Gate};
use crate::source::{Ask, Waiting};
use crate::sync::model::{AtomicU32, Builder, Condvar, thread};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// Every execution with `least` preemptions, or `LOOM_MAX_PREEMPTIONS` of them if that is more.
fn check(least: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.max(Some(least));
    builder.max_branches = 20_000;
    builder.check(model);
}

/// What a model must have come by.
struct Seen<const N: usize>([AtomicU32; N]);

impl<const N: usize> Seen<N> {
    const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; N])
    }

    fn note(&self, outcome: usize) {
        // Relaxed: one thread of the system runs a model. The same below.
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }

    fn assert_all(&self) {
        let times = self.0.each_ref().map(|times| times.load(Ordering::Relaxed));
        let all = times.iter().all(|times| *times > 0);
        assert!(all, "not all seen: {times:?}");
    }
}

/// A lane's task: it sleeps until it is woken.
struct Task {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            woken: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    fn sleep(&self) {
        let mut woken = lock(&self.woken);
        while !std::mem::take(&mut *woken) {
            woken = self.changed.wait(woken).unwrap();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_all();
    }
}

/// A gate, and a count that only the lane with the turn touches: in two steps and without any order of its own, so that it
/// shows by a step too few whether two had the turn at once, or one did not see what the one before it had done.
struct Source {
    gate: Gate,
    taken: AtomicU64,
}

impl Source {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(),
            taken: AtomicU64::new(0),
        })
    }

    fn take(&self) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed) + 1;
        self.taken.store(taken, Ordering::Relaxed);
        taken
    }
}

/// What a lane does with its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Passes,
    /// The source is at its end with the second item.
    Ends,
    /// The first time it waits for the source with the turn; `wakes` is the source's.
    Rests,
}

/// A lane that has so many turns; whether the gate was closed before. Notes that it has had to wait.
fn lane(
    source: &Source,
    turns: usize,
    does: Does,
    wakes: &Mutex<Option<Waker>>,
    waits: &Seen<2>,
) -> bool {
    let task = Task::new();
    let waker = Waker::from(Arc::clone(&task));
    let mut waiting = Waiting::No;
    let mut left = turns;
    let mut rested = does != Does::Rests;
    while left > 0 {
        let ask = &mut Ask {
            want: 1,
            share: 1,
            least: 1,
            waiting: &mut waiting,
            waker: &waker,
            now: None,
        };
        match source.gate.enter(ask) {
            Entry::Closed => return true,
            Entry::Wait => {
                waits.note(0);
                task.sleep();
            }
            Entry::Turn(turn) if !rested => {
                rested = true;
                *lock(wakes) = Some(waker.clone());
                if !turn.rest(ask) {
                    return true;
                }
                waits.note(1);
                task.sleep();
            }
            Entry::Turn(turn) => {
                let taken = source.take();
                left -= 1;
                match does {
                    Does::Ends if taken >= 2 => turn.end(),
                    _ => turn.pass(),
                }
            }
        }
    }
    false
}

/// Lanes side by side, each on a thread of its own; which of them were told that the gate is closed. Meanwhile `beside` runs.
fn lanes<const N: usize>(
    source: &Arc<Source>,
    all: [(usize, Does); N],
    wakes: &Arc<Mutex<Option<Waker>>>,
    waits: &'static Seen<2>,
    beside: impl FnOnce(),
) -> [bool; N] {
    let threads = all.map(|(turns, does)| {
        let (source, wakes) = (Arc::clone(source), Arc::clone(wakes));
        thread::spawn(move || lane(&source, turns, does, &wakes, waits))
    });
    beside();
    threads.map(|thread| thread.join().unwrap())
}

#[test]
fn each_lane_has_its_turns_and_no_two_at_once() {
    static WAITS: Seen<2> = Seen::new();
    check(2, || {
        let source = Source::new();
        let all = [(2, Does::Passes), (1, Does::Passes), (1, Does::Passes)];
        let closed = lanes(&source, all, &Arc::default(), &WAITS, || ());
        assert_eq!(closed, [false; 3]);
        assert_eq!(source.take(), 5, "four turns, and this");
    });
    assert!(WAITS.0[0].load(Ordering::Relaxed) > 0, "nobody had to wait");
}

#[test]
fn end_of_the_source_is_told_to_whoever_waits() {
    static WAITS: Seen<2> = Seen::new();
    static CLOSED: Seen<2> = Seen::new();
    check(2, || {
        let source = Source::new();
        let all = [(3, Does::Ends), (2, Does::Ends)];
        let closed = lanes(&source, all, &Arc::default(), &WAITS, || ());
        assert_eq!(source.take(), 3, "nobody takes what comes behind the end");
        for (n, closed) in closed.into_iter().enumerate() {
            CLOSED.note(usize::from(!closed));
            assert!(closed || n == 1, "the first wants three");
        }
    });
    CLOSED.assert_all();
}

#[test]
fn lane_that_rests_with_the_turn_keeps_it_and_hands_it_on() {
    static WAITS: Seen<2> = Seen::new();
    check(2, || {
        let source = Source::new();
        let wakes: Arc<Mutex<Option<Waker>>> = Arc::default();
        let all = [(1, Does::Rests), (1, Does::Passes)];
        let arrives = {
            let wakes = Arc::clone(&wakes);
            move || {
                // The source has something, by now or later: then the stream would look again itself.
                loop {
                    if let Some(waker) = lock(&wakes).take() {
                        return waker.wake();
                    }
                    thread::yield_now();
                }
            }
        };
        let closed = lanes(&source, all, &wakes, &WAITS, arrives);
        assert_eq!(closed, [false; 2]);
        assert_eq!(source.take(), 3);
    });
    WAITS.assert_all();
}

#[test]
fn closing_wakes_who_queues_and_who_rests() {
    static WAITS: Seen<2> = Seen::new();
    static CLOSED: Seen<2> = Seen::new();
    check(2, || {
        let source = Source::new();
        let all = [(1, Does::Rests), (1, Does::Passes)];
        let closes = {
            let source = Arc::clone(&source);
            move || source.gate.close()
        };
        // Nothing ever comes: who rests goes on by the closing only.
        let [rested, other] = lanes(&source, all, &Arc::default(), &WAITS, closes);
        assert!(rested);
        CLOSED.note(usize::from(other));
    });
    WAITS.assert_all();
    CLOSED.assert_all();
}

/// A lane that sleeps until it is called.
fn sleeper(roster: &Roster, lane: usize, slept: &Seen<2>) {
    let task = Task::new();
    let waker = Waker::from(Arc::clone(&task));
    let mut listed = None;
    let mut outcome = 0;
    while !roster.enter(lane, &mut listed, &waker) {
        outcome = 1;
        task.sleep();
    }
    slept.note(outcome);
}

/// Where a lane's item waits until another lane has begun.
#[derive(Default)]
struct Begun {
    lanes: Mutex<u32>,
    changed: Condvar,
}

impl Begun {
    fn begin(&self) {
        *lock(&self.lanes) += 1;
        self.changed.notify_all();
    }

    fn wait(&self, lanes: u32) {
        let mut begun = lock(&self.lanes);
        while *begun < lanes {
            begun = self.changed.wait(begun).unwrap();
        }
    }
}

#[test]
fn lane_that_suspends_is_replaced_while_others_go_to_sleep() {
    static SLEPT: Seen<2> = Seen::new();
    check(3, || {
        let roster = Arc::new(Roster::new(2, 1));
        let begun = Arc::new(Begun::default());
        let other = {
            let (roster, begun) = (Arc::clone(&roster), Arc::clone(&begun));
            thread::spawn(move || {
                sleeper(&roster, 1, &SLEPT);
                begun.begin();
            })
        };
        assert!(roster.enter(0, &mut None, Waker::noop()));
        roster.suspended();
        begun.wait(1);
        roster.resumed();
        other.join().unwrap();
        roster.close();
    });
    SLEPT.assert_all();
}

#[test]
fn as_many_are_called_as_are_suspended() {
    static SLEPT: Seen<2> = Seen::new();
    check(2, || {
        let roster = Arc::new(Roster::new(4, 2));
        let begun = Arc::new(Begun::default());
        let mut threads = Vec::new();
        for lane in 1..4 {
            let (roster, begun) = (Arc::clone(&roster), Arc::clone(&begun));
            threads.push(thread::spawn(move || {
                if lane == 1 {
                    assert!(roster.enter(lane, &mut None, Waker::noop()));
                    roster.suspended();
                    // Both of the others have to come, for the two that wait.
                    begun.wait(2);
                    roster.resumed();
                } else {
                    sleeper(&roster, lane, &SLEPT);
                    begun.begin();
                }
            }));
        }
        roster.suspended();
        begun.wait(2);
        roster.resumed();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    SLEPT.assert_all();
}

#[test]
fn closing_calls_who_sleeps_or_is_about_to() {
    static SLEPT: Seen<2> = Seen::new();
    check(3, || {
        let roster = Arc::new(Roster::new(3, 1));
        let threads = [1, 2].map(|lane| {
            let roster = Arc::clone(&roster);
            thread::spawn(move || sleeper(&roster, lane, &SLEPT))
        });
        roster.close();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    SLEPT.assert_all();
}
