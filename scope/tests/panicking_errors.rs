//! Errors of a `try_scope` whose destructors panic, in a scope that is dropped half-run.
//! Not for panics of children and bodies as such: that is `panics.rs`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Count, everywhere, message, never, poll_once, yields};
use selvedge_scope::{TryScope, block_on, try_join, try_join_all, try_scope};

fn panics<'a>() -> Result<(), Nasty<'a>> {
    panic!("a child")
}

/// Panics whenever it is dropped, a panic being under way or not.
#[derive(Debug)]
struct Nasty<'a>(&'a AtomicUsize);

impl Drop for Nasty<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("an error's destructor");
    }
}

// W4, W7: the scope holds errors that its children have returned, and is dropped. Two that panic at once would end
// the process; each is dropped on its own, and the first panic comes out, a child's before theirs.
#[test]
fn errors_that_panic_in_a_dropped_scope_are_dropped_one_by_one() {
    everywhere(|mode, pool| {
        for errors in [1, 2, 5] {
            for child_panics in [false, true] {
                let what = format!("{mode:?} {} {errors} {child_panics}", pool.threads());
                let count = Count::new();
                let (dropped, came) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let mut scoped = Box::pin(
                    try_scope(async |s: TryScope<'_, Nasty<'_>>| {
                        let idle = count.one();
                        s.spawn(async {
                            let _idle = idle;
                            never::<Result<(), _>>().await
                        });
                        for i in 0..errors {
                            let (one, dropped, came) = (count.one(), &dropped, &came);
                            s.spawn(async move {
                                let _one = one;
                                yields(i).await;
                                came.fetch_add(1, Ordering::SeqCst);
                                Err::<(), _>(Nasty(dropped))
                            });
                        }
                        if child_panics {
                            let (one, came) = (count.one(), &came);
                            s.spawn(async move {
                                let _one = one;
                                came.fetch_add(1, Ordering::SeqCst);
                                panics()
                            });
                        }
                        never::<()>().await;
                        Ok(())
                    })
                    .on(pool),
                );
                let all = errors + usize::from(child_panics);
                while came.load(Ordering::SeqCst) < all {
                    assert!(poll_once(scoped.as_mut()).is_pending(), "{what}");
                }
                assert_eq!(dropped.load(Ordering::SeqCst), 0, "{what}: it keeps them");
                let raised = catch_unwind(AssertUnwindSafe(|| drop(scoped)));
                let first = if child_panics {
                    "a child"
                } else {
                    "an error's destructor"
                };
                let raised = raised.err().map(|payload| message(&*payload));
                assert_eq!(raised.as_deref(), Some(first), "{what}");
                assert_eq!(dropped.load(Ordering::SeqCst), errors, "{what}");
                count.assert_settled(&what);
            }
        }
    });
}

// The first error is the result of a join, whatever the destructors of the others do.
#[test]
fn errors_that_panic_beside_the_first_of_a_join_lose_nothing() {
    everywhere(|_, _| {
        for all in [false, true] {
            let (count, dropped) = (Count::new(), AtomicUsize::new(0));
            let first = count.one();
            let fails = |own| {
                let dropped = &dropped;
                async move { Err::<(), _>((own, Nasty(dropped))) }
            };
            let joined = async {
                let (a, b, c) = (fails(Some(first)), fails(None), fails(None));
                match all {
                    false => try_join((a, b, c)).await.map(drop),
                    true => try_join_all([a, b, c]).await.map(drop),
                }
            };
            let failed = catch_unwind(AssertUnwindSafe(|| block_on(joined)));
            let error = failed
                .expect("others do not hide the first")
                .expect_err("all fail");
            assert_eq!(dropped.load(Ordering::SeqCst), 2, "all: {all}");
            assert!(catch_unwind(AssertUnwindSafe(|| drop(error))).is_err());
            assert_eq!(dropped.load(Ordering::SeqCst), 3, "all: {all}");
            count.assert_settled("the first error");
        }
    });
}
