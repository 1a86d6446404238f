//! Finds the project's files and reads Rust just well enough to tell code from comments and text.
//! Not a parser: it knows nothing of items or of macros.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path from the root of the repository, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The text without comments and literals, which are blanks instead; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        code(&self.text)
    }

    /// The same, up to where a file's own tests begin.
    pub(crate) fn shipped_code(&self) -> String {
        let code = self.code();
        match code.find("#[cfg(test)]") {
            Some(tests) => code[..tests].to_owned(),
            None => code,
        }
    }

    /// The string literals up to where a file's own tests begin, as a reader of the text sees them, but for those
    /// that give the compiler a `reason`.
    pub(crate) fn shipped_texts(&self) -> Vec<String> {
        let (mut code, mut texts) = (String::new(), Vec::new());
        for piece in pieces(&self.text) {
            match piece {
                Piece::Code(c) => code.push(c),
                Piece::Other(_) if code.contains("#[cfg(test)]") => break,
                Piece::Other(other) => {
                    let is_text = !other.starts_with('/') && other.ends_with(['"', '#']);
                    if is_text && !code.trim_end().ends_with("reason =") {
                        texts.push(joined(other));
                    }
                }
            }
        }
        texts
    }

    pub(crate) fn is_below(&self, folder: &str) -> bool {
        self.path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with one of these extensions, in order; build folders and hidden ones are left out.
pub(crate) fn files(extensions: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let wanted = |path: &PathBuf| {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("");
        extensions.contains(&extension)
    };
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("it was found there");
        let text = fs::read_to_string(&path).expect("it is text");
        Source {
            path: name.to_str().expect("a plain name").replace('\\', "/"),
            text,
        }
    };
    paths.into_iter().filter(wanted).map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    // A folder with this tag holds what cargo builds, whatever its name.
    if folder.join("CACHEDIR.TAG").exists() {
        return;
    }
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type().expect("a known file").is_dir() {
            true => collect(&entry.path(), paths),
            false => paths.push(entry.path()),
        }
    }
}

/// A literal without the line breaks that are not part of its text.
fn joined(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or("").to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

/// The identifiers of some code, in order.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Code(first) => out.push(first),
            Piece::Other(other) => {
                out.extend(other.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            }
        }
    }
    out
}

/// A character of code, or a whole comment or literal.
#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Code(char),
    Other(&'a str),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut after_word) = (text, false);
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (length, piece) = match literal_length(rest, after_word) {
            0 => (first.len_utf8(), Piece::Code(first)),
            length => (length, Piece::Other(&rest[..length])),
        };
        rest = &rest[length..];
        after_word = matches!(piece, Piece::Code(c) if c.is_alphanumeric() || c == '_');
        Some(piece)
    })
}

/// How many bytes of comment or literal `rest` begins with.
fn literal_length(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(start) = raw_opening(rest).filter(|_| !after_word) {
        let close = format!("\"{}", rest[..start].matches('#').collect::<String>());
        return rest[start..]
            .find(&close)
            .map_or(rest.len(), |end| start + end + close.len());
    }
    // A quote starts a character unless it starts a lifetime.
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut chars = inside.chars();
        let first = chars.next();
        if first == Some('\\') || chars.next() == Some('\'') {
            return quoted(rest, '\'');
        }
    }
    0
}

/// The length of the opening of a raw string that `rest` begins with.
fn raw_opening(rest: &str) -> Option<usize> {
    let inside = rest
        .strip_prefix(['b', 'c'])
        .unwrap_or(rest)
        .strip_prefix('r')?;
    let text = inside.trim_start_matches('#').strip_prefix('"')?;
    Some(rest.len() - text.len())
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn literals_and_comments_are_no_code() {
    let text = concat!(
        "a /* b\n */ c // d\n",
        "\"e \\\" f\" 'g' '\\'' 'h: i\n",
        "r#\"j \" k\"# r\"l\" br\"m\" attr n",
    );
    let code = code(text);
    assert_eq!(
        words(&code).collect::<Vec<_>>(),
        ["a", "c", "h", "i", "attr", "n"]
    );
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}

#[test]
fn texts_are_string_literals_of_shipped_code() {
    let source = Source {
        path: String::new(),
        text: concat!(
            "/// \"doc\"\nf(\"one\", 'c', r#\"two\"#); #[expect(x, reason = \"three\")]\n",
            "\"fo\\\n    ur\" #[cfg(test)] mod tests { \"five\" }",
        )
        .to_owned(),
    };
    assert_eq!(
        source.shipped_texts(),
        ["\"one\"", "r#\"two\"#", "\"four\""]
    );
}
