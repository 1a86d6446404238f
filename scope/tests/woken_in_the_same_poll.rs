//! A wake is seen in the poll of the scope in which it comes: each member that rests, woken from each place, gets its
//! turn before the scope rests, and without anybody polling the scope again for it. The table of both.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use common::alone::{rests_once, wake_all};
use common::{PLACES, Place, guarded_for, on_a_thread, on_helper, pool, turn, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, scope};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Whom {
    Body,
    Child,
    /// A child of a nested scope in a child, whose wake goes through two.
    Grandchild,
}

const WHOM: [Whom; 3] = [Whom::Body, Whom::Child, Whom::Grandchild];

/// What a case has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The poll of the scope in which the wake came, and that in which the woken one was polled.
    wake: AtomicUsize,
    turn: AtomicUsize,
    helped: AtomicUsize,
}

/// Polls until it has ended, with a waker that does nothing: only its own budget may end a poll before. How many polls.
fn polled<F: Future<Output = ()>>(polls: &AtomicUsize, future: F) {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        polls.fetch_add(1, Ordering::SeqCst);
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(()) => return,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

fn case(from: Place, whom: Whom, mode: Lending, pool: &Pool) -> Seen {
    let seen = Seen::default();
    let (slot, polls, turns) = (
        Mutex::new(Vec::new()),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let now = || polls.load(Ordering::SeqCst);
    let rests = || async {
        rests_once(&slot).await;
        seen.turn.store(now(), Ordering::SeqCst);
    };
    let wakes = || async {
        while slot.lock().unwrap().is_empty() {
            yields(1).await;
        }
        turn(&turns, 0, from == Place::Helper && mode == Lending::Forced).await;
        seen.helped
            .store(usize::from(on_helper()), Ordering::SeqCst);
        seen.wake.store(now(), Ordering::SeqCst);
        if from == Place::Thread {
            on_a_thread(|| wake_all(&slot));
        } else {
            wake_all(&slot);
        }
    };
    let whole = scope(async |s| {
        match whom {
            Whom::Body => {}
            Whom::Child => drop(s.spawn(rests())),
            Whom::Grandchild => drop(s.spawn(scope(async |s| drop(s.spawn(rests()))))),
        }
        match (from, whom) {
            (Place::Body, Whom::Body) => {
                let (mut rests, mut wakes) = (pin!(rests()), pin!(wakes()));
                let mut woken = false;
                poll_fn(|cx| {
                    let rested = rests.as_mut().poll(cx);
                    woken = woken || wakes.as_mut().poll(cx).is_ready();
                    rested
                })
                .await;
            }
            (Place::Body, _) => wakes().await,
            (_, Whom::Body) => {
                drop(s.spawn(wakes()));
                rests().await;
            }
            _ => drop(s.spawn(wakes())),
        }
    });
    with(mode, || polled(&polls, whole.on(pool)));
    seen
}

#[test]
fn whoever_is_woken_has_a_turn_in_the_same_poll() {
    guarded_for(std::time::Duration::from_secs(120), || {
        let (mut cases, mut same, mut helped) = (0, 0, 0);
        for mode in [Lending::Never, Lending::Forced] {
            let pool = pool(if mode == Lending::Forced { 2 } else { 0 });
            for from in PLACES {
                for whom in WHOM {
                    let mut in_one = 0;
                    for _ in 0..20 {
                        let seen = case(from, whom, mode, &pool);
                        let (wake, turn) = (seen.wake.into_inner(), seen.turn.into_inner());
                        assert!(wake <= turn, "{from:?} wakes {whom:?}, {mode:?}");
                        in_one += usize::from(wake == turn);
                        helped += seen.helped.into_inner();
                    }
                    // Not always: the budget of the poll may be spent between, on a machine that is busy.
                    assert!(in_one > 0, "{from:?} wakes {whom:?}, {mode:?}");
                    same += in_one;
                    cases += 20;
                }
            }
        }
        assert!(same * 2 > cases, "{same} of {cases}");
        assert!(helped > 0);
    });
}
