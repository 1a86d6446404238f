//! Whoever is ready gets a turn: body against children, members of joins, and work that is shared.
//! Turns are counted, not timed. Not for polls that must end: that is `budget.rs`; the property over all
//! combinators and runtimes is the façade's `tests/turns`.

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{burn, everywhere, guarded, on_helper, poll_once, pool, yields};
use selvedge_cancel::checkpoint;
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join, join_all, scope};

const STEP: Duration = Duration::from_micros(300);

/// Computes in steps with checkpoints between them until it is cancelled; counts the steps.
async fn compute(step: Duration, steps: &AtomicUsize) {
    loop {
        steps.fetch_add(1, Ordering::SeqCst);
        if !step.is_zero() {
            burn(step);
        }
        if checkpoint().await.is_err() {
            return;
        }
    }
}

// A body that sleeps and then cancels a child that never rests: it has its turn, and the scope ends.
#[test]
fn body_that_slept_cancels_a_child_that_computes_in_steps() {
    everywhere(|_, pool| {
        for step in [STEP, Duration::ZERO] {
            let steps = AtomicUsize::new(0);
            block_on(
                scope(async |s| {
                    let child = s.spawn(compute(step, &steps));
                    selvedge_scope::time::sleep(Duration::from_millis(2))
                        .await
                        .unwrap();
                    child.cancel();
                })
                .on(pool),
            );
            assert!(steps.into_inner() > 0, "it computed meanwhile");
        }
    });
}

// Where all only yield, the turns go round: one checkpoint of the body lasts for one step of each child.
#[test]
fn cancel_after_one_checkpoint_comes_after_one_step_of_each_child() {
    guarded(|| {
        for children in [1, 4] {
            for step in [Duration::ZERO, STEP] {
                for _ in 0..20 {
                    let steps = AtomicUsize::new(0);
                    block_on(
                        scope(async |s| {
                            for _ in 0..children {
                                s.spawn(compute(step, &steps));
                            }
                            checkpoint().await.unwrap();
                            s.cancel();
                        })
                        .inline(),
                    );
                    assert_eq!(steps.into_inner(), children);
                }
            }
        }
    });
}

// The same while helpers take part: the owner polls no more than each of the children that it has before the body's
// turn. What helpers do meanwhile is their own time.
#[test]
fn body_gets_turns_while_its_children_are_lent() {
    guarded(|| {
        for threads in [1, 2] {
            let pool = pool(threads);
            for children in [2, 4, 8, 40] {
                let (own, helped) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let (mut turns, mut most) = (0, 0);
                with(Lending::Forced, || {
                    block_on(
                        scope(async |s| {
                            for _ in 0..children {
                                s.spawn(async {
                                    while checkpoint().await.is_ok() {
                                        let steps = if on_helper() { &helped } else { &own };
                                        steps.fetch_add(1, Ordering::SeqCst);
                                        burn(STEP / 10);
                                    }
                                });
                            }
                            yields(1).await;
                            while helped.load(Ordering::SeqCst) < 50 || turns < 100 {
                                let before = own.load(Ordering::SeqCst);
                                yields(1).await;
                                most = most.max(own.load(Ordering::SeqCst) - before);
                                turns += 1;
                            }
                            s.cancel();
                        })
                        .on(&pool),
                    );
                });
                assert!(
                    most <= children,
                    "{most} steps of {children} between two turns"
                );
                assert!(own.into_inner() > 0, "the owner polled children too");
            }
        }
    });
}

/// The members' steps, one letter each.
#[derive(Default)]
struct Log(Mutex<String>);

impl Log {
    async fn member(&self, name: char, steps: usize, step: Duration) {
        for _ in 0..steps {
            self.0.lock().unwrap().push(name);
            if !step.is_zero() {
                burn(step);
            }
            yields(1).await;
        }
    }

    fn into_inner(self) -> String {
        self.0.into_inner().unwrap()
    }
}

// The second member begins after the first step of the first one, and they alternate, also at the very first use.
#[test]
fn members_of_a_join_alternate() {
    guarded(|| {
        for step in [Duration::ZERO, STEP] {
            let log = Log::default();
            with(Lending::Never, || {
                block_on(join((log.member('a', 20, step), log.member('b', 20, step))))
            });
            assert_eq!(log.into_inner(), "ab".repeat(20));
            let log = Log::default();
            let three = ['a', 'b', 'c'].map(|name| log.member(name, 20, step));
            block_on(join_all(three).inline());
            assert_eq!(log.into_inner(), "abc".repeat(20));
        }
    });
}

