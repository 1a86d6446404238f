//! The limits of a scope on the virtual clock: deadline, graceful stop, grace. Case numbers are those of
//! `CONFORMANCE.md`. `timeout` and `shield` alone have files of their own.
#![cfg(feature = "testing")]

use std::future::{Future, pending};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use selvedge::cancel::{self, shield, shield_unbounded};
use selvedge::testing::VirtualClock;
use selvedge::time::{Instant, sleep};
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

// CT-071
#[test]
fn scope_whose_deadline_passes_while_it_sleeps_ends_then() {
    let (kinds, took) = timed(async {
        let by_moment = scope(async |_| sleep(secs(60)).await).deadline(Instant::now() + secs(2));
        let by_moment = by_moment.await;
        let by_length = scope(async |_| sleep(secs(60)).await)
            .timeout(secs(3))
            .await;
        let sooner = scope(async |s| s.spawn(sleep(secs(60))).await);
        let sooner = sooner
            .timeout(secs(9))
            .timeout(secs(4))
            .timeout(secs(6))
            .await;
        [by_moment, by_length, sooner].map(|ended| ended.unwrap_err().cause().kind())
    });
    assert_eq!(kinds, [CauseKind::Deadline; 3]);
    assert_eq!(took, secs(2 + 3 + 4));
}

// CT-071
#[test]
fn scope_that_ended_before_its_deadline_never_fires() {
    let (token, took) = timed(async {
        let token = scope(async |s| {
            sleep(secs(1)).await.unwrap();
            s.token()
        });
        let token = token.timeout(secs(3)).await;
        sleep(secs(10)).await.unwrap();
        token
    });
    assert!(!token.is_cancelled());
    assert_eq!(took, secs(11));
}

// CT-073
#[test]
fn scope_inside_a_scope_with_a_sooner_deadline_has_that() {
    let inner = Mutex::new(None);
    let (outer, took) = timed(
        scope(async |_| {
            let ended = timeout(
                secs(9),
                scope(async |s| {
                    assert_eq!(cancel::remaining(), Some(secs(2)));
                    s.spawn(sleep(secs(60))).await
                })
                .timeout(secs(5)),
            );
            let ended = ended.await;
            *inner.lock().unwrap() = Some(ended.is_ok());
            ended.expect("this limit has not passed")
        })
        .timeout(secs(2)),
    );
    assert_eq!(outer.unwrap_err().cause().kind(), CauseKind::Deadline);
    assert_eq!((inner.into_inner().unwrap(), took), (Some(true), secs(2)));
}

