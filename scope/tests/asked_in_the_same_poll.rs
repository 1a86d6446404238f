//! What is requested of a scope is seen by whoever asks next, in the same poll: each request from each place, each
//! question from each place, with and without a limit set before. The table of both.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{PLACES, Place, guarded, guarded_for, on_a_thread, on_helper, pool, turn, yields};
use selvedge_cancel::{self as cancel, Instant};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, TryScope, block_on, join_all, scope, shield, timeout, try_scope};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    DeadlineThatHasPassed,
    DeadlineAhead,
    NoDeadline,
    Cancel,
    Stop,
    TokenCancel,
    TokenStop,
}

const REQUESTS: [Request; 7] = [
    Request::DeadlineThatHasPassed,
    Request::DeadlineAhead,
    Request::NoDeadline,
    Request::Cancel,
    Request::Stop,
    Request::TokenCancel,
    Request::TokenStop,
];

/// When the time is up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    Less,
    Hours,
    Endless,
}

fn left(deadline: Option<Instant>) -> Left {
    match deadline.map(|at| at.duration_since(Instant::now())) {
        None => Left::Endless,
        Some(Duration::ZERO) => Left::Nothing,
        Some(left) if left <= HOUR => Left::Less,
        Some(_) => Left::Hours,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    cancelled: bool,
    stopping: bool,
    left: Left,
}

/// What a handle of the scope says.
macro_rules! ask {
    ($s:expr) => {{
        let token = $s.token();
        assert_eq!(token.is_cancelled(), $s.is_cancelled());
        assert_eq!(token.is_stopping(), $s.is_stopping());
        Answer {
            cancelled: $s.is_cancelled(),
            stopping: $s.is_stopping(),
            left: left(token.deadline()),
        }
    }};
}

/// What is in force where this runs.
fn ask_around() -> Answer {
    let current = cancel::current();
    let cancelled = cancel::check().is_err();
    assert_eq!(current.is_cancelled(), cancelled);
    assert_eq!(current.cause().is_some(), cancelled);
    let left = left(cancel::deadline());
    assert_eq!(cancel::remaining().is_none(), left == Left::Endless);
    assert_eq!(
        cancel::remaining() == Some(Duration::ZERO),
        left == Left::Nothing
    );
    Answer {
        cancelled,
        stopping: current.is_stopping(),
        left,
    }
}

fn expected(request: Request, limited: bool) -> Answer {
    let before = if limited { Left::Hours } else { Left::Endless };
    let answer = |cancelled, stopping, left| Answer {
        cancelled,
        stopping,
        left,
    };
    match request {
        Request::DeadlineThatHasPassed | Request::Cancel | Request::TokenCancel => {
            answer(true, true, Left::Nothing)
        }
        Request::DeadlineAhead => answer(false, false, Left::Less),
        Request::NoDeadline => answer(false, false, Left::Endless),
        Request::Stop | Request::TokenStop => answer(false, true, before),
    }
}

macro_rules! make {
    ($s:expr, $request:expr) => {
        match $request {
            Request::DeadlineThatHasPassed => $s.set_deadline(Instant::now()),
            Request::DeadlineAhead => $s.set_deadline(Instant::now() + HOUR),
            Request::NoDeadline => $s.set_deadline(None),
            Request::Cancel => $s.cancel(),
            Request::Stop => $s.stop(),
            Request::TokenCancel => $s.token().cancel(),
            Request::TokenStop => $s.token().stop(),
        }
    };
}

/// What the cases have reached.
#[derive(Debug, Default)]
struct Reached {
    helpers: AtomicUsize,
    same_poll: AtomicUsize,
}

/// Counts the polls of a future.
async fn counted<F: Future>(polls: &AtomicUsize, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        future.as_mut().poll(cx)
    })
    .await
}