// A body whose steps are long, and so are looked at one by one, alternates with its children all the same.
#[test]
fn body_with_long_steps_leaves_its_children_their_turns() {
    guarded(|| {
        for step in [Duration::from_millis(2), Duration::from_millis(7)] {
            for _ in 0..3 {
                let log = Log::default();
                block_on(
                    scope(async |s| {
                        s.spawn(log.member('a', 6, Duration::ZERO));
                        s.spawn(log.member('b', 6, step));
                        log.member('s', 6, step).await;
                    })
                    .inline(),
                );
                assert_eq!(log.into_inner(), "sab".repeat(6));
            }
        }
    });
}

// Every member of a large batch begins before any has its second step.
#[test]
fn all_of_a_batch_begin_before_any_goes_on() {
    guarded(|| {
        let (begun, early) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for _ in 0..2 {
            begun.store(0, Ordering::SeqCst);
            let members = (0..1000).map(|_| async {
                begun.fetch_add(1, Ordering::SeqCst);
                yields(1).await;
                if begun.load(Ordering::SeqCst) < 1000 {
                    early.fetch_add(1, Ordering::SeqCst);
                }
            });
            block_on(join_all(members).inline());
            assert_eq!(early.load(Ordering::SeqCst), 0);
        }
    });
}

/// A member that meets the others at its first use: two of them run at the same time.
struct Meeting<'a> {
    inside: &'a AtomicUsize,
    met: &'a AtomicBool,
    left: usize,
}

impl Future for Meeting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inside.fetch_add(1, Ordering::SeqCst) > 0 {
            self.met.store(true, Ordering::SeqCst);
        }
        burn(Duration::from_millis(2));
        if self.inside.fetch_sub(1, Ordering::SeqCst) > 1 {
            self.met.store(true, Ordering::SeqCst);
        }
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

// Two big members of a kind that is not known yet run at the same time soon.
#[test]
fn two_big_members_of_an_unknown_kind_run_at_the_same_time() {
    guarded(|| {
        let pool = pool(1);
        // Its threads are awake.
        with(Lending::Forced, || {
            block_on(join_all((0..8).map(|_| async { burn(STEP) })).on(&pool));
        });
        let (inside, met) = (AtomicUsize::new(0), AtomicBool::new(false));
        let member = || Meeting {
            inside: &inside,
            met: &met,
            left: 30,
        };
        block_on(join_all([member(), member()]).on(&pool));
        assert!(met.into_inner());
    });
}

// One cheap child of another kind before many big ones, warm: helpers get theirs, and the window its budget.
#[test]
fn cheap_child_in_front_of_big_ones_keeps_nobody_from_helping() {
    guarded(|| {
        let pool = pool(1);
        let (polls, helped) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        // What the owner polls while no helper does: while one does the poll of the scope cannot end, so what is ready goes
        // on, and on a busy machine that may be for long.
        let (away, own) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let big = move || async move {
            polls.fetch_add(1, Ordering::SeqCst);
            if on_helper() {
                helped.fetch_add(1, Ordering::SeqCst);
                away.fetch_add(1, Ordering::SeqCst);
                burn(Duration::from_millis(5));
                away.fetch_sub(1, Ordering::SeqCst);
            } else {
                let alone = away.load(Ordering::SeqCst) == 0;
                own.fetch_add(alone.into(), Ordering::SeqCst);
                burn(Duration::from_millis(5));
            }
        };
        let cheap = || async {};
        let run = |bigs: usize| {
            scope(async move |s| {
                s.spawn(cheap());
                for _ in 0..bigs {
                    s.spawn(big());
                }
            })
            .on(&pool)
        };
        block_on(run(4));
        for bigs in [16, 20, 40] {
            polls.store(0, Ordering::SeqCst);
            helped.store(0, Ordering::SeqCst);
            let (mut scoped, mut most) = (pin!(run(bigs)), 0);
            loop {
                let before = own.load(Ordering::SeqCst);
                let ended = poll_once(scoped.as_mut()).is_ready();
                most = most.max(own.load(Ordering::SeqCst) - before);
                if ended {
                    break;
                }
            }
            assert_eq!(polls.load(Ordering::SeqCst), bigs);
            let helped = helped.load(Ordering::SeqCst);
            assert!(helped >= bigs / 8, "{helped} of {bigs} on helpers");
            assert!(most <= 6, "{most} big children in one window of 5 ms");
        }
    });
}

