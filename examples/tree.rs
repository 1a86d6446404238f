//! One directory of a tree: what it holds, under paths relative to the tree's root, and which of
//! its links lead back to where one came from. Opening a file without being held up by it.
//! Not a walker: who visits what, and on which thread, is the program's business.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a tree begins, and whether a link in it counts as what it points at.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'t> {
    root: &'t Path,
    follow: bool,
}

/// A directory to visit; the root is the default.
#[derive(Clone, Debug, Default)]
pub struct Dir {
    /// The path from the tree's root, empty for the root itself.
    pub path: PathBuf,
    /// Device and inode of the directories above, the nearest last. Only where links are followed: there
    /// are no loops elsewhere.
    above: Vec<(u64, u64)>,
}

/// What a directory holds, in no order; whatever is neither file nor directory is left out.
#[derive(Debug, Default)]
pub struct Listing {
    /// Regular files.
    pub files: Vec<PathBuf>,
    /// Directories to visit.
    pub dirs: Vec<Dir>,
    /// What could not be looked at, and links that would lead round in a circle.
    pub problems: Vec<(PathBuf, io::Error)>,
}

impl<'t> Tree<'t> {
    /// The tree at `root`.
    ///
    /// # Errors
    /// When that is no directory to be read; the error names it.
    pub fn new(root: &'t Path, follow: bool) -> io::Result<Self> {
        match fs::read_dir(root) {
            Ok(_) => Ok(Self { root, follow }),
            Err(problem) => Err(io::Error::other(format!("{}: {problem}", root.display()))),
        }
    }

    /// Opens a regular file of this tree.
    ///
    /// # Errors
    /// When it cannot be opened or is no regular file, also when it was one a moment ago. Opening
    /// never waits for a writer, as it would on a pipe that took the file's place.
    pub fn open(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let link = if self.follow { 0 } else { libc::O_NOFOLLOW };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | link)
            .open(self.root.join(path))?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            Ok((file, metadata))
        } else if metadata.is_dir() {
            Err(io::Error::from_raw_os_error(libc::EISDIR))
        } else {
            Err(io::Error::other("Not a regular file"))
        }
    }
}

impl Listing {
    /// The listing of a directory that was not read.
    pub fn failed(dir: Dir, problem: io::Error) -> Self {
        let problems = vec![(dir.path, problem)];
        Self {
            problems,
            ..Self::default()
        }
    }
}

impl Dir {
    /// Reads the directory.
    ///
    /// What goes wrong is among the problems of the listing, and so is a directory that is its own
    /// ancestor: its listing is otherwise empty.
    pub fn list(&self, tree: Tree<'_>) -> Listing {
        let mut listing = Listing::default();
        if let Err(problem) = self.fill(tree, &mut listing) {
            listing.problems.push((self.path.clone(), problem));
        }
        listing
    }

    fn fill(&self, tree: Tree<'_>, listing: &mut Listing) -> io::Result<()> {
        let place = tree.root.join(&self.path);
        let mut above = self.above.clone();
        if tree.follow {
            let metadata = fs::metadata(&place)?;
            let id = (metadata.dev(), metadata.ino());
            if above.contains(&id) {
                return Err(io::Error::other("File system loop detected"));
            }
            above.push(id);
        }
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            let path = self.path.join(entry.file_name());
            match entry
                .file_type()
                .and_then(|kind| resolve(tree, &path, kind))
            {
                Ok(Some(kind)) if kind.is_file() => listing.files.push(path),
                Ok(Some(kind)) if kind.is_dir() => {
                    let above = above.clone();
                    listing.dirs.push(Dir { path, above });
                }
                Ok(_) => {}
                Err(problem) => listing.problems.push((path, problem)),
            }
        }
        Ok(())
    }
}

/// Whether the file seen at the start and the one seen at the end can have the same contents.
pub fn unchanged(before: &Metadata, after: &Metadata) -> bool {
    let key = |seen: &Metadata| (seen.len(), seen.mtime(), seen.mtime_nsec());
    key(before) == key(after)
}

