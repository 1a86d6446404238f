//! Alarms and the limits of a scope, against a timer that is moved by hand and counts its entries. What a
//! program sees of them is tested in the folder `tests/` of the root crate.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CancelToken, CauseKind, Instant, Phase, Ticket, Timer, ambient};

use super::{Act, Alarm, Limits, Place, Target, timeout};
use crate::time::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Hand {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    elapsed: Duration,
    entries: BTreeMap<(Instant, u64), Waker>,
    made: u64,
    most: usize,
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn entries(&self) -> usize {
        self.lock().entries.len()
    }

    fn at(&self, seconds: u32) -> Instant {
        self.start + seconds * SECOND
    }

    fn advance(&self, seconds: u32) {
        self.lock().elapsed += seconds * SECOND;
        let now = self.now();
        loop {
            let due = {
                let mut state = self.lock();
                match state.entries.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            due.wake();
        }
    }

    /// Rings everything, and keeps it: more often than anybody asked for.
    fn ring_for_nothing(&self) {
        let wakers: Vec<Waker> = self.lock().entries.values().cloned().collect();
        assert!(!wakers.is_empty());
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Timer for Hand {
    fn now(&self) -> Instant {
        self.start + self.lock().elapsed
    }

    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket {
        let mut state = self.lock();
        state.made += 1;
        let id = state.made;
        state.entries.insert((at, id), waker.clone());
        state.most = state.most.max(state.entries.len());
        Ticket::new(at, id)
    }

    fn cancel(&self, ticket: Ticket) {
        let entry = self.lock().entries.remove(&(ticket.at(), ticket.id()));
        drop(entry);
    }
}

/// Puts the timer in force on this thread while it lives.
struct InForce(Option<Arc<dyn Timer>>);

impl Drop for InForce {
    fn drop(&mut self) {
        drop(ambient::replace_timer(self.0.take()));
    }
}

fn hand() -> (Arc<Hand>, InForce) {
    let hand = Arc::new(Hand {
        start: Instant::from_std(std::time::Instant::now()),
        state: Mutex::default(),
    });
    let timer: Arc<dyn Timer> = hand.clone();
    let in_force = InForce(ambient::replace_timer(Some(timer)));
    (hand, in_force)
}

#[track_caller]
fn here() -> Place {
    Location::caller()
}

fn target(at: Instant) -> Option<Target> {
    Some(Target { at, place: here() })
}

fn kind(token: &CancelToken) -> Option<CauseKind> {
    token.cause().map(|cause| cause.kind())
}

#[test]
fn alarm_acts_at_its_moment_and_not_when_it_is_rung_before() {
    let (hand, _in_force) = hand();
    let token = CancelToken::new();
    let alarm = Alarm::new(token.clone(), Act::Cancel, Clock::current());
    alarm.set(target(hand.at(5)));
    hand.ring_for_nothing();
    hand.advance(4);
    hand.ring_for_nothing();
    assert_eq!((kind(&token), hand.entries()), (None, 1));
    hand.advance(1);
    assert_eq!(kind(&token), Some(CauseKind::Deadline));
    assert_eq!(
        token.cause().unwrap().place().map(Location::file),
        Some(file!())
    );
    alarm.set(None);
    assert_eq!(hand.entries(), 0);
}

#[test]
fn alarm_for_a_moment_that_has_passed_acts_before_it_is_set() {
    let (hand, _in_force) = hand();
    hand.advance(9);
    for seconds in [9, 3] {
        let token = CancelToken::new();
        let alarm = Alarm::new(token.clone(), Act::Cancel, Clock::current());
        alarm.set(target(hand.at(seconds)));
        assert_eq!(kind(&token), Some(CauseKind::Deadline));
        assert_eq!(hand.entries(), 0);
    }
}

#[test]
fn alarm_that_is_moved_ten_thousand_times_has_one_entry_and_the_last_moment_counts() {
    let (hand, _in_force) = hand();
    let token = CancelToken::new();
    let alarm = Alarm::new(token.clone(), Act::Cancel, Clock::current());
    for seconds in (1..=10_000).rev() {
        alarm.set(target(hand.at(seconds)));
    }
    alarm.set(target(hand.at(50)));
    assert_eq!((hand.entries(), hand.lock().most), (1, 1));
    hand.advance(49);
    assert!(!token.is_cancelled());
    hand.advance(1);
    assert!(token.is_cancelled());
    assert_eq!(hand.entries(), 0);
}

#[test]
fn alarm_moved_by_many_threads_at_once_has_one_entry_at_the_last_target() {
    let (hand, _in_force) = hand();
    let token = CancelToken::new();
    let alarm = Alarm::new(token.clone(), Act::Cancel, Clock::current());
    thread::scope(|threads| {
        for thread in 0..4 {
            let (hand, alarm) = (&hand, &alarm);
            threads.spawn(move || {
                for n in 1..2_000 {
                    match n % 7 {
                        0 => alarm.set(None),
                        _ => alarm.set(target(hand.at(n + thread))),
                    }
                }
            });
        }
    });
    alarm.set(target(hand.at(10_000)));
    assert_eq!(hand.entries(), 1);
    assert_eq!(
        hand.lock().most,
        1,
        "one thread at a time speaks to the timer"
    );
    hand.advance(9_999);
    assert!(!token.is_cancelled());
    hand.advance(1);
    assert!(token.is_cancelled());
}

#[test]
fn alarm_without_a_timer_of_its_own_goes_by_the_embedded_one() {
    let token = CancelToken::new();
    let alarm = Alarm::new(token.clone(), Act::Cancel, Clock::current());
    alarm.set(target(Instant::now() + Duration::from_millis(2)));
    let cause = crate::block_on(token.cancelled());
    assert_eq!(cause.kind(), CauseKind::Deadline);
    alarm.set(None);
}

#[test]
fn time_out_takes_its_entry_with_it_however_it_ends() {
    let (hand, _in_force) = hand();
    let mut cx = Context::from_waker(Waker::noop());
    let mut limited = Box::pin(timeout(SECOND, std::future::pending::<()>()));
    assert!(limited.as_mut().poll(&mut cx).is_pending());
    assert_eq!(hand.entries(), 1);
    drop(limited);
    assert_eq!(hand.entries(), 0);
    let mut limited = Box::pin(timeout(SECOND, async {
        assert!(selvedge_cancel::remaining().is_some());
        assert_eq!(hand.entries(), 1);
        1
    }));
    assert!(matches!(limited.as_mut().poll(&mut cx), Poll::Ready(Ok(1))));
    assert_eq!((hand.entries(), hand.lock().made), (0, 2));
    // What is ready at once, and asks for nothing, has none.
    let mut limited = Box::pin(timeout(SECOND, std::future::ready(1)));
    assert!(matches!(limited.as_mut().poll(&mut cx), Poll::Ready(Ok(1))));
    assert_eq!((hand.entries(), hand.lock().made), (0, 2));
}

#[test]
fn sooner_of_the_wishes_holds() {
    for (after, at, expected) in [(3, 5, 3), (5, 3, 3)] {
        let (hand, _in_force) = hand();
        let (limits, token) = (Limits::new(), CancelToken::new());
        limits.timeout((after + 9) * SECOND, here());
        limits.timeout(after * SECOND, here());
        limits.deadline(hand.at(at), here());
        limits.deadline(hand.at(at + 9), here());
        limits.begin(&token);
        assert_eq!(token.deadline(), Some(hand.at(expected)));
        hand.advance(expected - 1);
        assert!(!token.is_cancelled());
        hand.advance(1);
        assert_eq!(kind(&token), Some(CauseKind::Deadline));
    }
}

#[test]
fn deadline_can_be_set_sooner_later_or_not_at_all_before_and_after_the_beginning() {
    for begins_first in [false, true] {
        for (moved, expected) in [(Some(2), 2), (Some(8), 8), (None, u32::MAX)] {
            let (hand, _in_force) = hand();
            let (limits, token) = (Limits::new(), CancelToken::new());
            limits.timeout(5 * SECOND, here());
            if begins_first {
                limits.begin(&token);
            }
            let at = moved.map(|seconds| hand.at(seconds));
            limits.set_deadline(&token, at, here());
            if !begins_first {
                limits.begin(&token);
            }
            assert_eq!(token.deadline(), at);
            for elapsed in 1..10 {
                hand.advance(1);
                assert_eq!(token.is_cancelled(), elapsed >= expected);
            }
            limits.end();
            assert_eq!(hand.entries(), 0);
        }
    }
}

#[test]
fn deadline_set_from_another_thread_goes_by_the_clock_of_the_scope() {
    let (hand, in_force) = hand();
    let (limits, token) = (Limits::new(), CancelToken::new());
    limits.begin(&token);
    assert_eq!(hand.lock().made, 0, "nothing is set");
    drop(in_force);
    limits.begin(&token);
    thread::scope(|threads| {
        threads.spawn(|| limits.set_deadline(&token, Some(hand.at(3)), here()));
    });
    assert_eq!(hand.entries(), 1);
    hand.advance(3);
    assert_eq!(kind(&token), Some(CauseKind::Deadline));
}

#[test]
fn after_the_end_nothing_happens_and_nothing_can_be_set() {
    let (hand, _in_force) = hand();
    let (limits, token) = (Limits::new(), CancelToken::new());
    limits.timeout(SECOND, here());
    limits.begin(&token);
    limits.end();
    limits.set_deadline(&token, Some(hand.at(1)), here());
    limits.end();
    assert_eq!(hand.entries(), 0);
    hand.advance(9);
    assert!(!token.is_cancelled());
    // Dropping does the same as `end`.
    let limits = Limits::new();
    limits.timeout(SECOND, here());
    limits.begin(&token);
    assert_eq!(hand.entries(), 1);
    drop(limits);
    assert_eq!(hand.entries(), 0);
}

#[test]
fn cancel_follows_the_stop_and_abort_follows_the_cancel() {
    let (hand, _in_force) = hand();
    let (limits, token) = (Limits::new(), CancelToken::new());
    limits.stop_within(3 * SECOND, here());
    limits.grace(4 * SECOND, here());
    limits.timeout(100 * SECOND, here());
    limits.begin(&token);
    limits.look(&token);
    assert_eq!(hand.entries(), 1, "the deadline only");
    hand.advance(10);
    token.stop();
    limits.look(&token);
    limits.look(&token);
    assert_eq!(hand.entries(), 2);
    hand.advance(2);
    assert_eq!(token.phase(), Phase::Stopping);
    hand.advance(1);
    assert_eq!(token.phase(), Phase::Cancelled);
    limits.look(&token);
    assert_eq!(hand.entries(), 1, "the end of the grace only");
    hand.advance(3);
    assert_eq!(token.phase(), Phase::Cancelled);
    hand.advance(1);
    assert_eq!(token.phase(), Phase::Aborting);
    limits.look(&token);
    limits.end();
    assert_eq!(hand.entries(), 0);
}

#[test]
fn cancel_before_the_stop_is_over_takes_its_place() {
    let (hand, _in_force) = hand();
    let (limits, token) = (Limits::new(), CancelToken::new());
    limits.stop_within(9 * SECOND, here());
    limits.begin(&token);
    token.stop();
    limits.look(&token);
    assert_eq!(hand.entries(), 1);
    token.cancel();
    limits.look(&token);
    assert_eq!(hand.entries(), 0);
    assert_eq!(kind(&token), Some(CauseKind::Requested));
}

#[test]
fn scope_that_begins_cancelled_has_its_grace_from_there() {
    let (hand, _in_force) = hand();
    let (limits, token) = (Limits::new(), CancelToken::new());
    token.cancel();
    hand.advance(7);
    limits.grace(2 * SECOND, here());
    limits.begin(&token);
    limits.look(&token);
    assert_eq!(token.phase(), Phase::Cancelled);
    hand.advance(2);
    assert_eq!(token.phase(), Phase::Aborting);
}
