//! The life word: the handshake between a task's end and its handle, and the count that frees the cell.
//! The steps are those of `RawJoin` and `step::end`, on a cell whose parts loom watches.

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

use super::{Seen, check_all, check_some};
use crate::sync::model::thread;
use crate::sync::plain;
use crate::task::{Alone, Heir, LifeWord, Parting, Waiters};
use crate::window::seam::Mark;

/// Counts one part of the cell: who let go of it.
#[derive(Default)]
struct Tally(plain::AtomicU32);

impl Tally {
    fn add(&self) {
        // Relaxed: one thread of the system runs a model. The same below.
        self.0.fetch_add(1, plain::Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(plain::Ordering::Relaxed)
    }
}

impl Wake for Tally {
    fn wake(self: Arc<Self>) {
        self.add();
    }
}

struct Cell {
    life: LifeWord,
    waiters: Waiters,
    output: Mark,
    joiner: Mark,
    /// The memory itself: read by whoever holds a reference, written by whoever frees it.
    whole: Mark,
    /// Outputs taken or dropped, join wakers cloned, join wakers woken or dropped, cells freed.
    outputs: Tally,
    armed: Tally,
    disarmed: Tally,
    freed: Tally,
    woken: Tally,
}

impl Cell {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            life: LifeWord::new(true),
            waiters: Waiters::new(),
            output: Mark::new(),
            joiner: Mark::new(),
            whole: Mark::new(),
            outputs: Tally::default(),
            armed: Tally::default(),
            disarmed: Tally::default(),
            freed: Tally::default(),
            woken: Tally::default(),
        })
    }

    fn use_memory(&self) {
        self.whole.read();
    }

    fn free(&self) {
        self.whole.write();
        self.freed.add();
    }

    /// A waker, or the scope, lets go.
    fn release(&self) {
        self.use_memory();
        if self.life.release() {
            self.free();
        }
    }

    /// As `step::end` and `Core::retire`: a child that ends on a helper. `true`: the finisher had the output.
    fn end(&self) -> bool {
        self.use_memory();
        self.output.write();
        self.settle()
    }

    /// As `Core::finish`: a child that ends on its owner.
    fn end_alone(&self) -> bool {
        self.use_memory();
        self.output.write();
        match self.life.finish_alone() {
            Alone::Handed => false,
            Alone::Last => {
                self.output.write();
                self.outputs.add();
                self.free();
                true
            }
            Alone::No => self.settle(),
        }
    }

    fn settle(&self) -> bool {
        let heir = self.life.finish();
        match heir {
            Heir::Handle { wake, waited } => {
                if wake {
                    // The waker is read out of the slot, which loom is told as a write: nobody else may have it.
                    self.joiner.write();
                    self.woken.add();
                    self.disarmed.add();
                }
                if waited {
                    self.waiters.close().for_each(Waker::wake);
                }
            }
            Heir::Finisher => {
                self.output.write();
                self.outputs.add();
            }
        }
        self.release();
        heir == Heir::Finisher
    }

    /// As `RawJoin::register`, with a waker other than the last.
    fn register(&self) -> bool {
        let taken_back = self.life.is_armed() && self.life.disarm();
        if taken_back {
            self.joiner.write();
            self.disarmed.add();
        }
        if self.life.is_done() {
            return true;
        }
        self.joiner.write();
        self.armed.add();
        let armed = self.life.arm();
        if !armed {
            self.joiner.write();
            self.disarmed.add();
        }
        !armed
    }

    /// As `RawJoin::take` and `RawJoin::part`.
    fn take(&self) {
        self.output.write();
        self.outputs.add();
        self.use_memory();
        if self.life.part() {
            self.free();
        }
    }

    /// As `RawJoin::poll`.
    fn poll(&self) -> bool {
        let done = self.life.is_done() || self.register();
        if done {
            self.take();
        }
        done
    }

    /// As `RawJoin::abandon`. `true`: the handle had the output.
    fn abandon(&self) -> bool {
        self.use_memory();
        if self.life.is_armed() && self.life.disarm() {
            self.joiner.write();
            self.disarmed.add();
        }
        let done = self.life.try_part() == Parting::Done;
        if done {
            self.take();
        }
        done
    }

    /// As `Ending::poll`; the handle that it borrows is there.
    fn wait(&self, place: &mut Option<u32>, waker: &Waker) -> Poll<()> {
        if self.life.is_done() {
            return Poll::Ready(());
        }
        let entered = place.is_none();
        *place = self.waiters.enter(*place, waker);
        if place.is_none() {
            return Poll::Ready(());
        }
        if !entered || !self.life.wait() {
            return Poll::Pending;
        }
        *place = None;
        self.waiters.close().for_each(Waker::wake);
        Poll::Ready(())
    }

    fn assert_clean(&self) {
        assert_eq!(self.outputs.get(), 1, "outputs taken or dropped");
        assert_eq!(self.armed.get(), self.disarmed.get(), "join wakers");
        assert_eq!(self.freed.get(), 1, "cells freed");
    }
}

