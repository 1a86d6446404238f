//! Tasks that wait for each other's end hang, as in any executor; a debug build says who they are, once, and says
//! nothing of those that something else may wake. Each case runs in a process of its own.

mod common;

use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::said::said_by;
use common::{poll_times, pool, yields};
use selvedge_cancel::{FutureCancelExt, select, select_safe};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{JoinHandle, Scope, block_on, scope, time, try_scope};

type Slots = Arc<Vec<Mutex<Option<JoinHandle<'static, ()>>>>>;

fn slots(count: usize) -> Slots {
    Arc::new((0..count).map(|_| Mutex::new(None)).collect())
}

/// The handle that was put there, once it is.
async fn take(slots: &Slots, at: usize) -> JoinHandle<'static, ()> {
    loop {
        if let Some(handle) = slots[at].lock().unwrap().take() {
            return handle;
        }
        yields(1).await;
    }
}

/// Each waits for the next, and the last for the first.
fn ring(s: &Scope<'static>, slots: &Slots) {
    for at in 0..slots.len() {
        let all = Arc::clone(slots);
        let next = (at + 1) % all.len();
        let handle = s.spawn(async move { take(&all, next).await.await });
        *slots[at].lock().unwrap() = Some(handle.name(format!("link {at}")));
    }
}

