//! What the `manifest` program prints once all is known, and the exit status that goes with it:
//! sums and verdicts on one side, everything that a person has to look at on the other.
//! Not the place that decides anything about files: it only tells.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use selvedge::{Cancelled, CauseKind};

use crate::sums::{Sum, line, shown};

/// A path below the root, and what is known about it or why that is nothing.
pub type Entry<T> = (PathBuf, io::Result<T>);

/// The sum of a file, and the one that a list says it has.
pub type Hashed = (Sum, Option<Sum>);

/// Prints to stdout and stderr.
///
/// Each cancelled file gets a line of its own in a log, but only a place in the count where a
/// person watches: who pressed Ctrl-C does not want ten thousand lines.
///
/// # Errors
/// When stdout or stderr cannot be written to.
pub fn print(entries: &[Entry<Hashed>], checking: bool) -> io::Result<ExitCode> {
    let terse = io::stderr().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = BufWriter::new(io::stderr().lock());
    write(entries, checking, terse, &mut out, &mut err).map(ExitCode::from)
}

fn write(
    entries: &[Entry<Hashed>],
    checking: bool,
    terse: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let (mut differ, mut unread, mut cancelled, mut late) = (0_usize, 0_usize, 0_usize, false);
    for (path, known) in entries {
        match known {
            Ok((sum, None)) => out.write_all(&line(sum, path))?,
            Ok((sum, Some(listed))) => {
                let same = sum == listed;
                differ += usize::from(!same);
                verdict(out, path, if same { b": OK\n" } else { b": FAILED\n" })?;
            }
            Err(problem) => match Cancelled::find_in(problem) {
                Some(reason) => {
                    cancelled += 1;
                    late |= reason.cause().kind() == CauseKind::Deadline;
                    if !terse {
                        complain(err, path, problem)?;
                    }
                }
                None => {
                    unread += 1;
                    complain(err, path, problem)?;
                    if checking {
                        verdict(out, path, b": FAILED open or read\n")?;
                    }
                }
            },
        }
    }
    out.flush()?;
    let total = entries.len();
    let counts = [
        (differ, "do not have the listed sum"),
        (unread, "could not be read"),
        (
            cancelled,
            if late {
                "cancelled: time is up"
            } else {
                "cancelled: interrupted"
            },
        ),
    ];
    for (count, what) in counts {
        if count > 0 {
            writeln!(err, "manifest: {count} of {total}: {what}")?;
        }
    }
    err.flush()?;
    Ok(match (cancelled, late) {
        (1.., true) => 124,
        (1.., false) => 130,
        _ => u8::from(differ + unread > 0),
    })
}

fn verdict(out: &mut impl Write, path: &Path, what: &[u8]) -> io::Result<()> {
    out.write_all(&shown(path))?;
    out.write_all(what)
}

fn complain(err: &mut impl Write, path: &Path, problem: &io::Error) -> io::Result<()> {
    let here = path.as_os_str().is_empty();
    err.write_all(b"manifest: ")?;
    err.write_all(&shown(if here { Path::new(".") } else { path }))?;
    writeln!(err, ": {problem}")
}
