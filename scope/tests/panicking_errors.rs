//! Errors of a `try_scope` whose destructors panic, in a scope that is dropped half-run.
//! Not for panics of children and bodies as such: that is `panics.rs`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Count, everywhere, message, never, poll_once, yields};
use selvedge_scope::{TryScope, try_scope};

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
