//! The alarm of wakes that were put off: whoever waits has an entry with the timer, and one only.

use std::sync::Arc;

use super::{Seen, check_all};
use crate::sync::model::thread;
use crate::sync::{Mutex, lock};
use crate::window::alarm::{Due, PATIENCE, Ring};

/// The owner's word, and the moments of the timer's entries.
struct Bench {
    ring: Ring,
    entries: Mutex<Vec<u64>>,
}

impl Bench {
    fn wait(&self, now: u64) {
        if self.ring.wait(now) {
            self.set(now + PATIENCE);
        }
    }

    fn set(&self, at: u64) {
        let mut entries = lock(&self.entries);
        entries.push(at);
        assert_eq!(entries.len(), 1, "one is enough");
    }

    /// Serves what is due; `true`: the task was woken.
    fn serve(&self, now: u64) -> bool {
        let mut entries = lock(&self.entries);
        let due = entries.first().is_some_and(|at| *at <= now);
        if due {
            entries.clear();
        }
        drop(entries);
        match due.then(|| self.ring.due(now)) {
            Some(Due::Wake) => true,
            Some(Due::Again(at)) => {
                self.set(at);
                false
            }
            Some(Due::Nothing) | None => false,
        }
    }
}

/// The owner is polled and gives way again while its first entry is due: whoever is left waiting is woken in time, and
/// nobody is who has not waited for long.
#[test]
fn whoever_waits_is_woken_and_nobody_else() {
    static SEEN: Seen<2> = Seen::new();
    const LATER: u64 = PATIENCE + PATIENCE / 2;
    check_all(|| {
        let bench = Arc::new(Bench {
            ring: Ring::new(),
            entries: Mutex::new(Vec::new()),
        });
        bench.wait(0);
        let timer = Arc::clone(&bench);
        let timer = thread::spawn(move || timer.serve(PATIENCE));
        let rung = bench.ring.has_rung();
        bench.ring.rest();
        bench.wait(LATER);
        let woken = timer.join().unwrap();
        assert!(woken || !rung, "a poll takes another wake for the alarm's");
        let again = bench.serve(LATER + PATIENCE - 1);
        assert!(!again, "it has not waited for long");
        let in_time = bench.serve(LATER + PATIENCE);
        assert!(in_time, "it waits for ever");
        assert!(bench.ring.has_rung() && !bench.ring.has_rung());
        assert!(lock(&bench.entries).is_empty());
        SEEN.note(usize::from(woken));
    });
    SEEN.assert_all();
}