/// Polls it until all are at rest, and lets it be.
fn let_hang(future: impl Future<Output = ()>) {
    let mut future = Box::pin(future);
    for _ in 0..20 {
        assert!(poll_times(future.as_mut(), 20).is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    std::mem::forget(future);
}

/// How often somebody is said to wait for himself: once, in debug builds.
#[track_caller]
fn assert_said(said: Option<String>, names: &[&str]) {
    let Some(said) = said else { return };
    let times = usize::from(cfg!(debug_assertions) && !names.is_empty());
    assert_eq!(
        said.matches("waits for the end of").count(),
        times,
        "{said}"
    );
    for name in names.iter().filter(|_| times > 0) {
        assert!(said.contains(name), "{name}: {said}");
    }
}

/// A ring that hangs, in a scope whose body waits for something else.
fn hangs(count: usize, mode: Lending) {
    with(mode, || {
        let all = slots(count);
        let whole = scope(async |s| {
            ring(&s, &all);
            pending::<()>().await;
        });
        let_hang(whole.on(&pool(1)));
    });
}

#[test]
fn two_that_wait_for_each_other_are_reported() {
    let said = said_by("two_that_wait_for_each_other_are_reported", || {
        hangs(2, Lending::Never);
    });
    assert_said(said, &["`link 0`", "`link 1`", "circles.rs"]);
}

#[test]
fn ring_on_helpers_is_reported() {
    let said = said_by("ring_on_helpers_is_reported", || hangs(7, Lending::Forced));
    assert_said(said, &["`link 0`", "`link 3`", "`link 6`"]);
}

#[test]
fn two_that_cancel_each_other_and_wait_are_reported() {
    let name = "two_that_cancel_each_other_and_wait_are_reported";
    let said = said_by(name, || {
        let all = slots(2);
        let_hang(scope(async |s| {
            for at in 0..2 {
                let others = Arc::clone(&all);
                let handle = s.spawn(async move {
                    take(&others, 1 - at).await.cancel_and_wait().await;
                });
                *all[at].lock().unwrap() = Some(handle.name(format!("link {at}")));
            }
            pending::<()>().await;
        }));
    });
    assert_said(said, &["`link 0`", "`link 1`"]);
}

/// A child whose nested scope has one, in its body or in a child of its own, who waits for the outer one.
fn waits_for_its_ancestor(in_body: bool) {
    let all = slots(1);
    let_hang(scope(async |s| {
        let own = Arc::clone(&all);
        let outer = s.spawn(async move {
            scope(async |inner| {
                let waits = async move { take(&own, 0).await.await };
                if in_body {
                    waits.await;
                } else {
                    inner.spawn(waits).name("inner");
                }
            })
            .await;
        });
        *all[0].lock().unwrap() = Some(outer.name("outer"));
        pending::<()>().await;
    }));
}

#[test]
fn child_of_a_nested_scope_that_waits_for_its_ancestor_is_reported() {
    let name = "child_of_a_nested_scope_that_waits_for_its_ancestor_is_reported";
    let said = said_by(name, || waits_for_its_ancestor(false));
    assert_said(said, &["`outer`", "`inner`"]);
}

#[test]
fn body_of_a_nested_scope_that_waits_for_its_ancestor_is_reported() {
    let name = "body_of_a_nested_scope_that_waits_for_its_ancestor_is_reported";
    let said = said_by(name, || waits_for_its_ancestor(true));
    assert_said(said, &["`outer`", "the body of the scope"]);
}

#[test]
fn ring_in_a_try_scope_ends_with_it_and_is_not_reported() {
    let name = "ring_in_a_try_scope_ends_with_it_and_is_not_reported";
    let said = said_by(name, || {
        type Tried = JoinHandle<'static, Result<(), selvedge_cancel::Cancelled>>;
        let all: Arc<[Mutex<Option<Tried>>; 2]> = Arc::new([Mutex::new(None), Mutex::new(None)]);
        let whole = try_scope(async |s| {
            for at in 0..2 {
                let others = Arc::clone(&all);
                let handle = s.spawn(async move {
                    let other = loop {
                        let other = others[1 - at].lock().unwrap().take();
                        match other {
                            Some(other) => break other,
                            None => yields(1).await,
                        }
                    };
                    assert!(other.await.is_err());
                    Ok::<_, std::io::Error>(())
                });
                *all[at].lock().unwrap() = Some(handle.name(format!("link {at}")));
            }
            time::sleep(Duration::from_millis(20)).await?;
            s.cancel();
            Ok(())
        });
        block_on(whole).unwrap();
    });
    assert_said(said, &[]);
}

#[test]
fn nothing_is_said_of_those_whom_something_else_may_wake() {
    let name = "nothing_is_said_of_those_whom_something_else_may_wake";
    let said = said_by(name, || {
        let short = Duration::from_millis(20);
        // A limit ends one of the waits.
        let all = slots(2);
        block_on(scope(async |s| {
            let others = Arc::clone(&all);
            let first = s.spawn(async move {
                let other = take(&others, 1).await;
                select! {
                    () = other => unreachable!("it waits for this one"),
                    slept = time::sleep(short) => assert!(slept.is_ok()),
                }
            });
            *all[0].lock().unwrap() = Some(first);
            let others = Arc::clone(&all);
            let second = s.spawn(async move { take(&others, 0).await.await });
            *all[1].lock().unwrap() = Some(second);
        }));
        // One that was asked for once is asked for no more.
        let all = slots(2);
        block_on(scope(async |s| {
            let others = Arc::clone(&all);
            let first = s.spawn(async move {
                let mut other = take(&others, 1).await;
                select! {
                    biased;
                    () = &mut other => unreachable!("it waits for this one"),
                    () = ready(()) => {}
                }
                assert!(time::sleep(short).await.is_ok());
                drop(other);
            });
            *all[0].lock().unwrap() = Some(first);
            let others = Arc::clone(&all);
            let second = s.spawn(async move { take(&others, 0).await.await });
            *all[1].lock().unwrap() = Some(second);
        }));
        // One of the waits is given up when the scope's limit has passed.
        let all = slots(2);
        let limited = scope(async |s| {
            let others = Arc::clone(&all);
            let first = s.spawn(async move {
                assert!(take(&others, 1).await.or_cancel().await.is_err());
            });
            *all[0].lock().unwrap() = Some(first);
            let others = Arc::clone(&all);
            let second = s.spawn(async move { take(&others, 0).await.await });
            *all[1].lock().unwrap() = Some(second);
        });
        block_on(limited.timeout(short));
        // A long chain is no ring.
        block_on(scope(async |s| {
            let mut last = s.spawn(async move {
                assert!(time::sleep(short).await.is_ok());
            });
            for _ in 0..500 {
                last = s.spawn(last);
            }
            last.await;
        }));
    });
    if let Some(said) = said {
        assert_eq!(said.matches("waits for the end of").count(), 0, "{said}");
    }
}

#[test]
fn nothing_is_said_of_a_wait_that_was_given_up_in_the_same_poll() {
    let name = "nothing_is_said_of_a_wait_that_was_given_up_in_the_same_poll";
    let said = said_by(name, || {
        for how in ["dropped", "dropped, the message first", "moved", "a scope"] {
            let (send, receive) = futures_channel::oneshot::channel::<u32>();
            let (give, take) = futures_channel::oneshot::channel::<JoinHandle<'_, u32>>();
            let seven = block_on(scope(async |s| {
                let mut other = s.spawn(async { take.await.unwrap().await });
                let handles = s.clone();
                let first = s.spawn(async move {
                    // The other one waits for this by then.
                    yields(3).await;
                    let mut receive = receive;
                    match how {
                        "dropped" => {
                            assert!(futures::poll!(&mut other).is_pending());
                            drop(other);
                        }
                        "dropped, the message first" => {
                            assert!(futures::poll!(&mut receive).is_pending());
                            assert!(futures::poll!(&mut other).is_pending());
                            drop(other);
                            let mut polled = false;
                            // It is polled once more only when it has been woken.
                            std::future::poll_fn(|_| match std::mem::replace(&mut polled, true) {
                                true => std::task::Poll::Ready(()),
                                false => std::task::Poll::Pending,
                            })
                            .await;
                        }
                        "moved" => {
                            assert!(futures::poll!(&mut other).is_pending());
                            handles.spawn(other);
                        }
                        _ => {
                            let mut inner = Box::pin(select_safe(scope(async |_| other.await)));
                            assert!(futures::poll!(&mut inner).is_pending());
                            drop(inner);
                        }
                    }
                    receive.await.unwrap()
                });
                assert!(give.send(first).is_ok());
                time::sleep(Duration::from_millis(20)).await.unwrap();
                send.send(7).unwrap();
                7
            }));
            assert_eq!(seven, 7);
        }
    });
    assert_said(said, &[]);
}