/// Looks through a link where links are followed; one that points nowhere is nothing at all.
fn resolve(tree: Tree<'_>, path: &Path, kind: FileType) -> io::Result<Option<FileType>> {
    if !(tree.follow && kind.is_symlink()) {
        return Ok(Some(kind));
    }
    match fs::metadata(tree.root.join(path)) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dir, Tree, unchanged};
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn links_are_left_out_unless_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        symlink("file", root.path().join("to-file")).unwrap();
        symlink("dir", root.path().join("to-dir")).unwrap();
        symlink("nowhere", root.path().join("to-nothing")).unwrap();

        for (follow, names) in [(false, "dir file"), (true, "dir file to-dir to-file")] {
            let tree = Tree {
                root: root.path(),
                follow,
            };
            let listing = Dir::default().list(tree);
            assert!(listing.problems.is_empty(), "{:?}", listing.problems);
            let dirs = listing.dirs.iter().map(|dir| &dir.path);
            let mut found: Vec<_> = listing.files.iter().chain(dirs).collect();
            found.sort();
            let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
            assert_eq!(found.join(" "), names, "follow: {follow}");
        }
    }

    #[test]
    fn directory_above_itself_is_a_loop_and_a_sibling_is_none() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        symlink("..", root.path().join("a/up")).unwrap();
        symlink("a", root.path().join("b")).unwrap();

        let tree = Tree {
            root: root.path(),
            follow: true,
        };
        let mut dirs = Dir::default().list(tree).dirs;
        dirs.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(
            (dirs[0].path.as_path(), dirs[1].path.as_path()),
            (Path::new("a"), Path::new("b"))
        );
        for dir in dirs {
            let inside = dir.list(tree).dirs;
            assert_eq!(inside[0].path, dir.path.join("up"), "a sibling is no loop");
            let listing = inside[0].list(tree);
            assert!(
                listing.dirs.is_empty() && listing.files.is_empty(),
                "{listing:?}"
            );
            assert!(
                listing.problems[0].1.to_string().contains("loop"),
                "{listing:?}"
            );
        }
    }

    #[test]
    fn root_that_is_no_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        let problem = Tree::new(&root.path().join("gone"), false).unwrap_err();
        assert!(
            problem.to_string().contains("gone: No such file"),
            "{problem}"
        );
    }

    #[test]
    fn missing_directory_is_a_problem_and_the_listing_empty() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree {
            root: root.path(),
            follow: false,
        };
        let gone = Dir {
            path: "gone".into(),
            ..Dir::default()
        };
        let listing = gone.list(tree);
        assert!(listing.files.is_empty() && listing.dirs.is_empty());
        assert_eq!(listing.problems[0].0, Path::new("gone"));
        assert_eq!(listing.problems[0].1.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn pipe_link_and_directory_are_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(root.path().join("pipe"))
            .status();
        assert!(made.unwrap().success());
        fs::write(root.path().join("file"), "x").unwrap();
        symlink("file", root.path().join("link")).unwrap();

        let tree = Tree {
            root: root.path(),
            follow: false,
        };
        assert!(tree.open(Path::new("pipe")).is_err());
        assert!(tree.open(Path::new("link")).is_err());
        assert_eq!(
            tree.open(Path::new("")).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        assert!(tree.open(Path::new("file")).is_ok());
        assert!(
            Tree {
                follow: true,
                ..tree
            }
            .open(Path::new("link"))
            .is_ok()
        );
    }

    #[test]
    fn grown_file_is_a_changed_one() {
        let root = tempfile::tempdir().unwrap();
        let file = File::create(root.path().join("file")).unwrap();
        let before = file.metadata().unwrap();
        assert!(unchanged(&before, &before));
        file.set_len(1).unwrap();
        assert!(!unchanged(&before, &file.metadata().unwrap()));
    }
}
