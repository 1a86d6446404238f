//! A walk through the life of a scope: at each of its polls it is forgotten, dropped, or somebody panics;
//! alone, nested, on helpers, with wakers kept past the end. Drops are counted, borrowed data is looked at.
//! the products that issue and STYLE ask for.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use common::{Bell, Count, Data, Noisy, POOLS, everywhere, guarded, on_a_thread, poll_once};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, join_all, scope, try_scope};

/// What happens at the poll that a walk stops at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Drop,
    Forget,
    ChildPanics,
    BodyPanics,
    Completes,
}

const ENDS: [End; 5] = [
    End::Drop,
    End::Forget,
    End::ChildPanics,
    End::BodyPanics,
    End::Completes,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Plain,
    Try,
    Batch,
    Nested,
}

/// Everything that a walk's members share.
struct World {
    count: Arc<Count>,
    data: Data,
    kept: Arc<Mutex<Vec<Waker>>>,
    /// Which poll of a member, counting from zero, panics: child or body.
    child_panics_at: Option<usize>,
    body_panics_at: Option<usize>,
}

/// Takes `left` polls, keeps its waker each time, looks at borrowed data, may panic.
struct Step<'a> {
    world: &'a World,
    left: usize,
    polls: usize,
    panics_at: Option<usize>,
    _noisy: Noisy<'a>,
    _one: common::Counted,
}

impl Future for Step<'_> {
    type Output = common::Counted;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.world.data.look();
        self.world.kept.lock().unwrap().push(cx.waker().clone());
        assert!(self.panics_at != Some(self.polls), "as planned");
        self.polls += 1;
        if self.left == 0 {
            return Poll::Ready(self.world.count.one());
        }
        self.left -= 1;
        Poll::Pending
    }
}

fn step(world: &World, left: usize, panics_at: Option<usize>) -> Step<'_> {
    Step {
        world,
        left,
        polls: 0,
        panics_at,
        _noisy: Noisy(&world.data),
        _one: world.count.one(),
    }
}

const CHILDREN: usize = 4;
const POLLS: usize = 3;

type Life<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn life<'a>(shape: Shape, world: &'a World, pool: &'a Pool) -> Life<'a> {
    let child = move |i: usize| {
        step(
            world,
            POLLS + i % 2,
            (i == 2).then_some(world.child_panics_at).flatten(),
        )
    };
    let body = move || step(world, POLLS, world.body_panics_at);
    match shape {
        Shape::Plain => Box::pin(async move {
            scope(async |s| {
                let kept = (0..CHILDREN).map(|i| s.spawn(child(i))).collect::<Vec<_>>();
                body().await;
                for handle in kept.into_iter().take(2) {
                    handle.await;
                }
            })
            .on(pool)
            .await;
        }),
        Shape::Try => Box::pin(async move {
            let result = try_scope(async |s| {
                for i in 0..CHILDREN {
                    s.spawn(async move { Ok::<_, Noisy<'_>>(child(i).await) });
                }
                body().await;
                Ok(())
            })
            .on(pool)
            .await;
            assert!(result.is_ok());
        }),
        Shape::Batch => Box::pin(async move {
            let all = join_all((0..CHILDREN).map(child)).on(pool).await;
            assert_eq!(all.len(), CHILDREN);
            body().await;
        }),
        Shape::Nested => Box::pin(async move {
            scope(async |s| {
                s.spawn(async move {
                    scope(async |inner| {
                        for i in 0..CHILDREN / 2 {
                            inner.spawn(child(i));
                        }
                        inner.spawn(async move {
                            join_all([child(3)]).on(pool).await;
                        });
                    })
                    .on(pool)
                    .await;
                });
                s.spawn(child(2));
                body().await;
            })
            .on(pool)
            .await;
        }),
    }
}

/// Wakes everything that waits, as events from outside would.
fn stir(world: &World) {
    let wakers = std::mem::take(&mut *world.kept.lock().unwrap());
    for waker in &wakers {
        waker.wake_by_ref();
    }
    // Kept past the end.
    world.kept.lock().unwrap().extend(wakers);
}

/// One walk. Returns whether it took place: there are only so many polls.
fn walk(shape: Shape, end: End, at: usize, pool: &Pool) -> bool {
    let world = World {
        count: Count::new(),
        data: Data::new(),
        kept: Arc::default(),
        child_panics_at: (end == End::ChildPanics).then_some(at),
        body_panics_at: (end == End::BodyPanics).then_some(at),
    };
    let kept = world.kept.clone();
    let what = format!("{shape:?} {end:?} at {at}, {pool:?}");
    let mut life = life(shape, &world, pool);
    let mut polls = 0;
    let came = catch_unwind(AssertUnwindSafe(|| {
        loop {
            if polls == at && matches!(end, End::Drop | End::Forget) {
                return false;
            }
            polls += 1;
            assert!(polls < 50, "{what}: no end");
            if poll_once(life.as_mut()).is_ready() {
                return true;
            }
            stir(&world);
        }
    }));
    let reached = match end {
        End::ChildPanics | End::BodyPanics => came.is_err(),
        End::Drop | End::Forget => matches!(came, Ok(false)),
        End::Completes => matches!(came, Ok(true)),
    };
    if came.is_err() {
        assert!(matches!(end, End::ChildPanics | End::BodyPanics), "{what}");
    }
    if end == End::Forget && reached {
        let before = world.count.dropped();
        let looks = world.data.looks();
        std::mem::forget(life);
        stir(&world);
        assert_eq!(
            (world.count.dropped(), world.data.looks()),
            (before, looks),
            "{what}: nobody polls it"
        );
    } else {
        drop(life);
        if at > 0 || reached && end == End::Completes {
            world.count.assert_settled(&what);
        }
    }
    if end == End::Forget && reached {
        // What is forgotten borrows for ever, by its own account; nobody may look at it any more.
        std::mem::forget(world);
    } else {
        drop(world);
    }
    for waker in kept.lock().unwrap().drain(..) {
        waker.wake();
    }
    reached
}

fn walks(shape: Shape) {
    everywhere(move |mode, pool| {
        for end in ENDS {
            // Each on a thread of its own: one that was kept by scopes for long has the next give way first.
            let walk = |at| on_a_thread(|| with(mode, || walk(shape, end, at, pool)));
            let reached: Vec<_> = (0..12).filter(|at| walk(*at)).collect();
            let least = if end == End::Completes { 12 } else { 3 };
            assert!(
                reached.len() >= least,
                "{mode:?} {shape:?} {end:?}: reached only {reached:?}"
            );
        }
    });
}

#[test]
fn plain_scope_forgotten_dropped_or_panicking_at_each_poll_settles() {
    walks(Shape::Plain);
}

#[test]
fn try_scope_forgotten_dropped_or_panicking_at_each_poll_settles() {
    walks(Shape::Try);
}

#[test]
fn batch_forgotten_dropped_or_panicking_at_each_poll_settles() {
    walks(Shape::Batch);
}

#[test]
fn nested_scopes_forgotten_dropped_or_panicking_at_each_poll_settle() {
    walks(Shape::Nested);
}

// The walk inside a child of an outer scope, so that windows are inside windows and on helpers.
#[test]
fn walks_inside_children_on_helpers_settle() {
    guarded(|| {
        for mode in common::MODES {
            for threads in POOLS {
                let pool = common::pool(threads);
                for shape in [Shape::Plain, Shape::Nested] {
                    for end in ENDS {
                        with(mode, || {
                            block_on(
                                scope(async |s| {
                                    for at in 0..6 {
                                        let pool = &pool;
                                        s.spawn(async move { walk(shape, end, at, pool) });
                                    }
                                })
                                .on(&pool),
                            )
                        });
                    }
                }
            }
        }
    });
}

// The scope moves between threads from poll to poll, while helpers come and go.
#[test]
fn scope_that_changes_threads_between_polls_settles() {
    everywhere(|_, pool| {
        let world = World {
            count: Count::new(),
            data: Data::new(),
            kept: Arc::default(),
            child_panics_at: None,
            body_panics_at: None,
        };
        let mut life = life(Shape::Plain, &world, pool);
        let mut done = false;
        for _ in 0..20 {
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    with(Lending::Forced, || {
                        done = poll_once(life.as_mut()).is_ready()
                    })
                });
            });
            if done {
                break;
            }
            stir(&world);
        }
        assert!(done);
        drop(life);
        world.count.assert_settled("members");
    });
}

