//! Tokens that `current()` shows, in places where it is easy to forget that somebody else may cancel them: whatever
//! runs under them is told. Each place here once gave out a token to which nobody listened, and what rested under
//! it rested for ever. Children in their plainest form are in `cancel_tokens.rs`.

mod common;

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{Bell, MODES, everywhere, poll_to_rest, yields};
use selvedge_cancel::{CancelToken, DropGuard, FutureCancelExt, check, current, select_safe};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{JoinHandle, block_on, join_all, scope, shield_unbounded, timeout};

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

/// Rests until it is cancelled.
async fn rest() {
    let _ = pending::<()>().or_cancel().await;
}

/// Polls until everything rests, cancels what is in `shown` from another thread, and polls to the end.
#[track_caller]
fn cancelled_at_rest<T>(waiting: impl Future<Output = T>, shown: &Mutex<Option<CancelToken>>) -> T {
    let (mut waiting, bell) = (pin!(waiting), Bell::new());
    assert!(poll_to_rest(waiting.as_mut(), &bell).is_none(), "it rests");
    let token = shown.lock().unwrap().take().expect("shown by then");
    let rung = bell.0.rung();
    std::thread::scope(|threads| {
        threads.spawn(|| token.cancel());
    });
    assert!(bell.0.rung() > rung, "nobody listened to the token");
    poll_to_rest(waiting.as_mut(), &bell).expect("what rested was not told")
}

fn show(shown: &Mutex<Option<CancelToken>>) {
    *shown.lock().unwrap() = Some(current());
}

/// What rested before the token was shown is told as well as what comes to rest after it.
#[test]
fn arm_that_rested_before_the_other_one_showed_the_token_is_told() {
    for mode in MODES {
        let shown = Mutex::new(None);
        let waiting = scope(async |s| {
            let arms = async { futures::join!(rest(), async { show(&shown) }, rest()).0 };
            s.spawn(arms).await;
        });
        with(mode, || cancelled_at_rest(waiting, &shown));
    }
}

/// The child had a token of its own since its time-out, ran under that, and was not seen to show it.
#[test]
fn token_of_a_child_that_needed_it_before_is_listened_to_when_it_is_shown() {
    for mode in MODES {
        let shown = Mutex::new(None);
        let waiting = scope(async |s| {
            let child = s.spawn(async {
                timeout(Duration::MAX, yields(1)).await.unwrap();
                yields(1).await;
                show(&shown);
                rest().await;
                check().is_err()
            });
            (child.await, check().is_ok())
        });
        let ended = with(mode, || cancelled_at_rest(waiting, &shown));
        assert_eq!(
            ended,
            (true, true),
            "{mode:?}: the child is, the scope is not"
        );
    }
}

#[test]
fn drop_guard_of_a_childs_token_ends_it_wherever_it_is_dropped() {
    everywhere(|mode, pool| {
        let kept: Mutex<Option<DropGuard>> = Mutex::new(None);
        let stopped = block_on(
            scope(async |s| {
                let child = s.spawn(async {
                    *kept.lock().unwrap() = Some(current().drop_guard());
                    rest().await;
                    check().is_err()
                });
                until(|| kept.lock().unwrap().is_some()).await;
                s.spawn(async { drop(kept.lock().unwrap().take()) }).await;
                (child.await, check().is_ok())
            })
            .on(pool),
        );
        assert_eq!(stopped, (true, true), "{mode:?}");
    });
}

/// Nothing in a select-safe child looks at its token: it is dropped by who takes it next, once somebody queues it.
#[test]
fn select_safe_child_that_showed_its_token_is_dropped_when_that_is_cancelled() {
    for mode in MODES {
        let shown = Mutex::new(None);
        let waiting = scope(async |s| {
            let child: JoinHandle<'_, Result<(), _>> =
                s.spawn_select_safe(select_safe(poll_fn(|_| {
                    show(&shown);
                    Poll::<()>::Pending
                })));
            child.await
        });
        let ended = with(mode, || cancelled_at_rest(waiting, &shown));
        assert!(ended.is_err(), "{mode:?}");
    }
}

