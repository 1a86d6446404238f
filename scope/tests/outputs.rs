//! Who drops an output, when and where: the handle, the finisher, or the end of the scope, each exactly once
//! and never after what it borrows. SOUNDNESS T1, T2, T8, T9.

mod common;

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use common::{
    Count, Counted, Data, Noisy, everywhere, guarded, never, on_helper, park_in, poll_once, pool,
    yields,
};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{JoinHandle, Scope, block_on, join_all, scope, try_scope};

/// When the handle of the child in `outputs_die_before_what_they_borrow` goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HandleGoes {
    Before,
    During,
    After,
    Never,
}

/// What is the last to refer to the cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Last {
    Waker,
    Handle,
    Scope,
}

/// An output that reads borrowed data when it dies, and is counted.
#[allow(dead_code, reason = "looks and counts when it is dropped")]
struct Output<'a>(Noisy<'a>, Counted);

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

// T1, M1, W10, W11: the waker is kept in a place that outlives everything.
#[test]
fn outputs_die_before_what_they_borrow() {
    everywhere(|mode, pool| {
        for goes in [
            HandleGoes::Before,
            HandleGoes::During,
            HandleGoes::After,
            HandleGoes::Never,
        ] {
            for last in [Last::Waker, Last::Handle, Last::Scope] {
                for n in [1, 6] {
                    let what = format!("{mode:?} {goes:?} {last:?} {n}");
                    let count = Count::new();
                    let kept = Arc::new(Mutex::new(Vec::<Waker>::new()));
                    let data = Data::new();
                    let core: Mutex<Vec<Scope<'_>>> = Mutex::new(Vec::new());
                    let leftover = block_on(
                        scope(async |s| {
                            if last == Last::Scope {
                                core.lock().unwrap().push(s.clone());
                            }
                            let handles: Vec<JoinHandle<'_, Output<'_>>> = (0..n)
                                .map(|_| {
                                    let (data, kept, count) = (&data, kept.clone(), &count);
                                    s.spawn(async move {
                                        yields(2).await;
                                        poll_fn(|cx| {
                                            kept.lock().unwrap().push(cx.waker().clone());
                                            Poll::Ready(())
                                        })
                                        .await;
                                        Output(Noisy(data), count.one())
                                    })
                                })
                                .collect();
                            if last != Last::Waker {
                                yields(1).await;
                                kept.lock().unwrap().clear();
                            }
                            match goes {
                                HandleGoes::Before => {
                                    drop(handles);
                                    Vec::new()
                                }
                                HandleGoes::During => {
                                    yields(3).await;
                                    drop(handles);
                                    Vec::new()
                                }
                                HandleGoes::After => {
                                    while !handles.iter().all(JoinHandle::is_finished) {
                                        yields(1).await;
                                    }
                                    drop(handles);
                                    Vec::new()
                                }
                                HandleGoes::Never => handles,
                            }
                        })
                        .on(pool),
                    );
                    if goes != HandleGoes::Never {
                        assert_eq!(count.dropped(), n, "{what}: dropped with the scope");
                    }
                    if last == Last::Handle {
                        kept.lock().unwrap().clear();
                    }
                    drop(leftover);
                    assert_eq!(data.looks(), n, "{what}: each output looked once");
                    count.assert_settled(&what);
                    drop(core);
                    drop(data);
                    for waker in kept.lock().unwrap().drain(..) {
                        waker.wake_by_ref();
                        drop(waker);
                    }
                    count.assert_settled(&what);
                }
            }
        }
    });
}

// T1: the handle is dropped by another thread while the child finishes on a helper or the owner.
#[test]
fn output_is_dropped_once_when_its_handle_races_with_its_end() {
    guarded(|| {
        let pool = pool(2);
        let count = Count::new();
        let data = Data::new();
        for mode in common::MODES {
            for _ in 0..300 {
                std::thread::scope(|threads| {
                    let (give, take) = std::sync::mpsc::channel::<JoinHandle<'_, Output<'_>>>();
                    threads.spawn(move || take.iter().for_each(drop));
                    with(mode, || {
                        block_on(
                            scope(async |s| {
                                for _ in 0..8 {
                                    let handle = s.spawn(async {
                                        yields(1).await;
                                        Output(Noisy(&data), count.one())
                                    });
                                    give.send(handle).unwrap();
                                }
                                drop(give);
                            })
                            .on(&pool),
                        )
                    });
                });
            }
        }
        assert_eq!(count.made(), 3 * 300 * 8);
        count.assert_settled("outputs");
        assert_eq!(data.looks(), count.made());
    });
}

/// Wakes what it was given when it is dropped.
struct WakeOnDrop<'a>(&'a Mutex<Vec<Waker>>, &'a AtomicUsize);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        for waker in self.0.lock().unwrap().iter() {
            self.1.fetch_add(1, Ordering::SeqCst);
            waker.wake_by_ref();
        }
    }
}

