//! Limits by a timer that has no thread: it rings each entry at once, and never again. Whoever set the limit is polled
//! until its moment has come, as whoever sleeps is.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use selvedge_cancel::{FutureCancelExt, Instant, Ticket, Timer, ambient};

use crate::sync::plain::{AtomicUsize, Ordering};
use crate::{scope, shield, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Threadless {
    start: Instant,
    elapsed: Mutex<Duration>,
    made: AtomicUsize,
}

impl Timer for Threadless {
    fn now(&self) -> Instant {
        self.start + *self.elapsed.lock().unwrap()
    }

    fn schedule(&self, at: Instant, waker: &Waker) -> Ticket {
        self.made.fetch_add(1, Ordering::SeqCst);
        waker.wake_by_ref();
        Ticket::new(at, 0)
    }

    fn cancel(&self, _: Ticket) {}
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls as long as somebody wakes, moves the clock by a second each time, and says after how many the future ended.
#[track_caller]
fn ends_after<F: Future>(make: impl FnOnce(&Arc<Threadless>) -> F) -> (F::Output, usize) {
    let timer = Arc::new(Threadless {
        start: Instant::from_std(std::time::Instant::now()),
        elapsed: Mutex::default(),
        made: AtomicUsize::new(0),
    });
    let before = ambient::replace_timer(Some(timer.clone()));
    let mut future = Box::pin(make(&timer));
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut seconds = 0;
    let output = loop {
        let woken = count.0.load(Ordering::SeqCst);
        let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(output) = polled {
            break output;
        }
        // It waits, and nobody would ever wake it.
        assert!(count.0.load(Ordering::SeqCst) > woken, "it was left alone");
        // A poll that was woken by something else than the time comes first.
        seconds += 1;
        assert!(seconds < 100, "it never ends");
        *timer.elapsed.lock().unwrap() += SECOND;
    };
    assert!(timer.made.load(Ordering::SeqCst) > 0, "no timer was asked");
    drop(future);
    drop(ambient::replace_timer(before));
    (output, seconds)
}

#[test]
fn time_out_fires_by_a_timer_that_only_rings_too_early() {
    let (output, seconds) = ends_after(|_| timeout(5 * SECOND, pending::<()>().or_cancel()));
    assert!(output.is_err());
    // Once more is polled what the cancellation has woken.
    assert!((5..=6).contains(&seconds), "{seconds}");
}

#[test]
fn deadline_of_a_scope_fires_by_a_timer_that_only_rings_too_early() {
    let (output, seconds) =
        ends_after(|_| scope(async |_| pending::<()>().or_cancel().await).timeout(5 * SECOND));
    assert!(output.is_err());
    assert!((5..=6).contains(&seconds), "{seconds}");
}

#[test]
fn deadline_set_by_another_thread_fires_by_a_timer_that_only_rings_too_early() {
    let (output, seconds) = ends_after(|timer| {
        let at = timer.start + 5 * SECOND;
        scope(async move |s| {
            thread::scope(|threads| {
                threads.spawn(|| s.set_deadline(at));
            });
            pending::<()>().or_cancel().await
        })
    });
    assert!(output.is_err());
    assert!((5..=6).contains(&seconds), "{seconds}");
}

#[test]
fn stop_grace_and_shield_end_by_a_timer_that_only_rings_too_early() {
    let (output, seconds) = ends_after(|_| {
        scope(async |s| {
            s.stop();
            pending::<()>().or_cancel().await
        })
        .stop_within(4 * SECOND)
    });
    assert!(output.is_err());
    assert!((4..=6).contains(&seconds), "{seconds}");
    let (output, seconds) = ends_after(|_| {
        scope(async |s| {
            s.cancel();
            pending::<()>().await;
        })
        .grace(4 * SECOND)
    });
    assert!(output.is_err());
    assert!((4..=6).contains(&seconds), "{seconds}");
    let (output, seconds) = ends_after(|_| {
        scope(async |s| {
            s.cancel();
            shield(4 * SECOND, pending::<()>().or_cancel()).await
        })
    });
    assert!(output.is_err());
    assert!((4..=6).contains(&seconds), "{seconds}");
}
