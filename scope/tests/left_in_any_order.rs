//! Windows that are not left in the reverse order of their opening: stackful coroutines that suspend inside a window.
//! What a thread remembers of its windows, its token and its timer names nothing that is gone, in every order.
//! SOUNDNESS W12. Not for coroutines that move to another thread, which no safe library allows.
// Miri knows no stacks but a thread's own.
#![cfg(not(miri))]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use common::{Count, Data, Noisy, attempts, guarded, on_helper, pool, yields};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};
use selvedge_cancel as cancel;
use selvedge_cancel::{CancelToken, FutureCancelExt};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{block_on, join_all, scope, timeout};

type Stackful = Coroutine<(), (), ()>;

fn stackful(f: impl FnOnce(&Yielder<(), ()>) + 'static) -> Stackful {
    let stack = DefaultStack::new(256 << 10).expect("a stack");
    Coroutine::with_stack(stack, move |yielder, ()| f(yielder))
}

/// Nothing is in force on this thread, and scopes work as ever.
#[track_caller]
fn assert_nothing_is_left() {
    let current = cancel::current();
    assert!(!current.is_cancelled());
    assert!(cancel::check().is_ok());
    assert_eq!(cancel::deadline(), None);
    assert_eq!(ambient_token().map(|token| token.is_cancelled()), None);
    let sum = block_on(scope(async |s| {
        let handles: Vec<_> = (0..3).map(|n| s.spawn(async move { n })).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await;
        }
        sum
    }));
    assert_eq!(sum, 3);
}

fn ambient_token() -> Option<CancelToken> {
    cancel::ambient::token()
}

#[test]
fn scope_that_ends_below_a_suspended_one_is_not_named_any_more() {
    let open = || {
        stackful(|yielder| {
            block_on(scope(async |s| {
                s.cancel();
                yielder.suspend(());
            }));
        })
    };
    let (mut first, mut second) = (open(), open());
    first.resume(());
    second.resume(());
    first.resume(());
    assert!(first.done());
    // The first scope is freed; the second one is suspended in its window.
    let _ = cancel::current();
    assert!(cancel::current().is_cancelled(), "the second one's");
    second.resume(());
    assert!(second.done());
    assert_nothing_is_left();
}

/// All orders of so many.
fn orders(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for order in orders(len - 1) {
        for at in 0..len {
            let mut order = order.clone();
            order.insert(at, len - 1);
            all.push(order);
        }
    }
    all
}

/// Rests until [`woken`] wakes it, which is after the end of the window.
async fn rests(slot: &Mutex<Option<Waker>>) {
    let mut rested = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut rested, true) {
            return Poll::Ready(());
        }
        *slot.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Runs a future, and wakes what rests after each poll.
fn woken<F: Future>(slot: &Mutex<Option<Waker>>, future: F) -> F::Output {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if let Some(waker) = slot.lock().unwrap().take() {
            waker.wake();
        }
        polled
    }))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Scope,
    Batch,
    Limit,
}

