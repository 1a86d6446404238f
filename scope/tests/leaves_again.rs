//! Three questions to each leaf future: what it says when it is polled again after it was ready, whether a loop of it
//! lets others run, and which of two moments wins when both are noticed late.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Bell, guarded, message, poll_once, yields};
use futures::io::{AsyncRead, AsyncReadExt};
use selvedge_cancel::{
    CancelToken, Cancelled, CauseKind, FutureCancelExt, Instant, IoCancelExt, Ticket, Timer,
    ambient, cancelled, check, checkpoint, select, stopping,
};
use selvedge_scope::time::{Sleep, sleep, sleep_until};
use selvedge_scope::{block_on, scope, shield, shield_unbounded, timeout, timeout_at};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a function with this token as the current one.
fn under<T>(token: &CancelToken, run: impl FnOnce() -> T) -> T {
    let before = ambient::replace(Some(token.clone()));
    let output = run();
    ambient::replace(before);
    output
}

/// What a poll by a waker that is counted gives, and how often it was woken.
fn poll_counted<F: Future>(future: Pin<&mut F>) -> (Poll<F::Output>, usize) {
    let (bell, waker) = Bell::new();
    let polled = future.poll(&mut Context::from_waker(&waker));
    (polled, bell.rung())
}

fn text(polled: Poll<Result<(), Cancelled>>) -> Option<String> {
    match polled {
        Poll::Ready(Err(cancelled)) => cancelled.cause().text().map(str::to_owned),
        Poll::Ready(Ok(())) | Poll::Pending => None,
    }
}

#[test]
fn sleep_says_the_same_each_time_it_is_polled_again() {
    // Cancelled before the first poll, and while it waits; and polled where nothing is cancelled.
    for begun in [false, true] {
        let token = CancelToken::new();
        let mut nap = sleep(3600 * SECOND);
        if begun {
            assert!(under(&token, || poll_once(Pin::new(&mut nap))).is_pending());
        }
        token.cancel_with("enough");
        for _ in 0..3 {
            let polled = under(&token, || poll_once(Pin::new(&mut nap)));
            assert_eq!(text(polled).as_deref(), Some("enough"));
        }
        assert_eq!(
            text(poll_once(Pin::new(&mut nap))).as_deref(),
            Some("enough")
        );
    }
    let mut nap = sleep(Duration::ZERO);
    assert!(poll_once(Pin::new(&mut nap)).is_pending());
    let token = CancelToken::new();
    for _ in 0..3 {
        assert!(matches!(poll_once(Pin::new(&mut nap)), Poll::Ready(Ok(()))));
        token.cancel();
        let polled = under(&token, || poll_once(Pin::new(&mut nap)));
        assert!(matches!(polled, Poll::Ready(Ok(()))), "it was over");
    }
}

// A pinned sleep in a loop around `select`: it is over once, and does not say so when it was cancelled.
#[test]
fn select_loop_with_a_pinned_sleep_does_not_take_a_cancellation_for_the_hour() {
    guarded(|| {
        let hours = block_on(scope(async |s| {
            let mut hour = pin!(sleep(3600 * SECOND));
            s.cancel();
            let mut hours = 0;
            for _ in 0..3 {
                hours += usize::from(select((hour.as_mut(), ready(Ok(())))).await.is_ok());
            }
            hours
        }));
        assert_eq!(hours, 0);
    });
}

fn naps() -> [fn() -> Sleep; 3] {
    [
        || sleep(Duration::ZERO),
        || sleep_until(Instant::now()),
        || sleep_until(Instant::now() - SECOND),
    ]
}

#[test]
fn sleep_that_is_over_at_its_first_poll_yields_once() {
    for nap in naps() {
        let mut nap = nap();
        let (polled, woken) = poll_counted(Pin::new(&mut nap));
        assert!(polled.is_pending());
        assert_eq!(woken, 1);
        let (polled, woken) = poll_counted(Pin::new(&mut nap));
        assert!(matches!(polled, Poll::Ready(Ok(()))));
        assert_eq!(woken, 0);
    }
}

