//! Wakers of users that misbehave, and ours used where one would not: from destructors of thread-locals, on many
//! threads, after the end. SOUNDNESS T15, T16, T14 in part, V17; rules W6, W15.

mod common;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use common::{Count, everywhere, guarded, never, park_in, poll_once, poll_times, pool, yields};
use selvedge_scope::{JoinHandle, block_on, scope};

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor that polls inside `wake`.
struct Inline(Mutex<Option<Boxed>>, AtomicUsize);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        // Busy: whoever polls looks again, as he was woken.
        let Ok(mut slot) = self.0.try_lock() else {
            return;
        };
        let waker = Waker::from(self.clone());
        if let Some(mut future) = slot.take() {
            if future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                *slot = Some(future);
            }
        }
    }
}

// T15: the parent's waker polls, finishes, drops and frees the scope before it returns.
#[test]
fn parent_waker_that_polls_inside_wake_may_free_the_scope() {
    guarded(|| {
        let (count, ended) = (Count::new(), Arc::new(AtomicUsize::new(0)));
        for threads in common::POOLS {
            for _ in 0..200 {
                let (senders, receivers): (Vec<_>, Vec<_>) = (0..4)
                    .map(|_| futures_channel::oneshot::channel::<()>())
                    .unzip();
                let (count, ended, pool) = (count.clone(), ended.clone(), pool(threads));
                let future = async move {
                    scope(async |s| {
                        for receiver in receivers {
                            let one = count.one();
                            s.spawn(async move {
                                receiver.await.unwrap();
                                drop(one)
                            });
                        }
                    })
                    .on(&pool)
                    .await;
                    ended.fetch_add(1, Ordering::SeqCst);
                };
                let task = Arc::new(Inline(
                    Mutex::new(Some(Box::pin(future))),
                    AtomicUsize::new(0),
                ));
                task.clone().wake();
                std::thread::scope(|threads| {
                    for sender in senders {
                        threads.spawn(move || sender.send(()).unwrap());
                    }
                });
                // A wake that found the slot busy is made good here, as an executor would.
                while task.0.lock().unwrap().is_some() {
                    task.clone().wake();
                }
                assert!(task.1.load(Ordering::SeqCst) > 1);
            }
        }
        assert_eq!(ended.load(Ordering::SeqCst), 800);
        count.assert_settled("children");
    });
}

/// Which function of a waker panics. One whose clone does cannot be made without `unsafe`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    Wake,
    Drop,
}

/// A waker that panics when it is woken, or when its last clone is dropped.
struct Evil(Bad, Arc<AtomicUsize>);

impl Evil {
    fn hit(&self, call: Bad) {
        if self.0 == call {
            self.1.fetch_add(1, Ordering::SeqCst);
            panic!("a waker's {call:?}");
        }
    }
}

impl Wake for Evil {
    fn wake(self: Arc<Self>) {
        self.hit(Bad::Wake);
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.hit(Bad::Drop);
    }
}

fn bad_waker(bad: Bad) -> (Waker, Arc<AtomicUsize>) {
    let calls = Arc::default();
    (Waker::from(Arc::new(Evil(bad, Arc::clone(&calls)))), calls)
}

