//! Small, dense programs on one thread that `scripts/miri` runs under both models of borrowing: handles in every state,
//! drops midway, panics, late wakers, cancellation. They run as ordinary tests too.
//! Not for other threads, which are in `miri_threads.rs`.

mod common;

use std::cell::Cell;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Poll, Waker};

use common::alone::{
    assert_windows, borrows_itself, poll_once, poll_times, poll_with, rests_once, run, run_woken,
    wake_all,
};
use common::{Bell, Count, Data, Noisy, message, never, panic_of, park_in, yields};
use selvedge_cancel::{CancelToken, FutureCancelExt, select, select_safe};
use selvedge_scope::{JoinHandle, Scope, join, join_all, scope, try_join, try_join_all};

#[test]
fn handles_are_awaited_dropped_and_cancelled_in_every_state() {
    let count = &Count::new();
    let (slot, ours) = (&Mutex::new(Vec::new()), &Mutex::new(Vec::new()));
    let opened = scope(async |s| {
        let made: Vec<JoinHandle<'_, _>> = (0..6)
            .map(|_| {
                let one = count.one();
                s.spawn(async move {
                    rests_once(slot).await;
                    one
                })
            })
            .collect();
        let mut made = made.into_iter();
        // Before the first poll, after it, polled and dropped, polled twice by two tasks, cancelled, forgotten.
        drop(made.next());
        rests_once(ours).await;
        // Under Miri a window may be over after each poll; all children are to rest before they are woken.
        while slot.lock().unwrap().len() < 6 {
            yields(1).await;
        }
        let mut polled = made.next().unwrap();
        assert!(poll_once(Pin::new(&mut polled)).is_pending());
        let kept = made.next().unwrap();
        let moved = s.spawn(async move {
            let mut kept = kept;
            let _ = poll_once(Pin::new(&mut kept));
            kept.await
        });
        drop(polled);
        made.as_slice()[0].cancel();
        let mut wait = made.as_slice()[0].cancel_and_wait();
        assert!(poll_once(Pin::new(&mut wait)).is_pending());
        wake_all(slot);
        wait.await;
        made.next().unwrap().cancel_and_wait().await;
        forget(made.next());
        drop(moved.await);
        drop(made);
    });
    let ((), polls) = run_woken(opened, ours);
    assert!(polls > 1);
    assert!(
        count.dropped() >= count.made() - 1,
        "all but the forgotten one's"
    );
}

#[test]
fn handle_that_is_kept_past_the_end_yields_its_output() {
    let count = Count::new();
    let kept = Mutex::new(None);
    let ((), _) = run(scope(async |s| {
        let one = count.one();
        *kept.lock().unwrap() = Some(s.spawn(async move { one }));
        yields(1).await;
    }));
    let mut handle = kept.into_inner().unwrap().expect("it was spawned");
    assert!(handle.is_finished());
    let Poll::Ready(one) = poll_once(Pin::new(&mut handle)) else {
        panic!("the child has ended");
    };
    drop(one);
    count.assert_settled("the output");
}

#[test]
fn fixed_sets_of_futures_that_borrow_themselves() {
    let ((a, b, c), _) = run(join((
        borrows_itself(1),
        async { String::from("weft") },
        async {
            yields(2).await;
            [3_u8; 100]
        },
    )));
    assert_eq!((a, b.as_str(), c[99]), (3, "weft", 3));
    let (all, _) = run(join_all((0..20).map(|n| borrows_itself(n % 3))));
    assert_eq!(all.iter().sum::<usize>(), 3 * (6 + 14 - 2 + 1));
    let none = run(join_all(std::iter::empty::<std::future::Ready<()>>())).0;
    assert!(none.is_empty());
    let fails = async |n: usize| {
        borrows_itself(n).await;
        if n == 2 { Err(n) } else { Ok(Box::new(n)) }
    };
    assert_eq!(run(try_join_all((0..4).map(fails))).0, Err(2));
    assert_eq!(
        run(try_join((fails(0), fails(1)))).0,
        Ok((Box::new(0), Box::new(1)))
    );
}

#[test]
fn everything_is_dropped_midway() {
    let count = &Count::new();
    let data = &Data::new();
    let slot = &Mutex::new(Vec::new());
    for polled in [false, true, true] {
        let mut opened = Box::pin(scope(async |s| {
            let noisy = Noisy(data);
            for _ in 0..3 {
                let one = count.one();
                drop(s.spawn(async move {
                    let held = &one;
                    park_in::<()>(slot).await;
                    let _ = held;
                }));
                let noisy = Noisy(data);
                drop(s.spawn(async move {
                    yields(1).await;
                    noisy
                }));
            }
            let inner = join_all((0..3).map(|_| {
                let one = count.one();
                async move {
                    let held = &one;
                    park_in::<()>(slot).await;
                    let _ = held;
                }
            }));
            inner.await;
            drop(noisy);
        }));
        // Three children rest, and three members of a batch inside the body.
        while polled && slot.lock().unwrap().len() < 6 {
            assert!(poll_once(opened.as_mut()).is_pending());
        }
        drop(opened);
        wake_all(slot);
    }
    count.assert_settled("children of dropped scopes");
    assert_eq!(data.looks(), 8, "once each, in two of the three");
}

#[test]
fn forgotten_scope_leaves_its_children_untouched() {
    let slot: &'static Mutex<Vec<Waker>> = Box::leak(Box::default());
    let count = Count::new();
    let one = count.one();
    let mut opened = Box::pin(scope(async move |s: Scope<'static>| {
        drop(s.spawn(async move {
            let held = &one;
            park_in::<()>(slot).await;
            let _ = held;
        }));
        never::<()>().await;
    }));
    assert!(poll_times(opened.as_mut(), 10).is_none());
    forget(opened);
    assert_eq!(slot.lock().unwrap().len(), 1, "the child was polled");
    wake_all(slot);
    assert_eq!(count.dropped(), 0);
}

