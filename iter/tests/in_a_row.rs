//! Pipelines that a task runs in a loop, each over in one poll: those beside the task have turns.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use selvedge_iter::IntoPar;

// Lanes that are over in one poll had their thread for as long as the loop went on.
#[test]
fn pipelines_in_a_row_leave_turns_to_those_beside_them() {
    const TURNS: usize = 12;
    const MOST: usize = 20_000;
    let (turns, opened) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let pipelines = async {
        while turns.load(Ordering::SeqCst) < TURNS && opened.load(Ordering::SeqCst) < MOST {
            opened.fetch_add(1, Ordering::SeqCst);
            let items = (0..10_u32).into_par().map(|n| {
                let from = Instant::now();
                while from.elapsed() < Duration::from_micros(2) {}
                n
            });
            assert_eq!(items.sum::<u32>().await, 45);
        }
    };
    let beside = poll_fn(|cx| {
        if turns.fetch_add(1, Ordering::SeqCst) >= TURNS {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    futures::executor::block_on(async { futures::join!(pipelines, beside) });
    // Those of 5 ms are 250 at most, and the machine may be busy.
    let opened = opened.load(Ordering::SeqCst);
    assert!(opened <= TURNS * 1000, "{opened} for {TURNS} turns");
}
