//! User code that panics wherever the engine calls it: nothing unwinds through a window, nothing is dropped
//! twice or not at all, and the first payload comes out at the end. SOUNDNESS T4, T5, T6, T22; rule W4.

mod common;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{
    Count, Counted, Data, Noisy, everywhere, message, never, on_helper, panic_of, poll_once,
    poll_times, pool, yields,
};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Scope, block_on, join_all, scope, try_scope};

/// Panics when it is dropped, unless a panic is under way; counted either way.
#[allow(dead_code, reason = "counts its drop")]
struct Bomb(Counted);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a bomb");
        }
    }
}

/// A payload whose destructor panics.
#[allow(dead_code, reason = "counts its drop")]
struct NastyPayload(Counted);

impl Drop for NastyPayload {
    fn drop(&mut self) {
        panic!("a payload's destructor");
    }
}

/// Where the user's code panics.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Poll,
    Destructor,
    Output,
    Both,
    Payload,
}

const PLACES: [Where; 5] = [
    Where::Poll,
    Where::Destructor,
    Where::Output,
    Where::Both,
    Where::Payload,
];

/// A child that goes off in some place, and holds borrowed data.
struct Faulty<'a> {
    place: Where,
    polls: usize,
    data: Noisy<'a>,
    one: Counted,
    bomb: Option<Bomb>,
    count: &'a std::sync::Arc<Count>,
}

impl Future for Faulty<'_> {
    type Output = Option<Bomb>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.data.0.look();
        if self.polls > 0 {
            self.polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.place {
            Where::Poll | Where::Both => panic!("a poll"),
            Where::Payload => panic_any(NastyPayload(self.count.one())),
            Where::Output => Poll::Ready(Some(Bomb(self.count.one()))),
            Where::Destructor => Poll::Ready(None),
        }
    }
}

fn faulty<'a>(
    place: Where,
    polls: usize,
    data: &'a Data,
    count: &'a std::sync::Arc<Count>,
) -> Faulty<'a> {
    let bomb = matches!(place, Where::Destructor | Where::Both).then(|| Bomb(count.one()));
    Faulty {
        place,
        polls,
        data: Noisy(data),
        one: count.one(),
        bomb,
        count,
    }
}

impl Drop for Faulty<'_> {
    fn drop(&mut self) {
        let _ = (&self.one, &self.bomb);
    }
}

/// A payload of the test's is raised; a nasty one is forgotten, since dropping it would panic again.
fn catch<R>(f: impl FnOnce() -> R) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(f)).err()?;
    if payload.is::<NastyPayload>() {
        std::mem::forget(payload);
        return Some(String::from("nasty"));
    }
    Some(message(&*payload))
}

// T4, M4, M5, T5: one child of eight goes off in every kind of place, on owner or helper, while the siblings,
// which borrow the stack, are polled elsewhere.
#[test]
fn panic_of_one_child_waits_for_the_others_and_comes_out_once() {
    everywhere(|mode, pool| {
        for place in PLACES {
            for bad in [0, 3, 7] {
                for polls in [0, 2] {
                    let what = format!("{mode:?} {} {place:?} {bad} {polls}", pool.threads());
                    let (count, data) = (Count::new(), Data::new());
                    let ended = AtomicUsize::new(0);
                    let raised = catch(|| {
                        block_on(
                            scope(async |s| {
                                for i in 0..8 {
                                    if i == bad {
                                        drop(s.spawn(faulty(place, polls, &data, &count)));
                                    } else {
                                        let one = count.one();
                                        s.spawn(async {
                                            let _one = one;
                                            yields(4).await;
                                            data.look();
                                            ended.fetch_add(1, Ordering::SeqCst);
                                        });
                                    }
                                }
                            })
                            .on(pool),
                        )
                    });
                    assert!(raised.is_some(), "{what}");
                    assert_eq!(
                        ended.load(Ordering::SeqCst),
                        7,
                        "{what}: siblings ran to their end"
                    );
                    // A payload whose destructor panics can only be forgotten.
                    let nasty = usize::from(place == Where::Payload);
                    assert_eq!(count.made(), count.dropped() + nasty, "{what}");
                }
            }
        }
    });
}

