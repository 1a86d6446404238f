//! Whole programs: those that lost a value or an error because a `Cancelled` was kept, and the same question through
//! nested scopes, limits, shields, handles and joins.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use selvedge::testing::VirtualClock;
use selvedge::time::{Instant, sleep};
use selvedge::{
    Cancelled, CauseKind, TryScope, block_on, cancel, join_all, timeout, timeout_at, try_join,
    try_join_all, try_scope, try_timeout, try_timeout_at,
};

use crate::{PLACES, Place, guarded, keeping, pools, rest, until};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn value_of_a_limited_future_that_logged_its_cancellation_is_handed_out() {
    let mut log = Vec::new();
    let made = VirtualClock::new().block_on(timeout(Duration::from_millis(5), async {
        if let Err(cancelled) = sleep(secs(20)).await {
            log.push(cancelled);
        }
        (7, String::from("seven"))
    }));
    assert_eq!(made.unwrap(), (7, String::from("seven")));
    assert_eq!(log[0].cause().kind(), CauseKind::Deadline);
}

#[test]
fn error_of_a_cancelled_child_that_stored_its_cancellation_is_the_result() {
    for pool in pools() {
        let stored = Mutex::new(None);
        let failed = try_scope(async |s: TryScope<'_, io::Error>| {
            s.spawn(async {
                *stored.lock().unwrap() = rest::<()>().await.err();
                io::Result::<()>::Err(io::ErrorKind::InvalidData.into())
            });
            s.cancel();
            Ok(())
        });
        let error = block_on(failed.on(&pool)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(stored.into_inner().unwrap().is_some());
    }
}

#[test]
fn error_of_a_cancelled_child_that_stored_its_cancellation_is_among_all_errors() {
    for pool in pools() {
        let stored = Mutex::new(None);
        let failed = try_scope(async |s: TryScope<'_, io::Error>| {
            s.spawn(async {
                *stored.lock().unwrap() = rest::<()>().await.err();
                io::Result::<()>::Err(io::ErrorKind::InvalidData.into())
            });
            s.spawn(async { Ok(rest::<()>().await?) });
            s.cancel();
            Ok(())
        });
        let errors = block_on(failed.on(&pool).all_errors()).unwrap_err();
        assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
        assert_eq!(errors.into_primary().kind(), io::ErrorKind::InvalidData);
        assert!(stored.into_inner().unwrap().is_some());
    }
}

// What counts is what the inner scope failed with, and not what else it met.
#[test]
fn all_errors_of_an_inner_scope_are_a_cancellation_if_the_first_one_is() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES {
                for fails in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let outer = try_scope(async |s: TryScope<'_, _>| {
                            s.spawn(async {
                                let inner = try_scope(async |s: TryScope<'_, io::Error>| {
                                    s.spawn(async {
                                        let cancelled = rest::<()>().await.unwrap_err();
                                        keeper.keep(&cancelled).await;
                                        Err::<(), _>(if fails {
                                            io::ErrorKind::InvalidData.into()
                                        } else {
                                            cancelled.into()
                                        })
                                    });
                                    s.spawn(async { Ok(rest::<()>().await?) });
                                    Ok(())
                                });
                                inner.on(&pool).all_errors().await
                            });
                            s.spawn(async {
                                keeper.sibling().await;
                                Ok(())
                            });
                            s.cancel();
                            Ok(())
                        });
                        let ended = outer.on(&pool).await;
                        assert_eq!(ended.is_err(), fails, "{place:?}");
                        let Err(errors) = ended else { return };
                        assert_eq!((errors.len(), errors.cancelled.len()), (1, 1));
                        let text = format!("{errors:?}");
                        assert!(text.contains("Requested"), "printed for readers: {text}");
                    }));
                }
            }
        }
    });
}

#[test]
fn limits_inside_each_other_hand_out_what_was_made_and_time_out_by_what_is_held() {
    guarded(|| {
        for place in PLACES {
            for holds in [true, false] {
                block_on(keeping(place, async |keeper| {
                    let work = async {
                        let cancelled = rest::<()>().await.unwrap_err();
                        keeper.keep(&cancelled).await;
                        holds.then_some(cancelled).ok_or(String::from("made"))
                    };
                    let both = async { futures::join!(work, keeper.sibling()).0 };
                    let outer = timeout(Duration::ZERO, timeout(Duration::MAX, both)).await;
                    match outer {
                        Err(_) => assert!(holds, "{place:?}"),
                        Ok(inner) => {
                            let made = inner.expect("it is not the inner limit that passed");
                            assert_eq!(made.unwrap_err(), "made", "{place:?}");
                            assert!(!holds, "{place:?}");
                        }
                    }
                }));
            }
        }
    });
}

// The inner limit is over and its token kept; the outer one passes later and finds nothing of its own.
#[test]
fn cancellation_of_an_inner_limit_is_none_of_the_outers() {
    let ended = VirtualClock::new().block_on(async {
        let kept = Mutex::new(None);
        let ended = timeout(secs(2), async {
            let inner = timeout(secs(1), async {
                let cancelled = sleep(secs(60)).await.unwrap_err();
                *kept.lock().unwrap() = Some(cancelled.clone());
                cancelled
            });
            assert!(inner.await.is_err());
            let seen = sleep(secs(60)).await.unwrap_err();
            assert_eq!(seen.cause().kind(), CauseKind::Deadline);
            kept.lock().unwrap().take()
        });
        ended.await
    });
    assert!(ended.unwrap().is_some());
}

