//! Sources whose `next` waits: an item that has come is worked on before anybody waits for
//! another, a lane that waits keeps nobody from work, and ends, errors and panics reach those who
//! wait. What an explicit concurrency bounds is in `par_limits`.
#![cfg(feature = "testing")]

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{burn, on_helper};
use futures::stream::{self, Stream};
use selvedge::testing::lending::{Lending, with};
use selvedge::{Pool, block_on, par_iter, prelude::*};

/// A hang fails this test and does not stop the others.
#[track_caller]
fn guarded(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let run = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Err(RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => run.join().unwrap_or_else(|e| std::panic::resume_unwind(e)),
    }
}

/// Every mode of lending, with pools of no, one and two threads.
#[track_caller]
fn everywhere(test: impl Fn(&str, &Pool) + Send + 'static) {
    guarded(move || {
        for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
            for threads in [0, 1, 2] {
                let pool = Pool::builder().threads(threads).build();
                with(mode, || {
                    test(&format!("{mode:?}, {threads} helpers"), &pool)
                });
            }
        }
    });
}

fn spin_until(what: impl Fn() -> bool) {
    while !what() {
        thread::yield_now();
    }
}

/// Items that are fed without waiting, so that batches grow, and then items whose feeder waits for
/// each answer.
const FREE: u32 = 2000;
const STEPS: u32 = 50;

/// Feeds `run` through a channel, as said above, and checks that every answer came.
fn in_step(what: &str, run: impl FnOnce(mpsc::Receiver<u32>, mpsc::Sender<u32>)) {
    let (ask, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let feeder = thread::spawn(move || {
        let mut sum = 0;
        for n in 0..FREE {
            ask.send(n).unwrap();
        }
        for _ in 0..FREE {
            sum += answers.recv().unwrap();
        }
        for n in 0..STEPS {
            ask.send(FREE + n).unwrap();
            // With more lanes than one, the answer is to this very item all the same.
            assert_eq!(answers.recv(), Ok(FREE + n));
            sum += FREE + n;
        }
        sum
    });
    run(asked, answer);
    let all = FREE + STEPS;
    assert_eq!(feeder.join().unwrap(), all * (all - 1) / 2, "{what}");
}

#[test]
fn feeder_that_waits_for_each_answer_gets_it() {
    everywhere(|what, pool| {
        for batch in [None, Some(1000)] {
            in_step(what, |asked, answer| {
                let mut items = par_iter(asked).on(pool);
                if let Some(n) = batch {
                    items = items.batch(n);
                }
                block_on(items.for_each(|n| answer.send(n).unwrap()));
            });
            in_step(what, |asked, answer| {
                let mut items = par_iter(asked).on(pool).unordered();
                if let Some(n) = batch {
                    items = items.batch(n);
                }
                let sent = items.map(|n| answer.send(n).unwrap()).count();
                assert_eq!(block_on(sent), (FREE + STEPS) as usize);
            });
        }
    });
}

#[test]
fn exact_size_hint_does_not_make_a_source_one_that_cannot_wait() {
    everywhere(|what, pool| {
        in_step(what, |asked, answer| {
            // As many as the hint says, each of which waits.
            let asked = Mutex::new(asked);
            let items = (0..FREE + STEPS).map(|_| asked.lock().unwrap().recv().unwrap());
            assert_eq!(items.size_hint().1, Some((FREE + STEPS) as usize));
            let all: Vec<u32> = block_on(
                par_iter(items)
                    .on(pool)
                    .batch(1000)
                    .inspect(|n| answer.send(*n).unwrap())
                    .collect(),
            );
            assert!(all.into_iter().eq(0..FREE + STEPS));
        });
    });
}

#[test]
fn asynchronous_stages_that_do_not_wait_answer_at_once_too() {
    everywhere(|what, pool| {
        in_step(what, |asked, answer| {
            let items = par_iter(asked).on(pool);
            block_on(items.for_each(async |n| answer.send(n).unwrap()));
        });
        // Items that wait are served if only one is under way at a time.
        in_step(what, |asked, answer| {
            let items = par_iter(asked).on(pool).concurrency(1);
            block_on(items.for_each(async |n| {
                yield_once().await;
                answer.send(n).unwrap();
            }));
        });
    });
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn nobody_calls_next_while_an_item_is_held_that_nobody_works_on() {
    everywhere(|what, pool| {
        for batch in [None, Some(1000)] {
            let (taken, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let most = AtomicUsize::new(0);
            let items = (0..5000).inspect(|_| {
                most.fetch_max(taken.load(SeqCst) - begun.load(SeqCst), SeqCst);
                taken.fetch_add(1, SeqCst);
            });
            let mut items = par_iter(items).on(pool);
            if let Some(n) = batch {
                items = items.batch(n);
            }
            block_on(items.for_each(|_| {
                begun.fetch_add(1, SeqCst);
            }));
            assert_eq!(begun.into_inner(), 5000);
            // Every other lane may be about to begin the item that it has just taken.
            let most = most.into_inner();
            assert!(most <= pool.threads(), "{what}, {batch:?}: {most} held");
        }
    });
}

#[test]
fn stream_that_is_pending_holds_no_item_back() {
    everywhere(|what, pool| {
        // Three items at a time; the next three come when those are through.
        let (through, waker) = (AtomicUsize::new(0), Mutex::new(None::<Waker>));
        let mut given = 0;
        let items = stream::poll_fn(|cx| {
            if given == 300 {
                return Poll::Ready(None);
            }
            if given % 3 == 0 {
                *waker.lock().unwrap() = Some(cx.waker().clone());
                if through.load(SeqCst) < given {
                    return Poll::Pending;
                }
            }
            given += 1;
            Poll::Ready(Some(given))
        });
        block_on(items.par().on(pool).batch(1000).for_each(|_| {
            if (through.fetch_add(1, SeqCst) + 1) % 3 == 0 {
                let waker = waker.lock().unwrap().take();
                waker.into_iter().for_each(Waker::wake);
            }
        }));
        assert_eq!(through.into_inner(), 300, "{what}");
    });
}

/// A stream that always has an item, and computes for longer than a lane fills its batch.
struct Slow<'a> {
    taken: &'a AtomicUsize,
    begun: &'a AtomicUsize,
    most: &'a AtomicUsize,
    left: usize,
}

impl Stream for Slow<'_> {
    type Item = usize;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        let held = self.taken.load(SeqCst) - self.begun.load(SeqCst);
        self.most.fetch_max(held, SeqCst);
        burn(Duration::from_micros(100));
        self.taken.fetch_add(1, SeqCst);
        Poll::Ready(Some(self.left))
    }
}

