//! SHA-256 of every regular file below a directory, on all cores, in the format of `sha256sum`;
//! or, with `--check`, whether the files still have the sums of such a list.
//!
//! It shows tasks that borrow and start more tasks, a scope inside another, a parallel stream with
//! a limit, and how Ctrl-C and a deadline reach all of it without being passed along. It does not
//! show how to read a directory or print a sum: see `tree.rs`, `sums.rs` and `report.rs`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;
use indicatif::ProgressBar;
use selvedge::prelude::*;
use selvedge::{block_on, cancel};
use selvedge_examples::report::{Entry, Hashed, print};
use selvedge_examples::sums::{Sum, read_list};
use selvedge_examples::tree::{Dir, Listing, Tree, unchanged};
use sha2::{Digest, Sha256};

/// Prints the SHA-256 of every regular file below DIR, or checks a list of them.
#[derive(Debug, Parser)]
struct Args {
    /// Where the tree begins
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Check the sums listed in FILE; their paths are relative to DIR
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Files in flight at a time
    #[arg(long, value_name = "N", default_value = "8")]
    jobs: std::num::NonZeroUsize,
    /// Give up after SECS seconds, with exit status 124
    #[arg(long, value_name = "SECS", value_parser = selvedge_examples::seconds)]
    timeout: Option<Duration>,
    /// Follow symbolic links
    #[arg(short = 'L')]
    follow: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = block_on(run(&args)).and_then(|entries| print(&entries, args.check.is_some()));
    done.unwrap_or_else(|problem| {
        eprintln!("manifest: {problem}");
        ExitCode::FAILURE
    })
}

/// The program is one scope. What reaches it, Ctrl-C or the deadline, reaches everything below.
async fn run(args: &Args) -> io::Result<Vec<Entry<Hashed>>> {
    let tree = Tree::new(&args.dir, args.follow || args.check.is_some())?;
    let program = scope(async |s| {
        s.token().on_ctrl_c()?;
        let entries = match &args.check {
            Some(list) => read_list(list)?,
            None => {
                let found = Mutex::new(Vec::new()); // A scope in here may borrow it; `s` may not.
                scope(async |s| walk(s, tree, Dir::default(), &found).await).await;
                let mut found = found.into_inner().expect("no task panicked");
                found.sort_unstable_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
                found
            }
        };
        let bar = ProgressBar::new(entries.len() as u64); // Hidden when stderr is no terminal.
        let hashed = entries
            .into_par()
            .concurrency(args.jobs.get())
            .then(async |(path, todo)| {
                let done = match todo {
                    Ok(listed) => hash(tree, &path).await.map(|sum| (sum, listed)),
                    Err(problem) => Err(problem),
                };
                bar.inc(1);
                (path, done)
            });
        let done = hashed.collect().await;
        bar.finish_and_clear();
        Ok(done)
    });
    match args.timeout {
        Some(after) => program.timeout(after).await,
        None => program.await,
    }
}

/// Finds what lies below `dir`. Each directory is a task, and starts those of the directories in it.
#[expect(
    clippy::manual_async_fn,
    reason = "what spawns itself has to say `Send`"
)]
fn walk<'env>(
    s: Scope<'env>,
    tree: Tree<'env>,
    dir: Dir,
    found: &'env Mutex<Vec<Entry<Option<Sum>>>>,
) -> impl Future<Output = ()> + Send {
    async move {
        let listing = match go_on() {
            Ok(()) => dir.list(tree),
            Err(cancelled) => Listing::failed(dir, cancelled.into()),
        };
        for dir in listing.dirs {
            s.spawn(walk(s.clone(), tree, dir, found));
        }
        let mut found = found.lock().expect("no task panicked");
        found.extend(listing.files.into_iter().map(|path| (path, Ok(None))));
        found.extend(
            listing
                .problems
                .into_iter()
                .map(|(path, why)| (path, Err(why))),
        );
    }
}

/// Whether to begin the next piece of work: not after the first Ctrl-C, which asks for a graceful end. Here that is
/// to leave off at once and to tell what there is. More Ctrl-C would cancel and abort, and a fourth ends the process.
fn go_on() -> Result<(), Cancelled> {
    cancel::check()?;
    match cancel::current().stop_cause() {
        Some(cause) => Err(Cancelled::new(cause)),
        None => Ok(()),
    }
}

/// Reads a file block by block; between two of them others get a turn, and a cancelled run ends.
async fn hash(tree: Tree<'_>, path: &Path) -> io::Result<Sum> {
    let (mut file, before) = tree.open(path)?;
    let mut block = vec![0; 64 * 1024];
    let mut hasher = Sha256::new();
    loop {
        cancel::checkpoint().await?;
        go_on()?;
        match file.read(&mut block)? {
            0 if unchanged(&before, &file.metadata()?) => return Ok(hasher.finalize().into()),
            0 => return Err(io::Error::other("Changed while it was read")),
            length => hasher.update(&block[..length]),
        }
    }
}