/// Runs the finisher, and a waker kept elsewhere if `kept`, against `handle`; `true` from the handle goes
/// to the second outcome.
fn against_the_end(
    seen: &'static Seen<2>,
    kept: bool,
    handle: impl Fn(&Cell) -> bool + Send + Sync + Copy + 'static,
) {
    for end in [Cell::end, Cell::end_alone] {
        let model = move || {
            let cell = Cell::new();
            if kept {
                cell.life.acquire();
            }
            let finisher = thread::spawn({
                let cell = Arc::clone(&cell);
                move || end(&cell)
            });
            let keeper = kept.then(|| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || cell.release())
            });
            let handle = handle(&cell);
            finisher.join().unwrap();
            if let Some(keeper) = keeper {
                keeper.join().unwrap();
            }
            cell.assert_clean();
            seen.note(usize::from(handle));
        };
        if kept {
            check_some(3, model);
        } else {
            check_all(model);
        }
        seen.assert_all();
    }
}

#[test]
fn end_against_a_dropped_handle_leaves_the_output_to_one_of_them() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, false, Cell::abandon);
}

#[test]
fn end_against_a_handle_dropped_at_once_leaves_the_output_to_one_of_them() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, false, |cell| {
        cell.use_memory();
        !cell.life.part_fresh() && cell.abandon()
    });
}

#[test]
fn end_against_a_dropped_handle_and_a_kept_waker_frees_the_cell_once() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, true, Cell::abandon);
}

#[test]
fn end_against_a_handle_dropped_at_once_and_a_kept_waker_frees_the_cell_once() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, true, |cell| {
        cell.use_memory();
        !cell.life.part_fresh() && cell.abandon()
    });
}

#[test]
fn end_against_a_handle_that_waited_and_is_dropped_gives_the_waker_one_owner() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, false, |cell| cell.poll() || cell.abandon());
}

#[test]
fn end_against_a_handle_that_changes_its_waker_gives_each_waker_one_owner() {
    static SEEN: Seen<2> = Seen::new();
    against_the_end(&SEEN, false, |cell| {
        cell.poll() || cell.poll() || cell.abandon()
    });
}

#[test]
fn end_against_a_waiting_handle_wakes_it_or_is_seen() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let cell = Cell::new();
        let finisher = thread::spawn({
            let cell = Arc::clone(&cell);
            move || cell.end()
        });
        let seen = cell.poll();
        finisher.join().unwrap();
        assert!(seen || cell.woken.get() == 1, "the handle is never told");
        if !seen {
            assert!(cell.poll(), "a handle that was woken finds the outcome");
        }
        cell.assert_clean();
        SEEN.note(usize::from(seen));
    });
    SEEN.assert_all();
}

#[test]
fn references_dropped_on_three_threads_free_the_cell_once() {
    check_all(|| {
        let cell = Cell::new();
        assert_eq!(cell.life.try_part(), Parting::Gone);
        assert!(cell.end(), "the handle is gone");
        assert_eq!(cell.freed.get(), 1);

        let cell = Cell::new();
        cell.life.acquire();
        cell.life.acquire();
        assert_eq!(cell.life.try_part(), Parting::Gone);
        let keepers = [(); 2].map(|()| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.release())
        });
        cell.end();
        for keeper in keepers {
            keeper.join().unwrap();
        }
        cell.assert_clean();
    });
}

/// A waiter with a waker of its own. It polls once, or a second time with another waker, and then stays or leaves.
/// The answer is whether it saw the end, and its wakers.
fn waiter(cell: &Cell, polls: usize, leaves: bool) -> (bool, Vec<Arc<Tally>>) {
    let (mut place, mut seen) = (None, false);
    let mut wakers = Vec::new();
    for _ in 0..polls {
        let waker = Arc::new(Tally::default());
        wakers.push(Arc::clone(&waker));
        seen = cell.wait(&mut place, &Waker::from(waker)).is_ready();
        if seen {
            // The outcome is published to whoever saw the end. Read first: a look at the word would acquire it.
            cell.output.read();
            assert!(cell.life.is_done(), "ready before the end");
            break;
        }
    }
    if let (true, Some(place)) = (leaves, place) {
        cell.waiters.leave(place);
    }
    (seen, wakers)
}

/// The end against two waiters, the first of which leaves; then the handle.
fn waiters_against_the_end(seen: &'static Seen<2>, polls: usize) {
    let model = move || {
        let cell = Cell::new();
        let finisher = thread::spawn({
            let cell = Arc::clone(&cell);
            move || cell.end()
        });
        let leaving = thread::spawn({
            let cell = Arc::clone(&cell);
            move || waiter(&cell, polls, true)
        });
        let (saw, stayed) = waiter(&cell, polls, false);
        finisher.join().unwrap();
        let (_, left) = leaving.join().unwrap();
        let last = stayed.last().expect("it has polled");
        assert!(saw || last.get() == 1, "the waiter is never told");
        for waker in left.iter().chain(&stayed) {
            assert!(waker.get() <= 1, "told once");
            assert_eq!(Arc::strong_count(waker), 1, "a waker is left behind");
        }
        cell.take();
        cell.assert_clean();
        seen.note(usize::from(saw));
    };
    check_some(2, model);
    seen.assert_all();
}

#[test]
fn end_against_waiters_tells_who_stays_and_keeps_no_waker() {
    static SEEN: Seen<2> = Seen::new();
    waiters_against_the_end(&SEEN, 1);
}

#[test]
fn end_against_waiters_that_change_their_wakers_tells_the_last_and_keeps_none() {
    static SEEN: Seen<2> = Seen::new();
    waiters_against_the_end(&SEEN, 2);
}
