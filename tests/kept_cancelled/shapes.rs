//! The table: error types and outputs as users write them, and whether they count as the cancellation that they were
//! made in; as a child of a `try_scope`, as its body, under a `timeout` and under a `try_timeout`.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge::{
    Cancelled, Cause, Pool, TimedOut, TryScope, block_on, timeout, try_scope, try_timeout,
};

use crate::{Keeper, PLACES, guarded, keeping, pools, rest};

/// What became of an error that was made in answer to a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Cancellation,
    /// A failure of a member; for a limit, a value to hand out.
    Failure,
}

use Is::{Cancellation, Failure};

/// The subject: is cancelled, leaves its `Cancelled` where the case says, and makes an error of it.
async fn subject<E>(keeper: &Keeper, make: fn(Cancelled) -> E) -> Result<(), E> {
    let cancelled = rest::<()>().await.unwrap_err();
    keeper.keep(&cancelled).await;
    Err(make(cancelled))
}

/// As a child: the scope gives the body's value if that was a cancellation.
async fn child<E: Debug + Send>(pool: &Pool, keeper: &Keeper, make: fn(Cancelled) -> E) -> Is {
    let ended = try_scope(async |s: TryScope<'_, E>| {
        s.spawn(subject(keeper, make));
        s.spawn(async {
            keeper.sibling().await;
            Ok(())
        });
        s.cancel();
        Ok(7)
    });
    match ended.on(pool).all_errors().await {
        Ok(value) => {
            assert_eq!(value, 7);
            Cancellation
        }
        Err(errors) => {
            assert_eq!((errors.len(), errors.cancelled.len()), (1, 0));
            Failure
        }
    }
}

/// As a body that is cancelled because a child has failed.
async fn body<E: Debug + Send>(pool: &Pool, keeper: &Keeper, make: fn(Cancelled) -> E) -> Is {
    let ended = try_scope(async |s: TryScope<'_, E>| {
        s.spawn(async {
            keeper.sibling().await;
            Ok(())
        });
        // Made outside of any cancellation, so a failure whatever it holds.
        s.spawn(async { Err::<(), _>(make(Cancelled::new("by hand"))) });
        subject(keeper, make).await
    });
    let errors = ended.on(pool).all_errors().await.unwrap_err();
    match (errors.len(), errors.cancelled.len()) {
        (1, 1) => Cancellation,
        (2, 0) => Failure,
        other => panic!("{other:?}"),
    }
}

/// What ends under a limit that cuts it short.
async fn limited<O>(keeper: &Keeper, output: impl Future<Output = O>) -> O {
    futures::join!(output, keeper.sibling()).0
}

async fn under_timeout<E: Debug>(keeper: &Keeper, make: fn(Cancelled) -> E) -> Is {
    match timeout(Duration::ZERO, limited(keeper, subject(keeper, make))).await {
        Err(TimedOut { .. }) => Cancellation,
        Ok(result) => {
            assert!(result.is_err(), "it is handed out");
            Failure
        }
    }
}

/// An error that can tell a time-out from what it is about.
#[derive(Debug)]
enum Limited<E> {
    TimedOut,
    Other(E),
}

impl<E> From<TimedOut> for Limited<E> {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

/// With a value that has no `Debug`.
async fn under_try_timeout<E: Debug>(keeper: &Keeper, make: fn(Cancelled) -> E) -> Is {
    struct Opaque;
    let work = async {
        let result = subject(keeper, make).await;
        result.map(|()| Opaque).map_err(Limited::Other)
    };
    match try_timeout(Duration::ZERO, limited(keeper, work)).await {
        Err(Limited::TimedOut) => Cancellation,
        Err(Limited::Other(_)) => Failure,
        Ok(Opaque) => unreachable!("the subject fails"),
    }
}

/// One line of the table.
fn shape<E: Debug + Send + 'static>(name: &str, make: fn(Cancelled) -> E, wanted: Is) {
    for pool in pools() {
        for place in PLACES {
            block_on(keeping(place, async |keeper| {
                let is = child(&pool, keeper, make).await;
                assert_eq!(is, wanted, "{name}: child, {place:?}");
            }));
            block_on(keeping(place, async |keeper| {
                let is = body(&pool, keeper, make).await;
                assert_eq!(is, wanted, "{name}: body, {place:?}");
            }));
            block_on(keeping(place, async |keeper| {
                let is = under_timeout(keeper, make).await;
                assert_eq!(is, wanted, "{name}: timeout, {place:?}");
            }));
            block_on(keeping(place, async |keeper| {
                let is = under_try_timeout(keeper, make).await;
                assert_eq!(is, wanted, "{name}: try_timeout, {place:?}");
            }));
        }
    }
}

