//! What the engine drops of a user's when it frees something: wakers that panic in their destructor, that call back
//! into the very list they leave, and that are dropped last on another thread. Rules W4, W10, W15, T6.
//! Not for wakers that misbehave while a scope runs: those are in `wakers.rs`.

mod common;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{
    Bell, Count, burn, everywhere, guarded, never, on_helper, panic_of, park_in, poll_once, yields,
};
use selvedge_cancel::{Instant, Ticket, Timer, ambient};
use selvedge_scope::time::sleep;
use selvedge_scope::{JoinHandle, block_on, scope, timeout};

const HOUR: Duration = Duration::from_secs(3600);

/// A waker that counts and, when its last clone is dropped, does something: it panics, or calls back.
struct Biting {
    dropped: Arc<AtomicUsize>,
    bite: Box<dyn Fn() + Send + Sync>,
}

impl Wake for Biting {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Biting {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        (self.bite)();
    }
}

fn biting(bite: impl Fn() + Send + Sync + 'static) -> (Waker, Arc<AtomicUsize>) {
    let dropped = Arc::default();
    let waker = Biting {
        dropped: Arc::clone(&dropped),
        bite: Box::new(bite),
    };
    (Waker::from(Arc::new(waker)), dropped)
}

/// A waker that panics when its last clone is dropped.
fn panicking() -> (Waker, Arc<AtomicUsize>) {
    biting(|| panic!("a waker's drop"))
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// How a wait is given up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum GivenUp {
    Dropped,
    Forgotten,
}

// W4, W10: wakers are left in the lists of waiters of some children, and go when their cells are freed. If a panic
// got out of there, it would leave children that ended on helpers looking alive, and the scope's `Drop` would drop
// them again.
#[test]
fn waker_left_in_a_list_of_waiters_may_panic_where_the_cell_is_freed_and_nothing_is_dropped_twice()
{
    static ESCAPED: AtomicUsize = AtomicUsize::new(0);
    static HELPED: AtomicUsize = AtomicUsize::new(0);
    everywhere(|mode, pool| {
        for given_up in [GivenUp::Dropped, GivenUp::Forgotten] {
            let what = format!("{mode:?} {} {given_up:?}", pool.threads());
            let (count, drops) = (Count::new(), Mutex::new(Vec::new()));
            let mut scoped = Box::pin(
                scope(async |s| {
                    for i in 0..64 {
                        let one = count.one();
                        // Large, so that it is in the list of single cells; and not an `async` block, which drops
                        // nothing when it is dropped again.
                        let large = [0_u8; 4096];
                        let child = s.spawn(poll_fn(move |_| {
                            let _held = (&one, &large);
                            if on_helper() {
                                HELPED.fetch_add(1, Ordering::SeqCst);
                            } else {
                                // So that several have ended on helpers before the owner takes them in.
                                burn(Duration::from_micros(200));
                            }
                            Poll::Ready(())
                        }));
                        if i % 4 != 0 {
                            continue;
                        }
                        let (evil, dropped) = panicking();
                        let mut wait = child.cancel_and_wait();
                        assert!(poll_with(&mut wait, &evil).is_pending(), "{what}");
                        // The list's clone is the last.
                        drop(evil);
                        match given_up {
                            GivenUp::Dropped => drop(wait),
                            GivenUp::Forgotten => std::mem::forget(wait),
                        }
                        drops.lock().unwrap().push(dropped);
                    }
                })
                .on(pool),
            );
            let ended = catch_unwind(AssertUnwindSafe(|| {
                (0..1000).any(|_| poll_once(scoped.as_mut()).is_ready())
            }));
            match ended {
                Ok(ended) => assert!(ended, "{what}: it ends"),
                Err(_) => drop(ESCAPED.fetch_add(1, Ordering::SeqCst)),
            }
            let dropping = catch_unwind(AssertUnwindSafe(|| drop(scoped)));
            ESCAPED.fetch_add(usize::from(dropping.is_err()), Ordering::SeqCst);
            count.assert_settled(&what);
            let drops = drops.into_inner().unwrap();
            assert_eq!(drops.len(), 16, "{what}");
            for dropped in drops {
                assert_eq!(dropped.load(Ordering::SeqCst), 1, "{what}: a waker");
            }
        }
    });
    assert_eq!(ESCAPED.load(Ordering::SeqCst), 0, "panics that came out");
    assert!(
        HELPED.load(Ordering::SeqCst) > 0,
        "nothing ended on a helper"
    );
}

/// A child that runs until it is asked to stop.
async fn runs_on() {
    selvedge_cancel::cancelled().await;
}

/// Wakers that are alive.
#[derive(Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A waker that no other would be taken for.
    fn one(&self) -> Waker {
        self.0.fetch_add(1, Ordering::SeqCst);
        let alive = Arc::clone(&self.0);
        biting(move || {
            alive.fetch_sub(1, Ordering::SeqCst);
        })
        .0
    }
}

