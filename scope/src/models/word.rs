//! The task word: wakes against polls and ends. No wake is lost, no token is doubled, and what a waker did
//! before it woke is seen by the poll that follows.

use std::sync::Arc;

use super::{Seen, Signal, check_all, check_some};
use crate::sync::model::thread;
use crate::sync::{AtomicU32, Ordering};
use crate::task::{Ended, Rest, TaskWord};
use crate::window::seam::Mark;

/// A task, the queue it goes through, and what its wakers tell it.
struct Bench {
    word: TaskWord,
    /// As many as there are tokens in the queue: one at most.
    queue: Signal,
    told: [AtomicU32; 2],
    /// What only the poller touches.
    future: Mark,
}

impl Bench {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: TaskWord::new(),
            queue: Signal::new(),
            told: [AtomicU32::new(0), AtomicU32::new(0)],
            future: Mark::new(),
        })
    }

    fn push(&self) {
        assert!(!self.queue.is_given(), "the task is in the queue twice");
        self.queue.give();
    }

    /// `true`: the wake had to queue the task.
    fn wake(&self, which: usize) -> bool {
        // Relaxed: the task word is to order it.
        self.told[which].store(1, Ordering::Relaxed);
        let pushes = self.word.wake();
        if pushes {
            self.push();
        }
        pushes
    }

    /// What a poll sees of the wakers.
    fn look(&self) -> [u32; 2] {
        self.future.write();
        // Relaxed: as in `wake`.
        self.told
            .each_ref()
            .map(|told| told.load(Ordering::Relaxed))
    }

    /// After a poll that returned `Pending`.
    fn rest(&self) -> Rest {
        let rest = self.word.rest();
        if rest == Rest::Again {
            self.push();
        }
        rest
    }
}

#[test]
fn wake_against_a_poll_gets_the_task_polled_once_more() {
    static SEEN: Seen<4> = Seen::new();
    check_all(|| {
        let bench = Bench::new();
        bench.word.start();
        // The first poll hands out the waker.
        let waker = thread::spawn({
            let bench = Arc::clone(&bench);
            move || bench.wake(0)
        });
        let mut told = bench.look();
        let at_once = told[0] == 1;
        let mut again = false;
        while told[0] == 0 {
            again = bench.rest() == Rest::Again;
            bench.queue.take();
            bench.word.start();
            told = bench.look();
        }
        bench.word.finish(Ended::Value);
        let pushed = waker.join().unwrap();
        assert!(!bench.queue.is_given(), "an ended task is in the queue");
        assert_eq!(bench.word.ended(), Some(Ended::Value));
        SEEN.note(usize::from(pushed));
        SEEN.note(2 + usize::from(!again && !at_once));
    });
    SEEN.assert_all();
}

#[test]
fn two_wakers_against_a_poll_are_both_heard() {
    static SEEN: Seen<3> = Seen::new();
    check_some(2, || {
        let bench = Bench::new();
        bench.word.start();
        let wakers = [0, 1].map(|which| {
            let bench = Arc::clone(&bench);
            thread::spawn(move || bench.wake(which))
        });
        let mut polls = 1;
        while bench.look() != [1, 1] {
            let _ = bench.rest();
            bench.queue.take();
            bench.word.start();
            polls += 1;
        }
        bench.word.finish(Ended::Panicked);
        let pushed: Vec<bool> = wakers.map(|waker| waker.join().unwrap()).into();
        assert!(!bench.queue.is_given(), "an ended task is in the queue");
        SEEN.note(polls.min(3) - 1);
        assert!(pushed.iter().filter(|pushed| **pushed).count() < polls);
    });
    SEEN.assert_all();
}

#[test]
fn polls_on_two_threads_follow_each_other() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let bench = Bench::new();
        bench.word.start();
        let waker = thread::spawn({
            let bench = Arc::clone(&bench);
            move || bench.wake(0)
        });
        // Another poller takes the task as soon as it is queued, by whomever.
        let poller = thread::spawn({
            let bench = Arc::clone(&bench);
            move || {
                bench.queue.take();
                bench.word.start();
                assert_eq!(
                    bench.look(),
                    [1, 0],
                    "the poll did not see what its waker did"
                );
                bench.word.finish(Ended::Value);
            }
        });
        let _ = bench.look();
        let rest = bench.rest();
        let pushed = waker.join().unwrap();
        poller.join().unwrap();
        assert_eq!(pushed, rest == Rest::Idle, "one of the two queues the task");
        SEEN.note(usize::from(pushed));
    });
    SEEN.assert_all();
}

#[test]
fn wake_of_a_task_that_ends_pushes_nothing() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let bench = Bench::new();
        bench.word.start();
        let waker = thread::spawn({
            let bench = Arc::clone(&bench);
            move || {
                let late = bench.word.ended().is_some();
                assert!(!bench.wake(0), "the wake of a running or ended task pushes");
                late
            }
        });
        bench.word.finish(Ended::Value);
        assert!(!bench.word.wake(), "the wake of an ended task pushes");
        assert_eq!(bench.word.ended(), Some(Ended::Value));
        SEEN.note(usize::from(waker.join().unwrap()));
    });
    SEEN.assert_all();
}

#[test]
fn end_is_seen_with_the_outcome() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let bench = Bench::new();
        bench.word.start();
        let reader = thread::spawn({
            let bench = Arc::clone(&bench);
            move || {
                let ended = bench.word.ended().is_some();
                if ended {
                    bench.future.read();
                }
                ended
            }
        });
        let _ = bench.look();
        bench.word.finish(Ended::Value);
        SEEN.note(usize::from(reader.join().unwrap()));
    });
    SEEN.assert_all();
}