// T15, W4, V13: the executor's waker panics in wake or drop; the scope goes on with the next one.
#[test]
fn executor_whose_waker_panics_does_not_break_the_scope() {
    everywhere(|mode, pool| {
        for bad in [Bad::Wake, Bad::Drop] {
            let (count, kept) = (Count::new(), Mutex::new(Vec::new()));
            let (evil, calls) = bad_waker(bad);
            let mut scoped = Box::pin(
                scope(async |s| {
                    for _ in 0..4 {
                        let (one, kept) = (count.one(), &kept);
                        s.spawn(async move {
                            let mut polls = 0;
                            poll_fn(|cx| {
                                kept.lock().unwrap().push(cx.waker().clone());
                                polls += 1;
                                if polls < 2 {
                                    Poll::Pending
                                } else {
                                    Poll::Ready(())
                                }
                            })
                            .await;
                            drop(one);
                        });
                    }
                })
                .on(pool),
            );
            // A window whose time is over ends before everybody has had a turn, and asks for the next.
            while kept.lock().unwrap().len() < 4 {
                assert!(poll_once(scoped.as_mut()).is_pending());
            }
            assert!(
                scoped
                    .as_mut()
                    .poll(&mut Context::from_waker(&evil))
                    .is_pending()
            );
            // The scope's clone is the last.
            drop(evil);
            if bad == Bad::Drop {
                // Another waker takes its place.
                assert!(poll_once(scoped.as_mut()).is_pending());
            }
            // Closed windows: the wakes reach the parent, whose panic stays here.
            let wakers = std::mem::take(&mut *kept.lock().unwrap());
            wakers.into_iter().for_each(Waker::wake);
            let ready = (0..100).any(|_| {
                let polled = poll_once(scoped.as_mut()).is_ready();
                kept.lock().unwrap().drain(..).for_each(Waker::wake);
                polled
            });
            assert!(ready, "{mode:?} {bad:?}");
            assert!(calls.load(Ordering::SeqCst) == 1, "{bad:?} was called");
            count.assert_settled("children");
        }
    });
}

// T15, W4: a join waker that panics in wake or drop hurts nobody but its awaiter.
#[test]
fn join_waker_that_panics_does_not_break_the_child() {
    everywhere(|mode, pool| {
        for bad in [Bad::Wake, Bad::Drop] {
            let count = Count::new();
            let (evil, calls) = bad_waker(bad);
            block_on(
                scope(async |s| {
                    let mut handle = Box::pin(s.spawn(async {
                        yields(3).await;
                        count.one()
                    }));
                    assert!(
                        handle
                            .as_mut()
                            .poll(&mut Context::from_waker(&evil))
                            .is_pending()
                    );
                    drop(evil);
                    if bad == Bad::Drop {
                        // Another waker takes its place; its panic stays here.
                        assert!(poll_once(handle.as_mut()).is_pending());
                    }
                    while !handle.is_finished() {
                        yields(1).await;
                    }
                    drop(handle.await);
                })
                .on(pool),
            );
            assert!(
                calls.load(Ordering::SeqCst) == 1,
                "{mode:?} {bad:?} was called"
            );
            assert_eq!(count.made(), 1);
            count.assert_settled("output");
        }
    });
}

/// Wakes and drops what it holds when its thread ends.
struct Parting(RefCell<Vec<Waker>>);

impl Drop for Parting {
    fn drop(&mut self) {
        for waker in self.0.borrow_mut().drain(..) {
            waker.wake_by_ref();
            drop(waker);
        }
    }
}

// T16: wakers fired and dropped by the destructor of a thread-local.
#[test]
fn wake_from_a_thread_local_destructor_arrives() {
    thread_local! {
        static PARTING: Parting = const { Parting(RefCell::new(Vec::new())) };
    }
    everywhere(|_, pool| {
        for late in [false, true] {
            let kept = Mutex::new(Vec::new());
            let (bell, waker) = common::Bell::new();
            let mut scoped = Box::pin(
                scope(async |s| {
                    s.spawn(async {
                        let mut polls = 0;
                        poll_fn(|cx| {
                            polls += 1;
                            kept.lock().unwrap().push(cx.waker().clone());
                            if polls > 1 {
                                Poll::Ready(())
                            } else {
                                Poll::Pending
                            }
                        })
                        .await;
                    });
                    yields(1).await;
                })
                .on(pool),
            );
            let mut cx = Context::from_waker(&waker);
            assert!(scoped.as_mut().poll(&mut cx).is_pending());
            // A window whose time is over asks for another.
            let mut asked = 0;
            while bell.rung() > asked {
                asked = bell.rung();
                assert!(scoped.as_mut().poll(&mut cx).is_pending());
            }
            if late {
                drop(scoped);
                let wakers = std::mem::take(&mut *kept.lock().unwrap());
                std::thread::spawn(move || {
                    PARTING.with(|parting| parting.0.borrow_mut().extend(wakers))
                })
                .join()
                .unwrap();
                assert_eq!(bell.rung(), asked, "a dead scope wakes nobody");
            } else {
                let wakers = std::mem::take(&mut *kept.lock().unwrap());
                std::thread::spawn(move || {
                    PARTING.with(|parting| parting.0.borrow_mut().extend(wakers))
                })
                .join()
                .unwrap();
                assert_eq!(bell.rung(), asked + 1);
                assert!(poll_times(scoped.as_mut(), 100).is_some());
            }
        }
    });
}

