//! The current token and timer: outside everything, swapped in, carried to another thread, asked
//! for from a thread-local destructor; and the futures that go by them.
#![cfg(not(selvedge_loom))]

use std::cell::RefCell;
use std::future::{pending, ready};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context as PollContext, Poll, Waker};
use std::thread;

use selvedge_cancel::ambient::{self, Context};
use selvedge_cancel::{
    CancelToken, FutureCancelExt, Instant, SelectSafe, Ticket, Timer, cancelled, check, checkpoint,
    current, select_safe,
};

mod support;
use support::{Count, poll};

/// Runs a function with this token as the current one.
fn under<T>(token: &CancelToken, run: impl FnOnce() -> T) -> T {
    let before = ambient::replace(Some(token.clone()));
    let output = run();
    ambient::replace(before);
    output
}

#[test]
fn outside_everything_nothing_is_ever_cancelled() {
    let outside = current();
    outside.cancel();
    assert!(!outside.is_cancelled() && outside.cause().is_none());
    assert!(check().is_ok());
    let count = Count::new();
    assert!(poll(&mut cancelled(), &count).is_pending());
    assert!(poll(&mut outside.cancelled(), &count).is_pending());
    let called = Count::new();
    let guard = outside.on_cancel(move |_| called.add());
    drop(guard);
    let child = outside.child();
    assert!(!child.is_cancelled());
    child.cancel();
    assert!(child.is_cancelled() && !outside.is_cancelled());
}

#[test]
fn current_token_is_the_one_swapped_in() {
    let token = CancelToken::new();
    under(&token, || {
        assert!(check().is_ok());
        current().cancel_with("from inside");
        assert_eq!(check().unwrap_err().cause().text(), Some("from inside"));
        assert!(check().is_err(), "level-triggered");
    });
    assert!(token.is_cancelled());
    assert!(check().is_ok(), "outside again");
}

#[test]
fn context_carries_the_token_to_another_thread_and_back_off() {
    let token = CancelToken::new();
    let context = under(&token, Context::capture);
    thread::spawn(move || {
        assert!(ambient::token().is_none() && ambient::timer().is_none());
        let outside = context.enter();
        current().cancel();
        outside.leave();
        assert!(ambient::token().is_none() && ambient::timer().is_none());
        assert!(check().is_ok());
    })
    .join()
    .unwrap();
    assert!(token.is_cancelled());
}

