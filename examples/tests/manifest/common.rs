//! Runs the `manifest` program on trees made for a test. Not a test itself.
//!
//! The program is built on first use, since cargo hands tests the place of binaries, not of examples.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A directory that is gone when the test is over.
pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a place for temporary files"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: impl AsRef<OsStr>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(Path::new(name.as_ref()));
        fs::create_dir_all(path.parent().expect("below the root")).expect("its directory");
        fs::write(&path, text).expect("a new file");
        path
    }

    /// A file that takes hours to read and no room on disk.
    pub(crate) fn endless(&self, name: &str) -> PathBuf {
        let path = self.file(name, "");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("it was just made");
        file.set_len(1 << 42)
            .expect("a file system with sparse files");
        path
    }

    /// The program with this tree as its directory.
    pub(crate) fn manifest(&self, options: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(options).arg(self.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What the program prints to stdout; it must have nothing to complain of.
    pub(crate) fn sums(&self, options: &[&str]) -> Vec<u8> {
        let output = self.manifest(options).output().expect("the program starts");
        assert_eq!((status(&output), err(&output)), (0, String::new()));
        output.stdout
    }

    /// What the classic tools print for the same tree.
    pub(crate) fn reference(&self, find: &str) -> Vec<u8> {
        let script = format!(
            "{find} . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum --"
        );
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(self.path())
            .output();
        output.expect("a shell").stdout
    }
}

/// The exit status; a signal counts as none.
pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Builds the program beside this test program, with the same profile, and says where it is.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this program");
        let profile = test.ancestors().nth(2).expect("PROFILE/deps/TEST");
        let target = profile.parent().expect("TARGET/PROFILE");
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--offline",
            "--example",
            "manifest",
            "--manifest-path",
        ]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        build.arg("--target-dir").arg(target);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo starts").success(),
            "the program does not build"
        );
        profile.join("examples/manifest")
    })
}
