//! `timeout` and `timeout_at` on the virtual clock: whose limit it was, what counts as in time, and what is
//! left behind. Case numbers are those of `CONFORMANCE.md`. Deadlines of scopes are in `limits_scope.rs`.
#![cfg(feature = "testing")]

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge::cancel::{self, shield_unbounded};
use selvedge::testing::{VirtualClock, poll_once};
use selvedge::time::{Instant, sleep};
use selvedge::{
    Cancelled, CauseKind, FutureCancelExt, TimedOut, Timeout, scope, select_safe, timeout,
    timeout_at, try_scope,
};

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

#[test]
fn body_in_time_gives_its_value_and_leaves_no_timer() {
    let (made, took) = timed(timeout(secs(5), async {
        sleep(secs(2)).await?;
        Ok::<_, Cancelled>(7)
    }));
    assert_eq!((made.unwrap().unwrap(), took), (7, secs(2)));
}

// CT-071
#[test]
fn deadline_while_sleeping_ends_the_sleep_then_and_never_fires_later() {
    let ((first, later), took) = timed(async {
        let first = timeout(secs(3), sleep(secs(60))).await;
        // This one ended before its deadline, which then passes.
        timeout(secs(3), sleep(secs(1))).await.unwrap().unwrap();
        (first, sleep(secs(10)).await)
    });
    assert!(first.is_err() && later.is_ok());
    assert_eq!(took, secs(3 + 1 + 10));
}

#[test]
fn error_names_the_line_of_the_program() {
    let line = line!() + 1;
    let (ended, _) = timed(timeout(secs(1), sleep(secs(2))));
    let error = ended.unwrap_err();
    assert_eq!(
        (error.place().file(), error.place().line()),
        (file!(), line)
    );

    let at = Instant::now();
    let line = line!() + 1;
    let limited = timeout_at(at, cancel::checkpoint());
    let error = timed(limited).0.unwrap_err();
    assert_eq!(
        (error.place().file(), error.place().line()),
        (file!(), line)
    );
}

#[test]
fn what_is_cut_short_learns_cause_and_place() {
    let here = Cell::new(None);
    let (ended, _) = timed(timeout(secs(1), async {
        let cancelled = sleep(secs(2)).await.unwrap_err();
        here.set(Some((
            cancelled.cause().kind(),
            cancelled.cause().place().map(Location::file),
        )));
        Err::<(), _>(cancelled)
    }));
    assert!(ended.is_err());
    assert_eq!(here.get(), Some((CauseKind::Deadline, Some(file!()))));
}

// CT-073
#[test]
fn inner_deadline_later_than_the_outer_reports_nothing() {
    let inner = Cell::new(None);
    let (outer, took) = timed(timeout(secs(2), async {
        let ended = timeout(secs(5), async {
            assert_eq!(
                cancel::remaining(),
                Some(secs(2)),
                "the outer is the sooner"
            );
            sleep(secs(60)).await
        })
        .await;
        inner.set(Some(ended.is_ok()));
        ended.expect("it is not this limit that passed")
    }));
    assert!(outer.is_err());
    assert_eq!((inner.get(), took), (Some(true), secs(2)));
}

#[test]
fn inner_deadline_sooner_than_the_outer_is_all_that_ends() {
    let (outer, took) = timed(timeout(secs(5), async {
        let inner = timeout(secs(2), sleep(secs(60))).await;
        (
            inner.is_err(),
            cancel::check().is_ok(),
            sleep(secs(1)).await.is_ok(),
        )
    }));
    assert_eq!((outer.unwrap(), took), ((true, true, true), secs(3)));
}

// CT-073: both are due in the same instant.
#[test]
fn equal_deadlines_are_the_outers() {
    let (outer, took) = timed(timeout(secs(2), async {
        let inner = timeout(secs(2), sleep(secs(60))).await;
        inner.expect("it is the outer's")
    }));
    assert!(outer.is_err());
    assert_eq!(took, secs(2));
}

// CT-075
#[test]
fn body_with_a_scope_of_children_that_is_cut_short_times_out() {
    let cleaned = std::sync::atomic::AtomicUsize::new(0);
    let count = || cleaned.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let (ended, took) = timed(timeout(
        secs(2),
        try_scope(async |s| {
            for _ in 0..3 {
                s.spawn(async {
                    let slept = sleep(secs(60)).await;
                    count();
                    slept
                });
            }
            let child = s.spawn(pending::<()>().or_cancel());
            child.await?;
            Ok::<_, Cancelled>(())
        }),
    ));
    assert!(ended.is_err());
    assert_eq!((cleaned.into_inner(), took), (3, secs(2)));
}