#[test]
fn loop_of_sleeps_that_are_over_lets_others_have_their_turns() {
    guarded(|| {
        for nap in naps() {
            let turns = Mutex::new(Vec::new());
            block_on(
                scope(async |s| {
                    for name in ["one", "two"] {
                        let turns = &turns;
                        s.spawn(async move {
                            for _ in 0..50 {
                                turns.lock().unwrap().push(name);
                                nap().await.unwrap();
                            }
                        });
                    }
                })
                .inline(),
            );
            let turns = turns.into_inner().unwrap();
            assert_eq!(turns.len(), 100);
            assert!(turns.windows(2).all(|two| two[0] != two[1]), "{turns:?}");
        }
    });
}

/// A clock that is moved by hand, and a timer that never comes.
#[derive(Debug)]
struct Late {
    start: Instant,
    elapsed: Mutex<Duration>,
}

impl Late {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::from_std(std::time::Instant::now()),
            elapsed: Mutex::default(),
        })
    }

    fn move_to(&self, seconds: u32) {
        *self.elapsed.lock().unwrap() = seconds * SECOND;
    }
}

impl Timer for Late {
    fn now(&self) -> Instant {
        self.start + *self.elapsed.lock().unwrap()
    }

    fn schedule(&self, at: Instant, _: &Waker) -> Ticket {
        Ticket::new(at, 0)
    }

    fn cancel(&self, _: Ticket) {}
}

/// Runs a function with this timer in force.
fn by<T>(timer: &Arc<Late>, run: impl FnOnce() -> T) -> T {
    let timer: Arc<dyn Timer> = timer.clone();
    let before = ambient::replace_timer(Some(timer));
    let output = run();
    drop(ambient::replace_timer(before));
    output
}

/// Polls when the clock stands at zero, and again, much later, when all is over and nobody has been told.
fn poll_late<F: Future>(make: impl FnOnce() -> F) -> F::Output {
    let late = Late::new();
    by(&late, || {
        let mut future = Box::pin(make());
        assert!(poll_once(future.as_mut()).is_pending());
        late.move_to(100);
        for _ in 0..3 {
            if let Poll::Ready(output) = poll_once(future.as_mut()) {
                return output;
            }
        }
        panic!("it still waits");
    })
}

#[test]
fn sooner_of_a_sleep_and_the_limit_around_it_wins_although_both_are_noticed_late() {
    assert!(poll_late(|| timeout(5 * SECOND, sleep(9 * SECOND))).is_err());
    assert!(
        poll_late(|| timeout(9 * SECOND, sleep(5 * SECOND)))
            .unwrap()
            .is_ok()
    );
    // At the same moment the sleep is over, and its value a value.
    assert!(
        poll_late(|| timeout(5 * SECOND, sleep(5 * SECOND)))
            .unwrap()
            .is_ok()
    );
    // The soonest of all limits is the cause; those inside see it as one from outside.
    let inner = poll_late(|| async {
        let inner = async {
            let slept = timeout(7 * SECOND, sleep(9 * SECOND)).await;
            Some(
                slept
                    .expect("this limit was not first")
                    .unwrap_err()
                    .cause()
                    .kind(),
            )
        };
        let mut kind = None;
        let outer = timeout(5 * SECOND, async { kind = inner.await }).await;
        (outer.is_ok(), kind)
    });
    assert_eq!(inner.1, Some(CauseKind::Deadline));
    // The inner limit is sooner.
    let nested = poll_late(|| timeout(7 * SECOND, timeout(5 * SECOND, sleep(9 * SECOND))));
    assert!(nested.unwrap().is_err());
    // A limit that begins when it is over already, inside one that was over before.
    let late = Late::new();
    by(&late, || {
        let inner = Mutex::new(None);
        let outer = timeout_at(late.start + SECOND, async {
            yields(1).await;
            let slept = timeout_at(late.start + 2 * SECOND, sleep(SECOND)).await;
            *inner.lock().unwrap() = Some(slept.is_err());
        });
        let mut outer = pin!(outer);
        assert!(poll_once(outer.as_mut()).is_pending());
        late.move_to(50);
        assert!(poll_once(outer.as_mut()).is_ready());
        assert_eq!(
            *inner.lock().unwrap(),
            Some(false),
            "the outer one was first"
        );
    });
}