// A wait that is given up leaves the list at once, whoever else is in it, and in constant time: with a look through
// the list this is some ten thousand million comparisons.
#[test]
fn sixty_thousand_waits_that_are_given_up_keep_no_waker() {
    const WAITS: usize = 60_000;
    guarded(|| {
        block_on(scope(async |s| {
            let child = s.spawn(runs_on());
            let alive = Alive::default();
            for _ in 0..WAITS {
                let mut wait = child.cancel_and_wait();
                assert!(poll_with(&mut wait, &alive.one()).is_pending());
                assert_eq!(alive.get(), 1);
            }
            assert_eq!(alive.get(), 0);
            let mut waits: Vec<_> = (0..WAITS)
                .map(|_| {
                    let mut wait = child.cancel_and_wait();
                    assert!(poll_with(&mut wait, &alive.one()).is_pending());
                    wait
                })
                .collect();
            assert_eq!(alive.get(), WAITS);
            // The newest first, then the oldest.
            waits.truncate(WAITS / 2);
            assert_eq!(alive.get(), WAITS / 2);
            for wait in waits {
                drop(wait);
            }
            assert_eq!(alive.get(), 0);
        }));
    });
}

#[test]
fn wait_that_is_polled_with_another_waker_lets_the_first_go_and_the_end_wakes_the_last() {
    everywhere(|mode, pool| {
        let (first, woken_first) = Bell::new();
        let (last, woken_last) = Bell::new();
        block_on(
            scope(async |s| {
                let child = s.spawn(runs_on());
                let mut wait = child.cancel_and_wait();
                assert!(poll_with(&mut wait, &woken_first).is_pending());
                assert_eq!(Arc::strong_count(&first), 3);
                for _ in 0..3 {
                    assert!(poll_with(&mut wait, &woken_last).is_pending());
                    assert_eq!(Arc::strong_count(&first), 2, "{mode:?}: it is let go");
                    assert_eq!(Arc::strong_count(&last), 3);
                }
                (&mut wait).await;
                assert!(poll_with(&mut wait, &woken_first).is_ready());
            })
            .on(pool),
        );
        // The body's own waker took the last one's place.
        assert_eq!((first.rung(), last.rung()), (0, 0), "{mode:?}");
        assert_eq!(
            (Arc::strong_count(&first), Arc::strong_count(&last)),
            (2, 2)
        );
    });
}

#[test]
fn clone_of_a_wait_has_a_place_of_its_own() {
    everywhere(|mode, pool| {
        block_on(
            scope(async |s| {
                let child = s.spawn(runs_on());
                let ((one, of_one), (two, of_two)) = (Bell::new(), Bell::new());
                let mut wait = child.cancel_and_wait();
                assert!(poll_with(&mut wait, &of_one).is_pending());
                let mut clone = wait.clone();
                let idle = clone.clone();
                assert_eq!(Arc::strong_count(&one), 3, "a clone has entered nothing");
                assert!(poll_with(&mut clone, &of_two).is_pending());
                drop(idle);
                // Each outlives the other once.
                let stays = if mode == selvedge_scope::lending::Lending::Never {
                    drop(wait);
                    clone
                } else {
                    drop(clone);
                    wait
                };
                let live = Arc::strong_count(&one) + Arc::strong_count(&two);
                assert_eq!(live, 5, "{mode:?}: one of two has left");
                while !child.is_finished() {
                    yields(1).await;
                }
                // On a helper the end is published before it wakes.
                while one.rung() + two.rung() == 0 {
                    yields(1).await;
                }
                assert_eq!(one.rung() + two.rung(), 1, "{mode:?}: the other is woken");
                drop(stays);
            })
            .on(pool),
        );
    });
}