// CT-078
#[test]
fn scope_with_a_deadline_in_the_past_starts_and_fails_at_its_first_operation() {
    let (ended, took) = timed(async {
        let now = Instant::now();
        let past = scope(async |s| (s.spawn(async { 1 }).await, sleep(secs(1)).await.is_err()));
        let past = past.deadline(now - secs(5)).await;
        let zero = scope(async |s| (s.spawn(async { 1 }).await, sleep(secs(1)).await.is_err()));
        (past, zero.timeout(Duration::ZERO).await)
    });
    assert_eq!(ended, ((1, true), (1, true)));
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn longest_limits_there_are_neither_panic_nor_pass() {
    let (ended, took) = timed(
        scope(async |s| {
            s.set_deadline(Instant::now() + Duration::MAX);
            s.stop();
            sleep(secs(3)).await.unwrap();
            s.cancel();
            shield(Duration::MAX, sleep(secs(2))).await
        })
        .timeout(Duration::MAX)
        .stop_within(Duration::MAX)
        .grace(Duration::MAX),
    );
    assert!(ended.unwrap().is_ok());
    assert_eq!(took, secs(5));
}

// CT-082
#[test]
fn deadline_moved_ten_thousand_times_leaves_one_timer_and_the_last_one_counts() {
    let clock = VirtualClock::new().panics_when_stuck();
    let ended = clock.block_on(
        scope(async |s| {
            let start = Instant::now();
            for n in 0..10_000_u32 {
                s.set_deadline(start + secs(1 + u64::from(n * 7919 % 1000)));
            }
            s.set_deadline(start + secs(7));
            assert_eq!(cancel::remaining(), Some(secs(7)));
            let child = s.spawn(async {
                sleep(secs(1)).await.unwrap();
                clock.timers()
            });
            assert!(child.await <= 2, "the deadline, and at most one sleep");
            sleep(secs(60)).await
        })
        .timeout(secs(3)),
    );
    assert_eq!(ended.unwrap_err().cause().kind(), CauseKind::Deadline);
    assert_eq!((clock.timers(), clock.elapsed()), (0, secs(7)));
}

// CT-072: a server that goes on as long as there is progress.
#[test]
fn deadline_can_be_put_off_and_taken_away_from_inside() {
    let (ended, took) = timed(
        scope(async |s| {
            for _ in 0..5 {
                sleep(secs(2)).await.unwrap();
                s.set_deadline(Instant::now() + secs(3));
            }
            s.set_deadline(None);
            assert_eq!(cancel::deadline(), None);
            sleep(secs(100)).await.unwrap();
            s.spawn_with(async |s| s.set_deadline(Instant::now() + secs(4)));
            sleep(secs(60)).await
        })
        .timeout(secs(3)),
    );
    assert!(ended.is_err());
    assert_eq!(took, secs(10 + 100 + 4));
}

#[test]
fn deadline_set_by_another_thread_holds_before_and_after_the_first_poll() {
    for before in [true, false] {
        let clock = VirtualClock::new().panics_when_stuck();
        let at = clock.now() + secs(5);
        let ended = clock.block_on(scope(|s| {
            let other = s.clone();
            let set = move || {
                thread::scope(|threads| {
                    threads.spawn(move || other.set_deadline(at));
                });
            };
            let mut set = Some(set);
            if before {
                set.take().unwrap()();
            }
            async move {
                if let Some(set) = set {
                    set();
                }
                sleep(secs(60)).await
            }
        }));
        assert!(ended.is_err());
        assert_eq!(clock.elapsed(), secs(5));
    }
}

// CT-069
#[test]
fn clean_up_longer_than_the_grace_is_cut_off_and_reported() {
    let (ended, took) = timed(
        scope(async |s| {
            s.spawn(shield_unbounded(sleep(secs(60))));
            s.spawn(async {
                let _ = sleep(secs(60)).await;
                shield(secs(2), sleep(secs(60))).await.is_err()
            });
            sleep(secs(1)).await.unwrap();
            s.cancel();
        })
        .grace(secs(3)),
    );
    let cancelled = ended.unwrap_err();
    assert_eq!(cancelled.cause().kind(), CauseKind::GraceExpired);
    assert_eq!(took, secs(4));
}

// CT-069
#[test]
fn clean_up_within_the_grace_ends_as_it_does() {
    let (ended, took) = timed(
        scope(async |s| {
            let child = s.spawn(async {
                let cut = sleep(secs(60)).await.is_err();
                (cut, shield(secs(9), sleep(secs(2))).await.is_ok())
            });
            sleep(secs(1)).await.unwrap();
            s.cancel();
            child.await
        })
        .grace(secs(3)),
    );
    assert_eq!((ended.unwrap(), took), ((true, true), secs(3)));
}

// CT-069: in a `try_scope` the report is an error like others.
#[test]
fn grace_that_is_over_in_a_try_scope_is_its_error() {
    let (ended, took) = timed(
        try_scope(async |s| {
            s.spawn(async {
                pending::<()>().await;
                Ok(())
            });
            s.spawn(sleep(secs(60)));
            Ok::<_, Cancelled>(())
        })
        .timeout(secs(2))
        .grace(secs(3)),
    );
    let cancelled = ended.unwrap_err();
    assert_eq!(cancelled.cause().kind(), CauseKind::GraceExpired);
    assert_eq!(took, secs(5));
}

#[test]
fn grace_of_a_scope_in_a_shield_counts_from_when_the_shield_ends() {
    let (ended, took) = timed(scope(async |s| {
        s.cancel();
        let stubborn = scope(async |s| s.spawn(pending::<()>()).await);
        shield(secs(3), stubborn.grace(secs(2))).await
    }));
    assert!(ended.is_err());
    assert_eq!(took, secs(5));
}

#[test]
fn limit_around_a_scope_that_needs_its_grace_has_timed_out() {
    let (ended, took) = timed(timeout(
        secs(2),
        scope(async |s| s.spawn(pending::<()>()).await).grace(secs(3)),
    ));
    assert!(ended.is_err());
    assert_eq!(took, secs(5));
}

//
#[test]
fn shield_longer_than_the_enclosing_grace_ends_with_it() {
    let heard = Mutex::new(Vec::new());
    let (ended, took) = timed(
        scope(async |s| {
            s.spawn(async {
                scope(async |inner| {
                    let kept = inner.spawn(shield(secs(99), async {
                        let token = cancel::current();
                        let (sender, receiver) = mpsc::channel();
                        let _guard =
                            token.on_cancel(move |cause| sender.send(cause.kind()).unwrap());
                        let _collect = Collect(receiver, &heard);
                        sleep(secs(60)).await
                    }));
                    kept.await
                })
                .await
            });
            sleep(secs(1)).await.unwrap();
            s.cancel();
        })
        .grace(secs(5)),
    );
    assert!(ended.is_err());
    assert_eq!(took, secs(6));
    assert_eq!(heard.into_inner().unwrap(), [CauseKind::GraceExpired]);
}

/// What was heard until the function was dropped: it is called on a thread of its own.
struct Collect<'a>(mpsc::Receiver<CauseKind>, &'a Mutex<Vec<CauseKind>>);

