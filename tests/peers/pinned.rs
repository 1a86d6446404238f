//! Futures that may not move: each notes its address at its first poll and compares at each later one, and
//! when it is dropped.

use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge::{
    Pool, block_on, cancel, join, join_all, prelude::*, select_safe, timeout, try_join,
    try_join_all,
};

use super::everywhere;

/// How many futures ended, and how many polls found them where they had been.
#[derive(Default)]
struct Seen {
    dropped: AtomicUsize,
    again: AtomicUsize,
}

struct Fixed<'a> {
    seen: &'a Seen,
    at: AtomicUsize,
    left: AtomicUsize,
    _pin: PhantomPinned,
}

impl Seen {
    fn fixed(&self, turns: usize) -> Fixed<'_> {
        Fixed {
            seen: self,
            at: AtomicUsize::new(0),
            left: AtomicUsize::new(turns),
            _pin: PhantomPinned,
        }
    }

    #[track_caller]
    fn check(&self, what: &str, futures: usize) {
        assert_eq!(self.dropped.swap(0, SeqCst), futures, "{what}: dropped");
        assert!(
            self.again.swap(0, SeqCst) >= futures,
            "{what}: polled again"
        );
    }
}

impl Fixed<'_> {
    fn look(&self) {
        let here = std::ptr::from_ref(self).addr();
        match self.at.swap(here, SeqCst) {
            0 => {}
            before => {
                assert_eq!(before, here, "it was moved");
                self.seen.again.fetch_add(1, SeqCst);
            }
        }
    }
}

impl Future for Fixed<'_> {
    type Output = Result<(), ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.look();
        if self.left.load(SeqCst) == 0 {
            return Poll::Ready(Ok(()));
        }
        self.left.fetch_sub(1, SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Fixed<'_> {
    fn drop(&mut self) {
        if self.at.load(SeqCst) != 0 {
            self.look();
        }
        self.seen.dropped.fetch_add(1, SeqCst);
    }
}

const TURNS: usize = 20;

async fn scopes(seen: &Seen, pool: &Pool) {
    scope(async |s| {
        for _ in 0..5 {
            drop(s.spawn(seen.fixed(TURNS)));
        }
        seen.fixed(TURNS).await
    })
    .on(pool)
    .await
    .unwrap();
    seen.check("scope: children and body", 6);
    let out: Result<(), _> = try_scope(async |s| {
        for _ in 0..5 {
            drop(s.spawn(seen.fixed(TURNS)));
        }
        seen.fixed(TURNS).await
    })
    .on(pool)
    .await;
    assert!(out.is_ok());
    seen.check("try_scope: children and body", 6);
}

async fn joins(seen: &Seen, pool: &Pool) {
    let fixed = || seen.fixed(TURNS);
    let _ = join((fixed(), fixed(), fixed())).await;
    seen.check("join", 3);
    try_join((fixed(), fixed())).await.unwrap();
    seen.check("try_join", 2);
    let _ = join_all((0..9).map(|_| fixed())).on(pool).await;
    seen.check("join_all", 9);
    // Of an iterator that does not know how many there are.
    let _ = join_all((0..9).filter(|n| n % 2 == 0).map(|_| fixed()))
        .on(pool)
        .await;
    seen.check("join_all without a size", 5);
    try_join_all((0..9).map(|_| fixed())).await.unwrap();
    seen.check("try_join_all", 9);
}

async fn wrappers(seen: &Seen) {
    let fixed = || seen.fixed(TURNS);
    let hour = Duration::from_secs(3600);
    timeout(hour, fixed()).await.unwrap().unwrap();
    seen.check("timeout", 1);
    cancel::shield(hour, fixed()).await.unwrap();
    seen.check("shield", 1);
    cancel::shield_unbounded(fixed()).await.unwrap();
    seen.check("shield_unbounded", 1);
    fixed().or_cancel().await.unwrap().unwrap();
    seen.check("or_cancel", 1);
    selvedge::select! {
        _ = select_safe(fixed()) => {}
        _ = select_safe(seen.fixed(2 * TURNS)) => {}
    }
    seen.check("select!", 2);
    let _ = selvedge::select((select_safe(fixed()), select_safe(seen.fixed(2 * TURNS)))).await;
    seen.check("select", 2);
}

async fn pipelines(seen: &Seen, pool: &Pool) {
    let items = (0..50).into_par().on(pool).then(|_| seen.fixed(TURNS));
    assert_eq!(items.count().await, 50);
    seen.check("then", 50);
    let items = (0..50).into_par().on(pool).concurrency(3);
    items.try_for_each(|_| seen.fixed(TURNS)).await.unwrap();
    seen.check("try_for_each", 50);
    let items = (0..20)
        .into_par()
        .on(pool)
        .then(|_| seen.fixed(3))
        .then(|_| seen.fixed(3));
    assert_eq!(items.count().await, 20);
    seen.check("then after then", 40);
}

#[test]
fn nothing_is_moved_between_its_polls() {
    everywhere(|_, pool| {
        let seen = Seen::default();
        block_on(async {
            scopes(&seen, pool).await;
            joins(&seen, pool).await;
            wrappers(&seen).await;
            pipelines(&seen, pool).await;
        });
    });
}

#[test]
fn nothing_is_moved_before_it_is_dropped_midway() {
    everywhere(|what, pool| {
        let seen = Seen::default();
        let (mut dropped, mut again) = (0, 0);
        for times in [1, 2, 5] {
            let mut work = Box::pin(async {
                join((
                    scopes(&seen, pool),
                    join_all((0..3).map(|_| seen.fixed(usize::MAX))),
                    (0..9)
                        .into_par()
                        .on(pool)
                        .then(|_| seen.fixed(usize::MAX))
                        .count(),
                ))
                .await
            });
            for _ in 0..times {
                // Alone: on a thread that scopes have kept for long the next one would give way first.
                let polled = block_on(std::future::poll_fn(|_| {
                    let mut cx = Context::from_waker(std::task::Waker::noop());
                    std::task::Poll::Ready(work.as_mut().poll(&mut cx))
                }));
                assert!(polled.is_pending(), "{what}");
            }
            drop(work);
            // Each looks where it is when it is dropped.
            dropped += seen.dropped.swap(0, SeqCst);
            again += seen.again.swap(0, SeqCst);
        }
        // How far the scopes in there come in one poll is a matter of time.
        assert!(dropped >= 9, "{what}: {dropped}");
        assert!(again >= 9, "{what}: {again}");
    });
}
