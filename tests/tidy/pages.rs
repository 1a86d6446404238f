//! What is asked of the pages that strangers read first: README, guide and examples stay small and plain,
//! and what the crates offer is found in the façade. Not about style.

use std::collections::BTreeSet;
use std::fs;

use crate::source::{Source, files, root, words};

/// What a first program must not need, as it would stand in code.
const HEAVY: [&str; 4] = ["Arc", "Pin", "'static", "::<"];

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The Rust blocks of a page, without the lines that documentation hides.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match &mut open {
            Some(_) if line.starts_with("```") => blocks.extend(open.take()),
            Some(block) if !line.starts_with("# ") => *block += &format!("{line}\n"),
            Some(_) => {}
            None if line.starts_with("```rust") => open = Some(String::new()),
            None => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn heavy_words(code: &str) -> Vec<&'static str> {
    let is_there = |heavy: &&str| match heavy.starts_with(char::is_alphabetic) {
        true => words(code).any(|word| word == *heavy),
        false => code.contains(*heavy),
    };
    HEAVY.into_iter().filter(is_there).collect()
}

#[test]
fn first_program_has_at_most_20_lines() {
    let blocks = blocks(&readme());
    let first = &blocks[0];
    assert!(
        first.contains("fn main()"),
        "the first block is a program:\n{first}"
    );
    let lines = first.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 20, "{lines} lines:\n{first}");
}

#[test]
fn readme_and_guide_need_nothing_heavy() {
    let mut pages: Vec<_> = files(&["md"])
        .into_iter()
        .filter(|page| page.is_below("docs/guide"))
        .collect();
    assert!(pages.len() >= 4, "the guide has chapters");
    pages.push(Source {
        path: "README.md".into(),
        text: readme(),
    });
    for page in pages {
        for block in blocks(&page.text) {
            assert_eq!(heavy_words(&block), [""; 0], "{}:\n{block}", page.path);
        }
    }
}

#[test]
fn examples_need_nothing_heavy() {
    let examples = files(&["rs"])
        .into_iter()
        .filter(|source| source.is_below("examples"));
    let examples: Vec<_> = examples
        .filter(|source| !source.is_below("examples/tests"))
        .collect();
    assert!(
        examples
            .iter()
            .any(|source| source.path == "examples/manifest.rs")
    );
    for example in examples {
        assert_eq!(heavy_words(&example.code()), [""; 0], "{}", example.path);
    }
}

#[test]
fn programs_that_teach_one_pattern_have_at_most_80_lines() {
    for name in ["server", "eyeballs", "retry"] {
        let text = fs::read_to_string(format!("examples/{name}.rs")).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 80, "{name}: {lines} lines");
    }
}

#[test]
fn manifest_has_at_most_150_lines() {
    let text = fs::read_to_string(root().join("examples/manifest.rs")).unwrap();
    assert!(
        text.lines().count() <= 150,
        "{} lines",
        text.lines().count()
    );
}

#[test]
fn every_chapter_is_part_of_the_documentation() {
    let guide = fs::read_to_string(root().join("src/guide.rs")).unwrap();
    for page in files(&["md"])
        .into_iter()
        .filter(|page| page.is_below("docs/guide"))
    {
        assert!(
            guide.contains(&format!("../{}", page.path)),
            "include {} in src/guide.rs",
            page.path
        );
    }
    assert!(
        guide.contains("../README.md"),
        "the README's blocks are to run"
    );
}

#[test]
fn files_that_the_readme_links_to_exist() {
    let readme = readme();
    let links: BTreeSet<_> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.contains("ARCHITECTURE.md"), "{links:?}");
    for link in links {
        assert!(root().join(link).exists(), "{link}");
    }
}

/// The names that a crate's root offers, less the hidden ones.
fn offered(lib: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(lib)).unwrap();
    let text = text.replace("#[doc(hidden)]\npub ", "#[doc(hidden)] ");
    let code = Source {
        path: lib.into(),
        text,
    }
    .code();
    let mut names = BTreeSet::new();
    for item in code.split("\npub ").skip(1) {
        let end = item.find([';', '{']).unwrap_or(item.len());
        match item.strip_prefix("use ") {
            // The last name of a path is offered, or all those of its list.
            Some(item) => {
                let item = item.split(';').next().unwrap_or(item);
                let list = match item.split_once('{') {
                    Some((_, list)) => list.trim_end_matches('}'),
                    None => item.rsplit("::").next().unwrap_or(item),
                };
                let renamed = |entry: &str| words(entry).last().map(str::to_owned);
                names.extend(list.split(',').filter_map(renamed));
            }
            None => names.extend(words(&item[..end]).nth(1).map(str::to_owned)),
        }
    }
    names
}

#[test]
fn facade_offers_what_the_crates_offer() {
    let facade: String = files(&["rs"])
        .iter()
        .filter(|source| source.is_below("src"))
        .map(|source| source.code())
        .collect();
    let facade: BTreeSet<_> = words(&facade).collect();
    for lib in ["cancel/src/lib.rs", "scope/src/lib.rs", "iter/src/lib.rs"] {
        let offered = offered(lib);
        assert!(offered.len() > 3, "{lib} offers {offered:?}");
        let missing: Vec<_> = offered
            .iter()
            .filter(|name| !facade.contains(name.as_str()))
            .collect();
        assert!(
            missing.is_empty(),
            "{lib} offers what the façade does not: {missing:?}"
        );
    }
}

#[test]
fn no_glob_is_re_exported() {
    for source in files(&["rs"]) {
        let code: String = source
            .code()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let globs = code
            .split("pub use ")
            .skip(1)
            .filter_map(|item| item.split(';').next());
        let found: Vec<_> = globs.filter(|item| item.contains('*')).collect();
        assert!(found.is_empty(), "{}: {found:?}", source.path);
    }
}