impl Drop for Collect<'_> {
    fn drop(&mut self) {
        self.1.lock().unwrap().extend(self.0.iter());
    }
}

//
#[test]
fn graceful_stop_goes_through_its_phases_in_time() {
    let log = Mutex::new(Vec::new());
    let note = |what| log.lock().unwrap().push((what, Instant::now()));
    let clock = VirtualClock::new().panics_when_stuck();
    let start = clock.now();
    let ended = clock.block_on(
        scope(async |s| {
            s.spawn(async {
                scope(async |inner| {
                    inner.spawn(async {
                        cancel::stopping().await;
                        note("stopping");
                        assert!(cancel::check().is_ok(), "everything still works");
                        sleep(secs(1)).await.unwrap();
                        note("worked");
                        let cause = cancel::cancelled().await;
                        assert_eq!(cause.kind(), CauseKind::Deadline);
                        note("cancelled");
                        let _notes = Notes(&note);
                        shield_unbounded(sleep(secs(60))).await
                    });
                })
                .await
            });
            sleep(secs(1)).await.unwrap();
            s.stop();
            assert!(!s.is_cancelled());
        })
        .stop_within(secs(10))
        .grace(secs(20)),
    );
    assert!(ended.is_err());
    assert_eq!(clock.elapsed(), secs(31));
    let log = log.into_inner().unwrap().into_iter();
    assert_eq!(
        log.map(|(what, at)| (what, at - start)).collect::<Vec<_>>(),
        [
            ("stopping", secs(1)),
            ("worked", secs(2)),
            ("cancelled", secs(11)),
            ("dropped", secs(31)),
        ]
    );
}

/// Notes when it is dropped.
struct Notes<'a, F: Fn(&'static str)>(&'a F);

impl<F: Fn(&'static str)> Drop for Notes<'_, F> {
    fn drop(&mut self) {
        (self.0)("dropped");
    }
}

// whoever minds the stop ends in time, and nothing is ever cancelled.
#[test]
fn graceful_stop_that_is_minded_cancels_nothing() {
    let (ended, took) = timed(
        scope(async |s| {
            let served = s.spawn(async {
                let mut served = 0;
                let mut stopping = std::pin::pin!(cancel::stopping());
                loop {
                    sleep(secs(2)).await.unwrap();
                    served += 1;
                    if selvedge::testing::poll_once(stopping.as_mut()).is_ready() {
                        return served;
                    }
                }
            });
            sleep(secs(3)).await.unwrap();
            s.stop();
            served.await
        })
        .stop_within(secs(10)),
    );
    assert_eq!((ended, took), (2, secs(4)));
}

#[test]
fn scope_under_a_token_stops_and_is_cancelled_with_it() {
    let token = selvedge::CancelToken::new();
    let (ended, took) = timed(async {
        let timer = token.clone();
        scope(async |s| {
            s.spawn(async move {
                sleep(secs(2)).await.unwrap();
                timer.stop();
            });
            let under = scope(async |_| {
                cancel::stopping().await;
                pending::<()>().or_cancel().await
            });
            under.token(&token).stop_within(secs(3)).await
        })
        .await
    });
    assert!(ended.is_err());
    assert!(!token.is_cancelled(), "the scope's limit is its own");
    assert_eq!(took, secs(5));
}
