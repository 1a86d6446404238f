//! The embedded executor and timer against real time and real threads. Deadlines are in the past
//! or a few milliseconds away; no assertion says that something is quick.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{CancelToken, Instant, ambient};

use super::block_on::in_block_on;
use super::{block_on, embedded};
use crate::time::{sleep, sleep_until};

const SHORT: Duration = Duration::from_millis(3);

/// A waker that reports the thread on which it was woken.
struct Report(mpsc::SyncSender<Option<String>>);

impl Wake for Report {
    fn wake(self: Arc<Self>) {
        let name = thread::current().name().map(str::to_owned);
        // Nobody listens any more when a later wake comes.
        let _ = self.0.try_send(name);
    }
}

fn report() -> (Waker, mpsc::Receiver<Option<String>>) {
    let (sender, receiver) = mpsc::sync_channel(16);
    (Waker::from(Arc::new(Report(sender))), receiver)
}

#[test]
fn block_on_gives_the_output_of_a_future_that_was_woken_by_another_thread() {
    let (sender, receiver) = mpsc::channel::<Waker>();
    let waking = thread::spawn(move || receiver.recv().unwrap().wake());
    let mut polls = 0;
    let output = block_on(poll_fn(|cx| {
        polls += 1;
        if polls == 1 {
            sender.send(cx.waker().clone()).unwrap();
            return Poll::Pending;
        }
        // A spare wake-up may bring a poll of its own, so that more than two are possible.
        Poll::Ready(5)
    }));
    waking.join().unwrap();
    assert_eq!(output, 5);
    assert!(polls >= 2);
}

#[test]
fn block_on_can_be_nested_and_neither_steals_the_wake_of_the_other() {
    let mut polls = 0;
    let output = block_on(poll_fn(|cx| {
        polls += 1;
        if polls > 1 {
            return Poll::Ready(7);
        }
        // The outer future is woken before the inner call parks.
        cx.waker().wake_by_ref();
        block_on(sleep(SHORT)).unwrap();
        Poll::Pending
    }));
    assert_eq!(output, 7);
}

#[test]
fn block_on_is_not_disturbed_by_thread_park() {
    let output = block_on(async {
        thread::current().unpark();
        sleep(SHORT).await.unwrap();
        thread::current().unpark();
        // Would hang if `block_on` had spent the token.
        thread::park();
        9
    });
    assert_eq!(output, 9);
}

#[test]
fn flag_of_block_on_is_set_inside_only_and_after_a_panic_too() {
    assert!(!in_block_on());
    block_on(async {
        assert!(in_block_on());
        block_on(async { assert!(in_block_on()) });
        assert!(in_block_on());
        assert!(!thread::spawn(in_block_on).join().unwrap());
    });
    assert!(!in_block_on());
    let panicked = catch_unwind(|| block_on(async { panic!("inside") }));
    assert!(panicked.is_err());
    assert!(!in_block_on());
    assert_eq!(block_on(async { 1 }), 1);
}

#[test]
fn sleep_ends_at_or_after_its_moment() {
    let start = Instant::now();
    block_on(sleep(SHORT)).unwrap();
    assert!(start.elapsed() >= SHORT);
    let at = Instant::now() + SHORT;
    block_on(sleep_until(at)).unwrap();
    assert!(Instant::now() >= at);
}

#[test]
fn due_entry_is_woken_by_the_named_thread() {
    let (waker, woken) = report();
    embedded().schedule(Instant::now() - SHORT, &waker);
    assert_eq!(woken.recv().unwrap().as_deref(), Some("selvedge-timer"));
}

#[test]
fn panicking_waker_does_not_kill_the_thread() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("waker");
        }
    }
    let now = Instant::now();
    embedded().schedule(now, &Waker::from(Arc::new(Bomb)));
    let (waker, woken) = report();
    embedded().schedule(now + SHORT, &waker);
    assert!(woken.recv().is_ok());
}

#[test]
fn cancelled_and_reset_entries_are_gone_at_once() {
    let (waker, woken) = report();
    let far = Instant::now() + Duration::MAX;
    let mut ticket = embedded().schedule(far, &waker);
    for _ in 0..10_000 {
        ticket = embedded().reset(ticket, far - Duration::from_secs(1), &waker);
        ticket = embedded().reset(ticket, far, &waker);
    }
    embedded().cancel(ticket);
    embedded().cancel(ticket);
    drop(waker);
    // The entries held the other ends: with the last of them the channel is closed.
    assert!(woken.recv().is_err());
}

#[test]
fn entry_reset_to_an_earlier_moment_is_woken_then() {
    let (waker, woken) = report();
    let ticket = embedded().schedule(Instant::now() + Duration::MAX, &waker);
    embedded().reset(ticket, Instant::now() + SHORT, &waker);
    assert!(woken.recv().is_ok());
}

#[test]
fn entry_reset_to_another_waker_wakes_only_that() {
    let (old, old_woken) = report();
    let (new, new_woken) = report();
    let far = Instant::now() + Duration::MAX;
    let ticket = embedded().schedule(far, &old);
    drop(old);
    let ticket = embedded().reset(ticket, far, &new);
    assert!(
        old_woken.recv().is_err(),
        "the old waker is dropped unwoken"
    );
    embedded().reset(ticket, Instant::now(), &new);
    assert!(new_woken.recv().is_ok());
}

#[test]
fn waker_may_call_back_into_the_timer() {
    struct Again(mpsc::SyncSender<()>);
    impl Wake for Again {
        fn wake(self: Arc<Self>) {
            let (waker, _woken) = report();
            let ticket = embedded().schedule(Instant::now() + Duration::MAX, &waker);
            embedded().cancel(ticket);
            self.0.send(()).unwrap();
        }
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    embedded().schedule(Instant::now(), &Waker::from(Arc::new(Again(sender))));
    receiver.recv().unwrap();
}

#[test]
fn sleep_of_the_longest_duration_ends_when_its_token_is_cancelled_by_another_thread() {
    let token = CancelToken::new();
    let before = ambient::replace(Some(token.clone()));
    let (polled, was_polled) = mpsc::channel();
    let canceller = thread::spawn(move || {
        was_polled.recv().unwrap();
        token.cancel_with("over");
    });
    let mut nap = sleep(Duration::MAX);
    let slept = block_on(poll_fn(|cx| {
        let state = Pin::new(&mut nap).poll(cx);
        let _ = polled.send(());
        state
    }));
    ambient::replace(before);
    canceller.join().unwrap();
    assert_eq!(slept.unwrap_err().cause().text(), Some("over"));
}

#[test]
fn thousand_sleeps_on_four_threads_all_end() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let naps: Vec<_> = (0..250)
                    .map(|n| sleep(Duration::from_micros(n * 10)))
                    .collect();
                let mut ended = 0;
                for nap in naps {
                    block_on(nap).unwrap();
                    ended += 1;
                }
                assert_eq!(ended, 250);
            });
        }
    });
}

#[test]
fn dropping_an_unfinished_sleep_lets_its_waker_go() {
    let (waker, woken) = report();
    let mut nap = sleep(Duration::MAX);
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut nap).poll(&mut cx).is_pending());
    drop(waker);
    drop(nap);
    assert!(woken.recv().is_err());
}

#[test]
fn future_dropped_by_a_panic_of_its_neighbour_leaves_block_on_usable() {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            let mut nap = std::pin::pin!(sleep(Duration::MAX));
            assert!(
                nap.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            let mut never = std::pin::pin!(pending::<()>());
            assert!(
                never
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            panic!("neighbour");
        })
    }));
    assert!(caught.is_err());
    block_on(sleep(SHORT)).unwrap();
}
