//! `shield` and `shield_unbounded` on the virtual clock. Case numbers are those of `CONFORMANCE.md`, and one of
//! `PROBLEMS.md`. What the grace of a scope does to a shield is in `limits_scope.rs`.
#![cfg(feature = "testing")]

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::SinkExt;
use futures::channel::mpsc;
use selvedge::cancel::{self, shield, shield_unbounded};
use selvedge::testing::{VirtualClock, poll_once};
use selvedge::time::sleep;
use selvedge::{Cancelled, CauseKind, FutureCancelExt, scope, timeout, try_scope};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs on a clock of its own, and says how long that took; nothing may be left in the timer.
fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let clock = VirtualClock::new().panics_when_stuck();
    let output = clock.block_on(future);
    assert_eq!(clock.timers(), 0, "an entry is left in the timer");
    (output, clock.elapsed())
}

// CT-061
#[test]
fn operations_in_a_shield_work_although_the_scope_is_cancelled() {
    let ((slept, checked), took) = timed(scope(async |s| {
        s.cancel();
        shield(secs(9), async { (sleep(secs(2)).await, cancel::check()) }).await
    }));
    assert!(slept.is_ok() && checked.is_ok());
    assert_eq!(took, secs(2));
}

// CT-061: cancelled from inside, or by its own token.
#[test]
fn shielded_code_can_be_cancelled_itself() {
    let (ended, took) = timed(scope(async |s| {
        s.cancel();
        shield(secs(9), async {
            cancel::current().cancel_with("itself");
            sleep(secs(2)).await
        })
        .await
    }));
    assert_eq!(ended.unwrap_err().cause().text(), Some("itself"));
    assert_eq!(took, Duration::ZERO);
}

// CT-061: a scope inside the shield.
#[test]
fn scope_in_a_shield_is_shielded_and_can_be_cancelled() {
    let ((cut, whole), took) = timed(scope(async |s| {
        s.cancel();
        shield(secs(99), async {
            let cut = scope(async |s| {
                let child = s.spawn(sleep(secs(50)));
                sleep(secs(1)).await.unwrap();
                s.cancel();
                child.await
            });
            let cut = cut.await;
            let whole = scope(async |s| s.spawn(sleep(secs(2))).await);
            (cut, whole.await)
        })
        .await
    }));
    assert!(cut.is_err() && whole.is_ok());
    assert_eq!(took, secs(3));
}

// CT-062
#[test]
fn operation_after_a_shield_fails_as_if_there_had_been_none() {
    let (ended, took) = timed(scope(async |s| {
        let token = s.token();
        s.spawn(async move {
            sleep(secs(1)).await.unwrap();
            token.cancel_with("outer");
        });
        shield(secs(9), sleep(secs(3))).await.unwrap();
        (cancel::check(), sleep(Duration::ZERO).await)
    }));
    assert_eq!(ended.0.unwrap_err().cause().text(), Some("outer"));
    assert_eq!(ended.1.unwrap_err().cause().text(), Some("outer"));
    assert_eq!(took, secs(3));
}

// CT-064
#[test]
fn nested_and_successive_shields_hold() {
    let (inside, took) = timed(scope(async |s| {
        s.cancel();
        let nested = shield(secs(9), async {
            let inner = shield(secs(9), sleep(secs(1))).await;
            [inner, sleep(secs(1)).await]
        })
        .await;
        let second = shield(secs(9), sleep(secs(1))).await;
        let third = shield_unbounded(sleep(secs(1))).await;
        [&nested[0], &nested[1], &second, &third].map(Result::is_ok)
    }));
    assert_eq!((inside, took), ([true; 4], secs(4)));
}

// CT-064: only the outer one has ended.
#[test]
fn shield_in_a_shield_that_is_lowered_still_holds() {
    let ((inner, rest), took) = timed(scope(async |s| {
        s.cancel();
        shield(secs(2), async {
            let inner = shield(secs(9), sleep(secs(5))).await;
            (inner, sleep(secs(1)).await)
        })
        .await
    }));
    assert!(inner.is_ok() && rest.is_err());
    assert_eq!(took, secs(5));
}

