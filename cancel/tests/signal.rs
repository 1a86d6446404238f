//! Ctrl-C, heard by processes that send it to themselves: this test program, started again with a variable that
//! says which part to play. For Unix, which has `kill`.
#![cfg(all(feature = "signal", unix, not(selvedge_loom)))]

use std::env;
use std::future::pending;
use std::process::{self, Command};
use std::sync::mpsc;

use futures::executor::block_on;
use selvedge_cancel::{CancelToken, Cause, CauseKind, Phase};

const PART: &str = "SELVEDGE_SIGNAL_PART";

/// Plays a part in a process of its own: what it printed, and its status.
fn play(part: &str) -> (String, Option<i32>) {
    let program = env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["--exact", "a_part_is_played_if_there_is_one", "--nocapture"])
        .env(PART, part);
    let output = command.output().expect("it starts");
    let said = String::from_utf8(output.stdout).expect("plain text");
    let said: Vec<_> = said.lines().filter_map(|l| l.strip_prefix("> ")).collect();
    (said.join("\n"), output.status.code())
}

fn say(what: impl std::fmt::Display) {
    // On a line of its own, whatever the harness has printed.
    println!("\n> {what}");
}

fn press_ctrl_c() {
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -INT {}", process::id()))
        .status();
    assert!(kill.expect("a shell").success());
}

fn told(cause: Option<Cause>) -> String {
    let cause = cause.expect("there is one");
    format!("{:?} {}", cause.kind(), cause.text().unwrap_or("-"))
}

fn stop_cancel_abort_and_end() {
    let token = CancelToken::new();
    let below = token.child();
    let shielded = token.child_shielded();
    token.on_ctrl_c().unwrap();
    // The second time changes nothing: else two steps would be taken at once.
    token.on_ctrl_c().unwrap();
    press_ctrl_c();
    block_on(below.stopping());
    say(format!("{:?} {}", token.phase(), told(token.stop_cause())));
    press_ctrl_c();
    block_on(below.cancelled());
    say(format!("{:?} {}", token.phase(), told(below.cause())));
    assert!(!shielded.is_cancelled());
    press_ctrl_c();
    block_on(shielded.cancelled());
    say(format!("{:?} {}", token.phase(), told(shielded.cause())));
    press_ctrl_c();
    block_on(pending::<()>());
}

fn two_tokens_of_different_age() {
    let (early, late, gone) = (CancelToken::new(), CancelToken::new(), CancelToken::new());
    early.on_ctrl_c().unwrap();
    gone.on_ctrl_c().unwrap();
    drop(gone);
    press_ctrl_c();
    block_on(early.stopping());
    late.on_ctrl_c().unwrap();
    press_ctrl_c();
    block_on(late.stopping());
    say(format!("{:?} {:?}", early.phase(), late.phase()));
    drop(early);
    press_ctrl_c();
    block_on(late.cancelled());
    say("the late one goes on by itself");
    drop(late);
    press_ctrl_c();
    block_on(pending::<()>());
}

fn callback_that_registers_and_panics() {
    let (token, other) = (CancelToken::new(), CancelToken::new());
    token.on_ctrl_c().unwrap();
    let (send, receive) = mpsc::channel();
    let again = other.clone();
    let _guards = [
        token.on_cancel(|_| panic!("a callback")),
        token.on_cancel(move |cause| {
            again.on_ctrl_c().unwrap();
            send.send(cause.kind()).unwrap();
        }),
    ];
    press_ctrl_c();
    block_on(token.stopping());
    press_ctrl_c();
    assert_eq!(receive.recv(), Ok(CauseKind::Shutdown));
    press_ctrl_c();
    block_on(other.stopping());
    assert_eq!(token.phase(), Phase::Aborting);
    say("both were heard");
}

fn callbacks_that_do_not_return() {
    let token = CancelToken::new();
    token.on_ctrl_c().unwrap();
    let (send, receive) = mpsc::channel();
    let _guard = token.on_cancel(move |_| {
        send.send(std::thread::current().name().map(str::to_owned))
            .unwrap();
        loop {
            std::thread::park();
        }
    });
    press_ctrl_c();
    block_on(token.stopping());
    press_ctrl_c();
    let name = receive.recv().unwrap();
    // It blocks by now. The next two are heard all the same: the second of them ends the process.
    press_ctrl_c();
    let shielded = token.child_shielded();
    block_on(shielded.cancelled());
    say(format!(
        "{:?} {}",
        token.phase(),
        name.as_deref().unwrap_or("-")
    ));
    press_ctrl_c();
    block_on(pending::<()>());
}

#[test]
fn a_part_is_played_if_there_is_one() {
    match env::var(PART).as_deref() {
        Ok("one") => stop_cancel_abort_and_end(),
        Ok("two") => two_tokens_of_different_age(),
        Ok("callback") => callback_that_registers_and_panics(),
        Ok("blocking") => callbacks_that_do_not_return(),
        _ => {}
    }
}

#[test]
fn ctrl_c_stops_then_cancels_then_aborts_then_ends_the_process() {
    let (said, status) = play("one");
    let expected =
        "Stopping Shutdown Ctrl-C\nCancelled Shutdown Ctrl-C\nAborting GraceExpired Ctrl-C";
    assert_eq!((said.as_str(), status), (expected, Some(130)));
}

#[test]
fn tokens_count_for_themselves_are_forgotten_when_dropped_and_the_last_one_takes_the_process_along()
{
    let (said, status) = play("two");
    let expected = "Cancelled Stopping\nthe late one goes on by itself";
    assert_eq!((said.as_str(), status), (expected, Some(130)));
}

#[test]
fn callback_may_register_another_token_and_a_panicking_one_keeps_nobody_from_hearing() {
    let (said, status) = play("callback");
    assert_eq!((said.as_str(), status), ("both were heard", Some(0)));
}

#[test]
fn callback_that_does_not_return_keeps_no_further_ctrl_c_from_being_heard() {
    let (said, status) = play("blocking");
    assert_eq!(
        (said.as_str(), status),
        ("Aborting selvedge-cancel", Some(130))
    );
}
