//! Which error a fallible terminal ends with when items that were asked to stop fail too: what
//! a cancellation made of them must not hide the failure that caused it. Who is asked to stop,
//! and that all are awaited, is in `par_failure`.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use futures::stream;
use selvedge::{CancelToken, Cancelled, FutureCancelExt, Pool, block_on, cancel, prelude::*};

#[derive(Debug, PartialEq)]
enum Failure {
    Real(usize),
    /// Without the `Cancelled` it was made of, as many error types do it.
    Stopped,
}

impl From<Cancelled> for Failure {
    fn from(_: Cancelled) -> Self {
        Self::Stopped
    }
}

fn yields(mut times: usize) -> impl Future<Output = ()> + Send {
    std::future::poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Ends only because it is cancelled.
async fn stuck() -> Result<(), Failure> {
    std::future::pending::<()>().or_cancel().await?;
    Ok(())
}

/// However slow the lanes are, nobody fails before the others are under way.
async fn all_others_begun(begun: &AtomicUsize) {
    while begun.load(SeqCst) < ITEMS - 1 {
        yields(1).await;
    }
    begun.store(0, SeqCst);
}

const ITEMS: usize = 8;
const BAD: usize = 5;

/// Item `BAD` fails while all others are stuck; those answer after `clean_up` more polls.
async fn one_fails(
    n: usize,
    clean_up: usize,
    begun: &AtomicUsize,
    echoes: &AtomicUsize,
) -> Result<usize, Failure> {
    if n == BAD {
        all_others_begun(begun).await;
        return Err(Failure::Real(n));
    }
    begun.fetch_add(1, SeqCst);
    let stopped = stuck().await;
    yields(clean_up).await;
    echoes.fetch_add(1, SeqCst);
    stopped.map(|()| n)
}

#[test]
fn items_that_were_asked_to_stop_do_not_hide_what_failed() {
    for clean_up in [0, 1, 4] {
        for threads in [0, 2] {
            let pool = &Pool::builder().threads(threads).build();
            for ordered in [true, false] {
                let items = || {
                    let items = stream::iter(0..ITEMS).par().on(pool).concurrency(ITEMS);
                    if ordered {
                        items.ordered()
                    } else {
                        items.unordered()
                    }
                };
                let (begun, echoes) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
                let results = || items().then(|n| one_fails(n, clean_up, begun, echoes));
                let check = |terminal, error| {
                    let case = format!("{terminal}, {clean_up}, {threads}, {ordered}");
                    assert_eq!(error, Some(Failure::Real(BAD)), "{case}");
                    assert_eq!(
                        echoes.swap(0, SeqCst),
                        ITEMS - 1,
                        "{case}: all were stopped"
                    );
                };
                let each = items()
                    .try_for_each(async |n| one_fails(n, clean_up, begun, echoes).await.map(drop));
                check("try_for_each", block_on(each).err());
                let all: Result<Vec<_>, _> = block_on(results().try_collect());
                check("try_collect", all.err());
                let sum = results().try_reduce(|| 0, |a, b| Ok(a + b));
                check("try_reduce", block_on(sum).err());
                let sums = results().try_fold(|| 0, |a, n| Ok::<_, Failure>(a + n?));
                let sum = sums.try_reduce(|| 0, |a, b| Ok(a + b));
                check("try_fold", block_on(sum).err());
            }
        }
    }
}

#[test]
fn synchronous_stage_that_notices_the_stop_does_not_hide_what_failed() {
    let (begun, noticed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = (0..ITEMS)
        .into_par()
        .concurrency(ITEMS)
        .then(async |n| {
            if n == BAD {
                all_others_begun(&begun).await;
            } else {
                begun.fetch_add(1, SeqCst);
                cancel::cancelled().await;
            }
            n
        })
        .map(|n| {
            if n == BAD {
                return Err(Failure::Real(n));
            }
            cancel::check().inspect_err(|_| {
                noticed.fetch_add(1, SeqCst);
            })?;
            Ok(n)
        });
    let all: Result<Vec<_>, _> = block_on(run.try_collect());
    assert_eq!(all, Err(Failure::Real(BAD)));
    assert_eq!(noticed.into_inner(), ITEMS - 1);
}

#[test]
fn failure_after_the_stop_that_is_no_cancellation_counts_in_its_place() {
    let run = (0..ITEMS)
        .into_par()
        .concurrency(ITEMS)
        .try_for_each(async |n| {
            match n {
                BAD => yields(3).await,
                // Told to stop, it fails at stopping: an error in its own right.
                3 => drop(cancel::cancelled().await),
                _ => return stuck().await,
            }
            Err(Failure::Real(n))
        });
    assert_eq!(block_on(run), Err(Failure::Real(3)));
}

#[test]
fn cancellation_from_outside_is_the_error_if_nothing_else_failed() {
    for ordered in [true, false] {
        let run = block_on(scope(async |s| {
            let waiting = AtomicUsize::new(0);
            let token = s.token();
            let items = (0..ITEMS).into_par().concurrency(ITEMS);
            let items = if ordered { items } else { items.unordered() };
            let each = items.try_for_each(async |_| {
                if waiting.fetch_add(1, SeqCst) + 1 == ITEMS {
                    token.cancel();
                }
                stuck().await
            });
            each.await
        }));
        assert_eq!(run, Err(Failure::Stopped), "ordered: {ordered}");
    }
}

#[test]
fn token_of_the_items_own_does_not_make_its_failure_an_echo() {
    // Item 2 fails for its own reasons in a poll before anybody is asked to stop, and answers after. (In the same
    // poll nobody could tell the two apart by an error that keeps neither.)
    let met = AtomicUsize::new(0);
    let run = (0..ITEMS)
        .into_par()
        .concurrency(ITEMS)
        .try_for_each(async |n| {
            if n == BAD {
                while met.load(SeqCst) == 0 {
                    yields(1).await;
                }
                return Err(Failure::Real(n));
            }
            if n == 2 {
                let own = CancelToken::new();
                own.cancel();
                let refused = Cancelled::new(own.cause().expect("it is cancelled"));
                yields(1).await;
                met.fetch_add(1, SeqCst);
                cancel::cancelled().await;
                return Err(refused.into());
            }
            stuck().await
        });
    assert_eq!(block_on(run), Err(Failure::Stopped));
    assert_eq!(met.into_inner(), 1);
}
