//! A deadline against an explicit cancel, on threads of their own, over and over: there is one cause, and
//! `TimedOut` comes if and only if it is the deadline's.
#![cfg(feature = "testing")]

use std::future::{Future, pending};
use std::hint::spin_loop;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use selvedge::cancel;
use selvedge::testing::{VirtualClock, poll_once};
use selvedge::{CancelToken, Cancelled, CauseKind, FutureCancelExt, TimedOut, timeout};

const BATCHES: usize = 1_000;
const BATCH: usize = 100;
const TICK: Duration = Duration::from_secs(1);

/// Keeps two threads in step, so that what they do collides.
struct Pace([AtomicUsize; 2]);

impl Pace {
    /// Acts for the step when the other has done the one before.
    fn step(&self, me: usize, step: usize, act: impl FnOnce()) {
        let mut spins = 0;
        while self.0[1 - me].load(Ordering::SeqCst) < step {
            spins += 1;
            match spins % 1024 {
                // There may be fewer cores than threads.
                0 => thread::yield_now(),
                _ => spin_loop(),
            }
        }
        act();
        self.0[me].store(step + 1, Ordering::SeqCst);
    }
}

type Ended = Result<Result<Result<(), Cancelled>, TimedOut>, TimedOut>;

/// A limit that passes at its tick, inside one that never does, begun and waiting.
struct Round {
    future: Pin<Box<dyn Future<Output = Ended>>>,
    /// That of the outer limit, and that of the inner one.
    tokens: [CancelToken; 2],
    heard: mpsc::Receiver<CauseKind>,
}

impl Round {
    fn begin(ticks: u32) -> Self {
        let (heard, hears) = mpsc::channel();
        let (give, tokens) = mpsc::channel();
        let mut future: Pin<Box<dyn Future<Output = Ended>>> =
            Box::pin(timeout(Duration::MAX, async move {
                give.send(cancel::current()).unwrap();
                let inner = timeout(ticks * TICK, async move {
                    let own = cancel::current();
                    let _guard = own.on_cancel(move |cause| heard.send(cause.kind()).unwrap());
                    give.send(own).unwrap();
                    pending::<()>().or_cancel().await
                });
                inner.await
            }));
        assert!(poll_once(future.as_mut()).is_pending());
        Self {
            future,
            tokens: [tokens.recv().unwrap(), tokens.recv().unwrap()],
            heard: hears,
        }
    }

    /// Whose the cause was, after both have acted.
    fn end(mut self) -> CauseKind {
        let Poll::Ready(ended) = poll_once(self.future.as_mut()) else {
            panic!("it is cancelled twice over and still waits");
        };
        let kind = self.tokens[1].cause().expect("it was cancelled").kind();
        // The deadline has its function called on a thread of its own, to be waited for.
        assert_eq!(self.heard.iter().collect::<Vec<_>>(), [kind]);
        match ended.expect("the outer limit is far away") {
            Err(_) => assert_eq!(kind, CauseKind::Deadline),
            Ok(ended) => {
                assert_eq!(ended.unwrap_err().cause().kind(), CauseKind::Requested);
                assert_eq!(kind, CauseKind::Requested);
            }
        }
        kind
    }
}

#[test]
fn deadline_against_an_explicit_cancel_has_one_cause_and_one_outcome() {
    let clock = VirtualClock::new();
    let mut seen = Vec::new();
    let targets: Arc<Mutex<Vec<CancelToken>>> = Arc::default();
    let gate = Arc::new(Barrier::new(3));
    let pace = Arc::new(Pace([AtomicUsize::new(0), AtomicUsize::new(0)]));

    // Not scoped: if an assertion fails here, nobody waits for them.
    let (ticks, paced, barrier) = (clock.clone(), Arc::clone(&pace), Arc::clone(&gate));
    thread::spawn(move || {
        for batch in 0..BATCHES {
            barrier.wait();
            for n in 0..BATCH {
                paced.step(0, batch * BATCH + n, || ticks.advance(TICK));
            }
            barrier.wait();
        }
    });
    let (shared, barrier) = (Arc::clone(&targets), Arc::clone(&gate));
    thread::spawn(move || {
        for batch in 0..BATCHES {
            barrier.wait();
            let targets = std::mem::take(&mut *shared.lock().unwrap());
            for (n, target) in targets.into_iter().enumerate() {
                pace.step(1, batch * BATCH + n, || {
                    // So that now the one is first, and now the other.
                    for _ in 0..(batch + n) % 61 {
                        spin_loop();
                    }
                    target.cancel_with("by hand");
                });
            }
            barrier.wait();
        }
    });

    clock.block_on(async {
        for _ in 0..BATCHES {
            let rounds: Vec<_> = (1..).take(BATCH).map(Round::begin).collect();
            // Now the outer one is cancelled by hand, and now the inner one.
            let chosen = rounds.iter().enumerate();
            let chosen = chosen.map(|(n, round)| round.tokens[n % 2].clone());
            *targets.lock().unwrap() = chosen.collect();
            gate.wait();
            gate.wait();
            seen.extend(rounds.into_iter().map(Round::end));
        }
    });
    assert_eq!(seen.len(), 100_000);
    let timed_out = seen.iter().filter(|kind| **kind == CauseKind::Deadline);
    let timed_out = timed_out.count();
    println!("the deadline was first {timed_out} times");
    assert!(0 < timed_out && timed_out < seen.len(), "no race");
}
