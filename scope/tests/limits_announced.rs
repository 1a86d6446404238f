//! The first poll under a time limit: token and alarm are made when somebody asks. That nobody can tell: what is asked in
//! there is answered as if they had been there from the beginning.
#![cfg(not(selvedge_loom))]

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{burn, guarded, poll_once, yields};
use selvedge_cancel::{self as cancel, CauseKind, FutureCancelExt, Instant};
use selvedge_scope::{block_on, join, scope, shield, time, timeout, timeout_at, try_timeout};

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

fn left() -> Option<Duration> {
    cancel::remaining()
}

#[test]
fn each_limit_is_there_for_whoever_asks_however_many_are_around_it() {
    guarded(|| {
        block_on(timeout(3 * HOUR, async {
            timeout(2 * HOUR, async {
                timeout(HOUR, async {
                    let left = left().expect("there is a limit");
                    assert!(left <= HOUR && left > HOUR / 2);
                })
                .await
                .unwrap();
                // Asked once more, where the innermost is over.
                let left = left().expect("there is a limit");
                assert!(left <= 2 * HOUR && left > HOUR);
            })
            .await
            .unwrap();
            let left = left().expect("there is a limit");
            assert!(left <= 3 * HOUR && left > 2 * HOUR);
        }))
        .unwrap();
        assert_eq!(left(), None);
    });
}

#[test]
fn limit_that_nobody_asked_for_leaves_nothing_behind() {
    guarded(|| {
        for _ in 0..3 {
            assert_eq!(block_on(timeout(HOUR, async { 7 })).unwrap(), 7);
            let nested = timeout(HOUR, timeout(HOUR, async { 8 }));
            assert_eq!(block_on(nested).unwrap().unwrap(), 8);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                block_on(timeout(HOUR, timeout(HOUR, async { panic!("inside") })))
            }));
            assert!(panicked.is_err());
            // One that waits, and is dropped before anybody has asked.
            {
                let mut waits = pin!(timeout(HOUR, pending::<()>()));
                assert!(poll_once(waits.as_mut()).is_pending());
            }
            assert_eq!(left(), None);
            assert!(cancel::ambient::token().is_none());
        }
    });
}

#[test]
fn limit_holds_from_the_beginning_of_the_first_poll() {
    guarded(|| {
        // Asked late in the first poll, and never before.
        let asked = block_on(timeout(SHORT, async {
            burn(2 * SHORT);
            (
                cancel::check().is_err(),
                cancel::current().cause().map(|cause| cause.kind()),
            )
        }));
        // The output holds no `Cancelled`, so it is handed out.
        assert_eq!(asked.unwrap(), (true, Some(CauseKind::Deadline)));
        // Not asked in the first poll, which leaves something to wait for.
        let late = timeout(SHORT, async {
            burn(2 * SHORT);
            yields(1).await;
            cancel::check()
        });
        assert!(block_on(late).is_err());
        let waits = block_on(timeout(SHORT, async {
            yields(3).await;
            pending::<()>().or_cancel().await
        }));
        assert!(waits.is_err());
        // A moment that has passed.
        let past = block_on(timeout_at(Instant::now(), async { cancel::check() }));
        assert!(past.is_err());
        // A value that is ready is one, however late.
        let late = block_on(timeout(SHORT, async {
            burn(2 * SHORT);
            7
        }));
        assert_eq!(late.unwrap(), 7);
    });
}