#[test]
fn batch_of_a_slow_stream_that_is_always_ready_is_bounded_by_time() {
    everywhere(|what, pool| {
        let (taken, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let most = AtomicUsize::new(0);
        let slow = Slow {
            taken: &taken,
            begun: &begun,
            most: &most,
            left: 100,
        };
        block_on(slow.par().on(pool).batch(1000).for_each(|_| {
            begun.fetch_add(1, SeqCst);
        }));
        assert_eq!(begun.load(SeqCst), 100);
        // One that another lane has just taken, and one that was put back for whoever comes.
        let most = most.into_inner();
        assert!(most <= pool.threads(), "{what}: {most} held");
    });
}

/// Waits for that, or gives up: a window whose budget is spent goes on with one thread, on which it
/// may never come true. Whether it did.
fn comes_true(what: impl Fn() -> bool) -> bool {
    let from = Instant::now();
    while from.elapsed() < Duration::from_millis(50) {
        if what() {
            return true;
        }
        thread::yield_now();
    }
    false
}

#[test]
fn item_is_finished_while_another_lane_waits_in_next() {
    guarded(|| {
        let pool = Pool::builder().threads(1).build();
        let together = AtomicUsize::new(0);
        for _ in 0..20 {
            let (entered, finished) = (AtomicBool::new(false), AtomicBool::new(false));
            let mut calls = 0;
            let items = std::iter::from_fn(|| {
                calls += 1;
                if calls == 1 {
                    return Some(1);
                }
                entered.store(true, SeqCst);
                spin_until(|| finished.load(SeqCst));
                None
            });
            let run = par_iter(items).on(&pool).for_each(|_| {
                // Only the other lane can be there.
                together.fetch_add(comes_true(|| entered.load(SeqCst)).into(), SeqCst);
                finished.store(true, SeqCst);
            });
            with(Lending::Forced, || block_on(run));
            assert!(finished.into_inner());
            assert_eq!(calls, 2);
        }
        assert!(together.load(SeqCst) >= 5, "{together:?} of 20");
    });
}

#[test]
fn slow_source_and_slow_items_occupy_two_threads() {
    guarded(|| {
        let pool = Pool::builder().threads(1).build();
        let (entered, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let next = || {
            let n = entered.fetch_add(1, SeqCst);
            // Longer than a lane spins, so the other one rests by the end.
            burn(Duration::from_micros(300));
            (n < 30).then_some(n)
        };
        let work = |n| {
            // Somebody calls `next` for the item behind this one while this one is worked on.
            let is = comes_true(|| entered.load(SeqCst) > n + 1);
            together.fetch_add(is.into(), SeqCst);
            n
        };
        let run = par_iter(std::iter::from_fn(next)).on(&pool).map(work);
        let all: Vec<usize> = with(Lending::Forced, || block_on(run.collect()));
        assert!(all.into_iter().eq(0..30));
        let iterator = together.swap(0, SeqCst);
        // The same for a stream that is always ready and takes as long.
        entered.store(0, SeqCst);
        let items = stream::poll_fn(|_| Poll::Ready(next()));
        let run = items.par().on(&pool).map(work);
        let all: Vec<usize> = with(Lending::Forced, || block_on(run.collect()));
        assert!(all.into_iter().eq(0..30));
        let stream = together.into_inner();
        assert!(
            iterator >= 8 && stream >= 8,
            "{iterator} and {stream} of 30"
        );
    });
}

#[test]
fn helper_that_finds_the_source_taken_goes_to_work_elsewhere() {
    guarded(|| {
        let pool = Arc::new(Pool::builder().threads(1).build());
        let (entered, helped) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let other = thread::spawn({
            let (pool, entered, helped) = (pool.clone(), entered.clone(), helped.clone());
            move || {
                spin_until(|| entered.load(SeqCst));
                with(Lending::Forced, || {
                    while !helped.load(SeqCst) {
                        block_on(
                            scope(async |s| {
                                for _ in 0..4 {
                                    drop(s.spawn(async {
                                        if on_helper() {
                                            helped.store(true, SeqCst);
                                        }
                                        burn(Duration::from_micros(50));
                                    }));
                                }
                            })
                            .on(&pool),
                        );
                    }
                });
            }
        });
        // The helper gets items; the thread that polls waits in `next` until the helper has been
        // of use to the other thread's scope.
        let seen = AtomicUsize::new(0);
        let items = std::iter::from_fn(|| {
            if on_helper() && !entered.load(SeqCst) {
                seen.fetch_add(1, SeqCst);
                return Some(());
            }
            entered.store(true, SeqCst);
            spin_until(|| helped.load(SeqCst));
            None
        });
        let run = par_iter(items).on(&pool).for_each(|()| ());
        with(Lending::Forced, || block_on(run));
        other.join().unwrap();
        assert!(helped.load(SeqCst));
    });
}

#[test]
fn error_ends_lanes_that_wait_for_a_source_that_is_taken() {
    everywhere(|what, pool| {
        for ordered in [true, false] {
            let (failed, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
            let items = std::iter::from_fn(|| {
                let n = calls.fetch_add(1, SeqCst);
                if n > 0 && pool.threads() > 0 && on_helper() {
                    burn(Duration::from_micros(200));
                }
                (n < 1_000_000).then_some(n)
            });
            let items = par_iter(items).on(pool);
            let items = if ordered { items } else { items.unordered() };
            let run = items.try_for_each(|n| {
                if n == 20 {
                    failed.store(true, SeqCst);
                    return Err(n);
                }
                Ok(())
            });
            assert_eq!(block_on(run), Err(20), "{what}");
            assert!(calls.into_inner() < 1_000, "{what}: it was taken from on");
        }
    });
}

#[test]
fn panic_in_next_reaches_the_terminal_and_nobody_calls_it_again() {
    everywhere(|what, pool| {
        let calls = AtomicUsize::new(0);
        let items = std::iter::from_fn(|| {
            let n = calls.fetch_add(1, SeqCst);
            burn(Duration::from_micros(100));
            assert!(n < 10, "on purpose");
            Some(n)
        });
        let run = par_iter(items).on(pool).for_each(|_| ());
        let out = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(run)));
        let payload = out.expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&"on purpose"), "{what}");
        assert_eq!(calls.into_inner(), 11, "{what}");
    });
}