// CT-065
#[test]
fn deadline_in_a_shield_holds_and_is_a_time_out_if_asked_for() {
    let (ended, took) = timed(scope(async |s| {
        s.cancel();
        shield(secs(9), timeout(secs(2), sleep(secs(60)))).await
    }));
    assert!(ended.is_err());
    assert_eq!(took, secs(2));
}

// CT-065: the bound of the shield is such a deadline; what comes in then is the outer cancellation.
#[test]
fn shield_ends_at_its_bound_with_the_cause_from_outside() {
    let ((ended, more), took) = timed(scope(async |s| {
        s.token().cancel_with("outer");
        shield(secs(2), async {
            let ended = sleep(secs(60)).await;
            (ended, sleep(Duration::ZERO).await)
        })
        .await
    }));
    assert_eq!(ended.unwrap_err().cause().text(), Some("outer"));
    assert!(more.is_err());
    assert_eq!(took, secs(2));
}

#[test]
fn bound_that_passes_before_the_cancellation_lets_it_in_at_once() {
    let (ended, took) = timed(scope(async |s| {
        let token = s.token();
        s.spawn(async move {
            sleep(secs(5)).await.unwrap();
            token.cancel();
        });
        shield(secs(2), sleep(secs(60))).await
    }));
    assert!(ended.is_err());
    assert_eq!(took, secs(5));
}

#[test]
fn bound_of_zero_shields_nothing_and_the_longest_one_does() {
    let (ended, _) = timed(scope(async |s| {
        s.cancel();
        let none = shield(Duration::ZERO, sleep(secs(1))).await;
        let longest = shield(Duration::MAX, sleep(secs(1))).await;
        (none.is_err(), longest.is_ok())
    }));
    assert_eq!(ended, (true, true));
}

#[test]
fn bound_counts_from_the_first_poll() {
    let (ended, took) = timed(scope(async |s| {
        let kept = shield(secs(2), sleep(secs(60)));
        sleep(secs(10)).await.unwrap();
        s.cancel();
        kept.await
    }));
    assert!(ended.is_err());
    assert_eq!(took, secs(12));
}

// what the end of a grace does to the token of a scope.
#[test]
fn abort_of_the_scope_comes_into_every_shield_as_the_end_of_its_grace() {
    let (ended, took) = timed(scope(async |s| {
        let token = s.token();
        s.spawn(async move {
            sleep(secs(1)).await.unwrap();
            token.cancel_with("outer");
            cancel::shield_unbounded(sleep(secs(2))).await.unwrap();
            token.abort();
        });
        let ended = shield(secs(99), async {
            let ended = shield_unbounded(sleep(secs(60))).await;
            (ended, sleep(Duration::ZERO).await)
        });
        let ended = ended.await;
        (ended.0, ended.1, sleep(Duration::ZERO).await)
    }));
    for inside in [ended.0, ended.1] {
        let cancelled = inside.unwrap_err();
        assert_eq!(cancelled.cause().kind(), CauseKind::GraceExpired);
    }
    let outside = ended.2.unwrap_err();
    assert_eq!(outside.cause().text(), Some("outer"));
    assert_eq!(took, secs(3));
}

// CT-074
#[test]
fn deadline_in_a_shield_is_its_own_and_passed_once_cancelled() {
    let (ended, _) = timed(timeout(secs(2), async {
        assert_eq!(cancel::remaining(), Some(secs(2)));
        shield(secs(99), async {
            assert_eq!(cancel::deadline(), None);
            sleep(secs(5)).await.unwrap();
            assert_eq!(cancel::deadline(), None, "the outer one has passed");
            let inner = timeout(secs(7), async { cancel::remaining() });
            assert_eq!(inner.await.unwrap(), Some(secs(7)));
            cancel::current().cancel();
            assert_eq!(cancel::remaining(), Some(Duration::ZERO));
        })
        .await;
        assert_eq!(cancel::remaining(), Some(Duration::ZERO));
        sleep(Duration::ZERO).await
    }));
    assert!(ended.is_err());
}

