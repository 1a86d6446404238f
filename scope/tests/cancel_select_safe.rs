//! Select-safe children that are cancelled: by whom, in which state, in what kind of scope. Each is dropped once, in a
//! window, by whoever takes it next, and never polled after that. SOUNDNESS T10 and D1, rule W1.

mod common;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{
    Count, Counted, Data, Noisy, burn, everywhere, guarded, on_helper, poll_once, pool, yields,
};
use selvedge_cancel::{CancelToken, Cancelled, CauseKind, select_safe};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{JoinHandle, Pool, TryScope, block_on, scope, try_scope};

/// What is known of one foreign future.
#[derive(Default)]
struct State {
    polls: AtomicUsize,
    in_poll: AtomicBool,
    /// Whoever cancelled it has returned from doing so.
    asked: AtomicBool,
    polls_after: AtomicUsize,
    dropped: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl State {
    fn rests(&self) -> bool {
        self.polls.load(Ordering::SeqCst) > 0
    }

    fn dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }
}

type Act<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Never ends by itself; its destructor looks whether all is in order.
struct Foreign<'a> {
    state: &'a State,
    act: Option<Act<'a>>,
    _data: Noisy<'a>,
    _one: Counted,
}

impl<'a> Foreign<'a> {
    fn new(state: &'a State, data: &'a Data, one: Counted) -> Self {
        Self {
            state,
            act: None,
            _data: Noisy(data),
            _one: one,
        }
    }

    /// Does this in the middle of its first poll.
    fn acting(mut self, act: impl FnOnce() + Send + 'a) -> Self {
        self.act = Some(Box::new(act));
        self
    }
}

impl Future for Foreign<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state;
        assert!(!state.dropped(), "polled after its drop");
        assert!(!state.in_poll.swap(true, Ordering::SeqCst));
        if state.asked.load(Ordering::SeqCst) {
            state.polls_after.fetch_add(1, Ordering::SeqCst);
        }
        *state.waker.lock().unwrap() = Some(cx.waker().clone());
        state.polls.fetch_add(1, Ordering::SeqCst);
        if let Some(act) = self.act.take() {
            act();
        }
        assert!(!state.dropped(), "dropped under its own poll");
        state.in_poll.store(false, Ordering::SeqCst);
        Poll::Pending
    }
}

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        assert!(!self.state.in_poll.load(Ordering::SeqCst));
        assert!(!self.state.dropped.swap(true, Ordering::SeqCst), "twice");
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Child,
    Scope,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Fresh,
    Queued,
    Resting,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Body,
    Sibling,
    Thread,
}

fn one_case(mode: Lending, pool: &Pool, what: What, when: When, who: Who) {
    let told = format!("{mode:?} {} {what:?} {when:?} {who:?}", pool.threads());
    let (state, data, count) = (State::default(), Data::new(), Count::new());
    let token = CancelToken::new();
    let went_on = AtomicBool::new(false);
    let ended = block_on(
        scope(async |s| {
            let foreign = Foreign::new(&state, &data, count.one());
            let child = Arc::new(s.spawn_select_safe(select_safe(foreign)));
            let sibling = s.spawn(async {
                until(|| state.dropped()).await;
                went_on.store(selvedge_cancel::check().is_ok(), Ordering::SeqCst);
            });
            if when != When::Fresh {
                until(|| state.rests()).await;
            }
            if when == When::Queued {
                state.waker.lock().unwrap().as_ref().unwrap().wake_by_ref();
            }
            let cancel = {
                let (child, s, token, state) = (child.clone(), s.clone(), &token, &state);
                move || {
                    match what {
                        What::Child => child.cancel(),
                        What::Scope => s.cancel(),
                        What::Outside => token.cancel(),
                    }
                    state.asked.store(true, Ordering::SeqCst);
                }
            };
            match who {
                Who::Body => {
                    cancel();
                    drop(cancel);
                }
                Who::Sibling => {
                    s.spawn(async move {
                        cancel();
                        drop(cancel);
                    })
                    .await;
                }
                Who::Thread => std::thread::scope(|threads| {
                    threads.spawn(cancel);
                }),
            }
            sibling.await;
            assert!(state.dropped());
            let child = Arc::into_inner(child).expect("the canceller is gone");
            child.await
        })
        .token(&token)
        .on(pool),
    );
    let cut = ended.expect_err(&told);
    assert_eq!(cut.cause().kind(), CauseKind::Requested, "{told}");
    assert_eq!(went_on.into_inner(), what == What::Child, "{told}");
    count.assert_settled(&told);
    assert_eq!(data.looks(), 1, "{told}: one destructor");
    // A poll that had passed the look at the token goes on; no other begins.
    let most = usize::from(mode != Lending::Never || who == Who::Thread);
    assert!(state.polls_after.into_inner() <= most, "{told}");
}

