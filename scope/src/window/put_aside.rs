//! What a thread does after it has let go of a child, while others poll the child to its end: the tests put it aside
//! there. Under AddressSanitizer they find a use of what is gone by then.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::lending::{Lending, with};
use crate::sync::plain::{AtomicU32, Mutex, Ordering};
use selvedge_cancel::checkpoint;

use crate::{Pool, block_on, scope, shield_unbounded};

/// The child is at rest, and the helper that polled it put aside.
const AT_REST: u32 = 1;
/// It has ended elsewhere, and its cell is freed.
const GONE: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(0);

std::thread_local! {
    /// The next call is the one.
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

fn wait_for(state: u32) {
    let from = Instant::now();
    while STATE.load(Ordering::SeqCst) != state && from.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
}

/// A child with a token of its own has been polled.
pub(super) fn here() {
    if ARMED.take() {
        STATE.store(AT_REST, Ordering::SeqCst);
        wait_for(GONE);
    }
}

fn on_helper() -> bool {
    let thread = std::thread::current();
    thread
        .name()
        .is_some_and(|name| name.starts_with("selvedge-"))
}

#[test]
fn token_of_a_child_that_ends_elsewhere_meanwhile_is_left_in_one_piece() {
    let pool = Pool::builder().threads(1).build();
    let slot = Mutex::new(None::<Waker>);
    let ended = AtomicU32::new(0);
    let (slot, ended) = (&slot, &ended);
    with(Lending::Forced, || {
        block_on(
            scope(async |s| {
                drop(s.spawn(async move {
                    // It has a token of its own from here on: something hung below it.
                    shield_unbounded(async {}).await;
                    while !on_helper() {
                        let _ = checkpoint().await;
                    }
                    let mut polled = false;
                    poll_fn(|cx| {
                        if std::mem::replace(&mut polled, true) {
                            ended.store(1, Ordering::SeqCst);
                            return Poll::Ready(());
                        }
                        *slot.lock().unwrap() = Some(cx.waker().clone());
                        ARMED.set(true);
                        Poll::Pending
                    })
                    .await;
                }));
                // Only the owner is left to poll this one, and then the other.
                drop(s.spawn(async move {
                    while STATE.load(Ordering::SeqCst) != AT_REST {
                        let _ = checkpoint().await;
                    }
                    slot.lock().unwrap().take().unwrap().wake();
                    while ended.load(Ordering::SeqCst) == 0 {
                        let _ = checkpoint().await;
                    }
                    let _ = checkpoint().await;
                    STATE.store(GONE, Ordering::SeqCst);
                }));
            })
            .on(&pool),
        );
    });
    assert_eq!(STATE.load(Ordering::SeqCst), GONE);
}