/// One request from one place, then the questions: at once in the same place and on another thread, and by each member
/// in turn.
macro_rules! case {
    ($open:ident, $Scope:ty, $ok:expr, $from:expr, $request:expr, $limited:expr, $mode:expr, $pool:expr, $reached:expr) => {{
        let (from, request, limited, mode, reached) = ($from, $request, $limited, $mode, $reached);
        let expected = expected(request, limited);
        let what = format!("{request:?} from {from:?}, limited: {limited}, {mode:?}");
        let (what, turns, polls, asked) = (
            &what,
            &AtomicUsize::new(0),
            &AtomicUsize::new(0),
            &AtomicUsize::new(0),
        );
        let asked_in = &AtomicUsize::new(0);
        let act = move |s: &$Scope| {
            make!(s, request);
            asked_in.store(polls.load(Ordering::SeqCst), Ordering::SeqCst);
            assert_eq!(ask!(s), expected, "{what}: at once");
            if from != Place::Thread {
                assert_eq!(ask_around(), expected, "{what}: at once, around");
            }
            on_a_thread(|| assert_eq!(ask!(s), expected, "{what}: on a thread"));
            turns.store(1, Ordering::SeqCst);
        };
        let ask = move |s: &$Scope, who: Place| {
            assert_eq!(ask_around(), expected, "{what}: {who:?}, around");
            assert_eq!(ask!(s), expected, "{what}: {who:?}");
            let same = asked_in.load(Ordering::SeqCst) == polls.load(Ordering::SeqCst);
            reached
                .same_poll
                .fetch_add(usize::from(same), Ordering::SeqCst);
            let helped = who == Place::Helper && on_helper();
            reached
                .helpers
                .fetch_add(usize::from(helped), Ordering::SeqCst);
            asked.fetch_add(1, Ordering::SeqCst);
            turns.fetch_add(1, Ordering::SeqCst);
        };
        let helped = mode == Lending::Forced;
        let opened = $open(async |s| {
            for who in [Place::Child, Place::Helper] {
                drop(s.spawn_with(async move |s| {
                    if from == who {
                        turn(turns, 0, who == Place::Helper && helped).await;
                        act(&s);
                    }
                    let own = if who == Place::Child { 1 } else { 2 };
                    turn(turns, own, who == Place::Helper && helped).await;
                    ask(&s, who);
                    $ok
                }));
            }
            match from {
                Place::Body => act(&s),
                Place::Thread => on_a_thread(|| act(&s)),
                Place::Child | Place::Helper => {}
            }
            turn(turns, 3, false).await;
            ask(&s, Place::Body);
            $ok
        });
        let opened = if limited {
            opened.timeout(HOUR * 2)
        } else {
            opened
        };
        let _ = with(mode, || block_on(counted(polls, opened.on($pool))));
        assert_eq!(
            asked.load(Ordering::SeqCst),
            3,
            "{what}: whether all have asked"
        );
    }};
}

/// Every case of one kind of scope.
macro_rules! table {
    ($open:ident, $Scope:ty, $ok:expr) => {
        guarded_for(Duration::from_secs(240), || {
            let reached = &Reached::default();
            for mode in [Lending::Never, Lending::Forced] {
                let pool = &pool(if mode == Lending::Forced { 2 } else { 0 });
                for limited in [false, true] {
                    for request in REQUESTS {
                        for from in PLACES {
                            case!(
                                $open, $Scope, $ok, from, request, limited, mode, pool, reached
                            );
                        }
                    }
                }
            }
            assert!(reached.helpers.load(Ordering::SeqCst) > 0, "{reached:?}");
            assert!(reached.same_poll.load(Ordering::SeqCst) > 20, "{reached:?}");
        })
    };
}

