//! Small, dense programs on one thread that `scripts/miri` runs under both models of borrowing: bodies and children
//! that borrow themselves, in every kind of scope and batch. They run as ordinary tests too.
//! Not for handles, wakers, panics and cancellation (`miri_handles.rs`), nor for other threads (`miri_threads.rs`).

mod common;

use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use common::alone::{
    assert_windows, borrows_itself, poll_once, rests_once, run, run_woken, wake_all,
};
use common::{Count, Data, yields};
use selvedge_cancel::{Cancelled, FutureCancelExt};
use selvedge_scope::{Scope, scope, shield, timeout, try_scope};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn body_that_borrows_itself_is_polled_in_many_windows() {
    let slot = &Mutex::new(Vec::new());
    let body = async |_: Scope<'_>| {
        let mut sum = 0;
        let into = &mut sum;
        for _ in 0..3 {
            rests_once(slot).await;
            *into += 1;
        }
        *into
    };
    let (sum, polls) = run_woken(scope(body), slot);
    assert_windows((sum, polls), 3);
    let (sum, polls) = run_woken(scope(body).grace(LONG), slot);
    assert_windows((sum.unwrap(), polls), 3);
    let (sum, polls) = run_woken(timeout(LONG, scope(body)), slot);
    assert_windows((sum.unwrap(), polls), 3);
    let (sum, polls) = run_woken(shield(LONG, scope(body)), slot);
    assert_windows((sum, polls), 3);
    let (sum, polls) = run_woken(scope(body).or_cancel(), slot);
    assert_windows((sum.unwrap(), polls), 3);
    let (sum, polls) = run_woken(Box::pin(scope(body)), slot);
    assert_windows((sum, polls), 3);
}

#[test]
fn body_of_a_try_scope_that_borrows_itself_is_polled_in_many_windows() {
    let slot = &Mutex::new(Vec::new());
    let body = async |fails: bool| {
        let mut sum = 0;
        let into = &mut sum;
        for _ in 0..3 {
            rests_once(slot).await;
            *into += 1;
        }
        if fails {
            Err(Failure(*into))
        } else {
            Ok(*into)
        }
    };
    for fails in [false, true] {
        let expected = if fails { Err(Failure(3)) } else { Ok(3) };
        let (sum, polls) = run_woken(try_scope(|_| body(fails)), slot);
        assert_windows((sum, polls), expected);
        let (sum, _) = run_woken(try_scope(|_| body(fails)).grace(LONG), slot);
        assert_eq!(sum.is_err(), fails);
        let (sum, _) = run_woken(try_scope(|_| body(fails)).all_errors(), slot);
        assert_eq!(sum.is_err(), fails);
    }
}

#[derive(Debug, PartialEq)]
struct Failure(usize);

impl From<Cancelled> for Failure {
    fn from(_: Cancelled) -> Self {
        Self(1000)
    }
}

#[test]
fn nested_scopes_that_borrow_themselves_are_polled_in_many_windows() {
    let slot = &Mutex::new(Vec::new());
    let outer = scope(async |s| {
        let mut words = vec![String::from("warp")];
        let more = &mut words;
        let child = s.spawn(async {
            let data = Data::new();
            let borrowed = &data;
            scope(async |s| {
                let inner = s.spawn(async {
                    rests_once(slot).await;
                    borrowed.look();
                    borrows_itself(2).await
                });
                rests_once(slot).await;
                borrowed.look();
                inner.await
            })
            .await
        });
        rests_once(slot).await;
        more.push(String::from("weft"));
        rests_once(slot).await;
        (more.len(), child.await)
    });
    let (output, polls) = run_woken(outer, slot);
    assert_eq!(output, (2, 6));
    assert!(polls > 2, "{polls} windows");
}

#[test]
fn scope_is_looked_at_between_two_polls() {
    let slot = &Mutex::new(Vec::new());
    let mut opened = pin!(scope(async |_| {
        let mut sum = 0;
        let into = &mut sum;
        rests_once(slot).await;
        *into += 1;
        *into
    }));
    assert!(poll_once(opened.as_mut()).is_pending());
    // Both make a reference to all of the scope.
    assert!(format!("{opened:?}").contains("Scoped"));
    let whole: &dyn std::fmt::Debug = &*opened.as_ref();
    assert!(format!("{whole:?}").contains("Scoped"));
    wake_all(slot);
    assert_eq!(poll_once(opened.as_mut()), Poll::Ready(1));
}

#[test]
fn children_that_borrow_themselves_run_beside_their_body() {
    let data = Data::new();
    let ((sum, inner), _) = run(scope(async |s| {
        let handles: Vec<_> = (1..6).map(|n| s.spawn(borrows_itself(n))).collect();
        let big = s.spawn(async {
            let room = [7_u8; 4096];
            let first = &room[0];
            yields(2).await;
            data.look();
            usize::from(*first)
        });
        let with = s.spawn_with(async |s| {
            let deeper = s.spawn_with(async |s| s.spawn(borrows_itself(1)).await);
            deeper.await + s.spawn_fn(|| 1).await
        });
        let mut sum = 0;
        let into = &mut sum;
        for handle in handles {
            *into += handle.await;
        }
        *into += big.await;
        (*into, with.await)
    }));
    assert_eq!((sum, inner), (3 * 15 + 7, 4));
    assert_eq!(data.looks(), 1);
}

#[repr(align(64))]
struct Wide([u8; 64]);

#[test]
fn cells_of_every_layout_are_used_again() {
    let count = Count::new();
    let (sum, _) = run(scope(async |s| {
        let mut sum = 0;
        for round in 0..3 {
            let unit = s.spawn(async {});
            let wide = Wide([1; 64]);
            let aligned = s.spawn(async move {
                yields(1).await;
                wide.0[round]
            });
            let large = [2_u8; 3000];
            let single = s.spawn(async move {
                yields(1).await;
                large[round]
            });
            let counted = count.one();
            let dropped = s.spawn(async move {
                yields(2).await;
                counted
            });
            drop(dropped);
            unit.await;
            sum += aligned.await + single.await;
            yields(3).await;
        }
        sum
    }));
    assert_eq!(sum, 9);
    count.assert_settled("outputs of dropped handles");
}
