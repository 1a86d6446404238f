//! What a debug build says on standard error: each case runs in a process of its own.

use std::process::Command;

const INSIDE: &str = "SELVEDGE_TEST_REPORT";

/// Runs the named test of this program again in a child process, where it does `case`. What that process says on
/// standard error; `None` in there.
pub fn said_by(name: &str, case: impl FnOnce()) -> Option<String> {
    if std::env::var_os(INSIDE).is_some() {
        case();
        while selvedge_scope::lending::messages_under_way() > 0 {
            std::thread::yield_now();
        }
        println!("reached the end");
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && out.contains("reached the end"),
        "{out}{said}"
    );
    Some(said)
}
