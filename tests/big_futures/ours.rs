//! The ways of ours that a big future can go, each with what it is measured by.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selvedge::cancel::{checkpoint, shield};
use selvedge::testing::lending::{Lending, with};
use selvedge::{
    FutureCancelExt, IntoPar, Pool, Scope, TryScope, block_on, join, join_all, scope, select_safe,
    timeout, try_join, try_join_all, try_scope,
};

use super::peers::{
    ARRAY, BLOCK_ON, COMBINE, COMBINE_MORE, JOIN, RANGE, SOME, SPAWN, SPAWN_FN, STREAM, TRY_RANGE,
    TRY_SPAWN, WRAPPED,
};
use super::{AMPLE, BIG, LONG, Room, Way, big, on_stack};

/// In a scope, on a stack of that size.
fn in_scope<F: Future<Output = Result<usize, ()>>>(
    stack: usize,
    body: impl FnOnce(Scope<'static>) -> F + Send,
) {
    on_stack(stack, || assert_eq!(block_on(scope(body)), Ok(1)));
}

fn in_try_scope<F: Future<Output = Result<usize, ()>>>(
    stack: usize,
    body: impl FnOnce(TryScope<'static, ()>) -> F + Send,
) {
    on_stack(stack, || assert_eq!(block_on(try_scope(body)), Ok(1)));
}

fn on_a_helper(stack: usize) {
    let threads = rayon_core::ThreadPoolBuilder::new()
        .num_threads(1)
        .stack_size(stack);
    let pool = Pool::from_rayon(Arc::new(threads.build().unwrap()));
    static SPAWNED: AtomicBool = AtomicBool::new(false);
    let child = async |s: Scope<'static>| {
        while !SPAWNED.load(Ordering::Relaxed) {
            if rayon_core::current_thread_index().is_some() {
                drop(s.spawn(big::<BIG>()));
                SPAWNED.store(true, Ordering::Relaxed);
            }
            checkpoint().await.unwrap();
        }
    };
    on_stack(AMPLE, || {
        with(Lending::Forced, || {
            let body = async |s: Scope<'static>| {
                drop(s.spawn_with(child));
                drop(s.spawn_with(child));
            };
            block_on(scope(body).on(&pool));
        });
    });
    assert!(SPAWNED.load(Ordering::Relaxed), "a helper spawned");
}

fn from_another_thread(stack: usize) {
    on_stack(AMPLE, || {
        let body = async |s: Scope<'static>| {
            on_stack(stack, || drop(s.spawn(big::<BIG>())));
            assert_eq!(s.len(), 1);
        };
        block_on(scope(body));
    });
}

fn try_from_another_thread(stack: usize) {
    on_stack(AMPLE, || {
        let body = async |s: TryScope<'static, ()>| {
            on_stack(stack, || drop(s.try_spawn(big::<BIG>()).unwrap()));
            assert_eq!(s.len(), 1);
            Ok(1)
        };
        assert_eq!(block_on(try_scope(body)), Ok(1));
    });
}

