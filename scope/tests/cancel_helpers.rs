//! Whose token is in force where the engine runs code: of siblings on helpers, of jobs that are none of the scope's,
//! of a timer that panics, of a report that nobody can read. Each took or kept what was somebody else's once.

mod common;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use common::{Count, attempts, burn, guarded, poll_once, poll_times, pool, yields};
use selvedge_cancel::{
    Cancelled, FutureCancelExt, Instant, Ticket, Timer, ambient, check, deadline,
};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{
    JoinHandle, Pool, Scope, TryScope, block_on, scope, shield, timeout, try_scope,
};

const HOUR: Duration = Duration::from_secs(3600);
const SIBLINGS: usize = 32;

async fn rest() -> Result<(), Cancelled> {
    pending().or_cancel().await
}

/// What a sibling is told where it runs.
#[derive(Default)]
struct Seen {
    on_helpers: AtomicUsize,
    wrong: AtomicUsize,
}

impl Seen {
    /// It takes a while, so that helpers get their share.
    fn takes_a_while(&self, owner: std::thread::ThreadId) {
        burn(Duration::from_micros(300));
        if std::thread::current().id() != owner {
            self.on_helpers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A sibling that nobody has cancelled, and that has no deadline.
    async fn sibling(&self, owner: std::thread::ThreadId) {
        self.takes_a_while(owner);
        if deadline().is_some() || check().is_err() {
            self.wrong.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Runs `spawns`, whose scope lends while it spawns, until a helper took part.
fn with_helpers(spawns: impl Fn(&Pool, &Seen)) {
    let pool = pool(2);
    for () in attempts() {
        let seen = Seen::default();
        with(Lending::Forced, || spawns(&pool, &seen));
        assert_eq!(seen.wrong.into_inner(), 0, "under the limit of another");
        if seen.on_helpers.into_inner() > 0 {
            return;
        }
    }
    panic!("no helper came in time");
}

/// Helpers took over what was in force where the lending began, and that may be inside of a body's time-out.
#[test]
fn siblings_spawned_in_a_time_out_run_without_its_deadline_on_helpers() {
    guarded(|| {
        let owner = std::thread::current().id();
        with_helpers(|pool, seen| {
            let waiting = scope(async |s| {
                let spawns = async {
                    for _ in 0..SIBLINGS {
                        s.spawn(seen.sibling(owner));
                    }
                };
                timeout(HOUR, spawns).await.unwrap();
            });
            block_on(waiting.on(pool));
        });
    });
}

#[test]
fn siblings_spawned_by_a_cancelled_child_are_not_cancelled_on_helpers() {
    guarded(|| {
        let owner = std::thread::current().id();
        with_helpers(|pool, seen| {
            let waiting = scope(async |s: Scope<'_>| {
                let inside = s.clone();
                let child = s.spawn(async move {
                    yields(1).await;
                    assert!(check().is_err());
                    for _ in 0..SIBLINGS {
                        inside.spawn(seen.sibling(owner));
                    }
                });
                child.cancel();
                child.await;
            });
            block_on(waiting.on(pool));
        });
    });
}

/// The shield's token hid the scope's cancellation from them for ever: nobody lowers a shield that is over.
#[test]
fn siblings_spawned_in_a_shield_are_told_on_helpers_when_the_scope_is_cancelled() {
    guarded(|| {
        let owner = std::thread::current().id();
        with_helpers(|pool, seen| {
            let waiting = scope(async |s: Scope<'_>| {
                let spawns = async {
                    for _ in 0..SIBLINGS {
                        s.spawn(async {
                            seen.takes_a_while(owner);
                            assert!(rest().await.is_err());
                        });
                    }
                };
                shield(HOUR, spawns).await;
                s.cancel();
            });
            block_on(waiting.on(pool));
        });
    });
}

/// While it waits for its helpers, a worker of a rayon pool runs other jobs of that pool; they saw the scope's token.
#[test]
fn job_that_a_waiting_worker_takes_sees_no_token_of_the_scope() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(2)
                .build()
                .unwrap(),
        );
        let pool = Pool::from_rayon(Arc::clone(&rayon));
        for () in attempts() {
            let (ran, wrong) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicBool::new(false)),
            );
            let reached = rayon.install(|| {
                let owner = std::thread::current().id();
                let (held, on_owner) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
                let child = async || {
                    if std::thread::current().id() == owner {
                        // The helper holds the other one; what follows is to run on this worker, while it waits.
                        let from = std::time::Instant::now();
                        while !held.load(Ordering::SeqCst) {
                            if from.elapsed() > Duration::from_millis(200) {
                                ran.store(true, Ordering::SeqCst);
                                return;
                            }
                            std::thread::yield_now();
                        }
                        let (ran, wrong) = (Arc::clone(&ran), Arc::clone(&wrong));
                        let on_owner = Arc::clone(&on_owner);
                        rayon_core::spawn(move || {
                            wrong.store(check().is_err(), Ordering::SeqCst);
                            on_owner.store(std::thread::current().id() == owner, Ordering::SeqCst);
                            ran.store(true, Ordering::SeqCst);
                        });
                    } else {
                        held.store(true, Ordering::SeqCst);
                        while !ran.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                    }
                };
                with(Lending::Forced, || {
                    block_on(
                        scope(async |s| {
                            s.cancel();
                            for _ in 0..2 {
                                s.spawn(child());
                            }
                        })
                        .on(&pool),
                    );
                });
                on_owner.load(Ordering::SeqCst)
            });
            assert!(!wrong.load(Ordering::SeqCst), "it saw the scope's token");
            if reached {
                return;
            }
        }
        panic!("the job never ran on the worker that waits");
    });
}

