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

#[cfg(test)]
mod tests {
    use super::{Entry, Hashed, write};
    use selvedge::{Cancelled, CauseKind};
    use std::io;

    const SUM: [u8; 32] = [0; 32];

    fn printed(entries: &[Entry<Hashed>], checking: bool, terse: bool) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = write(entries, checking, terse, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err))
    }

    fn entry(path: &str, result: io::Result<Hashed>) -> Entry<Hashed> {
        (path.into(), result)
    }

    fn cancelled(path: &str, kind: CauseKind) -> Entry<Hashed> {
        entry(path, Err(Cancelled::new(kind).into()))
    }

    #[test]
    fn sums_alone_end_with_0_and_silence() {
        let (code, out, err) = printed(&[entry("a", Ok((SUM, None)))], false, false);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, format!("{}  a\n", "0".repeat(64)));
    }

    #[test]
    fn verdicts_go_to_stdout_and_problems_to_stderr() {
        let entries = [
            entry("same", Ok((SUM, Some(SUM)))),
            entry("other", Ok((SUM, Some([1; 32])))),
            entry("bad", Err(io::Error::other("unreadable"))),
        ];
        let (code, out, err) = printed(&entries, true, false);
        assert_eq!(code, 1);
        assert_eq!(out, "same: OK\nother: FAILED\nbad: FAILED open or read\n");
        assert!(err.starts_with("manifest: bad: unreadable\n"), "{err}");
        assert!(err.contains("1 of 3: do not have"), "{err}");
        assert!(err.contains("1 of 3: could not be read"), "{err}");
    }

    #[test]
    fn cancelled_files_are_named_in_a_log_and_counted_for_a_person() {
        let entries = [
            entry("bad", Err(io::Error::other("unreadable"))),
            cancelled("left", CauseKind::Requested),
        ];
        for terse in [false, true] {
            let (code, _, err) = printed(&entries, false, terse);
            assert_eq!(code, 130, "an interrupt counts for more than a problem");
            assert_eq!(err.contains("manifest: left: cancelled"), !terse, "{err}");
            assert!(err.contains("manifest: bad: unreadable\n"), "{err}");
            assert!(err.ends_with("1 of 2: cancelled: interrupted\n"), "{err}");
        }
    }

    #[test]
    fn deadline_ends_with_124() {
        let (code, _, err) = printed(&[cancelled("left", CauseKind::Deadline)], false, true);
        assert_eq!(code, 124);
        assert_eq!(err, "manifest: 1 of 1: cancelled: time is up\n");
    }
}
