//! The virtual clock at work, and with it the sleeps of `time`: every time is asserted exactly.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::ambient;

use super::{VirtualClock, poll_once};
use crate::time::{Instant, sleep, sleep_until};
use crate::{CancelToken, CauseKind, FutureCancelExt, cancel, scope, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Runs two futures side by side.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut left, mut right) = (None, None);
    poll_fn(|cx| {
        step(a.as_mut(), &mut left, cx);
        step(b.as_mut(), &mut right, cx);
        match (left.take(), right.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            unfinished => {
                (left, right) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

fn step<F: Future>(future: Pin<&mut F>, output: &mut Option<F::Output>, cx: &mut Context<'_>) {
    if output.is_none() {
        if let Poll::Ready(value) = future.poll(cx) {
            *output = Some(value);
        }
    }
}

/// Runs a future with this token as the current one.
async fn under<F: Future>(token: &CancelToken, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let before = ambient::replace(Some(token.clone()));
        let polled = future.as_mut().poll(cx);
        ambient::replace(before);
        polled
    })
    .await
}

#[test]
fn sleeps_in_a_row_add_up_exactly() {
    let clock = VirtualClock::new();
    let times = clock.block_on(async {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..3 {
            sleep(10 * SECOND).await.unwrap();
            times.push(start.elapsed());
        }
        times
    });
    assert_eq!(times, [10 * SECOND, 20 * SECOND, 30 * SECOND]);
    assert_eq!(clock.elapsed(), 30 * SECOND);
    assert_eq!(clock.timers(), 0);
}

#[test]
fn sleeps_side_by_side_take_the_longest() {
    let clock = VirtualClock::new();
    let seen = clock.block_on(async {
        let at = |after| async move {
            sleep(after).await.unwrap();
            Instant::now()
        };
        both(at(2 * SECOND), at(5 * SECOND)).await
    });
    assert_eq!(seen.1 - seen.0, 3 * SECOND);
    assert_eq!(clock.elapsed(), 5 * SECOND);
}

#[test]
fn sleep_counts_from_its_call() {
    let clock = VirtualClock::new();
    clock.block_on(async {
        let nap = sleep(3 * SECOND);
        sleep(2 * SECOND).await.unwrap();
        nap.await.unwrap();
    });
    assert_eq!(clock.elapsed(), 3 * SECOND);
}

#[test]
fn sleep_made_under_another_clock_counts_from_its_first_poll() {
    let clock = VirtualClock::new();
    clock.advance(7 * SECOND);
    let nap = sleep(SECOND);
    clock.block_on(nap).unwrap();
    assert_eq!(clock.elapsed(), 8 * SECOND);
}

#[test]
fn sleep_until_the_past_yields_once_and_is_ready() {
    let clock = VirtualClock::new();
    let polled = clock.block_on(async {
        let mut nap = sleep_until(Instant::now() - SECOND);
        let first = poll_once(Pin::new(&mut nap)).is_pending();
        first && matches!(poll_once(Pin::new(&mut nap)), Poll::Ready(Ok(())))
    });
    assert!(polled);
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn sleep_fails_at_once_when_its_token_is_cancelled_meanwhile() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    let (slept, ()) = clock.block_on(both(under(&token, sleep(100 * SECOND)), async {
        sleep(4 * SECOND).await.unwrap();
        token.cancel_with(CauseKind::Shutdown);
    }));
    let cancelled = slept.expect_err("cancelled before its time");
    assert_eq!(cancelled.cause().kind(), CauseKind::Shutdown);
    assert_eq!(clock.elapsed(), 4 * SECOND);
    assert_eq!(clock.timers(), 0);
}

#[test]
fn sleep_under_a_cancelled_token_fails_on_entry_even_if_it_is_due() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    token.child().cancel();
    assert!(clock.block_on(under(&token, sleep(Duration::ZERO))).is_ok());
    token.cancel();
    let child = token.child();
    let slept = clock.block_on(under(&child, sleep(Duration::ZERO)));
    assert!(slept.is_err());
    assert!(clock.block_on(under(&child, sleep(SECOND))).is_err());
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn dropped_sleep_leaves_no_timer() {
    let clock = VirtualClock::new();
    clock.block_on(async {
        for _ in 0..1000 {
            let mut nap = sleep(SECOND);
            assert!(poll_once(Pin::new(&mut nap)).is_pending());
            assert_eq!(clock.timers(), 1);
        }
    });
    assert_eq!(clock.timers(), 0);
}

#[test]
fn sleep_polled_a_thousand_times_has_one_timer() {
    let clock = VirtualClock::new();
    clock.block_on(async {
        let mut nap = sleep(SECOND);
        for _ in 0..1000 {
            assert!(poll_once(Pin::new(&mut nap)).is_pending());
        }
        assert_eq!(clock.timers(), 1);
        nap.await.unwrap();
    });
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
fn sleep_of_the_longest_duration_never_ends_and_does_not_panic() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    let (slept, ()) = clock.block_on(both(under(&token, sleep(Duration::MAX)), async {
        sleep(SECOND).await.unwrap();
        token.cancel();
    }));
    assert!(slept.is_err());
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
fn advance_wakes_what_has_become_due() {
    let clock = VirtualClock::new();
    clock.block_on(async {
        let (early, late) = (sleep(SECOND), sleep(10 * SECOND));
        let (mut early, mut late) = (pin!(early), pin!(late));
        assert!(poll_once(early.as_mut()).is_pending());
        assert!(poll_once(late.as_mut()).is_pending());
        clock.advance(5 * SECOND);
        assert_eq!(clock.timers(), 1);
        assert!(poll_once(early).is_ready());
        assert!(poll_once(late).is_pending());
    });
    assert_eq!(clock.elapsed(), 5 * SECOND);
}

#[test]
fn other_thread_wakes_the_future_and_time_stands_still() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    let (sender, receiver) = mpsc::channel::<()>();
    let canceller = thread::spawn({
        let token = token.clone();
        move || {
            receiver.recv().unwrap();
            token.cancel_with("from afar");
        }
    });
    let cause = clock.block_on(async {
        let mut wait = token.cancelled();
        assert!(poll_once(Pin::new(&mut wait)).is_pending());
        sender.send(()).unwrap();
        wait.await
    });
    canceller.join().unwrap();
    assert_eq!(cause.text(), Some("from afar"));
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn other_thread_makes_a_timer_while_the_clock_waits_and_it_is_served() {
    let clock = VirtualClock::new();
    let (to_thread, waker) = mpsc::channel::<Waker>();
    let sleeper = thread::spawn({
        let timer = clock.timer();
        move || {
            let waker = waker.recv().unwrap();
            timer.schedule(timer.now() + SECOND, &waker);
        }
    });
    let mut polls = 0;
    clock.block_on(poll_fn(|cx| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        to_thread.send(cx.waker().clone()).unwrap();
        Poll::Pending
    }));
    sleeper.join().unwrap();
    assert_eq!(clock.elapsed(), SECOND);
}

#[test]
#[should_panic(expected = "nobody has kept its waker")]
fn future_that_nobody_can_wake_panics() {
    VirtualClock::new().block_on(pending::<()>());
}

#[test]
#[should_panic(expected = "set to panic when stuck")]
fn strict_clock_panics_when_no_deadline_is_left() {
    let token = CancelToken::new();
    let clock = VirtualClock::new().panics_when_stuck();
    clock.block_on(token.cancelled());
}

#[test]
fn nested_block_on_has_its_own_clock_and_gives_the_outer_one_back() {
    let outer = VirtualClock::new();
    let inner = VirtualClock::new();
    outer.block_on(async {
        inner.block_on(sleep(5 * SECOND)).unwrap();
        sleep(SECOND).await.unwrap();
    });
    assert_eq!(outer.elapsed(), SECOND);
    assert_eq!(inner.elapsed(), 5 * SECOND);
}

#[test]
fn panic_in_block_on_takes_the_clock_off_the_thread() {
    let clock = VirtualClock::new();
    clock.advance(SECOND);
    let caught = std::panic::catch_unwind(|| clock.block_on(async { panic!("inside") }));
    assert!(caught.is_err());
    assert!(ambient::timer().is_none());
}

#[test]
fn checkpoint_lets_the_other_run_and_then_fails() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    let (rounds, ()) = clock.block_on(both(
        under(&token, async {
            let mut rounds = 0;
            while cancel::checkpoint().await.is_ok() {
                rounds += 1;
            }
            rounds
        }),
        async {
            cancel::checkpoint().await.unwrap();
            cancel::checkpoint().await.unwrap();
            token.cancel();
        },
    ));
    assert_eq!(rounds, 2);
}

#[test]
fn or_cancel_drops_a_foreign_future_at_the_cancellation() {
    let clock = VirtualClock::new();
    let token = CancelToken::new();
    let foreign = std::sync::Arc::new(());
    let held = foreign.clone();
    let (cut, ()) = clock.block_on(both(
        under(
            &token,
            async move {
                let _held = held;
                pending::<()>().await;
            }
            .or_cancel(),
        ),
        async {
            sleep(SECOND).await.unwrap();
            token.cancel();
        },
    ));
    assert!(cut.is_err());
    assert_eq!(std::sync::Arc::strong_count(&foreign), 1);
}

#[test]
fn function_that_a_deadline_reaches_is_not_called_on_the_thread_that_polls() {
    let (tell, told) = mpsc::channel();
    let limited = timeout(SECOND, async move {
        let _guard =
            cancel::current().on_cancel(move |_| tell.send(thread::current().id()).unwrap());
        sleep(Duration::MAX).await
    });
    assert!(VirtualClock::new().block_on(limited).is_err());
    assert_ne!(told.recv().unwrap(), thread::current().id());
}

// A scope left its next turn to the worker of tokio's that this blocks, and the clock jumped.
#[cfg(feature = "tokio")]
#[test]
fn time_stands_still_in_a_task_of_tokio_while_something_runs() {
    async fn work() -> u32 {
        for _ in 0..60 {
            let from = std::time::Instant::now();
            while from.elapsed() < Duration::from_micros(200) {
                std::hint::spin_loop();
            }
            cancel::checkpoint().await.unwrap();
        }
        7
    }

    fn check() {
        let clock = VirtualClock::new().panics_when_stuck();
        let run = timeout(SECOND, scope(async |s| s.spawn(work()).await));
        assert_eq!(clock.block_on(run).unwrap(), 7);
        let both = timeout(SECOND, crate::join((work(), work())));
        assert_eq!(clock.block_on(both).unwrap(), (7, 7));
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    let current = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    current.block_on(async { check() });
    current.block_on(async { tokio::spawn(async { check() }).await.unwrap() });
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    multi.block_on(async { tokio::spawn(async { check() }).await.unwrap() });
    check();
}