#[test]
fn cancelled_in_any_state_by_anybody_it_is_dropped_once_and_not_polled_again() {
    everywhere(|mode, pool| {
        for what in [What::Child, What::Scope, What::Outside] {
            for when in [When::Fresh, When::Queued, When::Resting] {
                for who in [Who::Body, Who::Sibling, Who::Thread] {
                    one_case(mode, pool, what, when, who);
                }
            }
        }
    });
}

#[test]
fn child_that_cancels_itself_in_its_poll_is_dropped_after_it() {
    everywhere(|mode, pool| {
        for by in ["handle", "scope", "current"] {
            let told = format!("{mode:?} {} {by}", pool.threads());
            let (state, data, count) = (State::default(), Data::new(), Count::new());
            let acted = AtomicUsize::new(0);
            let cut = block_on(
                scope(async |s| {
                    type Slot<'a> = Arc<Mutex<Option<JoinHandle<'a, Result<(), Cancelled>>>>>;
                    let slot: Slot<'_> = Arc::default();
                    let (own, whole, state, acted) = (slot.clone(), s.clone(), &state, &acted);
                    let act = move || {
                        match by {
                            "handle" => loop {
                                if let Some(handle) = own.lock().unwrap().as_ref() {
                                    break handle.cancel();
                                }
                            },
                            "scope" => whole.cancel(),
                            _ => selvedge_cancel::current().cancel(),
                        }
                        assert!(selvedge_cancel::check().is_err());
                        assert!(!state.dropped(), "under its own poll");
                        state.asked.store(true, Ordering::SeqCst);
                        acted.fetch_add(1, Ordering::SeqCst);
                    };
                    let foreign = Foreign::new(state, &data, count.one()).acting(act);
                    let child = s.spawn_select_safe(select_safe(foreign));
                    *slot.lock().unwrap() = Some(child);
                    until(|| state.dropped()).await;
                    let child = slot.lock().unwrap().take().unwrap();
                    child.await
                })
                .on(pool),
            );
            assert!(cut.is_err(), "{told}");
            assert_eq!(acted.into_inner(), 1, "{told}");
            assert_eq!(state.polls_after.into_inner(), 0, "{told}");
            count.assert_settled(&told);
        }
    });
}

/// The child is inside its poll on a helper while the body cancels it.
#[test]
fn child_that_is_polled_on_a_helper_meanwhile_is_dropped_after_that_poll() {
    guarded(|| {
        for what in [What::Child, What::Scope] {
            let pool = pool(2);
            let mut helped = 0;
            while helped < 5 {
                let (state, data, count) = (State::default(), Data::new(), Count::new());
                let (running, on) = (AtomicBool::new(false), AtomicBool::new(false));
                let cut = with(Lending::Forced, || {
                    block_on(
                        scope(async |s| {
                            let (state, running, on) = (&state, &running, &on);
                            let act = move || {
                                on.store(on_helper(), Ordering::SeqCst);
                                running.store(true, Ordering::SeqCst);
                                while on_helper() && !state.asked.load(Ordering::SeqCst) {
                                    std::hint::spin_loop();
                                }
                            };
                            for _ in 0..3 {
                                s.spawn(async { burn(Duration::from_micros(200)) });
                            }
                            let foreign = Foreign::new(state, &data, count.one()).acting(act);
                            let child = s.spawn_select_safe(select_safe(foreign));
                            s.spawn(async { burn(Duration::from_micros(200)) });
                            until(|| running.load(Ordering::SeqCst)).await;
                            assert!(!state.dropped());
                            match what {
                                What::Child => child.cancel(),
                                _ => s.cancel(),
                            }
                            state.asked.store(true, Ordering::SeqCst);
                            child.await
                        })
                        .on(&pool),
                    )
                });
                assert!(cut.is_err());
                assert_eq!(state.polls.into_inner(), 1, "it is not polled again");
                count.assert_settled("on a helper");
                helped += usize::from(on.into_inner());
            }
        }
    });
}

/// One step: it is gone before whoever cancelled it runs again.
#[test]
fn cancelled_child_is_gone_before_the_canceller_is_polled_again() {
    everywhere(|mode, pool| {
        let (state, data, count) = (State::default(), Data::new(), Count::new());
        block_on(
            scope(async |s| {
                let foreign = Foreign::new(&state, &data, count.one());
                let child = s.spawn_select_safe(select_safe(foreign));
                until(|| state.rests()).await;
                child.cancel();
                assert!(!state.dropped(), "the body is being polled");
                yields(1).await;
                assert!(state.dropped(), "{mode:?}");
            })
            .inline()
            .on(pool),
        );
        count.assert_settled("one step");
    });
}

