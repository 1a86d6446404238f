//! Runs of the `manifest` program that are cut short or meet files that do not hold still.
//! Nothing here waits for a time to pass: files without end keep the program busy, and `/proc` tells
//! which file it reads, so this is for Linux.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;

use crate::common::{Tree, err, out, status};

/// Starts the program, and returns once it has begun to read `file`.
fn start_until_read(mut command: Command, file: &Path) -> Child {
    let mut child = command.spawn().unwrap();
    let file = file.canonicalize().unwrap();
    loop {
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "ended before it read {}: {ended:?}",
            file.display()
        );
        if is_reading(child.id(), &file).unwrap_or(false) {
            return child;
        }
        thread::yield_now();
    }
}

/// Whether a process has the file open and is past its start.
fn is_reading(process: u32, file: &Path) -> io::Result<bool> {
    for fd in fs::read_dir(format!("/proc/{process}/fd"))? {
        let fd = fd?;
        if fs::read_link(fd.path()).is_ok_and(|target| target == file) {
            let number = fd.file_name().into_string().unwrap_or_default();
            let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}"))?;
            return Ok(!info.starts_with("pos:\t0\n"));
        }
    }
    Ok(false)
}

fn interrupt(child: &Child) {
    let sent = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -INT {}", child.id()))
        .status();
    assert!(sent.unwrap().success());
}

/// A tree with one file before and two after an endless one.
fn held_up() -> (Tree, PathBuf) {
    let tree = Tree::new();
    tree.file("a", "a");
    let endless = tree.endless("dir/endless");
    tree.file("x", "x");
    tree.file("z", "z");
    (tree, endless)
}

fn assert_rest_cancelled(output: &Output, word: &str) {
    assert_eq!(out(output).lines().count(), 1, "{}", out(output));
    assert!(
        out(output).ends_with("  a\n"),
        "finished files are printed: {}",
        out(output)
    );
    for path in ["dir/endless", "x", "z"] {
        let told = |line: &str| {
            line.starts_with(&format!("manifest: {path}: ")) && line.contains("cancelled")
        };
        assert!(err(output).lines().any(told), "{path} in {}", err(output));
    }
    assert!(
        err(output).ends_with(&format!("manifest: 3 of 4: cancelled: {word}\n")),
        "{}",
        err(output)
    );
}

#[test]
fn interrupt_prints_what_is_finished_and_exits_130() {
    let (tree, endless) = held_up();
    let child = start_until_read(tree.manifest(&["--jobs", "1"]), &endless);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 130, "{}", err(&output));
    assert_rest_cancelled(&output, "interrupted");
}

#[test]
fn interrupt_reaches_every_file_in_flight() {
    let tree = Tree::new();
    let endless = ["a", "b", "c", "d"].map(|name| tree.endless(name));
    let child = start_until_read(tree.manifest(&["--jobs", "4"]), &endless[0]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((status(&output), out(&output).as_str()), (130, ""));
    assert!(
        err(&output).contains("4 of 4: cancelled"),
        "{}",
        err(&output)
    );
}

#[test]
fn timeout_prints_what_is_finished_and_exits_124() {
    let (tree, _) = held_up();
    let output = tree
        .manifest(&["--jobs", "1", "--timeout", "0.3"])
        .output()
        .unwrap();
    assert_eq!(status(&output), 124, "{}", err(&output));
    assert_rest_cancelled(&output, "time is up");
}

#[test]
fn timeout_of_nothing_cancels_all_and_a_long_one_nothing() {
    let tree = Tree::new();
    tree.file("a", "a");
    let output = tree.manifest(&["--timeout", "0"]).output().unwrap();
    assert_eq!(
        (status(&output), out(&output).as_str()),
        (124, ""),
        "{}",
        err(&output)
    );
    assert_eq!(tree.sums(&["--timeout", "1000000"]), tree.reference("find"));
}

#[test]
fn interrupted_check_prints_the_verdicts_it_has() {
    let (tree, endless) = held_up();
    let outside = Tree::new();
    let zeros = "0".repeat(64);
    let list = outside.file(
        "list",
        format!("{zeros}  a\n{zeros}  dir/endless\n{zeros}  x\n"),
    );
    let options = ["--jobs", "1", "--check", list.to_str().unwrap()];
    let child = start_until_read(tree.manifest(&options), &endless);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (status(&output), out(&output).as_str()),
        (130, "a: FAILED\n"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("2 of 3: cancelled"),
        "{}",
        err(&output)
    );
}

#[test]
fn changing_and_vanishing_files_are_reported_and_the_others_hashed() {
    let (tree, endless) = held_up();
    let child = start_until_read(tree.manifest(&["--jobs", "1"]), &endless);
    // The walk is over and, with one job, `x` not begun.
    fs::remove_file(tree.path().join("x")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&endless)
        .unwrap()
        .set_len(0)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 1, "{}", err(&output));
    let names: Vec<_> = out(&output)
        .lines()
        .map(|line| line[66..].to_owned())
        .collect();
    assert_eq!(names, ["a", "z"]);
    assert!(
        err(&output).contains("manifest: dir/endless: Changed while it was read\n"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("manifest: x: No such file or directory"),
        "{}",
        err(&output)
    );
}

#[test]
fn file_replaced_by_a_pipe_is_reported_and_holds_nobody_up() {
    let (tree, endless) = held_up();
    let child = start_until_read(tree.manifest(&["--jobs", "1"]), &endless);
    fs::remove_file(tree.path().join("x")).unwrap();
    let made = Command::new("mkfifo")
        .arg(tree.path().join("x"))
        .status()
        .unwrap();
    assert!(made.success());
    fs::OpenOptions::new()
        .write(true)
        .open(&endless)
        .unwrap()
        .set_len(0)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (status(&output), out(&output).lines().count()),
        (1, 2),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("manifest: x: Not a regular file\n"),
        "{}",
        err(&output)
    );
}

#[test]
fn unreadable_file_is_reported_and_the_others_hashed() {
    let tree = Tree::new();
    tree.file("a", "a");
    tree.file("z", "z");
    // Regular, and refuses to be read even by the superuser.
    symlink("/proc/self/mem", tree.path().join("m")).unwrap();
    let output = tree.manifest(&["-L"]).output().unwrap();
    assert_eq!(
        (status(&output), out(&output).lines().count()),
        (1, 2),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).starts_with("manifest: m: "),
        "{}",
        err(&output)
    );
}

#[test]
fn no_bar_is_drawn_where_nobody_watches() {
    let tree = Tree::new();
    tree.file("a", "a");
    let output = tree.manifest(&[]).output().unwrap();
    assert_eq!((status(&output), output.stderr.len()), (0, 0));
}

#[test]
fn closed_stdout_is_an_error_and_no_panic() {
    let tree = Tree::new();
    tree.file("a", "a");
    let mut command = tree.manifest(&[]);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(status(&output), 1);
    assert!(
        err(&output).starts_with("manifest: ") && !err(&output).contains("panicked"),
        "{}",
        err(&output)
    );
}
