//! The `--check` option of the `manifest` program, beside `sha256sum -c`.
//! Not about the format of a line: that is tested with `sums.rs`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::{Tree, err, out, status};

/// A tree of three files and, outside of it, its list.
fn listed() -> (Tree, Tree, String) {
    let tree = Tree::new();
    for name in ["a", "dir/b", "z"] {
        tree.file(name, name);
    }
    let outside = Tree::new();
    let list = outside.file("list", tree.sums(&[]));
    (tree, outside, list.to_str().unwrap().to_owned())
}

#[test]
fn untouched_tree_is_ok() {
    let (tree, _outside, list) = listed();
    let output = tree.manifest(&["--check", &list]).output().unwrap();
    assert_eq!((status(&output), err(&output)), (0, String::new()));
    assert_eq!(out(&output), "a: OK\ndir/b: OK\nz: OK\n");
}

#[test]
fn changed_and_missing_files_fail_as_with_sha256sum() {
    let (tree, _outside, list) = listed();
    tree.file("a", "something else");
    fs::remove_file(tree.path().join("dir/b")).unwrap();
    let ours = tree.manifest(&["--check", &list]).output().unwrap();
    assert_eq!(status(&ours), 1);
    assert_eq!(out(&ours), "a: FAILED\ndir/b: FAILED open or read\nz: OK\n");
    assert!(
        err(&ours).contains("manifest: dir/b: No such file"),
        "{}",
        err(&ours)
    );

    let theirs = Command::new("sha256sum")
        .args(["-c", &list])
        .current_dir(tree.path())
        .output()
        .unwrap();
    assert_eq!((status(&theirs), out(&theirs)), (1, out(&ours)));
}

#[test]
fn binary_mode_and_rubbish_are_read_as_with_sha256sum() {
    let (tree, outside, list) = listed();
    let text = fs::read_to_string(list).unwrap().replace("  ", " *");
    let list = outside.file("binary", format!("{text}rubbish\n# a comment\n"));
    let list = list.to_str().unwrap();
    let ours = tree.manifest(&["--check", list]).output().unwrap();
    assert_eq!(
        (status(&ours), out(&ours).as_str()),
        (0, "a: OK\ndir/b: OK\nz: OK\n")
    );
    assert!(
        err(&ours).contains("lines that are no sums: 1"),
        "{}",
        err(&ours)
    );

    let theirs = Command::new("sha256sum")
        .args(["-c", list])
        .current_dir(tree.path())
        .output()
        .unwrap();
    assert_eq!((status(&theirs), out(&theirs)), (0, out(&ours)));
}

#[test]
fn list_without_sums_or_without_a_file_is_an_error() {
    let (tree, outside, _list) = listed();
    let empty = outside.file("empty", "rubbish\n");
    for list in [empty.to_str().unwrap(), "nowhere"] {
        let output = tree.manifest(&["--check", list]).output().unwrap();
        assert_eq!((status(&output), out(&output).as_str()), (1, ""));
        assert!(err(&output).contains(list), "{}", err(&output));
    }
}

#[test]
fn list_is_read_from_stdin_when_asked() {
    let (tree, _outside, list) = listed();
    let mut child = tree
        .manifest(&["--check", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = fs::read(list).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (status(&output), out(&output).as_str()),
        (0, "a: OK\ndir/b: OK\nz: OK\n")
    );
}

#[test]
fn link_in_a_list_is_followed_and_a_directory_is_none() {
    let (tree, outside, list) = listed();
    std::os::unix::fs::symlink("a", tree.path().join("link")).unwrap();
    let text = fs::read_to_string(list).unwrap();
    let text = text
        .replace("  a\n", "  link\n")
        .replace("  z\n", "  dir\n");
    let list = outside.file("links", text);
    let output = tree
        .manifest(&["--check", list.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(status(&output), 1);
    assert_eq!(
        out(&output),
        "link: OK\ndir/b: OK\ndir: FAILED open or read\n"
    );
}