#[test]
fn try_timeout_flattens_and_names_its_place() {
    let clock = VirtualClock::new();
    let work = |takes| async move {
        sleep(takes).await?;
        io::Result::Ok("page")
    };
    let line = line!() + 1;
    let slow = clock.block_on(try_timeout(secs(1), work(secs(60))));
    let error = slow.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(
        error.to_string().contains(&format!("{}:{line}", file!())),
        "{error}"
    );
    assert_eq!(
        clock.block_on(try_timeout(secs(9), work(secs(1)))).unwrap(),
        "page"
    );
    let at = clock.now() + secs(1);
    let slow = clock.block_on(async { try_timeout_at(at, work(secs(60))).await });
    assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(clock.now(), at);
    assert_eq!(clock.timers(), 0);
}

#[test]
fn try_timeout_passes_on_what_is_not_its_own() {
    let clock = VirtualClock::new();
    clock.block_on(async {
        // A failure after the limit, and a cancellation from outside.
        let kept = Mutex::new(None);
        let failed = try_timeout(secs(1), async {
            *kept.lock().unwrap() = sleep(secs(60)).await.err();
            io::Result::<()>::Err(io::ErrorKind::InvalidData.into())
        });
        assert_eq!(failed.await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(kept.into_inner().unwrap().is_some());
        let outside = timeout_at(Instant::now() + secs(1), async {
            let inner = try_timeout(secs(9), async { Ok(sleep(secs(60)).await?) });
            let error: io::Error = inner.await.unwrap_err();
            assert!(Cancelled::find_in(&error).is_some());
            error
        });
        assert!(outside.await.is_err());
    });
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn try_timeout_polled_after_its_end_panics() {
    use selvedge::testing::poll_once;
    let mut limited = std::pin::pin!(try_timeout(secs(1), async { io::Result::Ok(1) }));
    assert!(poll_once(limited.as_mut()).is_ready());
    let _ = poll_once(limited);
}

#[test]
fn future_under_try_timeout_is_as_select_safe_as_it_was() {
    fn may_be_dropped<F: selvedge::SelectSafe>(_: &F) {}
    let work = selvedge::select_safe(async { io::Result::Ok(1) });
    let limited = try_timeout(secs(3), work);
    may_be_dropped(&limited);
    let text = format!("{limited:?}");
    assert!(text.contains("3s") && text.contains(file!()), "{text}");
}

#[test]
fn error_after_a_shield_counts_by_what_it_holds() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES {
                for holds in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let ended = try_scope(async |s: TryScope<'_, Option<Cancelled>>| {
                            s.spawn(async {
                                let cancelled = rest::<()>().await.unwrap_err();
                                keeper.keep(&cancelled).await;
                                let cleaned = cancel::shield(secs(60), async {
                                    // A cancellation of the shield's own is not the member's.
                                    cancel::current().cancel();
                                    cancel::check()
                                });
                                assert!(cleaned.await.is_err());
                                Err::<(), _>(holds.then_some(cancelled))
                            });
                            s.spawn(async {
                                keeper.sibling().await;
                                Ok(())
                            });
                            s.cancel();
                            Ok(())
                        });
                        assert_eq!(ended.on(&pool).await.is_ok(), holds, "{place:?}");
                    }));
                }
            }
        }
    });
}

// The `Cancelled` is that of the await, since the awaiting task is cancelled.
#[test]
fn error_of_a_cut_off_await_of_a_handle_counts_by_what_it_holds() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES.into_iter().filter(|place| *place != Place::Sibling) {
                for holds in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let cut = AtomicBool::new(false);
                        let ended = try_scope(async |s: TryScope<'_, Option<Cancelled>>| {
                            let slow = s.spawn(async {
                                until(|| cut.load(SeqCst)).await;
                                Ok(())
                            });
                            let waits = s.spawn(async {
                                let cancelled = slow.await.unwrap_err();
                                keeper.keep(&cancelled).await;
                                cut.store(true, SeqCst);
                                Err::<(), _>(holds.then_some(cancelled))
                            });
                            waits.cancel_and_wait().await;
                            Ok(())
                        });
                        assert_eq!(ended.on(&pool).await.is_ok(), holds, "{place:?}");
                    }));
                }
            }
        }
    });
}

#[test]
fn errors_out_of_joins_count_by_what_they_hold() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES.into_iter().filter(|place| *place != Place::Sibling) {
                for holds in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let fails = || async {
                            let cancelled = rest::<()>().await.unwrap_err();
                            keeper.keep(&cancelled).await;
                            Err::<(), _>(holds.then_some(cancelled))
                        };
                        let ended = try_scope(async |s: TryScope<'_, _>| {
                            s.spawn(async { try_join((fails(), fails())).await.map(drop) });
                            s.spawn(async { try_join_all([fails(), fails()]).await.map(drop) });
                            s.spawn(async {
                                let all = join_all([fails(), fails()]).await;
                                all.into_iter().collect::<Result<(), _>>()
                            });
                            s.cancel();
                            Ok(())
                        });
                        match ended.on(&pool).all_errors().await {
                            Ok(()) => assert!(holds, "{place:?}"),
                            Err(errors) => {
                                assert!(!holds, "{place:?}");
                                assert_eq!((errors.len(), errors.cancelled.len()), (3, 0));
                            }
                        }
                    }));
                }
            }
        }
    });
}