type Boxed = Box<dyn Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum Listed {
    #[error("in and out")]
    Io(#[from] io::Error),
    #[error("elsewhere")]
    Within {
        #[source]
        reason: Cancelled,
    },
    #[error(transparent)]
    Transparent(Cancelled),
    #[error("lost")]
    Lost,
}

#[test]
fn error_that_implements_error_counts_by_what_it_holds() {
    guarded(|| {
        shape("Cancelled", |c| c, Cancellation);
        shape("io::Error", io::Error::from, Cancellation);
        let nested = |c| io::Error::other(io::Error::from(c));
        shape("io::Error in io::Error", nested, Cancellation);
        let text = |c: Cancelled| io::Error::other(c.to_string());
        shape("io::Error of the text", text, Failure);
        let kind = |_| io::Error::from(io::ErrorKind::NotFound);
        shape("io::Error of a kind", kind, Failure);
        shape(
            "Arc of io::Error",
            |c| Arc::new(io::Error::from(c)),
            Cancellation,
        );
        shape(
            "listed, from",
            |c| Listed::from(io::Error::from(c)),
            Cancellation,
        );
        shape(
            "listed, source",
            |reason| Listed::Within { reason },
            Cancellation,
        );
        shape("listed, transparent", Listed::Transparent, Cancellation);
        shape("listed, lost", |_| Listed::Lost, Failure);
    });
}

#[test]
fn boxed_error_and_anyhow_count_by_what_they_hold() {
    guarded(|| {
        shape("Box", Boxed::from, Cancellation);
        shape("Box of the text", |c| Boxed::from(c.to_string()), Failure);
        shape("Box in a Box", |c| Box::new(Boxed::from(c)), Cancellation);
        shape("anyhow", anyhow::Error::from, Cancellation);
        let context = |c| anyhow::Error::from(c).context("while resting");
        shape("anyhow, context", context, Cancellation);
        let deep = |c| {
            let listed = Listed::Io(io::Error::from(c));
            anyhow::Error::from(listed).context("one").context("two")
        };
        shape("anyhow, deep", deep, Cancellation);
        let text = |c: Cancelled| anyhow::anyhow!("stopped: {c}").context("two");
        shape("anyhow of the text", text, Failure);
        shape(
            "anyhow, unsourced",
            |c| anyhow::Error::from(Unsourced(c)),
            Cancellation,
        );
    });
}

/// Shows what it holds in `Debug` alone.
#[derive(Debug)]
struct Unsourced(#[allow(dead_code, reason = "printed")] Cancelled);

impl fmt::Display for Unsourced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unsourced")
    }
}

impl Error for Unsourced {}

#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
enum Bare {
    Holds(Cancelled),
    Text(String),
    Why(Cause),
    Nothing,
}

#[test]
fn error_that_does_not_implement_error_counts_by_what_it_holds() {
    guarded(|| {
        shape("bare, holds", Bare::Holds, Cancellation);
        shape("bare, text", |c| Bare::Text(format!("{c:?}")), Failure);
        shape("bare, the cause", |c| Bare::Why(c.cause().clone()), Failure);
        shape("bare, nothing", |_| Bare::Nothing, Failure);
        shape("String", |c| c.to_string(), Failure);
        shape("&str", |_| "stopped", Failure);
        shape("()", |_| (), Failure);
        shape("u8", |_| 7_u8, Failure);
        shape("Option, some", Some::<Cancelled>, Cancellation);
        shape("Option, none", |_| None::<Cancelled>, Failure);
        shape("tuple", |c| (7, String::new(), c), Cancellation);
        let several = |c| vec![io::ErrorKind::NotFound.into(), io::Error::from(c)];
        shape("Vec", several, Cancellation);
        shape("HashMap", |c| HashMap::from([("a", c)]), Cancellation);
        shape("Mutex", |c| Arc::new(Mutex::new(c)), Cancellation);
    });
}

/// Panics when it is printed, before or after what it holds.
struct Panics(bool, Cancelled);