/// A batch has no handles, and its token belongs to nobody else until one of its futures shows it.
#[test]
fn token_that_a_future_of_a_batch_shows_ends_the_batch() {
    for mode in MODES {
        let (shown, told) = (Mutex::new(None), AtomicUsize::new(0));
        let batch = join_all((0..4).map(|index| {
            let (shown, told) = (&shown, &told);
            async move {
                if index == 2 {
                    show(shown);
                }
                rest().await;
                told.fetch_add(1, Ordering::SeqCst);
            }
        }));
        with(mode, || cancelled_at_rest(batch, &shown));
        assert_eq!(told.into_inner(), 4, "{mode:?}");
    }
}

struct Shows<'a>(&'a Mutex<Option<CancelToken>>);

impl Drop for Shows<'_> {
    fn drop(&mut self) {
        show(self.0);
    }
}

/// The engine drops the output of a child whose handle is gone, between two polls; what runs then is in no task.
#[test]
fn token_that_the_destructor_of_an_output_shows_ends_the_scope() {
    let shown = Mutex::new(None);
    let waiting = scope(async |s| {
        drop(s.spawn(async { Shows(&shown) }));
        let resting = s.spawn(rest());
        until(|| shown.lock().unwrap().is_some()).await;
        resting.await;
        s.is_cancelled()
    });
    let ended = with(Lending::Never, || cancelled_at_rest(waiting, &shown));
    assert!(ended, "it was the scope's own token");
}

/// The token of a child that is cancelled already woke the child whenever it was asked for, so a clean-up that asks
/// in each of its polls was polled without end.
#[test]
fn cancelled_child_that_asks_for_its_token_in_each_poll_comes_to_rest() {
    const FEW: usize = 10;
    let (polls, bell) = (AtomicUsize::new(0), Bell::new());
    let (cleaned, waker) = (AtomicBool::new(false), Mutex::new(Waker::noop().clone()));
    let (polls, cleaned, waker) = (&polls, &cleaned, &waker);
    let mut child = None;
    let mut waiting = pin!(scope(|s| {
        let mut clean_up = Box::pin(shield_unbounded(poll_fn(|cx| {
            *waker.lock().unwrap() = cx.waker().clone();
            match cleaned.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })));
        child = Some(s.spawn(poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            if check().is_err() {
                drop(current());
            }
            clean_up.as_mut().poll(cx)
        })));
        async {}
    }));
    assert!(poll_to_rest(waiting.as_mut(), &bell).is_none());
    let before = polls.load(Ordering::SeqCst);
    child.as_ref().unwrap().cancel();
    assert!(poll_to_rest(waiting.as_mut(), &bell).is_none());
    let since = polls.load(Ordering::SeqCst) - before;
    assert!((1..FEW).contains(&since), "polled {since} times");
    cleaned.store(true, Ordering::SeqCst);
    waker.lock().unwrap().wake_by_ref();
    assert!(poll_to_rest(waiting.as_mut(), &bell).is_some());
}

/// What follows a token below its own passes nothing round and round, and hears what comes back.
#[test]
fn scope_that_follows_itself_and_what_is_below_it_ends_once() {
    let shown = Mutex::new(None);
    let mut own = None;
    let waiting = scope(|s| {
        own = Some(s.token());
        rest()
    });
    let own = own.expect("the closure was called");
    let (below, further) = (own.child(), own.child().child());
    let waiting = waiting.token(&own).token(&below).token(&further);
    *shown.lock().unwrap() = Some(further);
    cancelled_at_rest(waiting, &shown);
    assert!(own.is_cancelled() && below.is_cancelled());
}

#[test]
fn scopes_that_follow_each_other_end_together() {
    for abort in [false, true] {
        let (mut first, mut second) = (None, None);
        let one = scope(|s| {
            first = Some(s.token());
            rest()
        });
        let other = scope(|s| {
            second = Some(s.token());
            rest()
        });
        let (first, second) = (first.unwrap(), second.unwrap());
        let both = async { futures::join!(one.token(&second), other.token(&first)) };
        let (mut both, bell) = (pin!(both), Bell::new());
        assert!(poll_to_rest(both.as_mut(), &bell).is_none());
        if abort {
            first.abort();
        } else {
            first.cancel();
        }
        assert!(poll_to_rest(both.as_mut(), &bell).is_some(), "not told");
        assert_eq!(first.phase(), second.phase());
    }
}