// T2, M2, W12: destructors of dying children wake siblings that are dead already, are not, and the body.
#[test]
fn destructors_that_wake_siblings_of_a_dying_scope_touch_nothing() {
    everywhere(|mode, pool| {
        for polls in [1, 2, 5] {
            let (first, second, body) = (Mutex::default(), Mutex::default(), Mutex::default());
            let fired = AtomicUsize::new(0);
            let count = Count::new();
            let mut scoped = Box::pin(
                scope(async |s| {
                    let _guards = (
                        WakeOnDrop(&first, &fired),
                        WakeOnDrop(&second, &fired),
                        count.one(),
                    );
                    for _ in 0..3 {
                        for (kept, woken) in [(&first, &second), (&second, &body), (&body, &first)]
                        {
                            let (one, fired) = (count.one(), &fired);
                            s.spawn(async move {
                                let _guards =
                                    (WakeOnDrop(woken, fired), WakeOnDrop(kept, fired), one);
                                park_in::<()>(kept).await;
                            });
                        }
                    }
                    park_in::<()>(&body).await;
                })
                .on(pool),
            );
            let kept_by = |kept: &Mutex<Vec<Waker>>| kept.lock().unwrap().len();
            for _ in 0..polls {
                assert!(poll_once(scoped.as_mut()).is_pending());
                // A window whose time is over ends before everybody has had a turn.
                while kept_by(&first) + kept_by(&second) + kept_by(&body) < 10 {
                    assert!(poll_once(scoped.as_mut()).is_pending());
                }
                for waker in first.lock().unwrap().iter() {
                    waker.wake_by_ref();
                }
            }
            drop(scoped);
            assert!(
                fired.load(Ordering::SeqCst) > 20,
                "{mode:?}: wakes were fired"
            );
            assert_eq!(count.made(), 10);
            count.assert_settled("children and body");
            for kept in [first, second, body] {
                kept.into_inner().unwrap().into_iter().for_each(Waker::wake);
            }
        }
    });
}

// T8, W7: a destructor in a live scope may spawn, and the child is run; in a dying one it is refused.
#[test]
fn destructor_that_spawns_into_its_scope_is_served_while_the_scope_lives() {
    everywhere(|_, pool| {
        struct Spawns<'a>(Scope<'a>, &'a AtomicUsize);
        impl Drop for Spawns<'_> {
            fn drop(&mut self) {
                let ran = self.1;
                self.0.spawn(async move {
                    yields(1).await;
                    ran.fetch_add(1, Ordering::SeqCst);
                });
            }
        }
        let ran = AtomicUsize::new(0);
        block_on(
            scope(async |s| {
                for i in 0..12 {
                    let guard = Spawns(s.clone(), &ran);
                    s.spawn(async move {
                        let _guard = guard;
                        yields(i % 3).await;
                    });
                }
            })
            .on(pool),
        );
        assert_eq!(ran.load(Ordering::SeqCst), 12);
    });
}

// T9: a child owns its own handle and ends; the finisher owns the output.
#[test]
fn child_that_owns_its_handle_has_its_output_dropped() {
    everywhere(|_, pool| {
        let (count, data) = (Count::new(), Data::new());
        block_on(
            scope(async |s| {
                for i in 0..10 {
                    let (give, take) = futures_channel::oneshot::channel();
                    let (count, data) = (&count, &data);
                    let handle = s.spawn(async move {
                        let own: JoinHandle<'_, Output<'_>> = take.await.unwrap();
                        yields(i % 3).await;
                        let output = Output(Noisy(data), count.one());
                        drop(own);
                        output
                    });
                    assert!(give.send(handle).is_ok());
                }
            })
            .on(pool),
        );
        assert_eq!((count.made(), data.looks()), (10, 10));
        count.assert_settled("outputs");
    });
}

/// Holds a child's own handle until the child's future is dropped.
#[allow(dead_code, reason = "held until it is dropped")]
struct Holds<'a>(Option<JoinHandle<'a, ()>>, Counted);

// T9: the handle is dropped by the drop of the finished future, before the finisher looks.
#[test]
fn child_whose_future_drops_its_own_handle_is_freed() {
    everywhere(|_, pool| {
        let count = Count::new();
        let run = |ends: bool| {
            let mut scoped = Box::pin(
                scope(async |s| {
                    for _ in 0..6 {
                        let (give, take) = futures_channel::oneshot::channel();
                        let one = count.one();
                        let handle = s.spawn(async move {
                            let _holds = Holds(Some(take.await.unwrap()), one);
                            yields(1).await;
                            if !ends {
                                never::<()>().await;
                            }
                        });
                        assert!(give.send(handle).is_ok());
                    }
                })
                .on(pool),
            );
            let polled = common::poll_times(scoped.as_mut(), 20);
            assert_eq!(polled.is_some(), ends);
        };
        run(true);
        run(false);
        assert_eq!(count.made(), 12);
        count.assert_settled("futures");
    });
}

