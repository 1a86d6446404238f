//! Notices of a cancellation that must not be lost: for children that nobody has registered yet, beside children
//! that are always ready, and in windows that give way to busy helpers. What rests although it was cancelled
//! rests for ever, so most of these hung once. The races of the notice's own word are models.

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use common::{
    Bell, MODES, attempts, burn, guarded, poll_once, poll_times, poll_to_rest, pool, yields,
};
use selvedge_cancel::{CancelToken, CauseKind, FutureCancelExt, ambient, check};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, block_on, join_all, scope};

/// Longer than the budget of a window.
const LONG: Duration = Duration::from_millis(12);
/// So long something is waited for that comes at once, if it comes.
const MOST: Duration = Duration::from_millis(20);
/// So long a helper is held at most, for an owner that spends its budget meanwhile.
const HELD_FOR: Duration = Duration::from_secs(1);

fn on_owner(owner: std::thread::ThreadId) -> bool {
    std::thread::current().id() == owner
}

fn comes(flag: &AtomicBool) -> bool {
    comes_within(MOST, flag)
}

fn comes_within(most: Duration, flag: &AtomicBool) -> bool {
    let from = Instant::now();
    while !flag.load(Ordering::SeqCst) {
        if from.elapsed() > most {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

async fn rest() {
    let _ = pending::<()>().or_cancel().await;
}

/// A cancellation is carried down to registered children only, once. One that was spawned on a helper and came to
/// rest there is registered when the owner next hears from the monitor, and has to be told then.
#[test]
fn newborn_that_rests_on_a_helper_before_it_is_registered_is_told() {
    guarded(|| {
        let pool = pool(1);
        let reached = AtomicUsize::new(0);
        for () in attempts() {
            if reached.load(Ordering::SeqCst) > 0 {
                return;
            }
            let rested = AtomicBool::new(false);
            let owner = std::thread::current().id();
            let newborn = || async {
                let mut rest = pin!(rest());
                poll_fn(|cx| {
                    let polled = rest.as_mut().poll(cx);
                    rested.store(!on_owner(owner), Ordering::SeqCst);
                    polled
                })
                .await;
            };
            let waiting = scope(async |s| {
                for _ in 0..2 {
                    let inside = s.clone();
                    s.spawn(async {
                        let inside = inside;
                        if !on_owner(owner) {
                            inside.spawn(newborn());
                            return;
                        }
                        if comes(&rested) {
                            // The helper leaves that poll meanwhile.
                            burn(Duration::from_millis(1));
                            reached.fetch_add(1, Ordering::SeqCst);
                        }
                        inside.cancel();
                    });
                }
            });
            with(Lending::Forced, || block_on(waiting.on(&pool)));
        }
        panic!("no newborn came to rest on a helper in time");
    });
}

/// One child rests, the other is always ready until that has ended: every window of the scope ends because its
/// budget is spent, and it never comes to rest.
async fn beside_a_busy_one(s: Scope<'_>, resting: &AtomicUsize) {
    let told = AtomicBool::new(false);
    scope(async |inner| {
        inner.spawn(async {
            resting.fetch_add(1, Ordering::SeqCst);
            rest().await;
            told.store(true, Ordering::SeqCst);
        });
        inner.spawn(async {
            while !told.load(Ordering::SeqCst) {
                yields(1).await;
            }
        });
    })
    .await;
    assert!(s.is_cancelled());
}

/// Scopes entered their token's list when they first came to rest, so one that never does heard of nothing.
#[test]
fn cancel_from_above_reaches_a_resting_child_beside_one_that_is_always_ready() {
    guarded(|| {
        for mode in MODES {
            for threads in [0, 1] {
                let (pool, resting) = (pool(threads), AtomicUsize::new(0));
                let token = CancelToken::new();
                let outer = scope(async |s| {
                    s.spawn(beside_a_busy_one(s.clone(), &resting)).await;
                });
                let mut outer = pin!(outer.token(&token).on(&pool));
                with(mode, || {
                    while resting.load(Ordering::SeqCst) == 0 {
                        assert!(poll_once(outer.as_mut()).is_pending());
                    }
                    assert!(poll_times(outer.as_mut(), 2).is_none());
                    token.cancel();
                    let ended = poll_times(outer.as_mut(), 100);
                    assert!(ended.is_some(), "{mode:?} {threads}: it was not told");
                });
            }
        }
    });
}

/// The same when the scope's own handle, or another's clone of its token, is what cancels it.
#[test]
fn cancel_by_its_own_token_reaches_a_resting_child_beside_one_that_is_always_ready() {
    guarded(|| {
        for mode in MODES {
            for by_token in [true, false] {
                let (told, resting) = (AtomicBool::new(false), AtomicUsize::new(0));
                let mut handle = None;
                let mut waiting = pin!(scope(|s| {
                    handle = Some(s.clone());
                    s.spawn(async {
                        resting.fetch_add(1, Ordering::SeqCst);
                        rest().await;
                        told.store(true, Ordering::SeqCst);
                    });
                    s.spawn(async {
                        while !told.load(Ordering::SeqCst) {
                            yields(1).await;
                        }
                    });
                    async {}
                }));
                with(mode, || {
                    while resting.load(Ordering::SeqCst) == 0 {
                        assert!(poll_once(waiting.as_mut()).is_pending());
                    }
                    let handle = handle.take().unwrap();
                    if by_token {
                        handle.token().cancel();
                    } else {
                        handle.cancel();
                    }
                    let ended = poll_times(waiting.as_mut(), 100);
                    assert!(ended.is_some(), "{mode:?} {by_token}: it was not told");
                });
            }
        }
    });
}

/// What a child that came to [`Meeting::side`] is.
enum Side {
    /// On a helper, where it was held until the owner had done its part.
    Held,
    /// On the owner, whose budget is spent, and whose window gives way and waits for the helper.
    GivingWay,
    /// No helper came in time.
    Alone,
}

/// Two children meet, one of them on a helper, which keeps the owner from closing its window.
struct Meeting {
    owner: std::thread::ThreadId,
    held: AtomicBool,
    free: AtomicBool,
}

impl Meeting {
    fn new() -> Self {
        Self {
            owner: std::thread::current().id(),
            held: AtomicBool::new(false),
            free: AtomicBool::new(false),
        }
    }

    async fn side(&self) -> Side {
        if !on_owner(self.owner) {
            self.held.store(true, Ordering::SeqCst);
            // An owner that does not give way after all waits for this poll, too.
            comes_within(HELD_FOR, &self.free);
            return Side::Held;
        }
        if !comes(&self.held) {
            self.free();
            return Side::Alone;
        }
        // The budget counts from the first look at the clock.
        for _ in 0..3 {
            burn(LONG);
            yields(1).await;
        }
        Side::GivingWay
    }

    fn free(&self) {
        self.free.store(true, Ordering::SeqCst);
    }
}

/// Who gives way to helpers takes notices as well; what it took of an abort was forgotten then.
#[test]
fn abort_that_is_heard_of_while_the_owner_drains_is_not_forgotten() {
    guarded(|| {
        let (pool, mut meetings) = (pool(1), 0);
        for () in attempts() {
            let (meeting, met) = (Meeting::new(), AtomicBool::new(false));
            let child = async |s: Scope<'_>| match meeting.side().await {
                Side::Held => {
                    // Still inside when the owner, which polls nobody after an abort, takes the notice.
                    std::thread::sleep(Duration::from_millis(5));
                    pending().await
                }
                Side::GivingWay => {
                    let token = s.token();
                    token.cancel();
                    yields(3).await;
                    met.store(true, Ordering::SeqCst);
                    meeting.free();
                    token.abort();
                    pending().await
                }
                Side::Alone => s.token().abort(),
            };
            let graced = scope(async |s| {
                for _ in 0..2 {
                    s.spawn(child(s.clone()));
                }
            });
            let mut graced = pin!(graced.on(&pool).grace(Duration::MAX));
            let ended = with(Lending::Forced, || poll_times(graced.as_mut(), 10));
            let ended = ended.expect("the abort was forgotten");
            if met.load(Ordering::SeqCst) {
                assert!(ended.is_err(), "the children never end by themselves");
                meetings += 1;
                if meetings == 5 {
                    return;
                }
            }
        }
        assert!(meetings > 0, "no helper came in time");
    });
}

/// Who gives way to helpers polls on meanwhile. A child that had been spawned on a helper, and had come to rest there,
/// was polled and freed before it was registered, and then registered.
fn newborn_is_woken_while_the_owner_drains(by_thread: bool) {
    let pool = pool(1);
    for () in attempts() {
        let meeting = Meeting::new();
        let (begun, reached) = (AtomicBool::new(false), AtomicBool::new(false));
        let waker = Mutex::new(None::<Waker>);
        let (draining, looked) = (AtomicBool::new(false), AtomicBool::new(false));
        let (meeting, reached, waker, draining) = (&meeting, &reached, &waker, &draining);
        let newborn = || {
            let mut polled = false;
            poll_fn(move |cx| {
                if !std::mem::replace(&mut polled, true) {
                    *waker.lock().unwrap() = Some(cx.waker().clone());
                    // Nobody wakes it after that.
                    if !meeting.free.load(Ordering::SeqCst) {
                        return Poll::Pending;
                    }
                }
                let drained = draining.load(Ordering::SeqCst);
                let here = on_owner(meeting.owner) && drained;
                reached.store(here, Ordering::SeqCst);
                Poll::Ready(())
            })
        };
        // No waker keeps the newborn's memory after its end.
        let wake = || {
            let waker = waker.lock().unwrap().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        let ended = with(Lending::Forced, || {
            let waiting = scope(async |s| {
                for _ in 0..2 {
                    let inside = s.clone();
                    s.spawn(async {
                        let inside = inside;
                        if !on_owner(meeting.owner) && !begun.swap(true, Ordering::SeqCst) {
                            comes(&looked);
                            inside.spawn(newborn());
                            inside.spawn(async {
                                meeting.side().await;
                            });
                            return;
                        }
                        if !begun.load(Ordering::SeqCst) {
                            // No helper came in time: the next attempt.
                            meeting.free();
                            return;
                        }
                        // The budget counts from here. It is spent before the owner hears of the newborn.
                        yields(1).await;
                        looked.store(true, Ordering::SeqCst);
                        let met = on_owner(meeting.owner) && comes(&meeting.held);
                        burn(LONG);
                        yields(1).await;
                        if met {
                            draining.store(true, Ordering::SeqCst);
                            if by_thread {
                                std::thread::scope(|threads| {
                                    threads.spawn(wake);
                                });
                            } else {
                                wake();
                            }
                            yields(3).await;
                            draining.store(false, Ordering::SeqCst);
                        }
                        meeting.free();
                        wake();
                    });
                }
            });
            poll_times(pin!(waiting.on(&pool)), 100)
        });
        assert!(ended.is_some());
        if reached.load(Ordering::SeqCst) {
            return;
        }
    }
    panic!("no newborn was woken in time");
}

#[test]
fn newborn_that_its_owner_wakes_while_it_drains_is_registered_before_it_ends() {
    guarded(|| newborn_is_woken_while_the_owner_drains(false));
}

#[test]
fn newborn_that_a_thread_wakes_while_the_owner_drains_is_registered_before_it_ends() {
    guarded(|| newborn_is_woken_while_the_owner_drains(true));
}

/// The processor time of this thread so far.
#[cfg(target_os = "linux")]
fn burnt() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The owner woke up for a notice that it did not take until the helper had left, over and over.
#[cfg(target_os = "linux")]
#[test]
fn owner_that_drains_with_a_notice_waits_and_does_not_spin() {
    const HELD: Duration = Duration::from_millis(200);
    guarded(|| {
        let pool = pool(1);
        for () in attempts() {
            let (meeting, from) = (Meeting::new(), Mutex::new(None));
            let child = async |s: Scope<'_>| match meeting.side().await {
                Side::Held => std::thread::sleep(HELD),
                Side::GivingWay => {
                    s.stop();
                    *from.lock().unwrap() = Some(burnt());
                    meeting.free();
                }
                Side::Alone => {}
            };
            let waiting = scope(async |s| {
                for _ in 0..2 {
                    s.spawn(child(s.clone()));
                }
            });
            let mut waiting = pin!(waiting.on(&pool));
            assert!(with(Lending::Forced, || poll_times(waiting.as_mut(), 10)).is_some());
            let from = *from.lock().unwrap();
            if let Some(from) = from {
                let spun = burnt() - from;
                assert!(spun < HELD / 2, "spun for {spun:?} of {HELD:?}");
                return;
            }
        }
        panic!("no helper came in time");
    });
}

/// A scope listens for a stop from the moment at which somebody has its token, and does not know yet then that
/// `stop_within` will be said of it; it listened for cancellations only.
#[test]
fn stop_within_counts_from_a_stop_through_a_token_that_was_known_before() {
    for taken in [false, true] {
        let (token, bell) = (CancelToken::new(), Bell::new());
        let waiting = scope(|s| {
            // The closure runs before anything is said of the scope.
            let own = taken.then(|| s.token());
            async move {
                s.spawn(rest()).await;
                drop(own)
            }
        });
        let waiting = if taken {
            waiting
        } else {
            waiting.token(&token)
        };
        let mut waiting = pin!(waiting.stop_within(Duration::ZERO));
        let before = ambient::replace(taken.then(|| token.clone()));
        assert!(poll_to_rest(waiting.as_mut(), &bell).is_none());
        drop(ambient::replace(before));
        let rung = bell.0.rung();
        token.stop();
        assert!(
            bell.0.rung() > rung,
            "taken: {taken}: the stop was not heard of"
        );
        let ended = poll_to_rest(waiting.as_mut(), &bell);
        assert!(ended.is_some(), "taken: {taken}: nobody was told");
    }
}

/// Members of a batch are in no list of children; some of them rest and some are always ready.
#[test]
fn members_of_a_batch_are_told_beside_busy_ones_in_a_scope_and_in_none() {
    const MEMBERS: usize = 100;
    common::everywhere(|mode, pool| {
        for in_scope in [true, false] {
            let (resting, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let (to_thread, all_rest) = channel();
            let token = CancelToken::new();
            let member = |index: usize| {
                let (to_thread, resting, told) = (to_thread.clone(), &resting, &told);
                async move {
                    if resting.fetch_add(1, Ordering::SeqCst) + 1 == MEMBERS {
                        to_thread.send(()).unwrap();
                    }
                    if index % 10 == 0 {
                        while check().is_ok() {
                            yields(1).await;
                        }
                    } else {
                        rest().await;
                    }
                    told.fetch_add(1, Ordering::SeqCst);
                }
            };
            let batch = join_all((0..MEMBERS).map(member)).on(pool);
            std::thread::scope(|threads| {
                let token = &token;
                threads.spawn(move || {
                    all_rest.recv().unwrap();
                    token.cancel();
                });
                if in_scope {
                    block_on(scope(async |_| drop(batch.await)).token(token));
                } else {
                    let before = ambient::replace(Some(token.clone()));
                    block_on(batch);
                    drop(ambient::replace(before));
                }
            });
            assert_eq!(told.into_inner(), MEMBERS, "{mode:?} {in_scope}");
            assert_eq!(token.cause().unwrap().kind(), CauseKind::Requested);
        }
    });
}
