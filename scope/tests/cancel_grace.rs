//! The end of a grace while children are busy on helpers: it must not be lost when a window gives way. What is cut,
//! and how that is told, is tested in the root package on the virtual clock.

mod common;

use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Count, burn, guarded, on_helper, pool, yields};
use selvedge_cancel::CancelToken;
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, scope};

/// The owner's budget is spent and it waits for a helper, in whose poll a child is, when the abort comes. How many
/// children were on helpers.
fn aborted_while_draining(mode: Lending, by_handle: bool, pool: &selvedge_scope::Pool) -> usize {
    let (token, count) = (CancelToken::new(), Count::new());
    let (began, helped, asked) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let kept: Mutex<Option<Scope<'_>>> = Mutex::new(None);
    let cut = std::thread::scope(|threads| {
        threads.spawn(|| {
            while began.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            // Longer than the budget of a window.
            burn(Duration::from_millis(15));
            if by_handle {
                kept.lock().unwrap().as_ref().unwrap().token().abort();
            } else {
                token.abort();
            }
            // The notice is taken while the child is still in its poll.
            burn(Duration::from_millis(5));
            asked.store(true, Ordering::SeqCst);
        });
        let busy = scope(async |s| {
            *kept.lock().unwrap() = Some(s.clone());
            for _ in 0..6 {
                let one = count.one();
                s.spawn(async {
                    let _one = one;
                    began.fetch_add(1, Ordering::SeqCst);
                    if on_helper() {
                        helped.fetch_add(1, Ordering::SeqCst);
                        while !asked.load(Ordering::SeqCst) {
                            std::hint::spin_loop();
                        }
                    } else {
                        for _ in 0..3 {
                            burn(Duration::from_millis(2));
                            yields(1).await;
                        }
                    }
                    pending::<()>().await;
                });
            }
        });
        let busy = busy.token(&token).grace(Duration::from_secs(3600)).on(pool);
        with(mode, || futures::executor::block_on(busy))
    });
    assert!(cut.is_err(), "six children were left");
    count.assert_settled("cut");
    helped.load(Ordering::SeqCst)
}

// CT-069
#[test]
fn abort_that_comes_while_the_owner_sends_helpers_away_cuts_the_scope_all_the_same() {
    guarded(|| {
        let pool = pool(2);
        for mode in [Lending::Adaptive, Lending::Forced] {
            for by_handle in [false, true] {
                let mut on_helpers = 0;
                while on_helpers < 5 {
                    on_helpers += aborted_while_draining(mode, by_handle, &pool);
                }
            }
        }
    });
}

/// Who asks for the stop.
#[derive(Clone, Copy, Debug)]
enum Stops {
    /// A thread, of the token that the scope is under.
    Above,
    /// A thread, of the scope.
    Thread,
    /// The child that computes.
    Child,
}

// What is to follow a stop waited for the end of the poll in which the scope was: a child that computes and looks at its
// token, as it is told to do, never heard of it.
#[test]
fn stop_is_followed_by_the_cancel_while_a_child_computes() {
    /// How long the child would go on.
    const BRAKE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(10);

    guarded(|| {
        let pool = pool(1);
        for mode in common::MODES {
            for stops in [Stops::Above, Stops::Thread, Stops::Child] {
                let token = CancelToken::new();
                let heard = AtomicUsize::new(0);
                std::thread::scope(|threads| {
                    let computes = async |s: Scope<'_>| {
                        if let Stops::Child = stops {
                            s.token().stop();
                        }
                        let from = std::time::Instant::now();
                        while from.elapsed() < BRAKE {
                            if selvedge_cancel::check().is_err() {
                                heard.fetch_add(1, Ordering::SeqCst);
                                break;
                            }
                            burn(Duration::from_micros(100));
                        }
                    };
                    let stopped = scope(async |s| {
                        let (of_scope, above) = (s.token(), token.clone());
                        threads.spawn(move || {
                            burn(SHORT);
                            match stops {
                                Stops::Above => above.stop(),
                                Stops::Thread => of_scope.stop(),
                                Stops::Child => {}
                            }
                        });
                        for _ in 0..2 {
                            drop(s.spawn(computes(s.clone())));
                        }
                    });
                    let stopped = stopped.token(&token).stop_within(SHORT).on(&pool);
                    with(mode, || futures::executor::block_on(stopped));
                });
                assert_eq!(heard.load(Ordering::SeqCst), 2, "{mode:?}, {stops:?}");
            }
        }
    });
}