#[test]
fn collections_that_cannot_wait_keep_their_batches() {
    let pool = Pool::builder().threads(0).build();
    let runs = |n: usize| 1000_usize.div_ceil(n);
    let all: Vec<u32> = (0..1000).collect();
    let queue: std::collections::VecDeque<u32> = (0..1000).collect();
    for n in [1, 7, 100, 999] {
        let runs_of = |all: Vec<()>| assert_eq!(all.len(), runs(n));
        // One accumulator a run, and a run is a batch.
        let (init, keep) = (|| (), |(), _: u32| ());
        let vec = all.clone().into_par().on(&pool).batch(n);
        runs_of(block_on(vec.fold(init, keep).collect()));
        let queue = queue.clone().into_par().on(&pool).batch(n);
        runs_of(block_on(queue.fold(init, keep).collect()));
        // Taken one by one, but neighbours share their accumulator as before.
        let iter = par_iter(0..1000).on(&pool).batch(n);
        // A slice that is used up ends one early, so a busy machine may see more.
        let all: Vec<()> = block_on(iter.fold(init, keep).collect());
        assert!(
            all.len() >= runs(n) && (n < 100 || all.len() < 500),
            "{} runs",
            all.len()
        );
    }
}

#[test]
fn items_that_were_put_back_are_dropped_with_the_pipeline() {
    guarded(|| {
        // Dropped midway at every point: what was made is gone afterwards.
        let item = Arc::new(());
        let pool = Pool::builder().threads(1).build();
        for times in 0..40 {
            let item = &item;
            let items = std::iter::repeat_with(|| {
                burn(Duration::from_micros(120));
                item.clone()
            });
            let left = AtomicUsize::new(times);
            let run = par_iter(items.take(100)).on(&pool).try_for_each(|_| {
                let gone = left
                    .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
                    .is_err();
                if gone { Err(()) } else { Ok(()) }
            });
            let out = with(Lending::Forced, || block_on(run));
            assert_eq!(out, Err(()));
            assert_eq!(Arc::strong_count(item), 1);
        }
    });
}
