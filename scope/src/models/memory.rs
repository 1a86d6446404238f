//! Memory of cells: slots freed by other threads against the scope's end. The steps are those of
//! `Arena::give_back`, `recycle` and `retire` with counts for slots, since loom has to watch the memory
//! itself; `engine` runs the real ones.

use std::sync::Arc;

use super::{Seen, check_all};
use crate::sync::model::thread;
use crate::sync::{AtomicUsize, Ordering, plain};
use crate::window::seam::Mark;

const DEAD: usize = usize::MAX;

/// A chunk of two slots, and the stack of returned slots as a set of bits.
struct Chunk {
    returned: AtomicUsize,
    after: AtomicUsize,
    /// Written by whoever uses a slot, and all of them by whoever frees the chunk.
    slots: [Mark; 2],
    freed: plain::AtomicU32,
}

impl Chunk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            returned: AtomicUsize::new(0),
            after: AtomicUsize::new(0),
            slots: [Mark::new(), Mark::new()],
            freed: plain::AtomicU32::new(0),
        })
    }

    fn free(&self) {
        self.slots.iter().for_each(Mark::write);
        // Relaxed: one thread of the system runs a model.
        self.freed.fetch_add(1, plain::Ordering::Relaxed);
    }

    /// `true`: the slot was counted off after the end.
    fn give_back(&self, slot: usize) -> bool {
        self.slots[slot].write();
        let mut head = self.returned.load(Ordering::Relaxed);
        loop {
            if head == DEAD {
                if self.after.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.free();
                }
                return true;
            }
            match self.returned.compare_exchange_weak(
                head,
                head | 1 << slot,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return false,
                Err(now) => head = now,
            }
        }
    }

    /// Slots that have come back, and are used again.
    fn recycle(&self) -> usize {
        let came = self.returned.swap(0, Ordering::Acquire);
        self.take_in(came)
    }

    fn take_in(&self, came: usize) -> usize {
        let came = (0..2).filter(|slot| came & 1 << slot != 0);
        came.map(|slot| self.slots[slot].write()).count()
    }

    fn retire(&self, live: usize) {
        let live = live - self.take_in(self.returned.swap(DEAD, Ordering::AcqRel));
        let unheld = live == 0
            || self
                .after
                .fetch_add(live, Ordering::AcqRel)
                .wrapping_add(live)
                == 0;
        if unheld {
            self.free();
        }
    }
}

#[test]
fn slots_freed_elsewhere_against_the_end_free_the_chunk_once() {
    static SEEN: Seen<3> = Seen::new();
    check_all(|| {
        let chunk = Chunk::new();
        let holders = [0, 1].map(|slot| {
            let chunk = Arc::clone(&chunk);
            thread::spawn(move || chunk.give_back(slot))
        });
        chunk.retire(2);
        let late = holders.map(|holder| holder.join().unwrap());
        assert_eq!(chunk.freed.load(plain::Ordering::Relaxed), 1);
        SEEN.note(late.into_iter().filter(|late| *late).count());
    });
    SEEN.assert_all();
}

#[test]
fn slot_freed_elsewhere_is_used_again_or_counted_off() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let chunk = Chunk::new();
        let holders = [0, 1].map(|slot| {
            let chunk = Arc::clone(&chunk);
            thread::spawn(move || chunk.give_back(slot))
        });
        let came = chunk.recycle();
        chunk.retire(2 - came);
        for holder in holders {
            let _ = holder.join().unwrap();
        }
        assert_eq!(chunk.freed.load(plain::Ordering::Relaxed), 1);
        SEEN.note(usize::from(came > 0));
    });
    SEEN.assert_all();
}
