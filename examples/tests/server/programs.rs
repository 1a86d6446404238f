//! The three programs as a user runs them: a server, whoever connects and talks to it, and Ctrl-C. What
//! they do in detail is tested without processes.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Builds the programs, since cargo hands tests the place of binaries, not of examples; says where they are.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this program");
    let profile = test.ancestors().nth(2).expect("PROFILE/deps/TEST");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline"]);
    for program in ["server", "eyeballs", "retry"] {
        build.args(["--example", program]);
    }
    build.args([
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    ]);
    build.arg("--target-dir");
    build.arg(profile.parent().expect("TARGET/PROFILE"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.status().expect("cargo starts");
    assert!(built.success(), "the programs do not build");
    profile.join("examples")
}

/// A server that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn programs_meet_and_ctrl_c_ends_the_server_in_good_order() {
    let programs = programs();
    let mut server = Command::new(programs.join("server"));
    let server = server.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn();
    let mut server = Running(server.expect("the server starts"));
    let mut address = String::new();
    let mut said = BufReader::new(server.0.stdout.take().expect("it is piped"));
    said.read_line(&mut address).unwrap();
    let address = address.trim();

    let eyeballs = Command::new(programs.join("eyeballs"))
        .arg(address)
        .output();
    let connected = String::from_utf8(eyeballs.unwrap().stdout).unwrap();
    assert_eq!(connected, format!("connected to {address}\n"));
    let retry = Command::new(programs.join("retry")).arg(address).status();
    assert!(retry.unwrap().success());

    let mut client = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    let mut ask = |request: &[u8]| {
        client.write_all(request).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask(b"hello\n"), "hello\n");
    // The shell's `kill`, so that no test needs unsafe code.
    let mut kill = Command::new("sh");
    let kill = kill
        .args(["-c", &format!("kill -INT {}", server.0.id())])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(ask(b""), "bye\n");
    assert_eq!(ask(b"one more\n"), "one more\n");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    answers.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(server.0.wait().unwrap().success());
}
