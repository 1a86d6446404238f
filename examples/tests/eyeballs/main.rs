//! The `eyeballs` example: who is tried when, who wins, and what becomes of the others, on the virtual clock;
//! then with real sockets.

#[allow(dead_code, reason = "`main` is not called here")]
#[path = "../../eyeballs.rs"]
pub mod eyeballs;

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use eyeballs::{Problems, first_of, in_turn};
use selvedge::testing::VirtualClock;
use selvedge::time::sleep;
use selvedge::{CancelToken, Cancelled, scope, timeout};
use tokio::net::{TcpListener, TcpStream};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What an address does: it answers or refuses, after a time, or does neither.
#[derive(Clone, Copy)]
enum Host {
    Answers(u64),
    Refuses(u64),
    Silent,
}
use Host::{Answers, Refuses, Silent};

/// What happened to the attempt at which host, and when.
type Log = Mutex<Vec<(&'static str, u16, Duration)>>;

/// Tells the log when an attempt is dropped before it has come to an end.
struct Attempt<'a> {
    clock: &'a VirtualClock,
    log: &'a Log,
    host: u16,
    is_over: bool,
}

impl Attempt<'_> {
    fn note(&self, what: &'static str) {
        let mut log = self.log.lock().unwrap();
        log.push((what, self.host, self.clock.elapsed()));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.note("dropped");
        }
    }
}

fn address(host: usize) -> SocketAddr {
    ([192, 0, 2, 1], u16::try_from(host).unwrap()).into()
}

/// Tries these hosts, numbered as they stand, on a clock of its own. The connection is the host's number.
fn try_hosts(hosts: &[Host], log: &Log) -> Result<Result<u16, Problems>, selvedge::TimedOut> {
    let clock = VirtualClock::new().panics_when_stuck();
    let addresses: Vec<_> = (0..hosts.len()).map(address).collect();
    let connect = async |address: SocketAddr| {
        let (clock, host) = (&clock, address.port());
        let mut attempt = Attempt {
            clock,
            log,
            host,
            is_over: false,
        };
        attempt.note("tried");
        let (takes, result) = match hosts[usize::from(host)] {
            Answers(takes) => (ms(takes), Ok(host)),
            Refuses(takes) => (ms(takes), Err(io::ErrorKind::ConnectionRefused.into())),
            Silent => (Duration::MAX, Ok(host)),
        };
        sleep(takes).await?;
        attempt.is_over = true;
        result
    };
    let ended = clock.block_on(timeout(ms(5000), first_of(&addresses, ms(250), connect)));
    assert_eq!(clock.timers(), 0, "nothing is left in the timer");
    ended
}

#[test]
fn first_that_answers_wins_and_the_others_are_dropped_at_once() {
    let log = Log::default();
    let won = try_hosts(&[Silent, Answers(400), Answers(800), Answers(1)], &log);
    assert_eq!(won.unwrap().unwrap(), 1);
    let mut log = log.into_inner().unwrap();
    log[3..].sort();
    let expected = [
        ("tried", 0, ms(0)),
        ("tried", 1, ms(250)),
        ("tried", 2, ms(500)),
        // Host 1 answers 400 ms after it was tried, before it is the turn of host 3.
        ("dropped", 0, ms(650)),
        ("dropped", 2, ms(650)),
    ];
    assert_eq!(log, expected);
}

#[test]
fn first_host_that_answers_within_its_head_start_is_the_only_one_tried() {
    let log = Log::default();
    let won = try_hosts(&[Answers(249), Answers(0)], &log);
    assert_eq!(won.unwrap().unwrap(), 0);
    assert_eq!(log.into_inner().unwrap(), [("tried", 0, ms(0))]);
}

