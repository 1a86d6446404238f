//! A future of a stage that has ended goes before the stages behind it work on what came of it: it may hold a lock.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use selvedge_iter::IntoPar;
use selvedge_scope::block_on;

/// Ends in its second poll. While it is there it is counted.
struct Holds<'a, T> {
    held: &'a AtomicUsize,
    out: Option<T>,
    polled: bool,
}

impl<'a, T> Holds<'a, T> {
    fn new(held: &'a AtomicUsize, out: T) -> Self {
        held.fetch_add(1, SeqCst);
        Self {
            held,
            out: Some(out),
            polled: false,
        }
    }
}

impl<T: Unpin> Future for Holds<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if !std::mem::replace(&mut self.polled, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.out.take().expect("it ends once"))
    }
}

impl<T> Drop for Holds<'_, T> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, SeqCst);
    }
}

// It lived until the item was through all synchronous stages and in the terminal.
#[test]
fn ended_future_is_gone_where_its_output_is_worked_on() {
    let held = &AtomicUsize::new(0);
    let holds = |n: u32| Holds::new(held, n);
    let is_free = |_: u32| held.load(SeqCst) == 0;
    let one_by_one = || (0..8_u32).into_par().concurrency(1);
    let all = |free: Vec<bool>, what: &str| assert_eq!(free, [true; 8], "{what}");

    all(
        block_on(one_by_one().then(holds).map(is_free).collect()),
        "then, map",
    );
    let sifted = one_by_one().then_filter(|_| Holds::new(held, true));
    all(block_on(sifted.map(is_free).collect()), "then_filter, map");
    let twice = one_by_one().then(holds).then(holds);
    all(block_on(twice.map(is_free).collect()), "then, then, map");
    let folded = one_by_one().then(holds).fold(Vec::new, |mut free, n| {
        free.push(is_free(n));
        free
    });
    all(block_on(folded.collect::<Vec<_>>()).concat(), "then, fold");
    let mut last = true;
    let seen = std::sync::Mutex::new(&mut last);
    block_on(
        one_by_one()
            .then(holds)
            .for_each(|n| **seen.lock().unwrap() &= is_free(n)),
    );
    assert!(last, "then, for_each");
    let tried = one_by_one().then(holds);
    let tried = tried.try_for_each(|n| is_free(n).then_some(()).ok_or(n));
    assert_eq!(block_on(tried), Ok(()));
    assert_eq!(held.load(SeqCst), 0);
}