#[test]
fn limit_of_a_scope_wins_over_a_longer_sleep_in_its_body_and_names_its_place() {
    let late = Late::new();
    by(&late, || {
        let (bell, waker) = Bell::new();
        let line = Location::caller().line();
        let scoped = scope(async |_| {
            let mut nap = pin!(sleep(9 * SECOND));
            poll_fn(|cx| {
                // Polled whenever the scope is.
                cx.waker().wake_by_ref();
                nap.as_mut().poll(cx)
            })
            .await
        });
        let mut scoped = Box::pin(scoped.timeout(5 * SECOND));
        let mut cx = Context::from_waker(&waker);
        assert!(scoped.as_mut().poll(&mut cx).is_pending());
        assert!(bell.rung() > 0);
        late.move_to(100);
        let Poll::Ready(slept) = scoped.as_mut().poll(&mut cx) else {
            panic!("it still waits");
        };
        let cause = slept.unwrap_err().cause().clone();
        assert_eq!(cause.kind(), CauseKind::Deadline);
        let place = cause.place().unwrap();
        assert_eq!(place.file(), file!());
        assert!(place.line() > line);
    });
}

#[test]
fn limit_outside_a_shield_or_on_another_clock_does_not_end_a_sleep() {
    let slept = poll_late(|| {
        scope(async |_| {
            timeout(5 * SECOND, async {
                let slept = shield_unbounded(async {
                    // Woken by hand: the timer of this test never comes.
                    let mut nap = pin!(sleep(9 * SECOND));
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        nap.as_mut().poll(cx)
                    })
                    .await
                })
                .await;
                slept.is_ok()
            })
            .await
        })
    });
    assert!(slept.is_ok_and(|slept| slept));
    // A shield lets the limit in at its bound, however late that is noticed.
    for (bound, sleeps, ends_well) in [(7, 9, false), (9, 9, true), (9, 7, true)] {
        let slept = poll_late(|| async move {
            let mut slept = None;
            let inside = async { slept = Some(sleep(sleeps * SECOND).await.is_ok()) };
            let _ = timeout(5 * SECOND, shield(bound * SECOND, inside)).await;
            slept
        });
        assert_eq!(slept, Some(ends_well), "{sleeps} of {bound}");
    }
    // A limit of an hour of the system's time, and a clock that is moved on by more than that inside.
    let limited = scope(async |s| {
        let late = Late::new();
        by(&late, || {
            let mut nap = sleep(7200 * SECOND);
            assert!(poll_once(Pin::new(&mut nap)).is_pending());
            late.move_to(10_000);
            assert!(matches!(poll_once(Pin::new(&mut nap)), Poll::Ready(Ok(()))));
        });
        !s.is_cancelled()
    });
    assert!(block_on(limited.timeout(3600 * SECOND)));
}