// T14 for plain scopes, PEERS (async-executor): wakers cloned, fired and dropped on four threads, last there.
#[test]
fn wakers_used_on_four_threads_outlive_their_scope() {
    guarded(|| {
        let pool = pool(2);
        for mode in common::MODES {
            for round in 0..60 {
                let count = Count::new();
                let (stop, kept) = (AtomicBool::new(false), Mutex::new(Vec::<Waker>::new()));
                std::thread::scope(|threads| {
                    for _ in 0..4 {
                        threads.spawn(|| {
                            while !stop.load(Ordering::SeqCst) {
                                let mine: Vec<Waker> = kept.lock().unwrap().clone();
                                mine.iter().for_each(Waker::wake_by_ref);
                                std::thread::yield_now();
                            }
                        });
                    }
                    selvedge_scope::lending::with(mode, || {
                        let mut scoped = Box::pin(
                            scope(async |s| {
                                for _ in 0..4 {
                                    let (one, kept) = (count.one(), &kept);
                                    s.spawn(async move {
                                        let _one = one;
                                        park_in::<()>(kept).await
                                    });
                                }
                            })
                            .on(&pool),
                        );
                        for _ in 0..5 {
                            assert!(poll_once(scoped.as_mut()).is_pending());
                        }
                        if round % 2 == 0 {
                            drop(scoped);
                            assert_eq!(count.dropped(), 4);
                        } else {
                            std::mem::forget(scoped);
                            assert_eq!(count.dropped(), 0, "a forgotten scope keeps its children");
                        }
                    });
                    stop.store(true, Ordering::SeqCst);
                });
                assert!(kept.lock().unwrap().len() >= 4);
            }
        }
    });
}

// T20, V17: a chain of siblings that await each other, completed and dropped in both orders, on a small stack.
#[test]
fn chain_of_siblings_that_await_each_other_needs_no_stack() {
    // A hundred thousand in release; under a sanitizer or without optimisation a fifth shows a recursion too.
    let links = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let small = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            for mode in common::MODES {
                for completes in [true, false] {
                    for forward in [true, false] {
                        let count = Count::new();
                        let pool = pool(1);
                        let mut scoped = Box::pin(
                            scope(async |s| {
                                let (give, take) = futures_channel::oneshot::channel::<()>();
                                let mut last: JoinHandle<'_, ()> = s.spawn(async move {
                                    if completes {
                                        take.await.unwrap()
                                    } else {
                                        never().await
                                    }
                                });
                                for _ in 0..links {
                                    let (one, before) = (count.one(), last);
                                    last = s.spawn(async move {
                                        before.await;
                                        drop(one)
                                    });
                                }
                                yields(1).await;
                                if forward {
                                    let _ = give.send(());
                                } else {
                                    s.spawn(async move {
                                        let _ = give.send(());
                                    });
                                }
                                last.await;
                            })
                            .on(&pool),
                        );
                        selvedge_scope::lending::with(mode, || {
                            let ended = common::poll_times(
                                scoped.as_mut(),
                                if completes { 100_000 } else { 3 },
                            );
                            assert_eq!(ended.is_some(), completes);
                        });
                        drop(scoped);
                        assert_eq!(count.made(), links);
                        count.assert_settled("links");
                    }
                }
            }
        });
    small.unwrap().join().unwrap();
}
