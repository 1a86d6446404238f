//! What looking costs: nothing is printed unless a `Cancelled` of the member lives, the first one that is found ends
//! it, and a value is not printed without end. Counted, not timed.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use selvedge::{Cancelled, TryScope, block_on, timeout, try_scope};

use crate::{guarded, pools, rest};

/// Counts how often it is printed.
struct Counts<'a>(&'a AtomicUsize);

impl Debug for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, SeqCst);
        f.write_str("Counts")
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
struct Fails<'a> {
    before: Counts<'a>,
    reason: Option<io::Error>,
    behind: [Counts<'a>; 8],
}

impl<'a> Fails<'a> {
    fn new(before: &'a AtomicUsize, behind: &'a AtomicUsize, reason: Option<Cancelled>) -> Self {
        Self {
            before: Counts(before),
            reason: reason.map(io::Error::from),
            behind: [(); 8].map(|()| Counts(behind)),
        }
    }
}

#[test]
fn each_of_many_cancelled_children_is_looked_into_once_up_to_what_is_found() {
    const CHILDREN: usize = 100_000;
    guarded(|| {
        for pool in pools() {
            let (before, behind) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let ended = try_scope(async |s: TryScope<'_, Fails<'_>>| {
                for _ in 0..CHILDREN {
                    s.spawn(async {
                        let cancelled = rest::<()>().await.unwrap_err();
                        Err::<(), _>(Fails::new(&before, &behind, Some(cancelled)))
                    });
                }
                s.cancel();
                Ok("not failed")
            });
            assert_eq!(block_on(ended.on(&pool)).unwrap(), "not failed");
            assert_eq!(before.into_inner(), CHILDREN);
            assert_eq!(behind.into_inner(), 0);
        }
    });
}

#[test]
fn nothing_is_printed_where_no_cancellation_was_met() {
    for pool in pools() {
        for cancels in [true, false] {
            let printed = AtomicUsize::new(0);
            let failed = try_scope(async |s: TryScope<'_, Fails<'_>>| {
                for _ in 0..100 {
                    s.spawn(async { Err::<(), _>(Fails::new(&printed, &printed, None)) });
                }
                if cancels {
                    s.cancel();
                }
                Ok(())
            });
            let errors = block_on(failed.on(&pool).all_errors()).unwrap_err();
            assert_eq!(errors.len(), 100);
            let made = block_on(timeout(Duration::ZERO, async { Counts(&printed) }));
            assert!(made.is_ok());
            assert_eq!(printed.load(SeqCst), 0);
        }
    }
}

/// Prints a KiB at a time, for ever or until it is refused.
struct Endless<'a>(&'a AtomicUsize);

impl Debug for Endless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = "x".repeat(1024);
        loop {
            self.0.fetch_add(1, SeqCst);
            f.write_str(&text)?;
        }
    }
}

impl Drop for Endless<'_> {
    /// A value that needs no drop is not looked into at all.
    fn drop(&mut self) {}
}

#[test]
fn value_that_prints_without_end_is_handed_out() {
    let (printed, log) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let made = block_on(timeout(Duration::ZERO, async {
        let cancelled = rest::<()>().await.err();
        log.lock().unwrap().extend(cancelled);
        Endless(&printed)
    }));
    assert!(made.is_ok());
    assert_eq!(log.into_inner().unwrap().len(), 1);
    // A MiB in each of the two forms.
    assert_eq!(printed.load(SeqCst), 2 * (1024 + 1));
}

/// Prints itself in a search of its own.
#[derive(Debug)]
#[allow(dead_code, reason = "printed")]
struct Outer<'a>(Searches<'a>, Cancelled);

struct Searches<'a>(&'a AtomicUsize);

impl Debug for Searches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = block_on(timeout(Duration::ZERO, async {
            rest::<()>().await.unwrap_err()
        }));
        assert!(inner.is_err(), "found in the search inside");
        self.0.fetch_add(1, SeqCst);
        f.write_str("Searches")
    }
}

#[test]
fn search_inside_a_search_finds_its_own_and_leaves_the_other_as_it_was() {
    let (searched, log) = (AtomicUsize::new(0), Mutex::new(None));
    let held = block_on(timeout(Duration::ZERO, async {
        Outer(Searches(&searched), rest::<()>().await.unwrap_err())
    }));
    assert!(held.is_err());
    assert_eq!(searched.swap(0, SeqCst), 1);
    let free = block_on(timeout(Duration::ZERO, async {
        let cancelled = rest::<()>().await.unwrap_err();
        let by_hand = Cancelled::new(cancelled.cause().clone());
        *log.lock().unwrap() = Some(by_hand);
        *log.lock().unwrap() = Some(cancelled);
        (Searches(&searched), String::new())
    }));
    assert!(free.is_ok(), "what was found inside is not found outside");
    assert_eq!(searched.into_inner(), 2);
}