/// A scope that has ended gives the future back.
fn refused(stack: usize) {
    on_stack(stack, || {
        let ended = block_on(scope(async |s: Scope<'static>| s));
        assert!(ended.try_spawn(big::<BIG>()).is_err());
    });
}

/// Each way in with what it is measured by.
pub(crate) const OURS: [(Way, usize); 36] = [
    (
        ("block_on", |n| {
            on_stack(n, || assert_eq!(block_on(big::<BIG>()), Ok(1)))
        }),
        BLOCK_ON,
    ),
    (("scope", |n| in_scope(n, |_| big::<BIG>())), COMBINE),
    (
        ("try_scope", |n| in_try_scope(n, |_| big::<BIG>())),
        COMBINE,
    ),
    (
        ("spawn", |n| {
            in_scope(n, async |s: Scope<'static>| s.spawn(big::<BIG>()).await)
        }),
        SPAWN,
    ),
    (
        ("spawn_with", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_with(|_| big::<BIG>()).await
            })
        }),
        SPAWN,
    ),
    (
        ("spawn_fn", |n| {
            in_scope(n, async |s: Scope<'static>| {
                let room = Room::new();
                s.spawn_fn(move || room.look()).await
            });
        }),
        SPAWN_FN,
    ),
    (
        ("try_spawn", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.try_spawn(big::<BIG>()).unwrap().await
            })
        }),
        TRY_SPAWN,
    ),
    (
        ("spawn_select_safe", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_select_safe(big::<BIG>()).await.unwrap()
            });
        }),
        SPAWN,
    ),
    (
        ("spawn of a child", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_with(async |s: Scope<'static>| s.spawn(big::<BIG>()).await)
                    .await
            });
        }),
        SPAWN,
    ),
    (("spawn on a helper", on_a_helper), SPAWN),
    (("spawn from another thread", from_another_thread), SPAWN),
    (("try_spawn that is refused", refused), COMBINE),
    (
        ("try_scope: spawn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn(big::<BIG>()).await.unwrap())
            })
        }),
        SPAWN,
    ),
    (
        ("try_scope: spawn_with", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn_with(|_| big::<BIG>()).await.unwrap())
            });
        }),
        SPAWN,
    ),
    (
        ("try_scope: spawn_fn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                let room = Room::new();
                Ok(s.spawn_fn(move || room.look()).await.unwrap())
            });
        }),
        SPAWN_FN,
    ),
    (
        ("try_scope: try_spawn", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.try_spawn(big::<BIG>()).unwrap().await.unwrap())
            });
        }),
        TRY_SPAWN,
    ),
    (
        ("try_scope: spawn_select_safe", |n| {
            in_try_scope(n, async |s: TryScope<'static, ()>| {
                Ok(s.spawn_select_safe(big::<BIG>()).await.unwrap())
            });
        }),
        SPAWN,
    ),
    (
        (
            "try_scope: try_spawn from another thread",
            try_from_another_thread,
        ),
        TRY_SPAWN,
    ),
    (
        ("join", |n| {
            on_stack(n, || {
                assert_eq!(block_on(join((big::<BIG>(), big::<BIG>()))), (Ok(1), Ok(1)))
            });
        }),
        JOIN,
    ),
    (
        ("try_join", |n| {
            on_stack(n, || {
                assert_eq!(block_on(try_join((big::<BIG>(), big::<BIG>()))), Ok((1, 1)))
            });
        }),
        JOIN,
    ),
    (
        ("join_all of an array", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(join_all([big::<BIG>(), big::<BIG>()])),
                    [Ok(1), Ok(1)]
                )
            });
        }),
        ARRAY,
    ),
    (
        ("join_all of a range", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(join_all((0..2).map(|_| big::<BIG>()))),
                    [Ok(1), Ok(1)]
                )
            });
        }),
        RANGE,
    ),
    (
        ("join_all of what does not know its length", |n| {
            on_stack(n, || {
                let some = (0..4).filter(|i| i % 2 == 0).map(|_| big::<BIG>());
                assert_eq!(block_on(join_all(some)), [Ok(1), Ok(1)]);
            });
        }),
        SOME,
    ),
    (
        ("try_join_all of an array", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(try_join_all([big::<BIG>(), big::<BIG>()])),
                    Ok(vec![1, 1])
                )
            });
        }),
        ARRAY,
    ),
    (
        ("try_join_all of a range", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(try_join_all((0..2).map(|_| big::<BIG>()))),
                    Ok(vec![1, 1])
                )
            });
        }),
        TRY_RANGE,
    ),
    (
        ("timeout", |n| {
            on_stack(n, || {
                assert_eq!(block_on(timeout(LONG, big::<BIG>())).unwrap(), Ok(1))
            })
        }),
        COMBINE,
    ),
    (
        ("timeout, awaited", |n| {
            on_stack(n, || {
                block_on(async { assert_eq!(timeout(LONG, big::<BIG>()).await.unwrap(), Ok(1)) })
            });
        }),
        COMBINE,
    ),
    (
        ("shield", |n| {
            in_scope(n, async |_: Scope<'static>| {
                shield(LONG, big::<BIG>()).await
            })
        }),
        COMBINE,
    ),
    (
        ("or_cancel", |n| {
            in_scope(n, async |_: Scope<'static>| {
                big::<BIG>().or_cancel().await.unwrap()
            })
        }),
        COMBINE,
    ),
    (
        ("spawn_select_safe of a wrapped one", |n| {
            in_scope(n, async |s: Scope<'static>| {
                s.spawn_select_safe(select_safe(big::<BIG>()))
                    .await
                    .unwrap()
            });
        }),
        WRAPPED,
    ),
    (
        ("scope with knobs", |n| {
            on_stack(n, || {
                assert_eq!(
                    block_on(scope(|_| big::<BIG>()).name("big").timeout(LONG).inline()),
                    Ok(1)
                )
            });
        }),
        COMBINE_MORE,
    ),
    (
        ("then", |n| {
            on_stack(n, || {
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then(|_| async { big::<BIG>().await.unwrap() });
                assert_eq!(block_on(items.sum::<usize>()), 2);
            });
        }),
        STREAM,
    ),
    (
        ("then_filter", |n| {
            on_stack(n, || {
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then_filter(|_| async { big::<BIG>().await.is_ok() });
                assert_eq!(block_on(items.count()), 2);
            });
        }),
        STREAM,
    ),
    // Each stage behind it had copies of it on the stack.
    (
        ("then, and seven that wait behind it", |n| {
            on_stack(n, || {
                let id = async |n: usize| n;
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then(|_| async { big::<BIG>().await.unwrap() })
                    .then(id)
                    .then(id)
                    .then(id)
                    .then_filter(|_| std::future::ready(true))
                    .then(id)
                    .then(id)
                    .then(id);
                assert_eq!(block_on(items.sum::<usize>()), 2);
            });
        }),
        STREAM,
    ),
    (
        ("then, and what does not wait behind it", |n| {
            on_stack(n, || {
                let items = (0..2)
                    .into_par()
                    .concurrency(2)
                    .then(|_| async { big::<BIG>().await.unwrap() })
                    .map(|n| n)
                    .filter(|_| true)
                    .inspect(|_| ())
                    .filter_map(Some)
                    .fold(|| 0, |a, n| a + n)
                    .map(|n| n)
                    .try_fold(|| 0, |a, n| Ok::<_, ()>(a + n))
                    .map(Result::unwrap);
                assert_eq!(block_on(items.sum::<usize>()), 2);
            });
        }),
        STREAM,
    ),
    (
        ("for_each behind a stage that waits", |n| {
            on_stack(n, || {
                let items = (0..2).into_par().concurrency(2).then(async |n: usize| n);
                block_on(items.for_each(|_| async { _ = big::<BIG>().await }));
            });
        }),
        STREAM,
    ),
];
