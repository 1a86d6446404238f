//! A deadline against an explicit cancel, on threads of their own, over and over: there is one cause, and
//! `TimedOut` comes if and only if it is the deadline's.
#![cfg(feature = "testing")]

use std::cell::RefCell;
use std::future::pending;
use std::hint::spin_loop;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use selvedge::cancel;
use selvedge::testing::{VirtualClock, poll_once};
use selvedge::{CancelToken, CauseKind, FutureCancelExt, timeout};

const ROUNDS: usize = 100_000;
const TICK: Duration = Duration::from_secs(1);

/// Lets the two others go, round by round, and waits for both.
struct Gate {
    round: AtomicUsize,
    done: AtomicUsize,
}

impl Gate {
    /// One of the two: acts once in each round.
    fn follow(&self, mut act: impl FnMut(usize)) {
        for round in 1..=ROUNDS {
            wait_until(|| self.round.load(Ordering::SeqCst) >= round);
            act(round);
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn open(&self, round: usize) {
        self.round.store(round, Ordering::SeqCst);
        wait_until(|| self.done.load(Ordering::SeqCst) == 2 * round);
    }
}

/// Lets the two run to their end when an assertion has failed: they would wait for ever.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.round.store(ROUNDS, Ordering::SeqCst);
    }
}

/// There may be fewer cores than threads.
fn wait_until(mut is_true: impl FnMut() -> bool) {
    let mut spins = 0;
    while !is_true() {
        spins += 1;
        match spins % 64 {
            0 => thread::yield_now(),
            _ => spin_loop(),
        }
    }
}

#[test]
fn deadline_against_an_explicit_cancel_has_one_cause_and_one_outcome() {
    let clock = VirtualClock::new();
    let gate = Gate {
        round: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
    };
    let target: Mutex<Option<CancelToken>> = Mutex::new(None);
    let (mut timed_out, mut requested) = (0, 0);
    thread::scope(|threads| {
        threads.spawn(|| gate.follow(|_| clock.advance(TICK)));
        threads.spawn(|| {
            gate.follow(|round| {
                // So that now the one is first, and now the other.
                for _ in 0..round % 101 {
                    spin_loop();
                }
                let target = target.lock().unwrap().take();
                if let Some(target) = target {
                    target.cancel_with("by hand");
                }
            });
        });
        let _opens = Opens(&gate);
        clock.block_on(async {
            for round in 1..=ROUNDS {
                let (heard, hears) = mpsc::channel();
                let tokens = RefCell::new(Vec::new());
                // The outer limit never passes; it is there for its token.
                let mut limited = pin!(timeout(Duration::MAX, async {
                    tokens.borrow_mut().push(cancel::current());
                    let limited = timeout(TICK, async {
                        let own = cancel::current();
                        let guard = own.on_cancel(move |cause| heard.send(cause.kind()).unwrap());
                        tokens.borrow_mut().push(own);
                        let ended = pending::<()>().or_cancel().await;
                        drop(guard);
                        ended
                    });
                    limited.await
                }));
                assert!(poll_once(limited.as_mut()).is_pending());
                let own = tokens.borrow()[1].clone();
                *target.lock().unwrap() = Some(tokens.borrow()[round % 2].clone());
                gate.open(round);
                let Poll::Ready(ended) = poll_once(limited) else {
                    panic!("round {round}: it is cancelled twice over and still waits");
                };
                let kind = own.cause().expect("it was cancelled").kind();
                assert_eq!(hears.try_iter().collect::<Vec<_>>(), [kind]);
                match ended.expect("the outer limit is far away") {
                    Err(_) => {
                        assert_eq!(kind, CauseKind::Deadline, "round {round}");
                        timed_out += 1;
                    }
                    Ok(ended) => {
                        let cancelled = ended.unwrap_err();
                        assert_eq!(cancelled.cause().kind(), CauseKind::Requested);
                        assert_eq!(kind, CauseKind::Requested, "round {round}");
                        requested += 1;
                    }
                }
            }
        });
    });
    assert_eq!(timed_out + requested, ROUNDS);
    assert!(
        timed_out > 0 && requested > 0,
        "no race: {timed_out} times the deadline was first, {requested} times the other"
    );
}
