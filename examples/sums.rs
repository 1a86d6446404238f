//! The line format of `sha256sum`: a digest, two signs, a path, and an escape for awkward paths.
//! Paths are bytes here, as they are on Unix; nothing is ever taken for UTF-8.
//! Not a hasher: digests come in and go out ready made.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::report::Entry;

/// A SHA-256 digest.
pub type Sum = [u8; 32];

/// The line that `sha256sum` prints for a path, newline included.
///
/// A path with a backslash, a newline or a carriage return is escaped, and a backslash in front of
/// the whole line says so.
///
/// ```
/// # use std::path::Path;
/// # use selvedge_examples::sums::{line, parse};
/// let printed = line(&[0; 32], Path::new("a\nb"));
/// assert!(printed.starts_with(b"\\0000") && printed.ends_with(b"  a\\nb\n"));
/// assert_eq!(parse(&printed[..printed.len() - 1]), Some(([0; 32], "a\nb".into())));
/// ```
pub fn line(sum: &Sum, path: &Path) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let raw = path.as_os_str().as_bytes();
    let name = escape(raw);
    let mut line = Vec::with_capacity(name.len() + 68);
    if name != raw {
        line.push(b'\\');
    }
    for byte in sum {
        line.push(HEX[usize::from(byte >> 4)]);
        line.push(HEX[usize::from(byte & 15)]);
    }
    line.extend_from_slice(b"  ");
    line.extend_from_slice(&name);
    line.push(b'\n');
    line
}

/// The path on a line of its own, as `sha256sum --check` puts it before `: OK`: as it is, unless a
/// newline would break the line.
pub fn shown(path: &Path) -> Vec<u8> {
    let raw = path.as_os_str().as_bytes();
    if raw.contains(&b'\n') {
        let mut name = vec![b'\\'];
        name.extend(escape(raw));
        return name;
    }
    raw.to_vec()
}

/// Reads one line, without its newline, in either mode (two blanks, or a blank and an asterisk).
///
/// `None` is a line that is no sum.
pub fn parse(line: &[u8]) -> Option<(Sum, PathBuf)> {
    let line = line.trim_ascii_start();
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (hex, rest) = line.split_at_checked(64)?;
    let name = rest.strip_prefix(b"  ").or(rest.strip_prefix(b" *"))?;
    let mut sum = [0; 32];
    for (byte, pair) in sum.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    let name = if escaped {
        unescape(name)?
    } else {
        name.to_vec()
    };
    let usable = !name.is_empty() && !name.contains(&0);
    usable.then(|| (sum, PathBuf::from(OsString::from_vec(name))))
}

/// Reads a list of sums, from stdin if `list` is `-`, and warns of lines that are none.
///
/// # Errors
/// When it cannot be read, or holds no sum at all.
pub fn read_list(list: &Path) -> io::Result<Vec<Entry<Option<Sum>>>> {
    let mut text = Vec::new();
    if list == Path::new("-") {
        io::stdin().lock().read_to_end(&mut text)?;
    } else {
        let named = |problem| io::Error::other(format!("{}: {problem}", list.display()));
        text = fs::read(list).map_err(named)?;
    }
    let (sums, improper) = parse_list(&text);
    if sums.is_empty() {
        return Err(io::Error::other(format!(
            "{}: no sums found",
            list.display()
        )));
    }
    if improper > 0 {
        eprintln!(
            "manifest: {}: lines that are no sums: {improper}",
            list.display()
        );
    }
    Ok(sums
        .into_iter()
        .map(|(sum, path)| (path, Ok(Some(sum))))
        .collect())
}

/// The sums of a whole list, and how many of its lines are none; comments and empty lines are
/// passed over.
pub fn parse_list(text: &[u8]) -> (Vec<(Sum, PathBuf)>, usize) {
    let mut sums = Vec::new();
    let mut improper = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match parse(line) {
            Some(sum) => sums.push(sum),
            None => improper += 1,
        }
    }
    (sums, improper)
}

fn escape(raw: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(raw.len());
    for &byte in raw {
        match byte {
            b'\\' => name.extend_from_slice(b"\\\\"),
            b'\n' => name.extend_from_slice(b"\\n"),
            b'\r' => name.extend_from_slice(b"\\r"),
            _ => name.push(byte),
        }
    }
    name
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        raw.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(raw)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::{line, parse, parse_list, shown};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn path(raw: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(raw))
    }

    #[test]
    fn every_byte_but_nul_and_slash_survives_a_round_trip() {
        let sum = [0x5a; 32];
        for byte in (1..=255).filter(|&byte| byte != b'/') {
            let name = [b'x', byte, byte, b'y'];
            let printed = line(&sum, path(&name));
            let (last, body) = printed.split_last().expect("a line is never empty");
            assert_eq!(*last, b'\n');
            assert!(!body.contains(&b'\n'), "one line for byte {byte}");
            assert_eq!(
                parse(body),
                Some((sum, path(&name).to_path_buf())),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn both_modes_and_capital_digits_are_read() {
        let hex = "AB".repeat(32);
        for sign in [' ', '*'] {
            let got = parse(format!("{hex} {sign}name").as_bytes());
            assert_eq!(got, Some(([0xab; 32], "name".into())));
        }
    }

    #[test]
    fn leading_blank_of_a_name_is_kept() {
        let hex = "00".repeat(32);
        let got = parse(format!("{hex}   name").as_bytes());
        assert_eq!(got, Some(([0; 32], " name".into())));
    }

    #[test]
    fn malformed_lines_are_refused() {
        let hex = "00".repeat(32);
        let lines = [
            String::new(),
            "00  name".into(),
            format!("{hex} name"),
            format!("{hex}  "),
            format!("{}  name", "0g".repeat(32)),
            format!("\\{hex}  bad\\escape"),
            format!("\\{hex}  ends in \\"),
            format!("{hex}  a\0b"),
        ];
        for bad in lines {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn list_with_comments_and_rubbish_counts_the_rubbish() {
        let hex = "00".repeat(32);
        let text = format!("# made today\n\n{hex}  a\r\nrubbish\n{hex} *b");
        let (sums, improper) = parse_list(text.as_bytes());
        let names: Vec<_> = sums.iter().map(|(_, name)| name.as_path()).collect();
        assert_eq!(names, [Path::new("a"), Path::new("b")]);
        assert_eq!(improper, 1);
    }

    #[test]
    fn name_before_ok_is_escaped_only_for_a_newline() {
        assert_eq!(shown(path(b"a\\b\r")), b"a\\b\r");
        assert_eq!(shown(path(b"a\\\nb")), b"\\a\\\\\\nb");
        assert_eq!(shown(path(b"\xff")), b"\xff");
    }
}