// T4: the panic happens on the owner while a helper is inside a sibling that borrows the stack: they meet first.
#[test]
fn owner_that_panics_waits_for_the_helper_inside() {
    common::guarded(|| {
        let pool = pool(1);
        for place in PLACES {
            for helper_panics in [false, true] {
                let (count, data) = (Count::new(), Data::new());
                let mut met = false;
                while !met {
                    let inside = AtomicUsize::new(0);
                    let done = AtomicUsize::new(0);
                    let raised = with(Lending::Forced, || {
                        catch(|| {
                            block_on(
                                scope(async |s| {
                                    for _ in 0..2 {
                                        let (mut child, data, inside, done) = (
                                            Some(faulty(place, 0, &data, &count)),
                                            &data,
                                            &inside,
                                            &done,
                                        );
                                        s.spawn(async move {
                                            inside.fetch_add(1, Ordering::SeqCst);
                                            let from = Instant::now();
                                            while inside.load(Ordering::SeqCst) < 2
                                                && from.elapsed() < Duration::from_millis(50)
                                            {
                                                std::thread::yield_now();
                                            }
                                            let child = child.take().unwrap();
                                            if on_helper() == helper_panics {
                                                return child.await;
                                            }
                                            std::mem::drop(catch_unwind(AssertUnwindSafe(|| {
                                                drop(child)
                                            })));
                                            // Long enough for a window that does not wait to be gone.
                                            for _ in 0..50 {
                                                common::burn(Duration::from_micros(20));
                                                data.look();
                                            }
                                            done.fetch_add(1, Ordering::SeqCst);
                                            None
                                        });
                                    }
                                })
                                .on(&pool),
                            )
                        })
                    });
                    met = inside.load(Ordering::SeqCst) == 2 && done.load(Ordering::SeqCst) == 1;
                    assert!(!met || raised.is_some(), "{place:?}");
                }
            }
        }
    });
}

// T5: six children throw payloads that panic in their destructors, at once.
#[test]
fn six_payloads_that_panic_when_dropped_end_the_scope_once() {
    everywhere(|_, pool| {
        let (count, data) = (Count::new(), Data::new());
        let raised = catch(|| {
            block_on(
                scope(async |s| {
                    for _ in 0..6 {
                        s.spawn(faulty(Where::Payload, 1, &data, &count));
                    }
                })
                .on(pool),
            )
        });
        assert_eq!(raised.as_deref(), Some("nasty"));
        assert_eq!(count.made(), 12, "six futures, six payloads");
        // Five payloads were dropped by the engine, one is forgotten by `catch`.
        assert_eq!(count.dropped(), 11);
    });
}

// T6, M6, W7: bomb in child k of eight or in the body; the scope is dropped normally or by unwinding.
#[test]
fn bomb_in_a_dropped_scope_keeps_nobody_from_being_dropped() {
    everywhere(|mode, pool| {
        for unwinding in [false, true] {
            for bad in 0..=8 {
                let what = format!("{mode:?} {unwinding} {bad}");
                let count = Count::new();
                let raised = panic_of(|| {
                    let mut scoped = Box::pin(
                        scope(async |s| {
                            for i in 0..8 {
                                let (one, bomb) =
                                    (count.one(), (i == bad).then(|| Bomb(count.one())));
                                s.spawn(async move {
                                    let _held = (one, bomb);
                                    never::<()>().await;
                                });
                            }
                            let _held = (count.one(), (bad == 8).then(|| Bomb(count.one())));
                            never::<()>().await;
                        })
                        .on(pool),
                    );
                    assert!(poll_once(scoped.as_mut()).is_pending());
                    if unwinding {
                        panic!("the parent");
                    }
                    drop(scoped);
                });
                assert_eq!(
                    raised,
                    if unwinding { "the parent" } else { "a bomb" },
                    "{what}"
                );
                assert_eq!(count.made(), 10, "{what}");
                count.assert_settled(&what);
            }
        }
    });
}

// T6: the body's output is a bomb, and a child is still there when the scope is dropped.
#[test]
fn output_of_the_body_that_panics_when_dropped_is_caught() {
    everywhere(|_, pool| {
        let count = Count::new();
        let raised = panic_of(|| {
            let mut scoped = Box::pin(
                scope(async |s| {
                    for _ in 0..4 {
                        let one = count.one();
                        s.spawn(async move {
                            let _one = one;
                            never::<()>().await;
                        });
                    }
                    Bomb(count.one())
                })
                .on(pool),
            );
            assert!(poll_once(scoped.as_mut()).is_pending());
            drop(scoped);
        });
        assert_eq!(raised, "a bomb");
        assert_eq!(count.made(), 5);
        count.assert_settled("children and output");
    });
}