/// Does to a wait what drops the waker of its last poll.
type Act = fn(&JoinHandle<'static, ()>, &Waker);

// W15: the destructor of a waker takes the list that it has just left.
#[test]
fn waker_whose_destructor_waits_for_the_same_child_does_not_deadlock() {
    let acts: [(&str, Act); 3] = [
        ("dropped", |child, waker| {
            let mut wait = child.cancel_and_wait();
            assert!(poll_with(&mut wait, waker).is_pending());
        }),
        ("exchanged", |child, waker| {
            let mut wait = child.cancel_and_wait();
            assert!(poll_with(&mut wait, waker).is_pending());
            assert!(poll_with(&mut wait, Waker::noop()).is_pending());
        }),
        ("forgotten", |child, waker| {
            let mut wait = child.cancel_and_wait();
            assert!(poll_with(&mut wait, waker).is_pending());
            std::mem::forget(wait);
        }),
    ];
    everywhere(move |mode, pool| {
        for (name, act) in acts {
            let child = Arc::new(OnceLock::<JoinHandle<'static, ()>>::new());
            let of_waker = Arc::clone(&child);
            let (waker, dropped) = biting(move || {
                let mut wait = of_waker.get().unwrap().cancel_and_wait();
                let _ = poll_with(&mut wait, Waker::noop());
            });
            block_on(
                scope(async |s| {
                    assert!(child.set(s.spawn(runs_on())).is_ok());
                    act(child.get().unwrap(), &{ waker });
                })
                .on(pool),
            );
            assert_eq!(dropped.load(Ordering::SeqCst), 1, "{mode:?} {name}");
        }
    });
}

// W6: the last reference to a cell is a waker that another thread drops, which frees a list with a waker in it.
#[test]
fn cell_that_another_thread_frees_keeps_the_panic_of_a_forgotten_waker_to_itself() {
    everywhere(|mode, pool| {
        let kept = Mutex::new(Vec::new());
        let (evil, dropped) = panicking();
        let mut evil = Some(evil);
        let mut scoped = Box::pin(
            scope(async |s| {
                let child = s.spawn(park_in::<()>(&kept));
                let mut wait = child.cancel_and_wait();
                let evil = evil.take().unwrap();
                assert!(poll_with(&mut wait, &evil).is_pending());
                std::mem::forget(wait);
                drop(evil);
                never::<()>().await;
            })
            .on(pool),
        );
        while kept.lock().unwrap().is_empty() {
            assert!(poll_once(scoped.as_mut()).is_pending());
        }
        drop(scoped);
        assert_eq!(dropped.load(Ordering::SeqCst), 0, "{mode:?}: it is kept");
        let wakers = kept.into_inner().unwrap();
        std::thread::spawn(move || drop(wakers)).join().unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "{mode:?}");
    });
}

// A destructor that panics while another panic unwinds ends the process, unless it is caught where it runs.
#[test]
fn leaf_futures_that_hold_a_panicking_waker_may_go_down_in_an_unwinding() {
    guarded(|| {
        let (dropped, held) = (Arc::new(AtomicUsize::new(0)), 4);
        let evil = || {
            let dropped = Arc::clone(&dropped);
            biting(move || {
                dropped.fetch_add(1, Ordering::SeqCst);
                panic!("a waker's drop");
            })
            .0
        };
        block_on(scope(async |s| {
            let child = s.spawn(runs_on());
            let first = panic_of(|| {
                let mut nap = sleep(HOUR);
                let mut wait = child.cancel_and_wait();
                let mut limited = timeout(HOUR, sleep(2 * HOUR));
                let mut joined = s.spawn(runs_on());
                assert!(poll_with(&mut nap, &evil()).is_pending());
                assert!(poll_with(&mut wait, &evil()).is_pending());
                assert!(poll_with(&mut joined, &evil()).is_pending());
                assert!(poll_with(&mut limited, &evil()).is_pending());
                joined.cancel();
                panic!("the first");
            });
            assert_eq!(first, "the first");
            assert_eq!(dropped.load(Ordering::SeqCst), held);
        }));
    });
}

/// A timer that panics whenever an entry is taken back, and when it is dropped.
#[derive(Debug, Default)]
struct Nasty {
    scheduled: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Timer for Nasty {
    fn now(&self) -> Instant {
        Instant::from_std(std::time::Instant::now())
    }

    fn schedule(&self, at: Instant, _: &Waker) -> Ticket {
        let id = self.scheduled.fetch_add(1, Ordering::SeqCst);
        Ticket::new(at, id as u64)
    }

    fn cancel(&self, _: Ticket) {
        self.cancelled.fetch_add(1, Ordering::SeqCst);
        panic!("a timer's cancel");
    }
}

impl Drop for Nasty {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        panic!("a timer's drop");
    }
}

// W10: what a scope's limits hold of a timer goes at its end, one alarm after another.
#[test]
fn timer_that_panics_when_it_is_let_go_of_loses_no_other_alarm() {
    guarded(|| {
        let timer = Nasty::default();
        let (cancelled, dropped) = (Arc::clone(&timer.cancelled), Arc::clone(&timer.dropped));
        let before = ambient::replace_timer(Some(Arc::new(timer)));
        let mut scoped = Box::pin(
            scope(async |s| {
                s.stop();
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                })
                .await;
            })
            .timeout(HOUR)
            .stop_within(HOUR),
        );
        for _ in 0..3 {
            assert!(poll_once(scoped.as_mut()).is_pending());
        }
        // The scope's limits hold the last reference.
        drop(ambient::replace_timer(before));
        drop(scoped);
        assert_eq!(cancelled.load(Ordering::SeqCst), 2, "both alarms");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn timer_that_panics_may_go_down_with_its_waits_in_an_unwinding() {
    guarded(|| {
        let timer = Nasty::default();
        let (cancelled, dropped) = (Arc::clone(&timer.cancelled), Arc::clone(&timer.dropped));
        let before = ambient::replace_timer(Some(Arc::new(timer)));
        let first = panic_of(|| {
            let mut nap = sleep(HOUR);
            let mut limited = timeout(HOUR, Box::pin(never::<()>()));
            assert!(poll_with(&mut nap, Waker::noop()).is_pending());
            assert!(poll_with(&mut limited, Waker::noop()).is_pending());
            drop(ambient::replace_timer(before));
            panic!("the first");
        });
        assert_eq!(first, "the first");
        assert_eq!(cancelled.load(Ordering::SeqCst), 2, "the nap and the limit");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}