/// The handle of a plain child panics when the grace has dropped the child; that of a `try_scope` has a value for it.
#[test]
fn handle_of_a_child_that_the_grace_dropped_gives_the_cancellation() {
    guarded(|| {
        let mut kept: Option<JoinHandle<'_, Result<(), Cancelled>>> = None;
        let (held, ended) = {
            let waiting = try_scope(|s: TryScope<'_, Cancelled>| {
                kept = Some(s.spawn(pending()));
                async move {
                    s.cancel();
                    Ok(())
                }
            });
            let ended = block_on(waiting.grace(Duration::ZERO));
            (kept.take().expect("the closure was called"), ended)
        };
        assert!(ended.is_err(), "the child never ends by itself");
        assert!(held.is_finished());
        assert!(block_on(held).is_err());
    });
}

/// A clock that stands still, and panics when an alarm is taken back.
#[derive(Debug)]
struct Careless(Instant, AtomicUsize);

impl Timer for Careless {
    fn now(&self) -> Instant {
        self.0
    }

    fn schedule(&self, at: Instant, _: &Waker) -> Ticket {
        Ticket::new(at, 1)
    }

    fn reset(&self, _: Ticket, at: Instant, _: &Waker) -> Ticket {
        Ticket::new(at, 1)
    }

    fn cancel(&self, _: Ticket) {
        self.1.fetch_add(1, Ordering::SeqCst);
        panic!("careless")
    }
}

/// The end of a scope takes its alarm back; when that panicked, the poll unwound with the body's value in it.
#[test]
fn timer_that_panics_at_the_end_of_a_scope_costs_neither_value_nor_children() {
    guarded(|| {
        let timer = Arc::new(Careless(Instant::now(), AtomicUsize::new(0)));
        let before = ambient::replace_timer(Some(timer.clone()));
        let count = Count::new();
        let waiting = scope(async |s| {
            let one = count.one();
            s.spawn(async move {
                yields(1).await;
                drop(one);
            });
            7
        });
        let value = poll_times(pin!(waiting.timeout(HOUR)), 10);
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            let waiting = scope(async |s| {
                for _ in 0..3 {
                    let one = count.one();
                    s.spawn(async move {
                        let _one = one;
                        pending::<()>().await;
                    });
                }
            });
            let waiting = selvedge_cancel::select_safe(waiting.timeout(HOUR));
            assert!(poll_once(pin!(waiting)).is_pending());
        }));
        drop(ambient::replace_timer(before));
        assert!(value == Some(7), "{value:?}");
        assert!(dropped.is_ok(), "the drop of a scope panicked");
        count.assert_settled("children");
        assert_eq!(timer.1.load(Ordering::SeqCst), 2, "both took it back");
    });
}

/// A debug build reports a scope that is dropped midway. With nobody to read the report, printing it panicked before
/// the children were dropped.
#[test]
fn report_that_cannot_be_written_keeps_no_child_from_being_dropped() {
    const INSIDE: &str = "SELVEDGE_TEST_UNREADABLE";
    if std::env::var_os(INSIDE).is_none() {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg("report_that_cannot_be_written_keeps_no_child_from_being_dropped")
            .env(INSIDE, "1")
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(process.stderr.take());
        // It goes on only now.
        drop(process.stdin.take());
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("all dropped"), "{} {said}", output.status);
        return;
    }
    std::io::read_to_string(std::io::stdin()).unwrap();
    let count = Count::new();
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        let waiting = scope(async |s| {
            for _ in 0..3 {
                let one = count.one();
                s.spawn(async move {
                    let _one = one;
                    pending::<()>().await;
                });
            }
        });
        assert!(poll_once(pin!(waiting)).is_pending());
    }));
    if dropped.is_ok() && count.made() == 3 && count.dropped() == 3 {
        println!("all dropped");
    }
}
