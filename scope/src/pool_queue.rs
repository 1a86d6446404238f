//! Who wants help of a pool, in order of asking. What help is, is not said here.
//!
//! One entry each, which is taken back when there is nothing to help with any more; and no more jobs in rayon's queues than
//! the pool has threads. A job of rayon's cannot be taken back: with one for each who asks, scopes that were long over
//! piled up behind threads that were busy for long.
//!
//! A job is nobody's own: it helps whoever stands first. One that a thread takes while it waits for helpers itself, and may
//! not help, is handed on, once each time.
//!
//! While there are entries there is a job to come: who enters one hands a job over unless enough are on their way, and a
//! job that starts and leaves entries behind hands the next one over before it helps.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::sync::plain::Mutex;

/// Helps once; it is told whether the thread has other work below it on its stack.
pub(crate) type Help = Arc<dyn Fn(bool) + Send + Sync>;

/// Those who want help.
#[derive(Default)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Entry>,
    /// Where in the order somebody stands.
    places: BTreeMap<usize, u64>,
    next: u64,
    /// Jobs that were handed to rayon and have not started.
    coming: usize,
}

struct Entry {
    who: usize,
    /// So many helpers.
    wanted: u32,
    help: Help,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One helper more is wanted by `who`, a number of nobody else's for as long as `help` is kept. `true`: a job has to be
    /// handed over.
    pub(crate) fn enter(&self, who: usize, threads: usize, help: impl FnOnce() -> Help) -> bool {
        let mut state = self.lock();
        let next = state.next;
        state.next += 1;
        let place = *state.places.entry(who).or_insert(next);
        let entry = state.entries.entry(place).or_insert_with(|| Entry {
            who,
            wanted: 0,
            help: help(),
        });
        entry.wanted += 1;
        state.send(threads)
    }

    /// A job starts, which may help or leaves that to another one: whom it helps, and whether another has to be handed over.
    pub(crate) fn begin(&self, threads: usize, may_help: bool) -> (Option<Help>, bool) {
        let mut state = self.lock();
        state.coming = state.coming.saturating_sub(1);
        if !may_help {
            return (None, state.send(threads));
        }
        let Some(mut first) = state.entries.first_entry() else {
            return (None, false);
        };
        let entry = first.get_mut();
        entry.wanted -= 1;
        let help = if entry.wanted > 0 {
            Arc::clone(&entry.help)
        } else {
            let Entry { who, help, .. } = first.remove();
            state.places.remove(&who);
            help
        };
        let more = state.send(threads);
        (Some(help), more)
    }

    /// A job that was to be handed over will not come.
    pub(crate) fn lost(&self) {
        self.lock().coming -= 1;
    }

    /// Nobody needs to help this one any more; how many helpers were still to come. What helped it is dropped by the
    /// caller, with nothing locked.
    pub(crate) fn leave(&self, who: usize) -> Option<(u32, Help)> {
        let mut state = self.lock();
        let place = state.places.remove(&who)?;
        let entry = state.entries.remove(&place)?;
        Some((entry.wanted, entry.help))
    }
}

impl State {
    /// Whether a job has to be handed over for what is entered.
    fn send(&mut self, threads: usize) -> bool {
        let sends = !self.entries.is_empty() && self.coming < threads;
        self.coming += usize::from(sends);
        sends
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Help, Queue};

    fn help() -> Help {
        Arc::new(|_| ())
    }

    #[test]
    fn jobs_are_as_many_as_threads_at_most_and_one_comes_while_somebody_waits() {
        let queue = Queue::default();
        let sent: Vec<bool> = (0..5).map(|who| queue.enter(who, 2, help)).collect();
        assert_eq!(sent, [true, true, false, false, false]);
        assert!(!queue.enter(4, 2, help), "it waits already");
        let mut helped = 0;
        let mut coming = 2;
        while coming > 0 {
            coming -= 1;
            let (help, more) = queue.begin(2, true);
            helped += usize::from(help.is_some());
            coming += usize::from(more);
        }
        assert_eq!(helped, 6, "each as often as it has asked");
        assert!(queue.enter(9, 2, help));
    }

    #[test]
    fn who_leaves_is_let_go_of() {
        let queue = Queue::default();
        let kept = help();
        assert!(queue.enter(1, 1, || Arc::clone(&kept)));
        assert!(!queue.enter(1, 1, || unreachable!("one is enough")));
        let (wanted, entry) = queue.leave(1).unwrap();
        assert_eq!(wanted, 2);
        drop(entry);
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!(queue.leave(1).is_none());
        let (none, more) = queue.begin(1, true);
        assert!(none.is_none() && !more, "its job finds nobody");
    }

    #[test]
    fn job_that_is_lost_is_asked_for_again() {
        let queue = Queue::default();
        assert!(queue.enter(1, 1, help));
        queue.lost();
        assert!(queue.enter(2, 1, help));
    }
}