// W7: the body closure panics after it has spawned.
#[test]
fn body_closure_that_panics_drops_what_it_spawned() {
    everywhere(|_, _| {
        let count = Count::new();
        let text = panic_of(|| {
            drop(scope(|s: Scope<'_>| {
                for _ in 0..5 {
                    let one = count.one();
                    s.spawn(async move { drop(one) });
                }
                assert!(s.is_empty(), "the closure fails");
                std::future::ready(())
            }));
        });
        assert!(text.contains("the closure fails"));
        assert_eq!(count.made(), 5);
        count.assert_settled("children");
    });
}

// T22, W7, D16: a second poll after `Ready`, and after a panic, panics and revives nothing.
#[test]
fn second_poll_of_an_ended_scope_panics_and_touches_nothing() {
    everywhere(|_, pool| {
        for panics in [false, true] {
            let kept = Mutex::new(None);
            let mut scoped = Box::pin(
                scope(async |s| {
                    *kept.lock().unwrap() = Some(s.clone());
                    assert!(!panics, "the body");
                })
                .on(pool),
            );
            // A window whose time is over asks for another.
            let first = catch(|| poll_times(scoped.as_mut(), 100).unwrap());
            assert_eq!(first.is_some(), panics);
            for _ in 0..2 {
                let again = panic_of(|| poll_once(scoped.as_mut()).is_ready());
                assert!(again.contains("polled after it had ended"), "{again}");
                let s = kept.lock().unwrap().clone().unwrap();
                assert!(
                    s.try_spawn(async {}).is_err(),
                    "an ended scope takes nothing"
                );
                assert!(panic_of(|| s.spawn(async {})).contains("which has ended"));
            }
        }
        let mut failed = Box::pin(try_scope(async |_| Err::<(), _>(1)).on(pool));
        assert_eq!(poll_times(failed.as_mut(), 100), Some(Err(1)));
        assert!(panic_of(|| poll_once(failed.as_mut())).contains("polled after it had ended"));
        let mut all = Box::pin(join_all([std::future::ready(1)]).on(pool));
        assert_eq!(poll_times(all.as_mut(), 100), Some(vec![1]));
        panic_of(|| poll_once(all.as_mut()));
    });
}

// §4: awaiting a panicked child's handle panics there with its payload; afterwards the scope still panics.
#[test]
fn handle_of_a_panicked_child_raises_its_payload() {
    everywhere(|_, pool| {
        for swallow in [false, true] {
            let seen = Mutex::new(None);
            let raised = catch(|| {
                block_on(
                    scope(async |s| {
                        let child = s.spawn(async {
                            yields(2).await;
                            panic_any(7_u8)
                        });
                        let mut child = std::pin::pin!(child);
                        poll_fn(|cx| {
                            match catch_unwind(AssertUnwindSafe(|| child.as_mut().poll(cx))) {
                                Ok(polled) => polled,
                                Err(payload) => {
                                    *seen.lock().unwrap() = payload.downcast_ref::<u8>().copied();
                                    if !swallow {
                                        resume_unwind(payload);
                                    }
                                    Poll::Ready(())
                                }
                            }
                        })
                        .await;
                    })
                    .on(pool),
                )
            });
            assert_eq!(*seen.lock().unwrap(), Some(7));
            assert!(raised.is_some(), "the scope raises it all the same");
        }
    });
}

// A destructor that drops a whole inner scope with bombs, inside the outer's polls.
#[test]
fn inner_scopes_with_bombs_inside_outer_children_are_contained() {
    everywhere(|_, pool| {
        let count = Count::new();
        let raised = panic_of(|| {
            block_on(
                scope(async |s| {
                    for i in 0..6 {
                        let count = &count;
                        s.spawn(async move {
                            let mut inner = Box::pin(
                                scope(async |inner| {
                                    let (one, bomb) =
                                        (count.one(), (i == 2).then(|| Bomb(count.one())));
                                    inner.spawn(async move {
                                        let _held = (one, bomb);
                                        never::<()>().await;
                                    });
                                })
                                .on(pool),
                            );
                            assert!(futures::poll!(inner.as_mut()).is_pending());
                            yields(1).await;
                        });
                    }
                })
                .on(pool),
            )
        });
        assert_eq!(raised, "a bomb");
        assert_eq!(count.made(), 7);
        count.assert_settled("inner children");
    });
}
