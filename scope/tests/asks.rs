//! Who asks a pool for help gets it when a thread is free, whatever other scopes do with the pool.
#![cfg(not(selvedge_loom))]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{Scope as Threads, ScopedJoinHandle, current, sleep};
use std::time::{Duration, Instant};

use common::{guarded, on_helper};
use selvedge_scope::{Pool, block_on, scope};

/// Where tasks wait until they are let through.
#[derive(Default)]
struct Gate {
    arrived: AtomicUsize,
    open: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.arrived.fetch_add(1, SeqCst);
        while !self.open.load(SeqCst) {
            sleep(Duration::from_micros(200));
        }
    }

    fn open(&self) {
        self.open.store(true, SeqCst);
    }

    /// Waits until so many have come, and a little longer: what they asked for is under way then.
    fn wait_for(&self, tasks: usize) {
        let from = Instant::now();
        while self.arrived.load(SeqCst) < tasks {
            assert!(from.elapsed() < Duration::from_secs(20), "nobody comes");
            sleep(Duration::from_micros(200));
        }
        sleep(Duration::from_millis(5));
    }
}

/// A scope of two tasks, one of which waits at the owner's gate, the other at the helper's; in a thread of its own.
#[derive(Default)]
struct Two {
    owner: Gate,
    helper: Gate,
}

impl Two {
    fn start<'t>(
        &'t self,
        threads: &'t Threads<'t, '_>,
        pool: &'t Pool,
    ) -> ScopedJoinHandle<'t, ()> {
        let start = move || {
            let two = scope(async |s| {
                for _ in 0..2 {
                    drop(s.spawn_fn(|| match on_helper() {
                        true => self.helper.pass(),
                        false => self.owner.pass(),
                    }));
                }
            });
            block_on(two.on(pool).heavy());
        };
        let thread = threads.spawn(start);
        self.owner.wait_for(1);
        thread
    }

    fn open(&self) {
        self.owner.open();
        self.helper.open();
    }
}

const THREADS: usize = 8;

// The owner of a nested scope, on a thread of the pool, took what another scope had asked for while it waited for its own
// helper, and could not help: all threads were idle then, and nobody came.
#[test]
fn owner_that_waits_on_a_thread_of_the_pool_uses_up_nobody_elses_ask() {
    guarded(|| {
        let pool = &Pool::builder().threads(THREADS).build();
        let [beside, over, last] = &<[Two; 3]>::default();
        let (helpers, busy) = (&AtomicUsize::new(0), &<[Gate; THREADS + 1]>::default());
        let (outer, inner, nested) = (&Two::default(), &Two::default(), &AtomicBool::new(false));
        std::thread::scope(|threads| {
            // All threads of the pool are busy, so that what is asked for from here on waits.
            threads.spawn(move || {
                let all = scope(async |s| {
                    for _ in 0..=THREADS {
                        drop(s.spawn_fn(|| match on_helper() {
                            true => busy[helpers.fetch_add(1, SeqCst)].pass(),
                            false => busy[THREADS].pass(),
                        }));
                    }
                });
                block_on(all.on(pool).heavy());
            });
            busy.iter().for_each(|gate| gate.wait_for(1));
            threads.spawn(move || {
                let two = scope(async |s| {
                    for _ in 0..2 {
                        drop(s.spawn(async {
                            if !on_helper() {
                                return outer.owner.pass();
                            }
                            outer.helper.pass();
                            let first = current().id();
                            let two = scope(async |s| {
                                for _ in 0..2 {
                                    drop(s.spawn_fn(|| match current().id() == first {
                                        true => inner.owner.pass(),
                                        false => inner.helper.pass(),
                                    }));
                                }
                            });
                            two.on(pool).heavy().await;
                            nested.store(true, SeqCst);
                        }));
                    }
                });
                block_on(two.on(pool).heavy());
            });
            outer.owner.wait_for(1);
            beside.start(threads, pool);
            over.start(threads, pool);
            // One thread helps the outer scope, the other the one beside; that which is over leaves a job.
            busy[0].open();
            outer.helper.wait_for(1);
            busy[1].open();
            beside.helper.wait_for(1);
            over.open();
            sleep(Duration::from_millis(30));
            outer.helper.open();
            inner.owner.wait_for(1);
            beside.helper.open();
            inner.helper.wait_for(1);
            // Asks while all are busy. Then the inner owner waits, and after that all are free.
            let waits = last.start(threads, pool);
            inner.owner.open();
            sleep(Duration::from_millis(30));
            inner.helper.open();
            sleep(Duration::from_millis(30));
            busy.iter().for_each(Gate::open);
            last.helper.wait_for(1);
            assert!(nested.load(SeqCst), "the nested scope is over");
            for two in [beside, last, outer] {
                two.open();
            }
            waits.join().unwrap();
        });
    });
}
