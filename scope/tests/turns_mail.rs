//! Wakes from other threads are heard within a few dozen polls of others. Counted, not timed.
//! Not for turns among those who are ready here: that is `turns.rs`.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{MODES, burn, guarded, pool, yields};
use selvedge_scope::lending::with;
use selvedge_scope::{Pool, block_on, join_all, scope};

/// Wakes a child from another thread, and counts the polls of its siblings until the child is polled.
struct Foreign {
    waker: Mutex<Option<Waker>>,
    /// The others' polls when the wake was done; 0: there is none under way.
    woken_at: AtomicUsize,
    polls: AtomicUsize,
    gaps: Mutex<Vec<usize>>,
    over: AtomicBool,
}

const ROUNDS: usize = 200;

impl Foreign {
    fn new() -> Self {
        Self {
            waker: Mutex::new(None),
            woken_at: AtomicUsize::new(0),
            polls: AtomicUsize::new(1),
            gaps: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// The child that is woken.
    async fn child(&self) {
        poll_fn(|cx| {
            let at = self.woken_at.swap(0, Ordering::SeqCst);
            if at > 0 {
                let gap = self.polls.load(Ordering::SeqCst) - at;
                let mut gaps = self.gaps.lock().unwrap();
                gaps.push(gap);
                if gaps.len() == ROUNDS {
                    self.over.store(true, Ordering::SeqCst);
                    return Poll::Ready(());
                }
            }
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A sibling that yields on and on.
    async fn sibling(&self) {
        while !self.over.load(Ordering::SeqCst) {
            self.polls.fetch_add(1, Ordering::SeqCst);
            yields(1).await;
        }
    }

    /// The other thread.
    fn wakes(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let waker = self.waker.lock().unwrap().take();
            if let Some(waker) = waker {
                waker.wake();
                // After the wake: only polls that begin later count.
                self.woken_at
                    .store(self.polls.load(Ordering::SeqCst), Ordering::SeqCst);
                // A poll that came before this is none of the wake's.
                while self.woken_at.load(Ordering::SeqCst) > 0 && !self.over.load(Ordering::SeqCst)
                {
                    if self.waker.lock().unwrap().is_some() {
                        // It was polled in between, and waits again.
                        self.woken_at.store(0, Ordering::SeqCst);
                    }
                    thread::yield_now();
                }
            } else {
                thread::yield_now();
            }
        }
    }
}

// A wake from another thread waits for a few dozen polls, not for the window: inline, adaptive, and lent.
#[test]
fn wake_from_another_thread_is_heard_within_a_few_dozen_polls() {
    guarded(|| {
        for mode in MODES {
            for siblings in [1, 100, 2000] {
                let pool = pool(1);
                let foreign = Foreign::new();
                thread::scope(|threads| {
                    threads.spawn(|| foreign.wakes());
                    with(mode, || {
                        block_on(
                            scope(async |s| {
                                s.spawn(foreign.child());
                                for _ in 0..siblings {
                                    s.spawn(foreign.sibling());
                                }
                            })
                            .on(&pool),
                        )
                    });
                });
                let mut gaps = foreign.gaps.into_inner().unwrap();
                assert_eq!(gaps.len(), ROUNDS);
                // Now and then the system puts a thread aside that has just taken the child.
                gaps.sort_unstable();
                let most = gaps[ROUNDS / 2];
                assert!(most <= 100, "{mode:?}, {siblings} siblings: {most} polls");
            }
        }
    });
}

struct Nothing;

impl Wake for Nothing {
    fn wake(self: Arc<Self>) {}
}

// The same without any chance: the wakes come from another role at a known poll, and are counted exactly.
#[test]
fn mail_that_comes_during_a_round_of_yielders_is_polled_within_48_polls() {
    guarded(|| {
        let waker = Waker::from(Arc::new(Nothing));
        for siblings in [1_usize, 40, 3000] {
            let slot = Mutex::new(None::<Waker>);
            let (woken, worst) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let (count, heard) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let (count, slot, woken, worst, heard) = (&count, &slot, &woken, &worst, &heard);
            let mut scoped = pin!(
                scope(async move |s| {
                    s.spawn(poll_fn(move |cx| {
                        let at = woken.swap(0, Ordering::SeqCst);
                        if at > 0 {
                            worst.fetch_max(count.load(Ordering::SeqCst) - at, Ordering::SeqCst);
                            heard.fetch_add(1, Ordering::SeqCst);
                        }
                        *slot.lock().unwrap() = Some(cx.waker().clone());
                        Poll::<()>::Pending
                    }));
                    for _ in 0..siblings {
                        s.spawn(poll_fn(move |cx| {
                            let polls = count.fetch_add(1, Ordering::SeqCst) + 1;
                            if polls % 97 == 0 {
                                let waker = slot.lock().unwrap().take();
                                if let Some(waker) = waker {
                                    thread::scope(|threads| {
                                        threads.spawn(|| waker.wake());
                                    });
                                    woken.store(polls, Ordering::SeqCst);
                                }
                            }
                            cx.waker().wake_by_ref();
                            Poll::<()>::Pending
                        }));
                    }
                })
                .inline()
            );
            // On a machine that is busy a window has few polls.
            while count.load(Ordering::SeqCst) < 1000 || heard.load(Ordering::SeqCst) < 3 {
                assert!(
                    scoped
                        .as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                );
            }
            let worst = worst.load(Ordering::SeqCst);
            assert!(worst <= 48, "{siblings} siblings: {worst} polls");
        }
    });
}

/// Members of a batch, of which one rests and is woken from another thread while others have not begun. The most polls of
/// others between a wake and its poll, in all of them.
fn gap_while_members_begin(members: usize, burns: Duration, pool: &Pool) -> usize {
    const RESTS: usize = 3;
    const EVERY: usize = 50;
    let (polls, gap) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (waker, woken_at) = (Mutex::new(None::<Waker>), AtomicUsize::new(0));
    let have_all_begun = || polls.load(Ordering::SeqCst) == members - 1;
    let rests = async || {
        while !have_all_begun() {
            let mut is_woken = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut is_woken, true) {
                    return Poll::Ready(());
                }
                *waker.lock().unwrap() = Some(cx.waker().clone());
                match have_all_begun() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            let since = polls.load(Ordering::SeqCst) - woken_at.load(Ordering::SeqCst);
            gap.fetch_max(since, Ordering::SeqCst);
        }
    };
    let begins = async || {
        burn(burns);
        let polls = polls.fetch_add(1, Ordering::SeqCst) + 1;
        if polls % EVERY == 0 || have_all_begun() {
            let waker = waker.lock().unwrap().take();
            woken_at.store(polls, Ordering::SeqCst);
            // The wake is over when this poll goes on.
            thread::scope(|threads| {
                threads.spawn(|| waker.map(Waker::wake));
            });
        }
    };
    let member = async |n| match n {
        RESTS => rests().await,
        _ => begins().await,
    };
    block_on(join_all((0..members).map(|n| Box::pin(member(n)))).on(pool));
    gap.into_inner()
}

// It waited until all had begun, however many they were and however long that took.
#[test]
fn member_that_is_woken_from_outside_does_not_wait_until_all_have_begun() {
    guarded(|| {
        for burns in [0, 1, 30, 300] {
            for mode in MODES {
                for threads in [0, 1] {
                    let pool = pool(threads);
                    let burns = Duration::from_micros(burns);
                    // Helpers go on while the thread that wakes is started.
                    let most = if threads == 0 { 48 } else { 100 };
                    // Also when it is known what they cost.
                    for _ in 0..3 {
                        let gap = with(mode, || gap_while_members_begin(1000, burns, &pool));
                        assert!(
                            gap <= most,
                            "{burns:?}, {mode:?}, {threads} threads: {gap} polls"
                        );
                    }
                }
            }
        }
    });
}

// Each poll of the one that computes let one of the others have its turn: 184 of its polls before the last one had.
#[test]
fn one_that_computes_has_a_turn_for_several_of_those_that_are_woken_from_outside() {
    guarded(|| {
        const MANY: usize = 200;
        let (long, got) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let (send, receive): (Vec<_>, Vec<_>) = (0..MANY)
            .map(|_| futures::channel::oneshot::channel())
            .unzip();
        let whole = scope(async |s| {
            for receive in receive {
                drop(s.spawn(async {
                    receive.await.unwrap();
                    got.fetch_add(1, Ordering::SeqCst);
                }));
            }
            drop(s.spawn(async {
                while got.load(Ordering::SeqCst) < MANY {
                    long.fetch_add(1, Ordering::SeqCst);
                    burn(Duration::from_micros(500));
                    yields(1).await;
                }
            }));
        });
        let beside = async {
            yields(20).await;
            let before = long.load(Ordering::SeqCst);
            for send in send {
                send.send(()).unwrap();
            }
            while got.load(Ordering::SeqCst) < MANY {
                yields(1).await;
            }
            long.load(Ordering::SeqCst) - before
        };
        let both = async { futures::join!(whole.inline(), beside).1 };
        let polls = futures::executor::block_on(both);
        // One for each sixteen, and a few before the scope is told.
        assert!(polls <= MANY / 16 + 4, "{polls} long polls before the last");
    });
}