// T9: a child returns its own handle: a cycle, which leaks as an `Rc` cycle does, and does nothing else.
#[test]
fn child_that_returns_its_own_handle_ends_its_scope() {
    everywhere(|_, pool| {
        struct Own<'a>(#[allow(dead_code, reason = "a cycle")] Option<JoinHandle<'a, Own<'a>>>);
        block_on(
            scope(async |s| {
                let (give, take) = futures_channel::oneshot::channel();
                let handle = s.spawn(async move { Own(take.await.ok()) });
                assert!(give.send(handle).is_ok());
            })
            .on(pool),
        );
    });
}

// W11, W7: outputs and futures of a scope that is dropped midway, some ended, some not, handles kept by others.
#[test]
fn scope_dropped_midway_leaves_ended_outputs_to_their_handles() {
    everywhere(|_, pool| {
        let (count, data) = (Count::new(), Data::new());
        let handles = Mutex::new(Vec::new());
        let mut scoped = Box::pin(
            scope(async |s| {
                for i in 0..10 {
                    let (count, data) = (&count, &data);
                    handles.lock().unwrap().push(s.spawn(async move {
                        let output = Output(Noisy(data), count.one());
                        if i % 2 == 0 {
                            never::<()>().await;
                        }
                        output
                    }));
                }
            })
            .on(pool),
        );
        assert!(poll_once(scoped.as_mut()).is_pending());
        drop(scoped);
        assert_eq!((count.made(), count.dropped()), (10, 5));
        let handles = std::mem::take(&mut *handles.lock().unwrap());
        for (i, handle) in handles.into_iter().enumerate() {
            if i % 4 == 1 {
                drop(block_on(handle));
            } else if i % 2 == 0 {
                let text = common::panic_of(|| block_on(handle));
                assert!(text.contains("was dropped with its scope"), "{text}");
            }
        }
        assert_eq!(data.looks(), 10);
        count.assert_settled("outputs");
    });
}

// W10, D4: errors of a `try_scope` borrow too, and belong to the scope's future.
#[test]
fn errors_that_borrow_die_with_the_scope_future() {
    everywhere(|_, pool| {
        let kept = Arc::new(Mutex::new(Vec::<Waker>::new()));
        let (count, data) = (Count::new(), Data::new());
        let result = block_on(
            try_scope(async |s| {
                for _ in 0..8 {
                    let (data, count, kept) = (&data, &count, kept.clone());
                    s.spawn(async move {
                        poll_fn(|cx| {
                            kept.lock().unwrap().push(cx.waker().clone());
                            Poll::Ready(())
                        })
                        .await;
                        Err::<(), _>(Output(Noisy(data), count.one()))
                    });
                }
                Ok(())
            })
            .on(pool),
        );
        assert_eq!(
            count.made() - count.dropped(),
            1,
            "all but the first are gone"
        );
        drop(result);
        assert_eq!((count.made(), data.looks()), (8, 8));
        drop(data);
        kept.lock().unwrap().drain(..).for_each(Waker::wake);
        count.assert_settled("errors");
    });
}

// L11, T1 for batches: slots are held by wakers past the end, dropped midway, and outputs die once.
#[test]
fn batch_dropped_midway_drops_futures_and_outputs_once() {
    everywhere(|_, pool| {
        let kept = Arc::new(Mutex::new(Vec::<Waker>::new()));
        let (count, data) = (Count::new(), Data::new());
        for ends in [false, true] {
            let mut all = Box::pin(
                join_all((0..9).map(|i| {
                    let (data, count, kept) = (&data, &count, kept.clone());
                    async move {
                        let output = Output(Noisy(data), count.one());
                        poll_fn(|cx| {
                            kept.lock().unwrap().push(cx.waker().clone());
                            Poll::Ready(())
                        })
                        .await;
                        yields(i % 2).await;
                        if i % 3 == 0 && !ends {
                            never::<()>().await;
                        }
                        output
                    }
                }))
                .on(pool),
            );
            let outputs = common::poll_times(all.as_mut(), 20);
            assert_eq!(outputs.is_some(), ends);
        }
        assert_eq!((count.made(), data.looks()), (18, 18));
        count.assert_settled("outputs");
        drop(data);
        kept.lock().unwrap().drain(..).for_each(Waker::wake);
    });
}

// Helpers must have taken part somewhere above, or half of the file proves nothing.
#[test]
fn forced_lending_polls_children_on_helpers() {
    guarded(|| {
        let pool = pool(2);
        let helped = AtomicUsize::new(0);
        while helped.load(Ordering::SeqCst) == 0 {
            with(Lending::Forced, || {
                block_on(
                    scope(async |s| {
                        for _ in 0..16 {
                            s.spawn(async {
                                helped.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
                            });
                        }
                    })
                    .on(&pool),
                )
            });
        }
    });
}