#[track_caller]
fn panics_when_polled_again<F: Future>(mut future: Pin<Box<F>>, name: &str) {
    let mut tries = 0;
    while poll_once(future.as_mut()).is_pending() {
        tries += 1;
        assert!(tries < 10, "{name}: never ready");
    }
    for _ in 0..2 {
        let again = catch_unwind(AssertUnwindSafe(|| poll_once(future.as_mut()).is_ready()));
        let said = message(&*again.expect_err(name));
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn future_that_gives_a_value_away_panics_when_it_is_polled_again_and_says_who() {
    panics_when_polled_again(Box::pin(ready(1).or_cancel()), "OrCancel");
    panics_when_polled_again(Box::pin(select((ready(1), ready(2)))), "Select");
    panics_when_polled_again(Box::pin(timeout(SECOND, ready(1))), "Timeout");
    panics_when_polled_again(Box::pin(shield(SECOND, ready(1))), "Shield");
    panics_when_polled_again(Box::pin(shield_unbounded(ready(1))), "Shield");
    panics_when_polled_again(Box::pin(scope(async |_| 1)), "scope");
    let token = CancelToken::new();
    token.cancel();
    under(&token, || {
        panics_when_polled_again(Box::pin(pending::<()>().or_cancel()), "OrCancel");
        // Neither does the shield ask the future again, now outside of it.
        panics_when_polled_again(Box::pin(shield(SECOND, ready(1))), "Shield");
        panics_when_polled_again(Box::pin(timeout(SECOND, ready(1))), "Timeout");
    });
    block_on(scope(async |s| {
        let mut handle = s.spawn(async { 1 });
        assert_eq!((&mut handle).await, 1);
        panics_when_spent(&mut handle);
    }));
}

fn panics_when_spent(handle: &mut selvedge_scope::JoinHandle<'_, i32>) {
    let again = catch_unwind(AssertUnwindSafe(|| poll_once(Pin::new(handle)).is_ready()));
    assert!(message(&*again.unwrap_err()).contains("yielded before"));
}

#[test]
fn future_that_waits_for_a_state_says_the_same_when_it_is_polled_again() {
    let token = CancelToken::new();
    let (mut wait, mut stop, mut around, mut stop_around) = under(&token, || {
        (token.cancelled(), token.stopping(), cancelled(), stopping())
    });
    assert!(poll_once(Pin::new(&mut wait)).is_pending());
    token.cancel_with("enough");
    for _ in 0..3 {
        let Poll::Ready(cause) = poll_once(Pin::new(&mut wait)) else {
            panic!("it is cancelled");
        };
        assert_eq!(cause.text(), Some("enough"));
        assert!(poll_once(Pin::new(&mut around)).is_ready());
        assert!(poll_once(Pin::new(&mut stop)).is_ready());
        assert!(poll_once(Pin::new(&mut stop_around)).is_ready());
    }
    // A checkpoint that has failed goes on failing; one that is over asks again, without a pause.
    let mut point = checkpoint();
    for _ in 0..3 {
        let polled = under(&token, || poll_once(Pin::new(&mut point)));
        assert_eq!(text(polled).as_deref(), Some("enough"));
        assert_eq!(
            text(poll_once(Pin::new(&mut point))).as_deref(),
            Some("enough")
        );
    }
    let mut point = checkpoint();
    assert!(poll_once(Pin::new(&mut point)).is_pending());
    for _ in 0..2 {
        assert!(matches!(
            poll_once(Pin::new(&mut point)),
            Poll::Ready(Ok(()))
        ));
    }
    let polled = under(&token, || poll_once(Pin::new(&mut point)));
    assert!(matches!(polled, Poll::Ready(Err(_))));
    // The end of a child.
    guarded(|| {
        block_on(scope(async |s| {
            let child = s.spawn(async { cancelled().await.kind() });
            let mut end = child.cancel_and_wait();
            (&mut end).await;
            for _ in 0..3 {
                assert!(poll_once(Pin::new(&mut end)).is_ready());
            }
            drop(end);
            assert_eq!(child.await, CauseKind::Requested);
        }));
    });
}

// Nothing is kept of it: in a shield the same reader reads on, and outside it fails each time.
#[test]
fn cancelled_reader_fails_each_time_and_reads_on_where_nothing_is_cancelled() {
    let token = CancelToken::new();
    let mut reader = (&b"weft"[..]).cancellable();
    let mut letters = [0; 4];
    let read = |reader: &mut selvedge_cancel::Cancellable<&[u8]>, letters: &mut [u8]| {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(reader).poll_read(&mut cx, letters) {
            Poll::Ready(read) => read.ok(),
            Poll::Pending => panic!("bytes are there"),
        }
    };
    token.cancel();
    for _ in 0..3 {
        assert_eq!(under(&token, || read(&mut reader, &mut letters)), None);
    }
    assert_eq!(read(&mut reader, &mut letters), Some(4));
    assert_eq!(&letters, b"weft");
    assert_eq!(block_on(reader.read(&mut letters)).unwrap(), 0);
    assert!(under(&token, || check().is_err()));
}

#[test]
fn loops_of_checkpoints_and_of_sleeps_share_the_thread_turn_by_turn() {
    guarded(|| {
        let turns = Mutex::new(Vec::new());
        block_on(
            scope(async |s| {
                let turns = &turns;
                s.spawn(async move {
                    for _ in 0..20 {
                        turns.lock().unwrap().push("checkpoint");
                        checkpoint().await.unwrap();
                    }
                });
                s.spawn(async move {
                    for _ in 0..20 {
                        turns.lock().unwrap().push("sleep");
                        sleep(Duration::ZERO).await.unwrap();
                    }
                });
            })
            .inline(),
        );
        let turns = turns.into_inner().unwrap();
        assert_eq!(turns.len(), 40);
        assert!(turns.windows(2).all(|two| two[0] != two[1]), "{turns:?}");
    });
}
