//! Join handles of a `try_scope`, which watch the token of whoever awaits them: what they hold while they wait,
//! and whose cancellation cuts them short. Not for outputs as such: that is `outputs.rs`.

mod common;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use common::{everywhere, yields};
use selvedge_cancel::Cancelled;
use selvedge_scope::{TryScope, block_on, scope, try_scope};

/// A waker whose last clone panics when it is dropped.
struct Bomb(Arc<AtomicUsize>);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            panic!("a waker's drop");
        }
    }
}

/// An output that counts its drops, and holds nothing that a second one would break.
struct Output<'a>(&'a AtomicUsize);

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A test that has failed cancels it, so that the failure is told.
async fn until(open: &AtomicBool) {
    while !open.load(Ordering::SeqCst) && selvedge_cancel::check().is_ok() {
        yields(1).await;
    }
}

// W11, W4: the handle's watch of the awaiting task holds the last clone of a waker whose drop panics. It goes when
// the output is taken, or the handle dropped: the output is dropped once, and comes out if it was asked for.
#[test]
fn waker_that_panics_when_the_watch_lets_go_leaves_one_drop_of_the_output() {
    everywhere(|mode, pool| {
        for taken in [false, true] {
            let what = format!("{mode:?} {} {taken}", pool.threads());
            let (drops, open) = (AtomicUsize::new(0), AtomicBool::new(false));
            let bombs = Arc::new(AtomicUsize::new(0));
            let ended = block_on(
                try_scope(async |s: TryScope<'_, Cancelled>| {
                    let mut handle = s.spawn(async {
                        until(&open).await;
                        Ok(Output(&drops))
                    });
                    let waker = Waker::from(Arc::new(Bomb(bombs.clone())));
                    let mut cx = Context::from_waker(&waker);
                    assert!(Pin::new(&mut handle).poll(&mut cx).is_pending());
                    // The handle has the last clones.
                    drop(waker);
                    open.store(true, Ordering::SeqCst);
                    while !handle.is_finished() {
                        yields(1).await;
                    }
                    assert_eq!(drops.load(Ordering::SeqCst), 0, "{what}: kept");
                    assert_eq!(bombs.load(Ordering::SeqCst), 0, "{what}: the watch has it");
                    if taken {
                        let poll = catch_unwind(AssertUnwindSafe(|| {
                            let mut cx = Context::from_waker(Waker::noop());
                            matches!(Pin::new(&mut handle).poll(&mut cx), Poll::Ready(Ok(_)))
                        }));
                        assert_eq!(poll.ok(), Some(true), "{what}: the output came out");
                    }
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(handle)));
                    assert_eq!(bombs.load(Ordering::SeqCst), 1, "{what}: it went off");
                    Ok(())
                })
                .on(pool),
            );
            assert!(ended.is_ok(), "{what}");
            assert_eq!(
                drops.load(Ordering::SeqCst),
                1,
                "{what}: drops of the output"
            );
        }
    });
}

// API 1.1: a handle watches the task that awaits it now, not the one that polled it first. An inner scope that is
// cancelled has no say once the handle has gone back to the outer one.
#[test]
fn handle_that_moved_out_of_a_cancelled_scope_is_not_cut_short() {
    everywhere(|mode, pool| {
        let open = AtomicBool::new(false);
        let output = block_on(
            try_scope(async |s: TryScope<'_, Cancelled>| {
                let mut handle = s.spawn(async {
                    until(&open).await;
                    Ok(5)
                });
                scope(async |inner| {
                    let pending =
                        poll_fn(|cx| Poll::Ready(Pin::new(&mut handle).poll(cx).is_pending()));
                    assert!(pending.await, "{mode:?}: the inner scope waited for it");
                    inner.cancel();
                    assert!(selvedge_cancel::check().is_err());
                })
                .on(pool)
                .await;
                assert!(selvedge_cancel::check().is_ok());
                let pending =
                    poll_fn(|cx| Poll::Ready(Pin::new(&mut handle).poll(cx).is_pending()));
                assert!(
                    pending.await,
                    "{mode:?}: the child runs, and so waits the handle"
                );
                open.store(true, Ordering::SeqCst);
                handle.await
            })
            .on(pool),
        );
        assert_eq!(output.unwrap(), 5, "{mode:?}");
    });
}

// API 1.1: the other way round, the scope that the handle has moved into does cut it short.
#[test]
fn handle_that_moved_into_a_cancelled_scope_is_cut_short() {
    everywhere(|mode, pool| {
        let open = AtomicBool::new(false);
        block_on(
            try_scope(async |s: TryScope<'_, Cancelled>| {
                let mut handle = s.spawn(async {
                    until(&open).await;
                    Ok(5)
                });
                let pending =
                    poll_fn(|cx| Poll::Ready(Pin::new(&mut handle).poll(cx).is_pending()));
                assert!(pending.await, "{mode:?}: the outer scope waited for it");
                scope(async |inner| {
                    inner.cancel();
                    assert!(handle.await.is_err(), "{mode:?}: the inner one gives up");
                })
                .on(pool)
                .await;
                open.store(true, Ordering::SeqCst);
                Ok(())
            })
            .on(pool),
        )
        .unwrap();
    });
}

/// The place in a deadline's cause is the program's, not the library's.
#[test]
fn deadline_of_a_scope_names_where_it_was_asked_for() {
    let line = line!() + 4;
    let cause = selvedge_scope::block_on(
        selvedge_scope::scope(async |_| selvedge_cancel::cancelled().await)
            // On the next line.
            .timeout(std::time::Duration::ZERO),
    );
    let place = cause.place().expect("a deadline has a place");
    assert_eq!((place.file(), place.line()), (file!(), line));
}
