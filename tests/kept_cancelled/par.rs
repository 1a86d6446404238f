//! Parallel streams: whether the error of an item that was asked to stop is only the answer to that, or a failure of
//! its own that comes first in the source.

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{ThreadId, current};

use futures::stream;
use selvedge::testing::lending::{Lending, with};
use selvedge::{Cancelled, Pool, TryScope, block_on, prelude::*, try_scope};

use crate::{Keeper, PLACES, Place, guarded, keeping, pools, rest, until};

const ITEMS: usize = 6;
/// Fails first, and so asks the others to stop.
const BAD: usize = 4;
/// Comes before it in the source, and fails because it is asked to stop, or after that.
const EARLIER: usize = 1;

/// The items of one case, which end when all have begun.
struct Items<'a> {
    begun: AtomicUsize,
    keeper: &'a Keeper,
}

impl<'a> Items<'a> {
    fn new(keeper: &'a Keeper) -> Self {
        Self {
            begun: AtomicUsize::new(0),
            keeper,
        }
    }

    async fn one<E>(&self, n: usize, bad: fn() -> E, make: fn(Cancelled) -> E) -> Result<usize, E> {
        if n == BAD {
            until(|| self.begun.load(SeqCst) == ITEMS - 1).await;
            return Err(bad());
        }
        self.begun.fetch_add(1, SeqCst);
        match n {
            EARLIER => {
                let cancelled = rest::<()>().await.unwrap_err();
                self.keeper.keep(&cancelled).await;
                Err(make(cancelled))
            }
            0 => {
                self.keeper.sibling().await;
                Ok(n)
            }
            _ => Ok(n),
        }
    }
}

/// The error that each terminal ends with.
async fn terminals<E: Debug + Send>(
    pool: &Pool,
    keeper: &Keeper,
    ordered: bool,
    bad: fn() -> E,
    make: fn(Cancelled) -> E,
) -> [E; 3] {
    let items = || {
        let items = stream::iter(0..ITEMS).par().on(pool).concurrency(ITEMS);
        if ordered { items } else { items.unordered() }
    };
    let state = Items::new(keeper);
    let each = items().try_for_each(async |n| state.one(n, bad, make).await.map(drop));
    let each = each.await.unwrap_err();
    let state = Items::new(keeper);
    let all = items().then(async |n| state.one(n, bad, make).await);
    let all = all.try_collect::<_, _, Vec<_>>().await.unwrap_err();
    let state = Items::new(keeper);
    let sum = items().then(async |n| state.one(n, bad, make).await);
    let sum = sum.try_reduce(|| 0, |a, b| Ok(a + b)).await.unwrap_err();
    [each, all, sum]
}

#[test]
fn failure_of_an_item_that_kept_its_cancellation_comes_first_and_an_echo_does_not() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES {
                for holds in [true, false] {
                    for ordered in [true, false] {
                        block_on(keeping(place, async |keeper| {
                            let bad = || io::Error::from(io::ErrorKind::NotFound);
                            let make = if holds {
                                |cancelled| io::Error::from(cancelled)
                            } else {
                                |_| io::ErrorKind::InvalidData.into()
                            };
                            let errors = terminals(&pool, keeper, ordered, bad, make).await;
                            // With nothing kept, an error that holds nothing may have been made from it.
                            let keeps = !matches!(place, Place::Nowhere | Place::Sibling);
                            let wanted = if ordered && !holds && keeps {
                                io::ErrorKind::InvalidData
                            } else {
                                io::ErrorKind::NotFound
                            };
                            for error in errors {
                                let case = format!("{place:?}, {holds}, {ordered}");
                                assert_eq!(error.kind(), wanted, "{case}");
                            }
                        }));
                    }
                }
            }
        }
    });
}

#[test]
fn text_and_bare_enum_made_from_a_cancellation_are_echoes() {
    guarded(|| {
        for pool in pools() {
            for place in [Place::Nowhere, Place::Sibling] {
                block_on(keeping(place, async |keeper| {
                    let bare = terminals(&pool, keeper, true, || Bare::Bad, |_| Bare::Stopped);
                    assert_eq!(bare.await, [Bare::Bad, Bare::Bad, Bare::Bad]);
                    let bad = || String::from("bad");
                    let text = terminals(&pool, keeper, true, bad, |c| c.to_string());
                    assert_eq!(text.await, ["bad", "bad", "bad"]);
                }));
            }
        }
    });
}

// A limit inside the item has passed: that is no answer to the stop.
#[test]
fn cancellation_of_a_limit_of_the_items_own_makes_no_echo() {
    for pool in pools() {
        let begun = AtomicUsize::new(0);
        let run = (0..ITEMS).into_par().on(&pool).concurrency(ITEMS);
        let run = run.try_for_each(async |n| {
            if n == BAD {
                until(|| begun.load(SeqCst) == ITEMS - 1).await;
                return Err(io::ErrorKind::NotFound.into());
            }
            begun.fetch_add(1, SeqCst);
            if n != EARLIER {
                return Ok(());
            }
            selvedge::cancel::cancelled().await;
            let own = selvedge::cancel::shield_unbounded(async {
                selvedge::cancel::current().cancel_with("own");
                rest::<()>().await
            });
            Err(io::Error::from(own.await.unwrap_err()))
        });
        let error = block_on(run).unwrap_err();
        let cancelled = Cancelled::find_in(&error).expect("it is the item's own");
        assert_eq!(cancelled.cause().text(), Some("own"));
    }
}