#[test]
fn thread_local_destructor_may_ask_for_everything() {
    struct Last(mpsc::Sender<bool>);
    impl Drop for Last {
        fn drop(&mut self) {
            let token = current();
            let fine = check().is_ok() && !token.is_cancelled();
            let before = ambient::replace(Some(token));
            ambient::replace(before);
            let _ = Instant::now();
            Context::capture().enter().leave();
            self.0.send(fine).unwrap();
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });

    let (sender, receiver) = mpsc::channel();
    for ours_first in [true, false] {
        let sender = sender.clone();
        thread::spawn(move || {
            let set = || LAST.with(|last| *last.borrow_mut() = Some(Last(sender)));
            if ours_first {
                ambient::replace(None);
                set();
            } else {
                set();
                ambient::replace(None);
            }
        })
        .join()
        .unwrap();
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn checkpoint_pauses_once_and_goes_by_the_current_token() {
    let token = CancelToken::new();
    let count = Count::new();
    let mut point = checkpoint();
    under(&token, || {
        assert!(poll(&mut point, &count).is_pending());
        assert_eq!(count.get(), 1);
        assert!(matches!(poll(&mut point, &count), Poll::Ready(Ok(()))));
        token.cancel();
        assert!(matches!(
            poll(&mut checkpoint(), &count),
            Poll::Ready(Err(_))
        ));
    });
}

#[test]
fn or_cancel_never_polls_what_was_not_begun_before_the_cancellation() {
    let token = CancelToken::new();
    token.cancel();
    let polled = Count::new();
    let seen = polled.clone();
    let mut wait = Box::pin(async move { seen.add() }.or_cancel());
    under(&token, || {
        let result = poll(&mut wait, &Count::new());
        assert!(matches!(result, Poll::Ready(Err(_))));
    });
    assert_eq!(polled.get(), 0);
}

#[test]
fn or_cancel_gives_the_value_of_a_future_that_is_ready_again() {
    let token = CancelToken::new();
    let (sender, receiver) = mpsc::channel::<u8>();
    let count = Count::new();
    let mut wait = std::future::poll_fn(|_| match receiver.try_recv() {
        Ok(value) => Poll::Ready(value),
        Err(_) => Poll::Pending,
    })
    .or_cancel();
    under(&token, || assert!(poll(&mut wait, &count).is_pending()));
    sender.send(7).unwrap();
    token.cancel();
    assert_eq!(count.get(), 1);
    let result = poll(&mut wait, &count);
    assert!(matches!(result, Poll::Ready(Ok(7))), "the item is not lost");
}

#[test]
fn or_cancel_outside_everything_waits_for_the_future_alone() {
    let count = Count::new();
    assert!(matches!(
        poll(&mut ready(3).or_cancel(), &count),
        Poll::Ready(Ok(3))
    ));
    assert!(poll(&mut pending::<()>().or_cancel(), &count).is_pending());
    assert_eq!(std::sync::Arc::strong_count(&count), 1);
}

#[test]
fn select_safe_futures_are_what_they_say() {
    fn is_select_safe<F: SelectSafe>(_: &F) {}

    is_select_safe(&CancelToken::new().cancelled());
    is_select_safe(&checkpoint());
    is_select_safe(&async {}.or_cancel());
    is_select_safe(&ready(1));
    is_select_safe(&pending::<u8>());
    is_select_safe(&Box::pin(select_safe(async {})));
    is_select_safe(&(&mut checkpoint()));
    let vouched = pin!(select_safe(async { 4 }));
    is_select_safe(&vouched);
    let mut cx = PollContext::from_waker(Waker::noop());
    assert_eq!(Future::poll(vouched, &mut cx), Poll::Ready(4));
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

#[test]
fn tokens_and_timers_that_are_left_in_any_order_leave_nothing_behind() {
    #[derive(Debug)]
    struct Never;
    impl Timer for Never {
        fn now(&self) -> Instant {
            Instant::now()
        }
        fn schedule(&self, _: Instant, _: &Waker) -> Ticket {
            unreachable!("nobody sleeps")
        }
        fn cancel(&self, _: Ticket) {}
    }
    let mut entered_again = 0;
    for leaves in orders(4) {
        let ours: Vec<Context> = (0..4)
            .map(|_| Context {
                token: Some(CancelToken::new()),
                timer: Some(Arc::new(Never)),
            })
            .collect();
        let mut before: Vec<_> = ours.iter().map(|one| Some(one.clone().enter())).collect();
        // The first to go comes back before the others go, as in the next poll of a scope.
        for again in [true, false] {
            for &at in &leaves {
                before[at].take().expect("in force").leave();
                if again {
                    before[at] = Some(ours[at].clone().enter());
                    let now = ambient::token().expect("just put in force");
                    assert!(now.is_same(ours[at].token.as_ref().unwrap()));
                    entered_again += 1;
                    break;
                }
            }
        }
        assert!(ambient::token().is_none(), "{leaves:?}");
        assert!(ambient::timer().is_none(), "{leaves:?}");
        for one in ours {
            assert_eq!(
                Arc::strong_count(one.timer.as_ref().unwrap()),
                1,
                "{leaves:?}"
            );
        }
    }
    assert_eq!(entered_again, 24);
}

/// Of two stays of one token, the end of the first one, below another token, says nothing of the second.
#[test]
fn token_that_is_put_in_force_again_is_not_mistaken_for_its_earlier_stay() {
    let tokens = [(); 3].map(|()| CancelToken::new());
    let [one, two, three] = [0, 1, 2].map(|at: usize| tokens[at].clone());
    let enter = |token: &CancelToken| ambient::enter(Some(token.clone()));
    let is_now = |token: &CancelToken| ambient::token().is_some_and(|now| now.is_same(token));
    let first = enter(&one);
    let below = enter(&two);
    assert!(ambient::leave(first).is_none() && is_now(&two));
    let again = enter(&one);
    let inner = enter(&three);
    assert!(ambient::leave(inner).is_some_and(|own| own.is_same(&three)));
    assert!(is_now(&one));
    // And the other way round: the second stay is left first, below the third token.
    let inner = enter(&three);
    assert!(ambient::leave(again).is_none() && is_now(&three));
    drop(ambient::leave(inner));
    assert!(is_now(&two));
    drop(ambient::leave(below));
    assert!(ambient::token().is_none());
}
