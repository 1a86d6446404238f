//! Whatever becomes of a spawn, its future is dropped once and comes to its place whole: taken, refused, or given
//! back; and what a body closure spawned before it panicked is dropped.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use common::guarded;
use selvedge_cancel::SelectSafe;
use selvedge_scope::{Scope, TryScope, block_on, join_all, scope, try_join_all, try_scope};

/// A future with something before and behind what counts its drops.
struct Counted {
    before: [u8; 300],
    drops: Arc<AtomicUsize>,
    behind: [u64; 100],
}

impl Counted {
    fn new(drops: &Arc<AtomicUsize>) -> Self {
        Self {
            before: [7; 300],
            drops: Arc::clone(drops),
            behind: [9; 100],
        }
    }

    fn is_whole(&self) -> bool {
        self.before == [7; 300] && self.behind == [9; 100]
    }
}

impl Future for Counted {
    type Output = Result<bool, ()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.is_whole()))
    }
}

impl SelectSafe for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.is_whole());
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often `run` has one future of its own dropped.
fn drops(run: impl FnOnce(Counted)) -> usize {
    let drops = Arc::new(AtomicUsize::new(0));
    run(Counted::new(&drops));
    drops.load(Ordering::Relaxed)
}

fn ended() -> Scope<'static> {
    block_on(scope(async |s: Scope<'static>| s))
}

fn try_ended() -> TryScope<'static, ()> {
    block_on(try_scope(async |s: TryScope<'static, ()>| Ok(s))).unwrap()
}

#[test]
fn future_that_is_taken_comes_whole_and_is_dropped_once() {
    guarded(|| {
        let plain = |f: Counted| {
            assert!(block_on(scope(async |s: Scope<'static>| s.spawn(f).await)).unwrap())
        };
        assert_eq!(drops(plain), 1);
        let safe = |f: Counted| {
            let got = block_on(scope(async |s: Scope<'static>| {
                s.spawn_select_safe(f).await
            }));
            assert!(got.unwrap().unwrap());
        };
        assert_eq!(drops(safe), 1);
        let tried = |f: Counted| {
            let got = block_on(try_scope(async |s: TryScope<'static, ()>| {
                Ok(s.spawn_select_safe(f).await.unwrap())
            }));
            assert_eq!(got, Ok(true));
        };
        assert_eq!(drops(tried), 1);
        let cut = |f: Counted| {
            let got = block_on(scope(async |s: Scope<'static>| {
                let child = s.spawn_select_safe(f);
                s.cancel();
                child.await
            }));
            assert!(got.is_err(), "it was dropped before it was polled");
        };
        assert_eq!(drops(cut), 1);
    });
}

#[test]
fn future_that_is_refused_by_an_ended_scope_is_dropped_once() {
    guarded(|| {
        let panics = |run: &dyn Fn(Counted)| {
            drops(|f: Counted| assert!(catch_unwind(AssertUnwindSafe(|| run(f))).is_err()))
        };
        assert_eq!(panics(&|f| drop(ended().spawn(f))), 1);
        assert_eq!(panics(&|f| drop(ended().spawn_select_safe(f))), 1);
        assert_eq!(panics(&|f| drop(try_ended().spawn(f))), 1);
        assert_eq!(panics(&|f| drop(try_ended().spawn_select_safe(f))), 1);
    });
}

#[test]
fn future_that_is_refused_comes_back_whole() {
    guarded(|| {
        let back = |f: Counted| {
            let back = ended().try_spawn(f).unwrap_err().into_inner();
            assert!(block_on(back).unwrap());
        };
        assert_eq!(drops(back), 1);
        let back = |f: Counted| {
            let back = try_ended().try_spawn(f).unwrap_err().into_inner();
            assert!(block_on(back).unwrap());
        };
        assert_eq!(drops(back), 1);
        let cancelled = |f: Counted| {
            let body = async |s: Scope<'static>| {
                s.cancel();
                let back = s.try_spawn(f).unwrap_err().into_inner();
                assert!(back.is_whole());
            };
            block_on(scope(body));
        };
        assert_eq!(drops(cancelled), 1);
    });
}

#[test]
fn future_that_is_spawned_as_the_scope_ends_runs_or_comes_back_whole() {
    guarded(|| {
        let rounds = if cfg!(miri) { 5 } else { 500 };
        let (mut ran, mut back) = (0, 0);
        for _ in 0..rounds {
            let once = |f: Counted| {
                let (send, receive) = std::sync::mpsc::channel::<Scope<'static>>();
                let thread = std::thread::spawn(move || {
                    let s = receive.recv().unwrap();
                    s.try_spawn(f)
                        .map(drop)
                        .map_err(|refused| refused.into_inner().is_whole())
                });
                block_on(scope(async |s: Scope<'static>| send.send(s).unwrap()));
                match thread.join().unwrap() {
                    Ok(()) => ran += 1,
                    Err(whole) => back += usize::from(whole),
                }
            };
            assert_eq!(drops(once), 1);
        }
        assert_eq!(ran + back, rounds);
    });
}

#[test]
fn children_of_a_body_closure_that_panics_are_dropped_once() {
    guarded(|| {
        let spawned = |f: Counted| {
            let opened = catch_unwind(AssertUnwindSafe(|| {
                #[allow(unreachable_code)]
                let body = |s: Scope<'static>| {
                    drop(s.spawn(f));
                    panic!("while the body is made");
                    std::future::ready(())
                };
                drop(scope(body));
            }));
            assert_eq!(
                opened.unwrap_err().downcast_ref(),
                Some(&"while the body is made")
            );
        };
        assert_eq!(drops(spawned), 1);
    });
}

#[test]
fn iterators_that_lie_about_their_length_or_panic_lose_no_future() {
    /// Says `says`, has `has`, and panics then if it `fails`.
    struct Lies<'a> {
        says: usize,
        has: usize,
        fails: bool,
        drops: &'a Arc<AtomicUsize>,
    }

    impl Iterator for Lies<'_> {
        type Item = Counted;

        fn next(&mut self) -> Option<Counted> {
            if self.has == 0 {
                assert!(!self.fails, "as told");
                return None;
            }
            self.has -= 1;
            Some(Counted::new(self.drops))
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.says, Some(self.says))
        }
    }

    guarded(|| {
        for (says, has, fails) in [
            (3, 5, false),
            (5, 3, false),
            (0, 2, false),
            (4, 3, true),
            (3, 3, false),
        ] {
            let drops = Arc::new(AtomicUsize::new(0));
            let lies = || Lies {
                says,
                has,
                fails,
                drops: &drops,
            };
            let run = || {
                let all = block_on(join_all(lies()));
                let tried = block_on(try_join_all(lies())).unwrap();
                assert!(
                    all.into_iter().all(|whole| whole == Ok(true))
                        && tried.into_iter().all(|whole| whole)
                );
            };
            let ran = catch_unwind(AssertUnwindSafe(run)).is_ok();
            assert_eq!(ran, !fails);
            let batches = if fails { 1 } else { 2 };
            assert_eq!(
                drops.load(Ordering::Relaxed),
                batches * has,
                "{says} {has} {fails}"
            );
        }
    });
}