#[test]
fn next_host_is_tried_as_soon_as_the_last_has_failed() {
    let log = Log::default();
    let won = try_hosts(&[Refuses(30), Refuses(300), Answers(5)], &log);
    assert_eq!(won.unwrap().unwrap(), 2);
    let expected = [
        ("tried", 0, ms(0)),
        ("tried", 1, ms(30)),
        ("tried", 2, ms(280)),
        ("dropped", 1, ms(285)),
    ];
    assert_eq!(log.into_inner().unwrap(), expected);
}

#[test]
fn all_problems_are_reported_when_nobody_answers() {
    let log = Log::default();
    let problems = try_hosts(&[Refuses(900), Refuses(0), Refuses(100)], &log);
    let problems = problems.unwrap().unwrap_err();
    let of: Vec<_> = problems.iter().map(|(address, _)| address.port()).collect();
    assert_eq!(of, [1, 2, 0], "in the order in which they failed");
    let refused = |problem: &io::Error| problem.kind() == io::ErrorKind::ConnectionRefused;
    assert!(problems.iter().all(|(_, problem)| refused(problem)));
    let tried = log.into_inner().unwrap();
    assert_eq!(tried.last(), Some(&("tried", 2, ms(250))));

    let problems = try_hosts(&[], &Log::default()).unwrap().unwrap_err();
    assert!(problems.is_empty());
}

#[test]
fn limit_around_it_drops_every_attempt_and_says_timed_out() {
    let log = Log::default();
    assert!(try_hosts(&[Silent, Refuses(10), Silent], &log).is_err());
    let mut log = log.into_inner().unwrap();
    let at_the_end = log.split_off(3);
    assert_eq!(log.last(), Some(&("tried", 2, ms(260))));
    let mut dropped = at_the_end;
    dropped.sort();
    let expected = [("dropped", 0, ms(5000)), ("dropped", 2, ms(5000))];
    assert_eq!(dropped, expected);
}

#[test]
fn cancelled_attempts_report_the_cancellation() {
    let token = CancelToken::new();
    token.cancel_with("no longer of interest");
    let clock = VirtualClock::new().panics_when_stuck();
    let addresses = [address(0), address(1)];
    let connect = |_| std::future::pending::<io::Result<()>>();
    let connecting = scope(async |_| first_of(&addresses, ms(250), connect).await);
    let problems = clock.block_on(connecting.token(&token)).unwrap_err();
    assert_eq!(problems.len(), 1, "the second was not begun");
    let found = Cancelled::find_in(&problems[0].1).expect("it says why");
    assert_eq!(found.cause().text(), Some("no longer of interest"));
}

#[test]
fn families_take_turns() {
    let six: Vec<SocketAddr> = ["[::1]:1", "[::2]:1"]
        .map(|six| six.parse().unwrap())
        .into();
    let four: Vec<_> = (0..4).map(address).collect();
    let turns = |six: &[SocketAddr], four: &[SocketAddr]| in_turn(four.iter().chain(six).copied());
    let both = [six[0], four[0], six[1], four[1], four[2], four[3]];
    assert_eq!(turns(&six, &four), both);
    assert_eq!(turns(&six, &four[..1]), [six[0], four[0], six[1]]);
    assert_eq!(turns(&[], &four), four);
    assert_eq!(turns(&six, &[]), six);
}

#[test]
fn real_socket_that_listens_wins_over_one_that_refuses() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // Bound and not listening: nobody else can take the port, and it refuses.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = bound.local_addr().unwrap();

        // The head start is longer than the test: only a failure lets the next one begin.
        let hour = Duration::from_secs(3600);
        let won = first_of(&[closed, open], hour, TcpStream::connect).await;
        assert_eq!(won.unwrap().peer_addr().unwrap(), open);
        listener.accept().await.unwrap();

        let lost = first_of(&[closed, closed], hour, TcpStream::connect).await;
        let problems = lost.unwrap_err();
        assert_eq!(problems.len(), 2);
        for (address, problem) in problems {
            assert_eq!(address, closed);
            assert_eq!(problem.kind(), io::ErrorKind::ConnectionRefused);
        }
    });
}