/// Nobody polls the scope: nothing is touched until somebody does, or drops it.
#[test]
fn frozen_scope_drops_its_cancelled_child_at_its_next_poll_or_with_itself() {
    everywhere(|mode, pool| {
        for what in [What::Child, What::Scope, What::Outside] {
            for polled in [true, false] {
                let told = format!("{mode:?} {what:?} {polled}");
                let (state, data, count) = (State::default(), Data::new(), Count::new());
                let token = CancelToken::new();
                let kept = Mutex::new(None);
                let mut frozen = Box::pin(
                    scope(async |s| {
                        let foreign = Foreign::new(&state, &data, count.one());
                        let child = s.spawn_select_safe(select_safe(foreign));
                        *kept.lock().unwrap() = Some((child, s.clone()));
                        pending::<()>().await;
                    })
                    .token(&token)
                    .on(pool),
                );
                while !state.rests() {
                    assert!(poll_once(frozen.as_mut()).is_pending());
                }
                let (child, s) = kept.lock().unwrap().take().unwrap();
                std::thread::scope(|threads| {
                    threads.spawn(|| match what {
                        What::Child => child.cancel(),
                        What::Scope => s.cancel(),
                        What::Outside => token.cancel(),
                    });
                });
                state.asked.store(true, Ordering::SeqCst);
                assert!(!state.dropped(), "{told}: outside a window");
                if polled {
                    // The next window may be on another thread.
                    std::thread::scope(|threads| {
                        threads.spawn(|| {
                            let polled = with(mode, || poll_once(frozen.as_mut()));
                            assert!(polled.is_pending());
                        });
                    });
                    assert!(state.dropped(), "{told}");
                    assert!(child.is_finished());
                    assert!(block_on(child).is_err());
                }
                drop(frozen);
                count.assert_settled(&told);
                assert_eq!(state.polls_after.load(Ordering::SeqCst), 0, "{told}");
            }
        }
    });
}

/// What it had begun is dropped with it, and runs no more.
#[test]
fn scope_inside_a_select_safe_child_is_dropped_with_its_children() {
    everywhere(|mode, pool| {
        let (count, went_on) = (Count::new(), AtomicUsize::new(0));
        let resting = AtomicUsize::new(0);
        let cut = block_on(
            scope(async |s| {
                let inner = scope(async |s| {
                    for _ in 0..3 {
                        let one = count.one();
                        s.spawn(async {
                            let _one = one;
                            resting.fetch_add(1, Ordering::SeqCst);
                            selvedge_cancel::cancelled().await;
                            went_on.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                    let _one = count.one();
                    pending::<()>().await;
                });
                let child = s.spawn_select_safe(select_safe(inner.on(pool)));
                until(|| resting.load(Ordering::SeqCst) == 3).await;
                child.cancel();
                child.await
            })
            .on(pool),
        );
        assert!(cut.is_err());
        assert_eq!(went_on.into_inner(), 0, "{mode:?}: they are not asked");
        assert_eq!(count.made(), 4);
        count.assert_settled("nested");
    });
}

/// That it was dropped fails nobody; its own error does.
#[test]
fn in_a_try_scope_the_drop_is_no_failure_and_an_error_is() {
    everywhere(|mode, pool| {
        let (state, data, count) = (State::default(), Data::new(), Count::new());
        let ended: Result<_, &str> = block_on(
            try_scope(async |s: TryScope<'_, &str>| {
                let foreign = Foreign::new(&state, &data, count.one());
                let child = s.spawn_select_safe(select_safe(async {
                    foreign.await;
                    Ok(1)
                }));
                let value = s.spawn_select_safe(select_safe(async { Ok(2) }));
                until(|| state.rests()).await;
                child.cancel();
                assert!(child.await.is_err());
                Ok(value.await.unwrap())
            })
            .on(pool),
        );
        assert_eq!(ended, Ok(2), "{mode:?}");
        count.assert_settled("try_scope");
        let failed = block_on(
            try_scope(async |s| {
                s.spawn_select_safe(select_safe(async { Err::<(), _>("failed") }));
                Ok(())
            })
            .on(pool),
        );
        assert_eq!(failed, Err("failed"));
    });
}

/// A value that came before the cancellation stays, and a destructor that panics is raised by the scope.
#[test]
fn value_that_came_first_stays_and_a_panicking_destructor_is_raised() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("a bomb"));
        }
    }
    everywhere(|mode, pool| {
        let value = block_on(
            scope(async |s| {
                let child = s.spawn_select_safe(select_safe(async { 7 }));
                until(|| child.is_finished()).await;
                child.cancel();
                s.cancel();
                child.await
            })
            .on(pool),
        );
        assert_eq!(value.unwrap(), 7, "{mode:?}");
        let count = Count::new();
        let raised = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(
                scope(async |s| {
                    let resting = AtomicUsize::new(0);
                    let resting = Arc::new(resting);
                    for _ in 0..3 {
                        let (one, resting) = (count.one(), resting.clone());
                        s.spawn_select_safe(select_safe(async move {
                            let _one = one;
                            let _bomb = Bomb;
                            resting.fetch_add(1, Ordering::SeqCst);
                            pending::<()>().await;
                        }));
                    }
                    until(|| resting.load(Ordering::SeqCst) == 3).await;
                    s.cancel();
                })
                .on(pool),
            );
        }));
        let payload = raised.expect_err("a destructor panicked");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"a bomb"));
        count.assert_settled("bombs");
    });
}