// CT-075: the error is one of the user's, which keeps the cancellation inside.
#[test]
fn cut_short_inside_an_error_of_the_user_times_out() {
    let (ended, _) = timed(timeout(secs(1), async {
        sleep(secs(2)).await.map_err(io::Error::from)?;
        io::Result::Ok(())
    }));
    assert!(ended.is_err());
    let (ended, _) = timed(timeout(secs(1), async {
        sleep(secs(2)).await.map_err(|error| error.to_string())
    }));
    assert!(ended.unwrap().is_err(), "a string holds no cancellation");
}

#[test]
fn two_question_marks_give_an_io_error() {
    let (ended, _) = timed(async {
        timeout(secs(1), async {
            sleep(secs(2)).await?;
            io::Result::Ok(())
        })
        .await??;
        io::Result::Ok(())
    });
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn late_value_wins() {
    let (made, took) = timed(timeout(secs(1), async {
        let cut = sleep(secs(3)).await.is_err();
        shield_unbounded(sleep(secs(4))).await.unwrap();
        (cut, "late")
    }));
    assert_eq!((made.unwrap(), took), ((true, "late"), secs(5)));
}

#[test]
fn error_that_is_not_the_cancellation_is_returned() {
    let (made, _) = timed(timeout(secs(1), async {
        let _seen = sleep(secs(3)).await;
        io::Result::<()>::Err(io::ErrorKind::InvalidData.into())
    }));
    assert_eq!(
        made.unwrap().unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

// CT-077
#[test]
fn outer_cancellation_goes_out_and_is_no_time_out() {
    let (ended, took) = timed(scope(async |s| {
        let token = s.token();
        s.spawn(async move {
            sleep(secs(1)).await.unwrap();
            token.cancel_with("outer");
        });
        timeout(secs(5), sleep(secs(60))).await
    }));
    let cancelled = ended.expect("no time-out").unwrap_err();
    assert_eq!(cancelled.cause().text(), Some("outer"));
    assert_eq!(took, secs(1));
}

// CT-077: the deadline passes, too, while the cancelled body cleans up.
#[test]
fn deadline_after_an_outer_cancellation_changes_nothing() {
    let (ended, took) = timed(scope(async |s| {
        let token = s.token();
        s.spawn(async move {
            sleep(secs(1)).await.unwrap();
            token.cancel();
        });
        timeout(secs(2), async {
            let ended = sleep(secs(60)).await;
            shield_unbounded(sleep(secs(4))).await.unwrap();
            ended
        })
        .await
    }));
    let cancelled = ended.expect("no time-out").unwrap_err();
    assert_eq!(cancelled.cause().kind(), CauseKind::Requested);
    assert_eq!(took, secs(5));
}

#[test]
fn cancellation_of_the_limited_code_alone_is_no_time_out() {
    let (ended, _) = timed(timeout(secs(5), async {
        cancel::current().cancel_with(CauseKind::Deadline);
        sleep(secs(60)).await
    }));
    assert!(ended.expect("it is not this limit that passed").is_err());
}

// CT-078
#[test]
fn limit_of_zero_or_in_the_past_starts_the_body_which_fails_at_its_first_operation() {
    async fn body(started: &Cell<u32>) -> Result<(), Cancelled> {
        started.set(started.get() + 1);
        ready(()).await;
        started.set(started.get() + 1);
        sleep(Duration::ZERO).await?;
        unreachable!("the sleep fails");
    }
    let started = Cell::new(0);
    let (ended, took) = timed(async {
        sleep(secs(9)).await.unwrap();
        let now = Instant::now();
        let zero = timeout(Duration::ZERO, body(&started)).await;
        let past = timeout_at(now - secs(5), body(&started)).await;
        let present = timeout_at(now, body(&started)).await;
        [zero, past, present].map(|ended| ended.is_err())
    });
    assert_eq!((ended, took), ([true; 3], secs(9)));
    assert_eq!(started.get(), 6);
}

#[test]
fn limit_of_zero_leaves_a_value_that_needs_no_operation() {
    let (made, _) = timed(timeout(Duration::ZERO, async { 3 }));
    assert_eq!(made.unwrap(), 3);
}

// CT-080
#[test]
fn time_out_is_returned_only_after_the_clean_up() {
    let cleaned = Cell::new(false);
    let (ended, took) = timed(timeout(secs(1), async {
        let ended = sleep(secs(60)).await;
        shield_unbounded(sleep(secs(3))).await.unwrap();
        cleaned.set(true);
        ended
    }));
    assert!(ended.is_err());
    assert_eq!((cleaned.get(), took), (true, secs(4)));
}

// CT-081
#[test]
fn time_counts_from_the_first_poll() {
    let (ended, took) = timed(async {
        let limited = timeout(secs(2), sleep(secs(60)));
        sleep(secs(10)).await.unwrap();
        limited.await
    });
    assert!(ended.is_err());
    assert_eq!(took, secs(12));
}

#[test]
fn longest_limit_there_is_neither_panics_nor_passes() {
    let (made, took) = timed(async {
        let far = Instant::now() + Duration::MAX;
        let made = timeout(Duration::MAX, timeout_at(far, sleep(secs(5)))).await;
        made.unwrap().unwrap()
    });
    assert!(made.is_ok());
    assert_eq!(took, secs(5));
}

#[test]
fn foreign_future_is_waited_for_unless_it_is_wrapped() {
    /// Waits on the timer without knowing of any token.
    async fn foreign(duration: Duration) {
        shield_unbounded(sleep(duration)).await.unwrap();
    }
    let (waited, took) = timed(timeout(secs(1), foreign(secs(5))));
    assert!(waited.is_ok());
    assert_eq!(took, secs(5));
    let (cut, took) = timed(timeout(secs(1), foreign(secs(5)).or_cancel()));
    assert!(cut.is_err());
    assert_eq!(took, secs(1));
}

#[test]
fn token_around_is_in_force_again_after_each_poll_also_after_a_panic() {
    timed(scope(async |s| {
        let mut limited = pin!(timeout(Duration::ZERO, async {
            assert!(cancel::check().is_err());
            poll_fn(|_| Poll::<()>::Pending).await;
        }));
        assert!(poll_once(limited.as_mut()).is_pending());
        assert!(cancel::check().is_ok());
        let mut bomb = pin!(timeout(Duration::ZERO, async {
            assert!(cancel::check().is_err());
            panic!("inside")
        }));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _: Poll<Result<(), TimedOut>> = poll_once(bomb.as_mut());
        }));
        assert!(caught.is_err());
        assert!(cancel::check().is_ok());
        assert!(!s.is_cancelled());
    }));
}