// Nothing is known of these children; the budget holds all the same, and so does a body's.
#[test]
fn budget_holds_before_anything_is_known() {
    guarded(|| {
        let polls = AtomicUsize::new(0);
        let polls = &polls;
        let step = async || {
            polls.fetch_add(1, Ordering::SeqCst);
            burn(Duration::from_millis(6));
            yields(1).await;
        };
        let most = |future: Pin<&mut dyn Future<Output = ()>>| {
            let (mut future, mut most) = (future, 0);
            loop {
                let before = polls.load(Ordering::SeqCst);
                let ended = poll_once(future.as_mut()).is_ready();
                most = most.max(polls.load(Ordering::SeqCst) - before);
                if ended {
                    return most;
                }
            }
        };
        let children = pin!(
            scope(async |s| {
                for _ in 0..8 {
                    s.spawn(async {
                        polls.fetch_add(1, Ordering::SeqCst);
                        burn(Duration::from_millis(6));
                    });
                }
            })
            .inline()
        );
        assert_eq!(most(children), 1);
        let body = pin!(
            scope(async |_| {
                for _ in 0..8 {
                    step().await;
                }
            })
            .inline()
        );
        assert!(most(body) <= 2);
        let batch = pin!(async {
            join_all((0..8).map(|_| async {
                polls.fetch_add(1, Ordering::SeqCst);
                burn(Duration::from_millis(6));
            }))
            .inline()
            .await;
        });
        assert_eq!(most(batch), 1);
    });
}

// The owner learns by an exchange what helpers put back and what it has shared itself. A body that was always due kept it
// from that until the window was over, for some ten thousand polls.
#[test]
fn child_is_polled_beside_a_body_that_yields_on_and_on_while_helpers_are_awaited() {
    guarded(|| {
        // The only helper never comes.
        let busy = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap(),
        );
        let (free, held) = mpsc::channel::<()>();
        busy.spawn(move || assert!(held.recv().is_err()));
        let pool = Pool::from_rayon(busy);
        for begin in [0, 1, 2, 3] {
            let (began, polls, worst) = (Cell::new(false), AtomicUsize::new(0), Cell::new(0));
            let (began, polls, worst) = (&began, &polls, &worst);
            let counted = scope(async |s| {
                let child = s.spawn(async {
                    for _ in 0..100 {
                        polls.fetch_add(1, Ordering::SeqCst);
                        yields(1).await;
                    }
                });
                // Lending begins with the child, before or after some turns.
                yields(begin).await;
                began.set(true);
                let (mut seen, mut alone) = (0, 0);
                while !child.is_finished() {
                    let now = polls.load(Ordering::SeqCst);
                    alone = if now > seen { 0 } else { alone + 1 };
                    worst.set(alone.max(worst.get()));
                    seen = now;
                    yields(1).await;
                }
            });
            with(Lending::Forced, || block_on(counted.on(&pool)));
            assert!(
                began.get() && worst.get() <= 2,
                "{} polls of the body alone",
                worst.get()
            );
        }
        drop(free);
    });
}

// Without the others' turns in between, a thread that wakes the body as soon as it rests has it polled on and on.
#[test]
fn children_have_turns_beside_a_body_that_another_thread_wakes_on_and_on() {
    const POLLS: usize = 3000;
    everywhere(|_, pool| {
        for children in [1, 3] {
            let (waker, over) = (OnceLock::<Waker>::new(), AtomicBool::new(false));
            let (polls, worst) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let (waker, over, polls, worst) = (&waker, &over, &polls, &worst);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        match waker.get() {
                            Some(waker) => waker.wake_by_ref(),
                            None => std::thread::yield_now(),
                        }
                    }
                });
                let woken = scope(async |s| {
                    for _ in 0..children {
                        drop(s.spawn(async move {
                            while !over.load(Ordering::SeqCst) {
                                polls.fetch_add(1, Ordering::SeqCst);
                                yields(1).await;
                            }
                        }));
                    }
                    let (mut left, mut seen, mut alone) = (POLLS, 0, 0);
                    poll_fn(|cx| {
                        let now = polls.load(Ordering::SeqCst);
                        alone = if now > seen { 0 } else { alone + 1 };
                        worst.fetch_max(alone, Ordering::SeqCst);
                        seen = now;
                        left -= 1;
                        if left == 0 {
                            return Poll::Ready(());
                        }
                        waker.get_or_init(|| cx.waker().clone());
                        Poll::Pending
                    })
                    .await;
                    over.store(true, Ordering::SeqCst);
                });
                block_on(woken.on(pool));
            });
            let worst = worst.load(Ordering::SeqCst);
            assert!(worst <= 2, "{worst} polls of the body alone");
        }
    });
}