#[test]
fn panics_in_polls_outputs_and_drops() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in a drop");
            }
        }
    }
    let text = panic_of(|| {
        run(scope(async |s| {
            let _child = s.spawn(async {
                yields(1).await;
                panic!("in a child");
            });
            let kept = String::from("kept");
            let held = &kept;
            let cut = never::<()>().or_cancel().await;
            assert!(cut.is_err() && held.len() == 4);
        }))
    });
    assert_eq!(text, "in a child");
    assert_eq!(
        panic_of(|| run(scope(async |_| panic!("in a body")))),
        "in a body"
    );
    let text = panic_of(|| {
        run(scope(async |s| {
            drop(s.spawn(async {
                yields(1).await;
                Bomb
            }));
        }))
    });
    assert_eq!(text, "in a drop");
    let text = panic_of(|| {
        let is_fresh = &Cell::new(true);
        let mut opened = Box::pin(scope(async |s| {
            let bomb = Bomb;
            drop(s.spawn(async move {
                let _held = &bomb;
                never::<()>().await;
            }));
            is_fresh.set(false);
            never::<()>().await;
        }));
        // The panics before may have taken so long that a scope gives way in its first poll.
        while is_fresh.get() {
            assert!(poll_once(opened.as_mut()).is_pending());
        }
        drop(opened);
    });
    assert_eq!(text, "in a drop");
    let text = panic_of(|| {
        run(join_all(
            (0..3).map(async |n| assert_ne!(n, 1, "in a batch")),
        ))
    });
    assert!(text.contains("in a batch"));
    // An output that nobody takes, after the end.
    let kept = Mutex::new(None);
    run(scope(async |s| {
        *kept.lock().unwrap() = Some(s.spawn(async { Bomb }));
        yields(1).await;
    }));
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(kept.into_inner().unwrap())));
    assert_eq!(message(&*dropped.unwrap_err()), "in a drop");
}

#[test]
fn wakers_outlive_their_scope_and_wake_late() {
    let slot = &Mutex::new(Vec::new());
    for dropped in [false, true] {
        let ended = Cell::new(false);
        let mut opened = Box::pin(scope(async |s| {
            let child = s.spawn(rests_once(slot));
            let set = s.spawn(async { join_all((0..3).map(|_| rests_once(slot))).await });
            rests_once(slot).await;
            child.await;
            set.await;
            ended.set(true);
        }));
        let (bell, waker) = Bell::new();
        while slot.lock().unwrap().len() < 5 {
            assert!(poll_with(opened.as_mut(), &waker).is_pending());
        }
        let kept = slot.lock().unwrap().clone();
        if dropped {
            drop(opened);
        } else {
            wake_all(slot);
            assert!(bell.rung() > 0);
            assert_eq!(poll_times(opened.as_mut(), 50), Some(()));
            drop(opened);
        }
        assert_ne!(ended.get(), dropped);
        for (index, waker) in kept.into_iter().enumerate() {
            waker.wake_by_ref();
            let second = waker.clone();
            if index % 2 == 0 {
                waker.wake();
            }
            drop(second);
        }
        slot.lock().unwrap().clear();
    }
}

#[test]
fn cancellation_of_one_child_and_of_the_whole_scope() {
    let slot = &Mutex::new(Vec::new());
    let ((), polls) = run_woken(
        scope(async |s| {
            let token = CancelToken::new();
            let one = s.spawn(async {
                let kept = String::from("kept");
                let held = &kept;
                let cut = never::<()>().or_cancel().await;
                (cut.is_err(), held.len())
            });
            let own = s.spawn(async {
                let token = selvedge_cancel::current();
                token.cancelled().await;
                token.is_cancelled()
            });
            rests_once(slot).await;
            assert!(!one.is_finished());
            one.cancel();
            own.cancel();
            assert_eq!(one.await, (true, 4));
            assert!(own.await);
            let safe = s.spawn_select_safe(select_safe(async {
                let kept = [1, 2, 3];
                let held = &kept;
                never::<()>().await;
                held.len()
            }));
            rests_once(slot).await;
            s.cancel();
            assert!(safe.await.is_err());
            assert!(selvedge_cancel::check().is_err());
            drop(token);
        }),
        slot,
    );
    assert!(polls > 2);
}

#[test]
fn selected_futures_that_borrow_themselves() {
    let slot = &Mutex::new(Vec::new());
    let itself = |times| {
        select_safe(async move {
            let mut sum = 0;
            let into = &mut sum;
            for _ in 0..times {
                rests_once(slot).await;
                *into += 1;
            }
            *into
        })
    };
    let (sum, polls) = run_woken(select((itself(3), itself(9), itself(5))), slot);
    assert_windows((sum, polls), 3);
    // One that is dropped midway.
    let mut lost = Box::pin(select((itself(3), itself(9))));
    assert!(poll_once(lost.as_mut()).is_pending());
    drop(lost);
    let mut lost = Box::pin(itself(2).or_cancel());
    assert!(poll_once(lost.as_mut()).is_pending());
    drop(lost);
    let token = CancelToken::new();
    let outer = selvedge_cancel::ambient::replace(Some(token.clone()));
    let mut cut = Box::pin(itself(2).or_cancel());
    assert!(poll_once(cut.as_mut()).is_pending());
    token.cancel();
    assert!(matches!(poll_once(cut.as_mut()), Poll::Ready(Err(_))));
    drop(selvedge_cancel::ambient::replace(outer));
    slot.lock().unwrap().clear();
}