impl Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 {
            self.1.fmt(f)?;
        }
        panic!("printed")
    }
}

struct Hides(#[allow(dead_code, reason = "hidden")] Cancelled);

impl Debug for Hides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hides")
    }
}

/// Makes texts on the way, which must not fail.
struct ByText(Cancelled);

impl Debug for ByText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(&text)?;
        f.write_str("more")
    }
}

#[test]
fn debug_of_a_users_own_counts_by_what_it_prints() {
    guarded(|| {
        shape("panics", |c| Panics(false, c), Failure);
        shape("panics later", |c| Panics(true, c), Cancellation);
        shape("hides", Hides, Failure);
        shape("by text", ByText, Cancellation);
        shape(
            "Any",
            |c| Box::new(c) as Box<dyn std::any::Any + Send>,
            Failure,
        );
    });
}

/// One output of a future whose limit has passed, which is or is not a time-out.
fn output<O: Debug>(name: &str, make: fn(Cancelled) -> O, wanted: Is) {
    for place in PLACES {
        block_on(keeping(place, async |keeper| {
            let work = async {
                let cancelled = rest::<()>().await.unwrap_err();
                keeper.keep(&cancelled).await;
                make(cancelled)
            };
            let is = match timeout(Duration::ZERO, limited(keeper, work)).await {
                Err(_) => Cancellation,
                Ok(_) => Failure,
            };
            assert_eq!(is, wanted, "{name}, {place:?}");
        }));
    }
}

#[test]
fn output_of_a_limited_future_is_handed_out_unless_it_holds_the_cancellation() {
    guarded(|| {
        output("number", |_| 7, Failure);
        output("Cancelled", |c| c, Cancellation);
        output("String", |c| c.to_string(), Failure);
        output("Option, some", Some, Cancellation);
        output("Option, none", |_| None::<Cancelled>, Failure);
        output(
            "tuple",
            |c| (String::from("made"), Err::<(), _>(c)),
            Cancellation,
        );
        output("tuple without", |_| (String::from("made"), 7), Failure);
        output("Vec", |c| vec![Ok(1), Err(c), Ok(2)], Cancellation);
        output("Vec without", |_| vec![Ok::<_, Cancelled>(1)], Failure);
        output("long Vec", |_| vec![1_u8; 4 << 20], Failure);
        output("hides", Hides, Failure);
        output("panics", |c| Panics(false, c), Failure);
    });
}

#[test]
fn error_that_hides_what_it_holds_is_exact_by_the_users_own_word() {
    guarded(|| {
        for pool in pools() {
            for place in PLACES {
                for stopped in [true, false] {
                    block_on(keeping(place, async |keeper| {
                        let ended = try_scope(async |s: TryScope<'_, Option<Hides>>| {
                            s.spawn(async {
                                let cancelled = rest::<()>().await.unwrap_err();
                                keeper.keep(&cancelled).await;
                                Err::<(), _>(stopped.then_some(Hides(cancelled)))
                            });
                            s.spawn(async {
                                keeper.sibling().await;
                                Ok(())
                            });
                            s.cancel();
                            Ok(())
                        });
                        let ended = ended.cancelled_if(Option::is_some).on(&pool);
                        assert_eq!(ended.await.is_ok(), stopped, "{place:?}");
                    }));
                }
            }
        }
    });
}

#[test]
fn users_word_is_asked_for_members_that_are_cancelled_alone() {
    for pool in pools() {
        let failed = try_scope(async |s: TryScope<'_, Bare>| {
            s.spawn(async { Err::<(), _>(Bare::Nothing) });
            Ok(())
        });
        let says = |error: &Bare| matches!(error, Bare::Nothing);
        assert!(block_on(failed.cancelled_if(says).on(&pool)).is_err());
    }
}

#[test]
fn users_word_that_panics_is_raised_and_the_error_is_dropped_once() {
    let held = Arc::new(());
    for pool in pools() {
        let failed = try_scope(async |s: TryScope<'_, Arc<()>>| {
            s.cancel();
            let held = Arc::clone(&held);
            s.spawn(async { Err::<(), _>(held) });
            Ok(())
        });
        let failed = failed.cancelled_if(|_| panic!("asked")).on(&pool);
        let run = std::panic::AssertUnwindSafe(|| block_on(failed));
        let payload = std::panic::catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"asked"));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
