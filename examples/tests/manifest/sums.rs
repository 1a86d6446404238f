//! The `manifest` program against the classic tools: which files, in which order, under which names.
//! Not about runs that are cut short: those are in `manifest_stops.rs`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{Tree, err, out, status};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn order_is_by_bytes_of_the_whole_path() {
    let tree = Tree::new();
    for name in ["a/b", "a.b", "a-b", "a/b.c/d", "B", "é", "a0"] {
        tree.file(name, "");
    }
    let names = ["B", "a-b", "a.b", "a/b", "a/b.c/d", "a0", "é"];
    let expected: String = names
        .iter()
        .map(|name| format!("{EMPTY}  {name}\n"))
        .collect();
    assert_eq!(String::from_utf8_lossy(&tree.sums(&[])), expected);
}

#[test]
fn awkward_names_are_printed_and_checked_as_sha256sum_does() {
    let tree = Tree::new();
    let names: [&[u8]; 8] = [
        b"new\nline",
        b"back\\slash",
        b"car\rr",
        b"\xff\xfe",
        b" blank",
        b"-n",
        b"*star",
        b"#hash",
    ];
    for name in names {
        tree.file(OsStr::from_bytes(name), name);
        tree.file(OsStr::from_bytes(&[b"dir\n/", name].concat()), name);
    }
    let sums = tree.sums(&[]);
    assert_eq!(
        sums.iter().filter(|&&byte| byte == b'\n').count(),
        16,
        "one line for each file"
    );
    assert_eq!(sums, tree.reference("find"));

    let list = Tree::new();
    let path = list.file("list", &sums);
    let theirs = Command::new("sha256sum")
        .arg("-c")
        .arg(&path)
        .current_dir(tree.path())
        .output()
        .unwrap();
    assert_eq!(status(&theirs), 0, "{}", err(&theirs));
    let ours = tree
        .manifest(&["--check", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!((status(&ours), ours.stdout), (0, theirs.stdout));
}

#[test]
fn empty_tree_prints_nothing() {
    assert_eq!(Tree::new().sums(&[]), b"");
}

#[test]
fn sizes_around_a_block_are_read_whole() {
    let tree = Tree::new();
    for size in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let text: Vec<u8> = (0..size)
            .map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
            .collect();
        tree.file(format!("{size}"), text);
    }
    let sums = tree.sums(&["--jobs", "3"]);
    assert!(!sums.is_empty());
    assert_eq!(sums, tree.reference("find"));
}

#[test]
fn only_regular_files_count_and_a_pipe_is_never_opened() {
    let tree = Tree::new();
    tree.file("file", "");
    symlink("file", tree.path().join("link")).unwrap();
    symlink("nowhere", tree.path().join("broken")).unwrap();
    let made = Command::new("mkfifo")
        .arg(tree.path().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    let expected = format!("{EMPTY}  file\n");
    assert_eq!(String::from_utf8_lossy(&tree.sums(&[])), expected);
    assert!(tree.path().join("pipe").exists());
}

#[test]
fn followed_links_give_what_find_gives_and_loops_are_reported() {
    let tree = Tree::new();
    tree.file("a/file", "x");
    symlink("..", tree.path().join("a/up")).unwrap();
    symlink("../a", tree.path().join("a/again")).unwrap();
    symlink("a", tree.path().join("b")).unwrap();
    symlink("a/file", tree.path().join("link")).unwrap();
    symlink("nowhere", tree.path().join("broken")).unwrap();
    symlink("self", tree.path().join("self")).unwrap();

    let output = tree.manifest(&["-L"]).output().unwrap();
    assert_eq!(
        out(&output).lines().count(),
        3,
        "a/file, b/file and link: {}",
        out(&output)
    );
    assert_eq!(output.stdout, tree.reference("find -L"));
    assert_eq!(status(&output), 1);
    for looped in ["a/up", "a/again", "b/up", "b/again"] {
        let line = format!("manifest: {looped}: File system loop detected\n");
        assert!(err(&output).contains(&line), "{looped} in {}", err(&output));
    }
    assert!(
        err(&output).contains("manifest: self: "),
        "{}",
        err(&output)
    );
    assert!(!err(&output).contains("broken"), "{}", err(&output));
}

#[test]
fn deep_tree_is_walked_to_its_bottom() {
    let tree = Tree::new();
    let mut deep = tree.path().to_path_buf();
    let mut depth = 0;
    // Paths end at 4096 bytes on Linux; this is as deep as a path can say.
    while deep.as_os_str().len() < 4_000 {
        deep.push("d");
        depth += 1;
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "").unwrap();
    let sums = tree.sums(&[]);
    assert!(depth > 1_500);
    assert_eq!(
        String::from_utf8_lossy(&sums),
        format!("{EMPTY}  {}f\n", "d/".repeat(depth))
    );
}

#[test]
fn relative_directory_and_default_directory_print_the_same() {
    let tree = Tree::new();
    tree.file("sub/file", "x");
    let expected = tree.sums(&[]);
    assert!(!expected.is_empty());
    let program = tree.manifest(&[]).get_program().to_owned();
    let here = Command::new(&program)
        .current_dir(tree.path())
        .output()
        .unwrap();
    assert_eq!((status(&here), &here.stdout), (0, &expected));
    let dots = Command::new(&program)
        .arg("sub/..")
        .current_dir(tree.path())
        .output()
        .unwrap();
    assert_eq!((status(&dots), &dots.stdout), (0, &expected));
}

#[test]
fn missing_directory_is_an_error_that_names_it() {
    let tree = Tree::new();
    let program = tree.manifest(&[]).get_program().to_owned();
    for root in ["nowhere", "file"] {
        tree.file("file", "");
        let output = Command::new(&program)
            .arg(root)
            .current_dir(tree.path())
            .output()
            .unwrap();
        assert_eq!((status(&output), out(&output).as_str()), (1, ""));
        assert!(err(&output).contains(root), "{}", err(&output));
    }
}

#[test]
fn larger_tree_is_byte_identical_with_any_number_of_jobs() {
    let tree = Tree::new();
    for i in 0..400_u32 {
        tree.file(
            format!("{}/{}/{i}", i % 7, i % 3),
            i.to_string().repeat(i as usize),
        );
    }
    let expected = tree.reference("find");
    assert_eq!(expected.iter().filter(|&&byte| byte == b'\n').count(), 400);
    for jobs in ["1", "2", "64"] {
        assert_eq!(tree.sums(&["--jobs", jobs]), expected, "--jobs {jobs}");
    }
}
