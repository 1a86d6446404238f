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