#[test]
fn what_begins_inside_hangs_below_the_limit() {
    guarded(|| {
        let ends = |what: &str, ended: bool| assert!(ended, "{what}");
        let child = scope(async |s| s.spawn(pending::<()>().or_cancel()).await);
        ends("a scope", block_on(timeout(SHORT, child)).is_err());
        let both = join((pending::<()>().or_cancel(), pending::<()>().or_cancel()));
        ends("a join", block_on(timeout(SHORT, both)).is_err());
        ends(
            "a sleep",
            block_on(timeout(SHORT, time::sleep(HOUR))).is_err(),
        );
        let shielded = shield(HOUR, async {
            cancel::remaining().is_none_or(|left| left > SHORT)
        });
        assert!(block_on(timeout(SHORT, shielded)).unwrap(), "a shield");
        let own = timeout(SHORT, async { cancel::current() });
        let own = block_on(own).unwrap();
        assert!(
            !own.is_cancelled(),
            "the limit went with what it was around"
        );
        let inner = try_timeout(SHORT, async {
            timeout(HOUR, pending::<()>().or_cancel()).await.unwrap()?;
            Ok::<(), std::io::Error>(())
        });
        assert!(block_on(inner).is_err(), "a limit in a limit");
    });
}

/// In children, lent and not: the token of the scope is in force again when the limit is over.
#[test]
fn children_have_limits_of_their_own() {
    common::everywhere(|_, pool| {
        let sum: usize = block_on(
            scope(async |s| {
                let children: Vec<_> = (0..20)
                    .map(|n| {
                        s.spawn(async move {
                            let quick = timeout(HOUR, async { n }).await.unwrap();
                            let asked = timeout(HOUR, async {
                                yields(n % 3).await;
                                usize::from(left().is_some())
                            });
                            let asked = asked.await.unwrap();
                            assert_eq!(left(), None);
                            quick + asked
                        })
                    })
                    .collect();
                let mut sum = 0;
                for child in children {
                    sum += child.await;
                }
                sum
            })
            .on(pool),
        );
        assert_eq!(sum, 190 + 20);
    });
}

/// A scope around is cancelled in the very poll, before or after somebody asks.
#[test]
fn cancellation_from_around_is_seen_inside_in_the_same_poll() {
    guarded(|| {
        block_on(scope(async |s| {
            let seen = timeout(HOUR, async {
                s.cancel();
                cancel::check().is_err()
            });
            assert!(seen.await.unwrap());
        }));
        block_on(scope(async |s| {
            let seen = timeout(HOUR, async {
                let before = cancel::check().is_ok();
                s.cancel();
                before && cancel::check().is_err()
            });
            assert!(seen.await.unwrap());
        }));
    });
}

/// Two that are under way on one thread and are left in either order, as stackful coroutines do it.
#[cfg(not(miri))]
#[test]
fn limits_may_be_left_in_any_order() {
    use corosensei::stack::DefaultStack;
    use corosensei::{Coroutine, Yielder};

    guarded(|| {
        for asks in [[false, false], [true, false], [false, true], [true, true]] {
            for first_to_end in [0, 1] {
                let open = |asks: bool| {
                    let stack = DefaultStack::new(256 << 10).expect("a stack");
                    Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                        let mut suspended = false;
                        let limited = timeout(
                            HOUR,
                            poll_fn(|_| {
                                assert!(!std::mem::replace(&mut suspended, true));
                                if asks {
                                    assert!(left().is_some());
                                }
                                yielder.suspend(());
                                Poll::Ready(())
                            }),
                        );
                        let mut limited = pin!(limited);
                        let mut cx = Context::from_waker(Waker::noop());
                        assert!(limited.as_mut().poll(&mut cx).is_ready());
                    })
                };
                let mut both = asks.map(open);
                for one in &mut both {
                    one.resume(());
                }
                let asked = Cell::new(0);
                block_on(timeout(HOUR, async {
                    asked.set(asked.get() + 1);
                    if asks[0] {
                        assert!(left().is_some());
                    }
                }))
                .unwrap();
                assert_eq!(asked.get(), 1);
                both[first_to_end].resume(());
                assert_eq!(block_on(timeout(HOUR, async { 7 })).unwrap(), 7);
                both[1 - first_to_end].resume(());
                assert!(both.iter().all(Coroutine::done));
                assert_eq!(left(), None);
                assert!(cancel::ambient::token().is_none());
            }
        }
    });
}
