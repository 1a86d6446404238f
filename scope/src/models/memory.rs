//! Memory of cells: slots freed by other threads against the scope's end. The steps are those of
//! `Arena::give_back`, `recycle` and `retire` with counts for slots, since loom has to watch the memory
//! itself; `engine` runs the real ones.

use std::sync::Arc;

use super::{Seen, check_all};
use crate::sync::model::thread;
use crate::sync::{AtomicUsize, Ordering, plain};
use crate::window::seam::Mark;

const DEAD: usize = usize::MAX;

/// A chunk, and the stack of returned slots, of which only the height is kept.
struct Chunk {
    returned: AtomicUsize,
    after: AtomicUsize,
    /// Touched by whoever uses a slot, written by whoever frees the chunk.
    memory: Mark,
    freed: plain::AtomicU32,
}

impl Chunk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            returned: AtomicUsize::new(0),
            after: AtomicUsize::new(0),
            memory: Mark::new(),
            freed: plain::AtomicU32::new(0),
        })
    }

    fn free(&self) {
        self.memory.write();
        // Relaxed: one thread of the system runs a model.
        self.freed.fetch_add(1, plain::Ordering::Relaxed);
    }

    /// `true`: the slot was counted off after the end.
    fn give_back(&self) -> bool {
        self.memory.read();
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
                head + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return false,
                Err(now) => head = now,
            }
        }
    }

    /// Slots that have come back.
    fn recycle(&self) -> usize {
        let came = self.returned.swap(0, Ordering::Acquire);
        if came > 0 {
            self.memory.write();
        }
        came
    }

    fn retire(&self, live: usize) {
        let live = live - self.returned.swap(DEAD, Ordering::AcqRel);
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
        let holders = [(); 2].map(|()| {
            let chunk = Arc::clone(&chunk);
            thread::spawn(move || chunk.give_back())
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
        let holders = [(); 2].map(|()| {
            let chunk = Arc::clone(&chunk);
            thread::spawn(move || chunk.give_back())
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