// Its `Cancelled` is made on a helper, which counts for another thread than the lane's.
#[test]
fn error_of_a_scope_inside_an_item_is_an_echo_wherever_its_children_ran() {
    guarded(|| {
        for pool in pools() {
            for holds in [true, false] {
                let (begun, kept) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
                let run = (0..ITEMS).into_par().on(&pool).concurrency(ITEMS);
                let run = run.try_for_each(async |n| {
                    if n == BAD {
                        until(|| begun.load(SeqCst) == ITEMS - 1).await;
                        return Err(io::Error::from(io::ErrorKind::NotFound));
                    }
                    if n != EARLIER {
                        begun.fetch_add(1, SeqCst);
                        return Ok(());
                    }
                    let inner = try_scope(async |s: TryScope<'_, io::Error>| {
                        for _ in 0..4 {
                            s.spawn(async {
                                let cancelled = rest::<()>().await.unwrap_err();
                                if holds {
                                    return Err::<(), _>(cancelled.into());
                                }
                                kept.lock().unwrap().push(cancelled);
                                Err(io::ErrorKind::InvalidData.into())
                            });
                        }
                        begun.fetch_add(1, SeqCst);
                        Ok(())
                    });
                    inner.on(&pool).await
                });
                let error = with(Lending::Forced, || block_on(run)).unwrap_err();
                if holds {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound);
                } else {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                }
            }
        }
    });
}

#[derive(Debug, PartialEq)]
enum Bare {
    Bad,
    Stopped,
}

/// How a child of the item, or an item of a pipeline in the item, ends when it is asked to stop; how often off the
/// thread of the lane.
#[derive(Default)]
struct Away(AtomicUsize);

impl Away {
    async fn stopped(&self, lane: ThreadId) -> Result<(), Cancelled> {
        let cancelled = rest::<()>().await;
        self.0
            .fetch_add(usize::from(current().id() != lane), SeqCst);
        cancelled
    }
}

/// Runs a pipeline whose last item fails once `inner`, which is the first item, has called what it is given. It is
/// repeated until an item or child in there was stopped on another thread than that of the lane.
fn ends_with_the_failure<F>(inner: impl Fn(Arc<Away>, ThreadId, Arc<AtomicBool>, Pool) -> F + Sync)
where
    F: Future<Output = Result<(), Bare>> + Send,
{
    let pool = Pool::builder().threads(2).build();
    for _ in 0..200 {
        let (away, up) = (Arc::<Away>::default(), Arc::<AtomicBool>::default());
        let run = (0..2).into_par().on(&pool).heavy().try_for_each(async |n| {
            if n == 1 {
                until(|| up.load(SeqCst)).await;
                return Err(Bare::Bad);
            }
            let inner = inner(away.clone(), current().id(), up.clone(), pool.clone());
            inner.await
        });
        assert_eq!(with(Lending::Forced, || block_on(run)), Err(Bare::Bad));
        if away.0.load(SeqCst) > 0 {
            return;
        }
    }
    panic!("no helper came in time");
}

/// A while, so that helpers get their share.
fn burn() {
    let from = std::time::Instant::now();
    while from.elapsed() < std::time::Duration::from_millis(1) {
        std::hint::spin_loop();
    }
}

#[test]
fn bare_error_of_a_scope_inside_an_item_is_an_echo_wherever_it_was_made() {
    guarded(|| {
        ends_with_the_failure(async |away, lane, up, pool| {
            let inner = try_scope(async |s: TryScope<'_, Bare>| {
                s.spawn(async {
                    selvedge::cancel::cancelled().await;
                    burn();
                    Ok(())
                });
                s.spawn(async {
                    up.store(true, SeqCst);
                    away.stopped(lane).await.map_err(|_| Bare::Stopped)
                });
                Ok(())
            });
            let inner = inner.cancelled_if(|error| *error == Bare::Stopped).heavy();
            inner.on(&pool).await
        });
    });
}

#[test]
fn bare_error_made_of_what_a_pipeline_inside_an_item_gives_is_an_echo() {
    guarded(|| {
        ends_with_the_failure(async |away, lane, up, pool| {
            let inner = (0..3).into_par().on(&pool).heavy();
            let inner = inner.try_for_each(async |n| {
                up.store(true, SeqCst);
                if n == 0 {
                    selvedge::cancel::cancelled().await;
                    burn();
                    return Ok(());
                }
                away.stopped(lane).await
            });
            inner.await.map_err(|_| Bare::Stopped)
        });
    });
}

#[test]
fn pipeline_inside_an_item_passes_on_what_its_error_is() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES.into_iter().filter(|place| *place != Place::Sibling) {
                for holds in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let begun = AtomicUsize::new(0);
                        let run = (0..ITEMS).into_par().on(&pool).concurrency(ITEMS);
                        let run = run.try_for_each(async |n| {
                            if n == BAD {
                                until(|| begun.load(SeqCst) == ITEMS - 1).await;
                                return Err(io::Error::from(io::ErrorKind::NotFound));
                            }
                            begun.fetch_add(1, SeqCst);
                            if n != EARLIER {
                                return Ok(());
                            }
                            let inner = (0..3).into_par().on(&pool).concurrency(3);
                            let inner = inner.try_for_each(async |_| {
                                let cancelled = rest::<()>().await.unwrap_err();
                                keeper.keep(&cancelled).await;
                                Err::<(), io::Error>(if holds {
                                    cancelled.into()
                                } else {
                                    io::ErrorKind::InvalidData.into()
                                })
                            });
                            inner.await
                        });
                        let wanted = if holds || place == Place::Nowhere {
                            io::ErrorKind::NotFound
                        } else {
                            io::ErrorKind::InvalidData
                        };
                        assert_eq!(run.await.unwrap_err().kind(), wanted, "{place:?}, {holds}");
                    }));
                }
            }
        }
    });
}
