//! `PROBLEMS.md`: what users of async Rust run into. Each test carries the number of its problem.

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::burn;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use selvedge::cancel::{cancelled, checkpoint};
use selvedge::{
    CauseKind, IntoPar, Pool, block_on, join_all, scope, select, select_safe, try_scope,
};

// 4: the driver is a child, so it is polled while the body sends.
#[test]
fn driver_that_is_a_child_runs_while_the_body_sends() {
    let (mut send, mut receive) = mpsc::channel(2);
    let driven = AtomicUsize::new(0);
    block_on(scope(async |s| {
        s.spawn(async {
            while receive.next().await.is_some() {
                driven.fetch_add(1, Ordering::SeqCst);
            }
        });
        for i in 0..10 {
            send.send(i).await.unwrap();
        }
        drop(send);
    }));
    assert_eq!(driven.into_inner(), 10);
}

async fn read_send(source: &AtomicUsize, send: &mut mpsc::Sender<usize>) -> bool {
    let item = source.fetch_add(1, Ordering::SeqCst);
    if item >= 200 {
        return false;
    }
    // Waits for a place if there is none, and only then is the item in the channel.
    poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    send.start_send(item).unwrap();
    true
}

async fn arrivals(mut receive: mpsc::Receiver<usize>) -> Vec<usize> {
    let mut arrived = Vec::new();
    while let Some(item) = receive.next().await {
        arrived.push(item);
        checkpoint().await.unwrap();
    }
    arrived
}

// 5: an item was read, and waits for a place in the channel when a tick comes. Such a send is not select-safe, so
// `select!` takes it only as a child that is kept; the chapter `select` of the guide shows that the other way does
// not compile.
#[test]
fn half_done_send_is_kept_while_ticks_win_and_all_200_items_arrive_in_order() {
    let (source, mut ticks) = (AtomicUsize::new(0), 0);
    let (send, receive) = mpsc::channel(0);
    let arrived = block_on(scope(async |s| {
        let arrived = s.spawn(arrivals(receive));
        let next = |mut send| async {
            let has_more = read_send(&source, &mut send).await;
            has_more.then_some(send)
        };
        let mut sending = s.spawn(next(send));
        loop {
            select! {
                again = &mut sending => match again {
                    Some(send) => sending = s.spawn(next(send)),
                    None => break,
                },
                _ = checkpoint() => ticks += 1,
            }
        }
        arrived.await
    }));
    assert!(ticks > 0, "the tick has never won");
    assert!(arrived.into_iter().eq(0..200));
}

// 5: who vouches for it by hand gets the loss back.
#[test]
fn half_done_send_that_is_declared_select_safe_loses_items() {
    let (source, mut ticks) = (AtomicUsize::new(0), 0);
    let (mut send, receive) = mpsc::channel(0);
    let arrived = block_on(scope(async |s| {
        let arrived = s.spawn(arrivals(receive));
        loop {
            select! {
                has_more = select_safe(read_send(&source, &mut send)) => match has_more {
                    true => {}
                    false => break,
                },
                _ = checkpoint() => ticks += 1,
            }
        }
        send.close_channel();
        arrived.await
    }));
    assert!(ticks > 0 && arrived.len() < 200, "{}", arrived.len());
}

// 9: eight pieces of computing take all cores, in a scope, in `join_all` and in a parallel stream. It is not
// timed here, where other tests run beside it: that two run at once is what is shown.
#[test]
fn computing_children_run_at_the_same_time() {
    let pool = Pool::builder().threads(1).build();
    let (inside, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let compute = || {
        if inside.fetch_add(1, Ordering::SeqCst) > 0 {
            together.fetch_add(1, Ordering::SeqCst);
        }
        burn(Duration::from_millis(4));
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    // The first run teaches what such children cost, and starts the pool.
    for _ in 0..20 {
        block_on(
            scope(async |s| {
                for _ in 0..8 {
                    s.spawn_fn(compute);
                }
            })
            .on(&pool),
        );
        if together.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert!(
        together.swap(0, Ordering::SeqCst) > 0,
        "children of a scope"
    );
    for _ in 0..20 {
        block_on(join_all((0..8).map(|_| async { compute() })).on(&pool));
        if together.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert!(
        together.swap(0, Ordering::SeqCst) > 0,
        "futures of `join_all`"
    );
    for _ in 0..20 {
        block_on((0..8).into_par().on(&pool).for_each(|_| compute()));
        if together.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert!(together.load(Ordering::SeqCst) > 0, "items of a stream");
}

#[derive(Debug)]
struct AppError(String);

impl From<std::num::ParseIntError> for AppError {
    fn from(error: std::num::ParseIntError) -> Self {
        Self(error.to_string())
    }
}

impl From<selvedge::Cancelled> for AppError {
    fn from(error: selvedge::Cancelled) -> Self {
        Self(error.to_string())
    }
}

// 12: `?` in body and children, with no type written inside.
async fn sum(lines: &[&str]) -> Result<u32, AppError> {
    try_scope(async |s| {
        let mut handles = Vec::new();
        for line in lines {
            handles.push(s.spawn(async move { Ok(line.trim().parse()?) }));
        }
        let mut sum = 0;
        for handle in handles {
            let number: u32 = handle.await?;
            sum += number;
        }
        Ok(sum)
    })
    .await
}

#[test]
fn question_marks_need_no_annotations() {
    assert_eq!(block_on(sum(&["1", " 2", "3 "])).unwrap(), 6);
    let error = block_on(sum(&["1", "two"])).unwrap_err();
    assert!(error.0.contains("invalid digit"), "{}", error.0);
}

async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// 29: the parent panics; the child is asked to stop and has ended before the panic leaves the scope.
#[test]
fn panicking_parent_cancels_and_joins_its_child() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let raised = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(scope(async |s| {
            s.spawn(async {
                let cause = cancelled().await;
                yields(5).await;
                log.lock().unwrap().push(cause.kind());
            });
            yields(3).await;
            panic!("the parent");
        }));
    }));
    assert_eq!(
        raised.unwrap_err().downcast_ref::<&str>(),
        Some(&"the parent")
    );
    assert_eq!(*log.lock().unwrap(), [CauseKind::SiblingPanicked]);
}