// CT-067
#[test]
fn scope_waits_for_a_shielded_clean_up_and_an_unshielded_one_fails_at_once() {
    let (shielded, bare) = (Cell::new(None), std::sync::Mutex::new(None));
    let (_, took) = timed(async {
        let ended: Result<(), Cancelled> = try_scope(async |s| {
            s.spawn(async {
                let ended = cancel::cancelled().await;
                *bare.lock().unwrap() = Some(sleep(secs(2)).await.is_ok());
                assert_eq!(ended.kind(), CauseKind::Requested);
                Ok(())
            });
            let token = s.token();
            s.spawn(async move {
                sleep(secs(1)).await?;
                token.cancel();
                Ok(())
            });
            let ended = sleep(secs(60)).await;
            shielded.set(Some(shield(secs(9), sleep(secs(2))).await.is_ok()));
            ended
        })
        .await;
        assert!(ended.is_err());
    });
    assert_eq!(took, secs(3));
    assert_eq!(
        (shielded.get(), bare.into_inner().unwrap()),
        (Some(true), Some(false))
    );
}

// CT-068
#[test]
fn shield_raised_while_the_outer_cancellation_unwinds_through_leaves_it_to_the_outer() {
    let (ended, took) = timed(timeout(secs(1), async {
        let inner = timeout(secs(5), async {
            let ended = sleep(secs(60)).await;
            shield(secs(9), sleep(secs(2))).await.unwrap();
            ended
        });
        inner.await.expect("the inner has not timed out")
    }));
    assert!(ended.is_err(), "the outer catches");
    assert_eq!(took, secs(3));
}

// CT-039
#[test]
fn operation_that_could_finish_at_once_fails_unshielded_and_succeeds_shielded() {
    timed(scope(async |s| {
        s.cancel();
        assert!(sleep(Duration::ZERO).await.is_err());
        assert!(cancel::checkpoint().await.is_err());
        assert!(pending::<()>().or_cancel().await.is_err());
        shield(secs(1), async {
            sleep(Duration::ZERO).await.unwrap();
            cancel::checkpoint().await.unwrap();
            async { 1 }.or_cancel().await.unwrap();
        })
        .await;
    }));
}

#[test]
fn limit_around_a_shield_does_not_reach_in_and_its_value_wins() {
    let (made, took) = timed(timeout(secs(1), shield(secs(9), sleep(secs(3)))));
    assert!(made.unwrap().is_ok());
    assert_eq!(took, secs(3));
}

#[test]
fn shield_outside_every_scope_is_the_future_itself() {
    let (made, _) = timed(shield(secs(1), async {
        assert!(!cancel::current().is_cancelled());
        sleep(secs(5)).await
    }));
    assert!(made.is_ok());
}

#[test]
fn token_around_is_in_force_again_after_each_poll_of_a_shield() {
    timed(scope(async |s| {
        s.cancel();
        let mut kept = pin!(shield(secs(1), async {
            assert!(cancel::check().is_ok());
            poll_fn(|_| Poll::<()>::Pending).await;
        }));
        assert!(poll_once(kept.as_mut()).is_pending());
        assert!(cancel::check().is_err());
    }));
}

// PROBLEMS 6: the limit passes during the `send`, and what has to come after it does.
#[test]
fn code_after_a_send_that_timed_out_runs_in_a_shield() {
    struct Cache(Cell<Option<u32>>);
    impl Cache {
        async fn set(&self, value: u32) -> Result<(), Cancelled> {
            sleep(secs(1)).await?;
            self.0.set(Some(value));
            Ok(())
        }
    }
    let cache = Cache(Cell::new(None));
    let (mut sender, _receiver) = mpsc::channel::<u32>(1);
    let (ended, took) = timed(timeout(secs(5), async {
        sender.send(1).await.unwrap();
        let sent = sender.send(2).or_cancel().await;
        shield(secs(10), cache.set(2)).await.unwrap();
        sent
    }));
    assert!(ended.is_err(), "the second send found no room");
    assert_eq!((cache.0.get(), took), (Some(2), secs(6)));
}
