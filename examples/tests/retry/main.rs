//! The `retry` example on the virtual clock: when it tries, when it gives up, what it ends with, and that
//! its last step is not cut.

#[allow(dead_code, reason = "`main` is not called here")]
#[path = "../../retry.rs"]
pub mod retry;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::Duration;

use retry::{ATTEMPT, COMMIT, retry as try_again, transact};
use selvedge::testing::VirtualClock;
use selvedge::time::sleep;
use selvedge::{Cancelled, FutureCancelExt, TimedOut, scope, timeout};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Runs on this clock, which nothing but its own entries moves.
fn run<F: Future>(clock: &VirtualClock, future: F) -> F::Output {
    let clock = clock.clone().panics_when_stuck();
    let output = clock.block_on(future);
    assert_eq!(clock.timers(), 0, "nothing is left in the timer");
    output
}

fn busy<T>() -> io::Result<T> {
    Err(ErrorKind::ResourceBusy.into())
}

/// When attempts were made.
#[derive(Default)]
struct Attempts(Mutex<Vec<Duration>>);

impl Attempts {
    /// Notes one, and says the how-manieth it is, from 1 on.
    fn note(&self, clock: &VirtualClock) -> usize {
        let mut at = self.0.lock().unwrap();
        at.push(clock.elapsed());
        at.len()
    }

    fn at(self) -> Vec<u128> {
        let at = self.0.into_inner().unwrap();
        at.iter().map(Duration::as_millis).collect()
    }
}

#[test]
fn pauses_double_until_an_attempt_succeeds() {
    let (clock, attempts) = (VirtualClock::new(), Attempts::default());
    let attempt = async || match attempts.note(&clock) {
        6 => Ok("at last"),
        _ => busy(),
    };
    let got = run(&clock, try_again(attempt));
    assert_eq!(got.unwrap(), "at last");
    assert_eq!(attempts.at(), [0, 100, 300, 700, 1500, 3100]);
}

#[test]
fn retry_gives_up_with_the_last_problem_when_the_next_turn_would_be_too_late() {
    // The turns are at 0, 100, 300, 700, 1500, 3100 ms.
    for (limit, last) in [(701, 700), (1500, 700), (1501, 1500), (3100, 1500)] {
        let (clock, attempts) = (VirtualClock::new(), Attempts::default());
        let attempt = async || {
            attempts.note(&clock);
            busy::<()>()
        };
        let ended = run(&clock, timeout(ms(limit), try_again(attempt)));
        let problem = ended.expect("the limit has cut nothing").unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::ResourceBusy);
        assert_eq!(clock.elapsed(), ms(last), "it did not wait for the limit");
        assert_eq!(attempts.at().last(), Some(&u128::from(last)));
    }
}

#[test]
fn attempt_that_hangs_is_ended_and_tried_again() {
    let (clock, attempts) = (VirtualClock::new(), Attempts::default());
    let attempt = async || match attempts.note(&clock) {
        1 => Ok(sleep(Duration::MAX).await?),
        2 => Ok(std::future::pending().or_cancel().await?),
        _ => Ok(()),
    };
    let got = run(&clock, timeout(ms(5000), try_again(attempt)));
    got.unwrap().unwrap();
    let each = ATTEMPT.as_millis();
    assert_eq!(attempts.at(), [0, each + 100, 2 * each + 300]);
}

#[test]
fn limit_that_passes_during_an_attempt_is_timed_out() {
    let (clock, attempts) = (VirtualClock::new(), Attempts::default());
    let prepare = async || {
        attempts.note(&clock);
        Ok(sleep(Duration::MAX).await?)
    };
    let unreached = async |()| unreachable!("there is nothing to commit to");
    let ended = run(&clock, transact(ms(2500), prepare, unreached));
    ended.expect_err("the limit has cut the third attempt");
    assert_eq!(clock.elapsed(), ms(2500));
    // The third had 200 ms of its second.
    assert_eq!(attempts.at(), [0, 1100, 2300]);
}

#[test]
fn attempt_that_is_ended_with_no_time_left_is_a_problem_and_not_timed_out() {
    let clock = VirtualClock::new();
    let prepare = async || Ok(sleep(Duration::MAX).await?);
    let unreached = async |()| unreachable!("there is nothing to commit to");
    let ended = run(&clock, transact(ms(1050), prepare, unreached));
    let problem = ended.expect("the limit has not passed").unwrap_err();
    assert_eq!(problem.kind(), ErrorKind::TimedOut, "of the attempt");
    assert_eq!(clock.elapsed(), ATTEMPT);
}

#[test]
fn cancellation_goes_out_at_once() {
    // During a pause, and during an attempt.
    for (hangs, tried) in [(false, &[0, 100, 300][..]), (true, &[0])] {
        let (clock, attempts) = (VirtualClock::new(), Attempts::default());
        let attempt = async || {
            attempts.note(&clock);
            match hangs {
                true => Ok(sleep(Duration::MAX).await?),
                false => busy(),
            }
        };
        let limited = timeout(ms(60_000), try_again(attempt));
        let ended = run(
            &clock,
            scope(async |s| {
                let token = s.token();
                s.spawn(async move {
                    sleep(ms(450)).await.unwrap();
                    token.cancel_with("changed my mind");
                });
                limited.await
            }),
        );
        let problem = ended.expect("no limit has passed").unwrap_err();
        let found = Cancelled::find_in(&problem).expect("it says why");
        assert_eq!(found.cause().text(), Some("changed my mind"));
        assert_eq!(clock.elapsed(), ms(450));
        assert_eq!(attempts.at(), tried);
    }
}

/// Commits for so long under a limit of a second, and cancelled from outside too if asked for.
fn commit_for(takes: Duration, cancels: bool) -> (Result<io::Result<()>, TimedOut>, Duration) {
    let clock = VirtualClock::new();
    let prepare = async || Ok("prepared");
    let commit = async |prepared| {
        assert_eq!(prepared, "prepared");
        Ok(sleep(takes).await?)
    };
    let work = transact(ms(1000), prepare, commit);
    let ended = run(
        &clock,
        scope(async |s| {
            let token = s.token();
            s.spawn(async move {
                if cancels {
                    sleep(ms(300)).await.unwrap();
                    token.cancel();
                }
            });
            work.await
        }),
    );
    (ended, clock.elapsed())
}

#[test]
fn commit_that_was_begun_ends_by_itself_cancelled_or_late() {
    for takes in [ms(100), ms(999), ms(1900)] {
        for cancels in [false, true] {
            let (ended, took) = commit_for(takes, cancels);
            ended.unwrap().unwrap();
            assert_eq!(took, takes.max(if cancels { ms(300) } else { ms(0) }));
        }
    }
}

#[test]
fn commit_that_takes_too_long_is_cut_by_the_bound_of_its_shield() {
    let (ended, took) = commit_for(Duration::MAX, false);
    ended.expect_err("the limit has passed, and then the bound");
    assert_eq!(took, COMMIT);
    let (ended, took) = commit_for(Duration::MAX, true);
    assert!(Cancelled::find_in(&ended.unwrap().unwrap_err()).is_some());
    assert_eq!(took, COMMIT);
}