#[test]
fn request_is_seen_by_whoever_asks_next_in_a_scope() {
    table!(scope, Scope<'_>, ());
}

#[test]
fn request_is_seen_by_whoever_asks_next_in_a_try_scope() {
    table!(try_scope, TryScope<'_, ()>, Ok::<(), ()>(()));
}

/// One poll, by a waker that does nothing.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

// The limit is not armed by the next poll only: it passes while the poll that set it goes on.
#[test]
fn deadline_that_passes_in_the_poll_that_set_it_is_seen_there_and_on_other_threads() {
    guarded_for(Duration::from_secs(60), || {
        for place in [Place::Body, Place::Child, Place::Thread] {
            let mut seen = 0;
            // A budget may be spent before the scope's end, so it is polled until then.
            block_on(
                scope(async |s| {
                    let wait = |s: &Scope<'_>| {
                        s.set_deadline(Instant::now() + Duration::from_millis(1));
                        while !s.is_cancelled() {
                            std::thread::yield_now();
                        }
                        s.token().cause().map(|cause| cause.kind())
                    };
                    let kind = match place {
                        Place::Body => wait(&s),
                        Place::Thread => on_a_thread(|| wait(&s)),
                        _ => s.spawn_with(async move |s| wait(&s)).await,
                    };
                    assert_eq!(kind, Some(cancel::CauseKind::Deadline));
                    assert!(cancel::check().is_err());
                    seen += 1;
                })
                .inline(),
            );
            assert_eq!(seen, 1, "{place:?}");
        }
    });
}

#[test]
fn deadline_set_after_the_end_or_before_the_first_poll_does_nothing_yet() {
    let mut kept = None;
    let scoped = scope(|s: Scope<'static>| {
        s.set_deadline(Instant::now());
        assert!(!s.is_cancelled(), "it has not begun");
        kept = Some(s.clone());
        async move { s.is_cancelled() }
    });
    assert_eq!(poll_once(scoped), Poll::Ready(true));
    let (kept_too, ended) = (kept, scope(async |s: Scope<'static>| s));
    let Poll::Ready(ended) = poll_once(ended) else {
        panic!("it has nothing to wait for");
    };
    ended.set_deadline(Instant::now());
    assert!(!ended.is_cancelled(), "it had ended");
    drop(kept_too);
}

#[test]
fn cancelled_child_sees_it_at_once_and_its_siblings_do_not() {
    guarded_for(Duration::from_secs(120), || {
        for mode in [Lending::Never, Lending::Forced] {
            let pool = &pool(if mode == Lending::Forced { 2 } else { 0 });
            for from in PLACES {
                let helped = mode == Lending::Forced && from == Place::Helper;
                let (turns, asked) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
                with(mode, || {
                    block_on(
                        scope(async |s| {
                            let target = &s.spawn(async move {
                                // Makes it known, as anything that begins inside a child does.
                                let own = cancel::current();
                                turn(turns, 1, false).await;
                                let answer = ask_around();
                                assert!(answer.cancelled && answer.stopping, "{from:?} {mode:?}");
                                assert_eq!(answer.left, Left::Nothing);
                                assert!(own.is_cancelled());
                                let limited = timeout(HOUR, async { cancel::check().is_err() });
                                assert!(limited.await.unwrap(), "also in what it is around");
                                assert!(shield(HOUR, async { cancel::check().is_ok() }).await);
                                asked.fetch_add(1, Ordering::SeqCst);
                                turns.store(2, Ordering::SeqCst);
                            });
                            let own = &s.spawn(async move {
                                turn(turns, 2, false).await;
                                assert!(!ask_around().cancelled);
                                asked.fetch_add(1, Ordering::SeqCst);
                                turns.store(3, Ordering::SeqCst);
                            });
                            let request = || {
                                target.cancel();
                                assert!(!target.is_finished());
                                assert!(cancel::check().is_ok(), "another one is cancelled");
                                turns.store(1, Ordering::SeqCst);
                            };
                            match from {
                                Place::Body => request(),
                                Place::Thread => on_a_thread(request),
                                Place::Child | Place::Helper => {
                                    scope(async |inner| {
                                        inner.spawn(async {
                                            turn(turns, 0, helped).await;
                                            request();
                                        });
                                    })
                                    .on(pool)
                                    .await;
                                }
                            }
                            turn(turns, 3, false).await;
                            assert!(!s.is_cancelled() && !ask_around().cancelled);
                            while !target.is_finished() || !own.is_finished() {
                                yields(1).await;
                            }
                            asked.fetch_add(1, Ordering::SeqCst);
                        })
                        .on(pool),
                    )
                });
                assert_eq!(asked.load(Ordering::SeqCst), 3);
            }
        }
    });
}

#[test]
fn requests_in_a_batch_a_limit_and_a_shield_are_seen_inside_at_once() {
    guarded_for(Duration::from_secs(60), || {
        let turns = &AtomicUsize::new(0);
        let futures = (0..4).map(|n| async move {
            if n == 0 {
                // The token of the batch: that of a scope's body, for a future that is no child.
                cancel::current().cancel();
                turns.store(1, Ordering::SeqCst);
            } else {
                turn(turns, 1, false).await;
            }
            ask_around()
        });
        for answer in block_on(join_all(futures)) {
            assert!(answer.cancelled && answer.stopping && answer.left == Left::Nothing);
        }
        block_on(scope(async |s| {
            let (inside, shielded, after) = timeout(HOUR, async {
                assert_eq!(ask_around().left, Left::Less);
                let shielded = shield(HOUR, async {
                    s.set_deadline(Instant::now());
                    ask_around()
                });
                let shielded = shielded.await;
                (ask_around(), shielded, cancel::check().is_err())
            })
            .await
            .unwrap();
            assert!(inside.cancelled && after && inside.left == Left::Nothing);
            assert!(!shielded.cancelled && shielded.stopping);
            assert_eq!(shielded.left, Left::Endless);
            assert!(s.is_cancelled());
        }));
        // A limit's own token, cancelled from inside: nobody outside is concerned.
        block_on(scope(async |s| {
            let answer = timeout(HOUR, async {
                cancel::current().cancel();
                on_a_thread(|| assert!(!s.is_cancelled()));
                ask_around()
            });
            assert!(answer.await.unwrap().cancelled);
            assert!(!ask_around().cancelled && !s.is_cancelled());
        }));
    });
}

/// The timer rings for an earlier moment at the same time: whoever sets a deadline that has passed finds it acted upon.
#[test]
fn deadline_that_has_passed_cancels_at_once_beside_a_timer_that_rings() {
    guarded_for(Duration::from_secs(120), || {
        for round in 0..3000_u32 {
            let limited = scope(async |s| {
                s.set_deadline(Instant::now() + Duration::from_micros(100));
                // Spins, so that the two meet.
                while Instant::now() < s.token().deadline().unwrap() {
                    std::hint::spin_loop();
                }
                for _ in 0..round % 64 * 16 {
                    std::hint::spin_loop();
                }
                s.set_deadline(Instant::now());
                assert!(s.is_cancelled(), "round {round}");
            });
            block_on(limited);
        }
    });
}

// Between being set and being looked at it was replaced, and forgotten.
#[test]
fn deadline_that_has_passed_is_felt_although_somebody_moves_it_at_that_moment() {
    guarded(|| {
        for _ in 0..2_000 {
            block_on(scope(async |s| {
                let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
                std::thread::scope(|threads| {
                    threads.spawn(|| {
                        while !over.load(Ordering::SeqCst) {
                            s.set_deadline(None);
                            begun.store(true, Ordering::SeqCst);
                        }
                    });
                    while !begun.load(Ordering::SeqCst) {
                        std::hint::spin_loop();
                    }
                    s.set_deadline(Instant::now());
                    over.store(true, Ordering::SeqCst);
                    assert!(s.is_cancelled());
                });
            }));
        }
    });
}