#[test]
fn dropped_midway_it_leaves_no_timer_and_drops_its_future() {
    struct Sets<'a>(&'a Cell<bool>);
    impl Drop for Sets<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Cell::new(false);
    let clock = VirtualClock::new();
    clock.block_on(async {
        let limited = timeout(secs(5), async {
            let _sets = Sets(&dropped);
            pending::<()>().await;
        });
        let mut limited = Box::pin(limited);
        assert!(poll_once(limited.as_mut()).is_pending());
        assert_eq!(clock.timers(), 1);
        drop(limited);
    });
    assert_eq!((clock.timers(), dropped.get()), (0, true));
}

#[test]
fn limit_that_has_cut_short_has_no_hold_on_what_comes_after() {
    let (_, took) = timed(async {
        for _ in 0..1000 {
            assert!(timeout(secs(1), sleep(secs(2))).await.is_err());
        }
        sleep(secs(1)).await.unwrap();
    });
    assert_eq!(took, secs(1001));
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn poll_after_the_end_panics() {
    let mut limited = pin!(timeout(secs(1), ready(1)));
    assert!(poll_once(limited.as_mut()).is_ready());
    let _ = poll_once(limited);
}

#[test]
fn limited_future_is_as_select_safe_as_it_was() {
    fn may_be_dropped<F: selvedge::SelectSafe>(_: &F) {}
    may_be_dropped(&timeout(secs(1), sleep(secs(2))));
    may_be_dropped(&cancel::shield(secs(1), sleep(secs(2))));
    may_be_dropped(&timeout(secs(1), select_safe(async {})));
}

#[test]
fn debug_names_limit_and_place() {
    let text = format!("{:?}", timeout(secs(3), ready(())));
    assert!(text.contains("3s") && text.contains(file!()), "{text}");
    let text = format!("{:?}", cancel::shield(secs(3), ready(())));
    assert!(text.contains("3s") && text.contains(file!()), "{text}");
}

/// The wake-up comes from the timer, through the token, to whoever waits: not only to a new poll.
#[test]
fn pending_operation_is_woken_when_time_is_up() {
    let clock = VirtualClock::new();
    let ended = clock.block_on(async {
        let mut limited: Pin<Box<Timeout<_>>> =
            Box::pin(timeout(secs(1), async { cancel::cancelled().await }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(limited.as_mut().poll(&mut cx).is_pending());
        limited.await
    });
    assert_eq!(ended.unwrap().kind(), CauseKind::Deadline);
}
