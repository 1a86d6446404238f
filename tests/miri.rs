//! Small programs over the façade that `scripts/miri` runs: parallel streams, `select!`, cancellable I/O in memory, and
//! the virtual clock. They run as ordinary tests too. Not for the engine, whose programs are in `scope/tests/miri_*.rs`.

use std::future::poll_fn;
use std::task::Poll;

use futures::stream;
use selvedge::{
    Cancelled, FutureCancelExt, IntoPar, IoCancelExt, ParMutExt, ParRefExt, ParStreamExt, Pool,
    block_on, cancel, par_iter, scope, select, select_safe,
};

/// Lets others run that many times, with a borrow of itself across each pause.
async fn turns(times: u32) -> u32 {
    let mut taken = 0;
    let into = &mut taken;
    for _ in 0..times {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        *into += 1;
    }
    *into
}

/// On a pool of its own, which has no thread: Miri's first model of borrowing does not take rayon's queues.
fn alone() -> Pool {
    Pool::builder().threads(0).build()
}

#[test]
fn streams_over_slices_iterators_and_streams() {
    let pool = alone();
    let mut words: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let held = &words;
    block_on(async {
        let lengths: usize = held.par().on(&pool).map(String::len).sum().await;
        assert_eq!(lengths, 30);
        let all: Vec<u32> = (0..9).into_par().on(&pool).then(turns).collect().await;
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        let kept = (0..9_u32)
            .into_par()
            .on(&pool)
            .then_filter(|&n| async move { turns(n % 3).await == 2 })
            .map(|n| vec![n; 3])
            .then(async |all| {
                let first = &all[0];
                turns(2).await;
                *first
            });
        assert_eq!(kept.sum::<u32>().await, 2 + 5 + 8);
        // Not `unfold`, which looks at its own future through a shared reference.
        let from = futures::StreamExt::then(stream::iter(0..6), async |n| {
            turns(1).await;
            n
        });
        let from = from.par().on(&pool).concurrency(3).then(turns);
        let from: Vec<u32> = from.collect().await;
        assert_eq!(from.len(), 6);
        let odd = par_iter(0..6_u32).on(&pool).try_for_each(async |n| {
            turns(n).await;
            if n == 3 { Err(n) } else { Ok(()) }
        });
        assert_eq!(odd.await, Err(3));
    });
    block_on(async {
        words
            .par_mut()
            .on(&pool)
            .for_each(async |word: &mut String| {
                turns(1).await;
                word.push('!');
            })
            .await;
    });
    assert!(words.iter().all(|word| word.ends_with('!')));
}

/// Left out under Stacked Borrows, whose rules rayon's queues break.
#[test]
fn stream_on_two_helpers() {
    if std::env::var_os("SELVEDGE_MIRI_ALONE").is_some() {
        return;
    }
    let pool = Pool::builder().threads(2).build();
    let words = [String::from("warp"), String::from("weft")];
    let lengths: usize = block_on(words.par().on(&pool).map(String::len).sum());
    assert_eq!(lengths, 8);
    let all = (0..3).into_par().on(&pool).concurrency(2).then(turns);
    assert_eq!(block_on(all.sum::<u32>()), 3);
}

#[test]
fn stream_that_is_dropped_midway() {
    let pool = alone();
    let items: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    let waits = items.par().on(&pool).for_each(async |item: &String| {
        let held = item.clone();
        let inside = &held;
        std::future::pending::<()>().await;
        assert!(inside.is_empty());
    });
    let cut = block_on(async { select_safe(waits).or_cancel_after(3).await });
    assert!(cut);
}

/// Polls a few times, then drops what it polls.
trait OrCancelAfter: Future + Sized {
    async fn or_cancel_after(self, polls: u32) -> bool {
        let mut future = Box::pin(self);
        let mut left = polls;
        let ended = poll_fn(|cx| {
            left -= 1;
            match future.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        });
        !ended.await
    }
}

impl<F: Future> OrCancelAfter for F {}

#[test]
fn first_of_several_that_borrow_themselves() {
    let pool = alone();
    let (sum, rounds) = block_on(
        scope(async |s| {
            let mut handle = s.spawn(turns(4));
            let mut rounds = 0;
            let sum = loop {
                rounds += 1;
                select! {
                    n = &mut handle => break n,
                    n = select_safe(turns(2)) => assert_eq!(n, 2),
                    n = select_safe(turns(50)) => assert_eq!(n, 50),
                    _ = cancel::cancelled() => unreachable!("nobody cancels"),
                }
            };
            (sum, rounds)
        })
        .on(&pool),
    );
    assert_eq!(sum, 4);
    assert!(rounds > 0);
}

#[test]
fn reads_in_memory_are_cancelled() {
    use futures::{AsyncReadExt, AsyncWriteExt};
    let pool = alone();
    let (read, cut) = block_on(
        scope(async |s| {
            let mut bytes = futures::io::Cursor::new(vec![1, 2, 3]).cancellable();
            let mut some = [0; 2];
            bytes.read_exact(&mut some).await.unwrap();
            let waits = s.spawn(async {
                let mut endless = stream::pending::<u8>().cancellable();
                let next = &mut endless;
                matches!(futures::StreamExt::next(next).await, Some(Err(_)))
            });
            let held = s.spawn(async {
                let kept = [5];
                let first = &kept[0];
                let cut = std::future::pending::<()>().or_cancel().await;
                (*first, cut.is_err())
            });
            turns(2).await;
            s.cancel();
            let failed = bytes.read_exact(&mut some).await.unwrap_err();
            assert!(Cancelled::find_in(&failed).is_some());
            assert!(bytes.write_all(&[1]).await.is_err());
            assert_eq!(held.await, (5, true));
            (some, waits.await)
        })
        .on(&pool),
    );
    assert_eq!((read, cut), ([1, 2], true));
}

#[cfg(feature = "testing")]
#[test]
fn limits_on_a_virtual_clock() {
    let clock = selvedge::testing::VirtualClock::new();
    use std::time::Duration;

    use selvedge::{time, timeout};

    let hour = Duration::from_secs(3600);
    let (slept, late) = clock.block_on(async {
        let slept = time::sleep(hour).await.is_ok();
        let late = timeout(hour, async {
            let kept = [1];
            let first = &kept[0];
            let _ = time::sleep(2 * hour).await;
            std::future::pending::<()>()
                .or_cancel()
                .await
                .map(|()| *first)
        });
        (slept, late.await)
    });
    assert!(slept);
    assert!(!matches!(late, Ok(Ok(_))));
}

/// A slice of a lane's is over there before an item was worked on.
#[test]
fn streams_that_keep_the_order_end_on_a_slow_clock() {
    let pool = alone();
    block_on(async {
        let numbers = || (0..40_u32).into_par().on(&pool).map(|n| n + 1);
        let longest = numbers()
            .map(|n| vec![n])
            .reduce(Vec::new, |mut all, more| {
                all.extend(more);
                all
            });
        assert_eq!(longest.await, (1..41).collect::<Vec<_>>());
        let sum = numbers()
            .fold(|| 0, |sum, n| sum + n)
            .reduce(|| 0, |a, b| a + b);
        assert_eq!(sum.await, 820);
        let text = par_iter((0..12).map(|n| n.to_string())).on(&pool);
        let text = text.reduce(String::new, |all, more| all + &more).await;
        assert_eq!(text, "01234567891011");
    });
}