/// One window after the other that is suspended in the middle, each checked from inside.
fn suspends(kind: Kind, name: usize, checked: Rc<Cell<usize>>) -> Stackful {
    stackful(move |yielder| {
        let count = Count::new();
        let token = CancelToken::new();
        let slot = Mutex::new(None);
        let body = |suspend: bool| {
            let (checked, token, count, slot) = (&checked, &token, &count, &slot);
            async move {
                let held = count.one();
                let opened = scope(async |s| {
                    let child = s.spawn(async {
                        yields(1).await;
                        name
                    });
                    if suspend {
                        yielder.suspend(());
                    }
                    // Spawned and woken from a window that need not be the thread's innermost.
                    let late = s.spawn(yields(2));
                    assert_eq!(child.await, name);
                    late.await;
                    rests(slot).await;
                    // A new window: what is in force is this scope's again.
                    let own = s.token();
                    let is_own = move || ambient_token().is_some_and(|token| token.is_same(&own));
                    assert!(is_own(), "window {name}");
                    assert!(s.spawn(async move { is_own() }).await, "window {name}");
                    if name == 0 {
                        assert!(std::future::pending::<()>().or_cancel().await.is_err());
                    }
                    if suspend {
                        yielder.suspend(());
                    }
                    checked.set(checked.get() + 1);
                });
                opened.token(token).await;
                drop(held);
            }
        };
        if name == 0 {
            token.cancel();
        }
        match kind {
            Kind::Scope => woken(&slot, body(true)),
            Kind::Limit => {
                let long = std::time::Duration::from_secs(3600);
                assert!(woken(&slot, timeout(long, body(true))).is_ok());
            }
            Kind::Batch => {
                // Its members are polled by this very stack.
                let turns = AtomicUsize::new(0);
                let members = (0..3).map(|_| async {
                    yields(2).await;
                    turns.fetch_add(1, SeqCst);
                });
                woken(&slot, async {
                    yielder.suspend(());
                    join_all(members).await;
                    body(true).await;
                });
                assert_eq!(turns.into_inner(), 3);
            }
        }
        count.assert_settled("what a body held");
    })
}

#[test]
fn windows_are_left_in_every_order() {
    guarded(|| {
        let mut ran = 0;
        for kind in [Kind::Scope, Kind::Batch, Kind::Limit] {
            for len in 1..=3 {
                for enter in orders(len) {
                    for leave in orders(len) {
                        let checked = Rc::new(Cell::new(0));
                        let mut all: Vec<_> = (0..len)
                            .map(|name| suspends(kind, name, checked.clone()))
                            .collect();
                        for &at in &enter {
                            all[at].resume(());
                            assert!(!all[at].done());
                        }
                        while all.iter().any(|one| !one.done()) {
                            for &at in &leave {
                                if !all[at].done() {
                                    all[at].resume(());
                                    let _ = (cancel::current(), cancel::deadline());
                                }
                            }
                        }
                        assert_eq!(checked.get(), len);
                        assert_nothing_is_left();
                        ran += 1;
                    }
                }
            }
        }
        assert_eq!(ran, 3 * (1 + 4 + 36));
    });
}

/// The first scope's poll ends while the second one is suspended in its window, and its next poll is on top of that.
#[test]
fn scope_that_is_polled_again_above_a_suspended_one_stays_in_force() {
    for kind in [Kind::Scope, Kind::Limit] {
        let mut first = stackful(move |yielder| {
            let slot = Mutex::new(None);
            let body = async |s: &CancelToken| {
                yielder.suspend(());
                rests(&slot).await;
                s.cancel();
                // Each of these is put in force above the scope, and left again.
                scope(async |_| ()).await;
                let long = std::time::Duration::from_secs(3600);
                let inner = timeout(long, async { cancel::current().is_cancelled() });
                assert_eq!(inner.await.ok(), Some(true));
                assert!(cancel::check().is_err(), "the scope is cancelled still");
            };
            let opened = scope(async |s| body(&s.token()).await);
            match kind {
                Kind::Limit => {
                    let long = std::time::Duration::from_secs(3600);
                    let _ = woken(
                        &slot,
                        timeout(long, async { body(&cancel::current()).await }),
                    );
                }
                _ => woken(&slot, opened),
            }
        });
        let mut second = stackful(|yielder| {
            block_on(scope(async |_| yielder.suspend(())));
        });
        first.resume(());
        second.resume(());
        first.resume(());
        assert!(first.done());
        second.resume(());
        assert!(second.done());
        assert_nothing_is_left();
    }
}