// handles, scopes and tokens that are leaked; the children still end before what they borrow.
#[test]
fn leaked_handles_and_scopes_leave_nothing_running() {
    everywhere(|_, pool| {
        let (count, data) = (Count::new(), Data::new());
        block_on(
            scope(async |s| {
                std::mem::forget(s.clone());
                std::mem::forget(s.token());
                for i in 0..8 {
                    let (one, data) = (count.one(), &data);
                    std::mem::forget(s.spawn(async move {
                        common::yields(i % 3).await;
                        data.look();
                        drop(one);
                    }));
                }
            })
            .on(pool),
        );
        assert_eq!((count.made(), data.looks()), (8, 8));
        count.assert_settled("children");
    });
}

// X-10, D-"ManuallyDrop": after `forget` the data may be changed; nobody reads it again.
#[test]
fn data_lent_to_a_forgotten_scope_is_free_again() {
    everywhere(|_, pool| {
        let mut number = 1;
        let kept = Arc::new(Mutex::new(Vec::new()));
        {
            let (number, in_kept) = (&mut number, kept.clone());
            let mut scoped = Box::pin(
                scope(async |s| {
                    s.spawn(async move {
                        loop {
                            *number += 1;
                            let mut first = true;
                            std::future::poll_fn(|cx| {
                                in_kept.lock().unwrap().push(cx.waker().clone());
                                if std::mem::take(&mut first) {
                                    Poll::Pending
                                } else {
                                    Poll::Ready(())
                                }
                            })
                            .await;
                        }
                    });
                })
                .on(pool),
            );
            let (_, waker) = Bell::new();
            assert!(
                scoped
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            std::mem::forget(scoped);
        }
        number += 10;
        kept.lock().unwrap().drain(..).for_each(Waker::wake);
        assert_eq!(number, 12);
    });
}

// a child on another thread writes through `&mut` to the parent's local; the parent panics.
#[test]
fn child_that_writes_to_a_local_ends_before_the_local_when_the_parent_panics() {
    everywhere(|_, pool| {
        let text = common::panic_of(|| {
            let mut local = vec![0_u64; 64];
            let mut scoped = pin!(
                scope(async |s| {
                    for slot in local.iter_mut() {
                        s.spawn(async move {
                            loop {
                                *slot += 1;
                                common::yields(1).await;
                                if *slot > 5 {
                                    common::never::<()>().await;
                                }
                            }
                        });
                    }
                    common::yields(2).await;
                    common::never::<()>().await;
                })
                .on(pool)
            );
            assert!(poll_once(scoped.as_mut()).is_pending());
            panic!("the parent");
        });
        assert_eq!(text, "the parent");
    });
}
