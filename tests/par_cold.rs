//! The first pipelines of a process, of whose items nothing is known yet: few and heavy ones are
//! shared by two threads, and what runs beside them gets turns. One test, so that nothing is warm.
#![cfg(feature = "testing")]

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures::stream;
use selvedge::{Pool, block_on, cancel, join, par_iter, prelude::*};

/// What was seen of a pipeline.
#[derive(Default)]
struct Seen {
    threads: Mutex<HashSet<ThreadId>>,
    /// Turns of the sibling, and how many it had had when each item began.
    turns: AtomicUsize,
    at: Mutex<Vec<usize>>,
    over: AtomicBool,
}

impl Seen {
    /// Works on an item for so long.
    fn work(&self, cost: Duration) {
        self.threads.lock().unwrap().insert(thread::current().id());
        self.at.lock().unwrap().push(self.turns.load(SeqCst));
        let from = Instant::now();
        while from.elapsed() < cost {
            std::hint::spin_loop();
        }
    }

    /// Runs the pipeline beside a sibling that only yields.
    fn run(&self, pipeline: impl Future<Output = ()> + Send) {
        let all = async {
            pipeline.await;
            self.over.store(true, SeqCst);
        };
        let sibling = async {
            while !self.over.load(SeqCst) {
                self.turns.fetch_add(1, SeqCst);
                cancel::checkpoint().await.unwrap();
            }
        };
        block_on(join((all, sibling)));
    }

    /// At least so many turns of the sibling lie between the first and the last item, the one before
    /// the first included.
    fn report(self, what: &str, items: usize, least: usize, failures: &mut Vec<String>) {
        let at = self.at.into_inner().unwrap();
        assert_eq!(at.len(), items, "{what}: every item was worked on");
        let threads = self.threads.into_inner().unwrap().len();
        // Of two items the first is over before anything is known.
        if threads < 2 && items > 2 {
            failures.push(format!("{what}: one thread did everything"));
        }
        let rounds: HashSet<usize> = at.iter().copied().collect();
        if rounds.len() < least {
            failures.push(format!("{what}: the sibling had its turns at {at:?}"));
        }
    }
}

#[test]
fn few_heavy_items_are_shared_from_the_start_and_let_others_have_turns() {
    let mut failures = Vec::new();
    // A kind of lane of its own for each, by the macro: what one has taught is of no use to others.
    macro_rules! cold {
        ($($what:literal: $items:literal of $millis:literal, |$pool:ident, $seen:ident, $cost:ident| $run:expr;)*) => { $(
            let $pool = &Pool::builder().threads(1).build();
            let seen = Seen::default();
            let $seen = &seen;
            let $cost = Duration::from_millis($millis);
            seen.run($run);
            let what = concat!($what, ", ", $items, " of ", $millis, " ms");
            // Two at a time, and a window's budget of 40 ms under `block_on`.
            let least = ($items * $millis / 2 / 100).max(1);
            seen.report(what, $items, least, &mut failures);
        )* };
    }
    cold! {
        "range": 8 of 50, |pool, seen, cost| (0..8).into_par().on(pool).for_each(|_| seen.work(cost));
        "range": 16 of 5, |pool, seen, cost| (0..16).into_par().on(pool).for_each(|_| seen.work(cost));
        "range": 2 of 100, |pool, seen, cost| (0..2).into_par().on(pool).for_each(|_| seen.work(cost));
        "vector": 8 of 50, |pool, seen, cost| vec![(); 8].into_par().on(pool).for_each(|()| seen.work(cost));
        "vector": 16 of 5, |pool, seen, cost| vec![(); 16].into_par().on(pool).for_each(|()| seen.work(cost));
        "iterator": 8 of 50, |pool, seen, cost| par_iter(0..8).on(pool).for_each(|_| seen.work(cost));
        "iterator": 16 of 5, |pool, seen, cost| par_iter(0..16).on(pool).for_each(|_| seen.work(cost));
        "stream": 8 of 50, |pool, seen, cost| stream::iter(0..8).par().on(pool).for_each(|_| seen.work(cost));
        "stream": 16 of 5, |pool, seen, cost| stream::iter(0..16).par().on(pool).for_each(|_| seen.work(cost));
        "asynchronous": 8 of 50, |pool, seen, cost| (0..8).into_par().on(pool).for_each(async |_| seen.work(cost));
        "asynchronous": 16 of 5, |pool, seen, cost| (0..16).into_par().on(pool).for_each(async |_| seen.work(cost));
        "asynchronous": 2 of 100, |pool, seen, cost| (0..2).into_par().on(pool).for_each(async |_| seen.work(cost));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