#[test]
fn window_that_is_torn_down_with_its_stack_is_left() {
    guarded(|| {
        let count = Count::new();
        let (one, two) = (count.one(), count.one());
        let mut below = stackful(move |yielder| {
            block_on(scope(async |_| {
                let _held = one;
                yielder.suspend(());
            }));
        });
        let mut above = stackful(move |yielder| {
            block_on(scope(async |_| {
                let _held = two;
                yielder.suspend(());
            }));
        });
        below.resume(());
        above.resume(());
        // Unwinds its stack, through the poll of the scope.
        drop(below);
        assert_eq!(count.dropped(), 1);
        let _ = cancel::current();
        above.resume(());
        assert!(above.done());
        count.assert_settled("both bodies");
        assert_nothing_is_left();
    });
}

thread_local! {
    static LEFT_OPEN: RefCell<Vec<Stackful>> = const { RefCell::new(Vec::new()) };
}

/// Opens a window on a stack of its own, above the one of this thread, and leaves it open.
fn leave_one_open(count: &Arc<Count>, data: &Arc<Data>) {
    let (one, data) = (count.one(), data.clone());
    let mut above = stackful(move |yielder| {
        let noisy = Noisy(&data);
        block_on(scope(async |s| {
            let child = s.spawn(yields(1));
            yielder.suspend(());
            child.await;
            drop(one);
        }));
        drop(noisy);
    });
    above.resume(());
    assert!(!above.done());
    LEFT_OPEN.with(|left| left.borrow_mut().push(above));
}

#[test]
fn helper_leaves_below_a_window_that_is_torn_down_with_its_thread() {
    guarded(|| {
        let mut helped = 0;
        for () in attempts() {
            let (count, data) = (Count::new(), Arc::new(Data::new()));
            let pool = pool(2);
            let on_helpers = &AtomicUsize::new(0);
            with(Lending::Forced, || {
                let opened = scope(async |s| {
                    for _ in 0..4 {
                        drop(s.spawn(async {
                            if on_helper() {
                                on_helpers.fetch_add(1, SeqCst);
                                leave_one_open(&count, &data);
                            }
                            yields(1).await;
                        }));
                    }
                });
                block_on(opened.on(&pool));
            });
            helped = on_helpers.load(SeqCst);
            // The threads of the pool end, and tear down what was left on them.
            drop(pool);
            if helped > 0 {
                while count.dropped() < count.made() {
                    std::thread::yield_now();
                }
                break;
            }
        }
        assert!(helped > 0, "no helper took part");
        assert_nothing_is_left();
    });
}

#[test]
fn child_resumes_a_window_that_an_earlier_sibling_left_open() {
    guarded(|| {
        let (count, data) = (Count::new(), Arc::new(Data::new()));
        block_on(
            scope(async |s| {
                let first = s.spawn(async { leave_one_open(&count, &data) });
                first.await;
                let second = s.spawn(async {
                    let left = LEFT_OPEN.with(|left| left.borrow_mut().pop());
                    let mut left = left.expect("the sibling left it");
                    left.resume(());
                    assert!(left.done());
                });
                second.await;
                s.spawn(yields(1)).await;
                assert!(!cancel::current().is_cancelled());
            })
            .inline(),
        );
        count.assert_settled("the window above");
        assert_eq!(data.looks(), 1);
        assert_nothing_is_left();
    });
}

#[test]
fn scope_ends_while_a_window_above_it_stays_open() {
    guarded(|| {
        let (count, data) = (Count::new(), Arc::new(Data::new()));
        let (other_count, other_data) = (count.clone(), data.clone());
        block_on(
            scope(async |s| {
                s.spawn(async { leave_one_open(&count, &data) }).await;
            })
            .inline(),
        );
        let mut left = LEFT_OPEN
            .with(|left| left.borrow_mut().pop())
            .expect("left open");
        let _ = cancel::current();
        let mut waits = pin!(scope(async |s| s.spawn(yields(3)).await));
        let mut polls = 0;
        while common::poll_once(waits.as_mut()).is_pending() {
            polls += 1;
        }
        left.resume(());
        assert!(left.done(), "after {polls} polls");
        other_count.assert_settled("the window above");
        assert_eq!(other_data.looks(), 1);
        assert_nothing_is_left();
    });
}
