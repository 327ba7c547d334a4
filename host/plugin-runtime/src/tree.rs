//! A directory tree that cannot be left: every path is resolved by the kernel beneath one open folder
//! (`openat2`, `RESOLVE_BENEATH`), whatever links stand in it. Nothing here waits for a FIFO or opens a device.

use crate::paths::{self, PathError};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use std::{
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// Most entries of one listed folder.
const MAX_LISTED: usize = 10_000;

/// Why a look into the tree failed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path itself.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nothing stands there.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// A link leads out, or must not be followed.
    #[error("`{0}` leads out of the root or through a symbolic link that is not followed")]
    Escapes(String),
    /// It is of another kind.
    #[error("`{path}` is not {expected}")]
    Kind {
        /// Which path.
        path: String,
        /// "a regular file", "a folder", …
        expected: &'static str,
    },
    /// Something is there already.
    #[error("`{0}` exists already")]
    Exists(String),
    /// Too large, too many.
    #[error("`{path}` {what}")]
    Limit {
        /// Which path.
        path: String,
        /// What is too much.
        what: String,
    },
    /// The operating system said no.
    #[error("`{path}`: {source}")]
    Io {
        /// Which path.
        path: String,
        /// Its word.
        source: std::io::Error,
    },
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Relative to the root.
    pub path: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: &'static str,
    /// Bytes; 0 for anything but a file.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified_ms: f64,
}

impl Entry {
    /// From what `fstat` says.
    pub fn new(path: String, stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            _ => "other",
        };
        let size = if kind == "file" { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 53 bits for 285,000 years")]
        let modified_ms = (stat.st_mtime as f64).mul_add(1000.0, (stat.st_mtime_nsec / 1_000_000) as f64);
        Self { path, kind, size, modified_ms }
    }
}

/// An open root.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Opens the folder `root`.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(root, flags, Mode::empty())? })
    }

    /// Opens `path` beneath the root.
    fn at(&self, path: &str, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, TreeError> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let name = if path.is_empty() { "." } else { paths::check(path)? };
        // EAGAIN: a rename elsewhere raced with the kernel's check that the walk stays beneath the root.
        let mut last = Errno::AGAIN;
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => {
                    last = errno;
                    break;
                }
            }
        }
        Err(error(path, last))
    }

    fn look(&self, path: &str, resolve: ResolveFlags) -> Result<(OwnedFd, Entry), TreeError> {
        let fd = self.at(path, OFlags::PATH | OFlags::NOFOLLOW, resolve)?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| error(path, errno))?;
        Ok((fd, Entry::new(path.to_owned(), &stat)))
    }

    /// What stands at `path`; a link is not followed.
    pub fn stat(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        match self.look(path, ResolveFlags::empty()) {
            Ok((_, entry)) => Ok(Some(entry)),
            Err(TreeError::NotFound(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A whole regular file of at most `max` bytes; links beneath the root are followed.
    pub fn read(&self, path: &str, max: u64) -> Result<Vec<u8>, TreeError> {
        // Looked at first: opening a device may act on it.
        let seen = self.at(path, OFlags::PATH, ResolveFlags::empty())?;
        let size = regular_size(path, &seen)?;
        let too_large = |size: u64| TreeError::Limit { path: path.to_owned(), what: format!("has {size} bytes, more than {max}") };
        if size > max {
            return Err(too_large(size));
        }
        let fd = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, ResolveFlags::empty())?;
        regular_size(path, &fd)?;
        let mut bytes = Vec::new();
        let read = std::fs::File::from(fd).take(max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| TreeError::Io { path: path.to_owned(), source })?;
        let got = bytes.len() as u64;
        if got > max { Err(too_large(got)) } else { Ok(bytes) }
    }

    /// The text of the link at `path`.
    pub fn read_link(&self, path: &str) -> Result<String, TreeError> {
        let (fd, entry) = self.look(path, ResolveFlags::empty())?;
        let wrong = |expected| TreeError::Kind { path: path.to_owned(), expected };
        if entry.kind != "symlink" {
            return Err(wrong("a symbolic link"));
        }
        let text = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(|errno| error(path, errno))?;
        text.into_string().map_err(|_| wrong("a symbolic link whose text is UTF-8"))
    }

    /// The folder at `path`, open for listing.
    pub fn folder(&self, path: &str, resolve: ResolveFlags) -> Result<OwnedFd, TreeError> {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK, resolve)
    }

    /// The entries of one folder, sorted by name; names that are not UTF-8 are left out.
    pub fn list_dir(&self, path: &str) -> Result<Vec<Entry>, TreeError> {
        let folder = self.folder(path, ResolveFlags::empty())?;
        let names = names(path, &folder)?;
        if names.len() > MAX_LISTED {
            return Err(TreeError::Limit { path: path.to_owned(), what: format!("has more than {MAX_LISTED} entries") });
        }
        Ok(names.iter().filter_map(|name| stat_at(&folder, path, name)).collect())
    }

    /// Writes a small file under a temporary name and renames it to `path`; no link is followed.
    pub fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), TreeError> {
        let (parent, name) = self.place(path)?;
        let temporary = temporary_name()?;
        let written = write_new(&parent, &temporary, bytes).and_then(|()| rustix::fs::renameat(&parent, &temporary, &parent, name));
        written.map_err(|errno| {
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
            error(path, errno)
        })
    }

    /// Creates the folder `path` and its parents, mode 0755; one that exists is left as it is.
    pub fn make_dir(&self, path: &str) -> Result<(), TreeError> {
        paths::check(path)?;
        let mut folder = self.folder("", ResolveFlags::NO_SYMLINKS)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let made = rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match made {
                Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(&folder, name, flags, Mode::empty()),
                Err(errno) => Err(errno),
            };
            let next = next.map_err(|errno| error(path, errno))?;
            if made.is_ok() {
                rustix::fs::fchmod(&next, Mode::from_raw_mode(0o755)).map_err(|errno| error(path, errno))?;
            }
            folder = next;
        }
        Ok(())
    }

    /// Makes a link at `path`; `link` must stay beneath the root.
    pub fn make_symlink(&self, path: &str, link: &str) -> Result<(), TreeError> {
        paths::check_link(path, link)?;
        let (parent, name) = self.place(path)?;
        rustix::fs::symlinkat(link, &parent, name).map_err(|errno| error(path, errno))
    }

    /// Sets the permission bits of a file or folder; no link is followed.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<(), TreeError> {
        if mode > 0o777 {
            return Err(TreeError::Limit { path: path.to_owned(), what: format!("cannot have the mode {mode:o}: 0 to 777 only") });
        }
        let (fd, entry) = self.look(path, ResolveFlags::NO_SYMLINKS)?;
        if !matches!(entry.kind, "file" | "directory") {
            return Err(TreeError::Kind { path: path.to_owned(), expected: "a file or a folder" });
        }
        // fchmod refuses O_PATH handles, and opening for reading may be denied: /proc leads to this very inode.
        let this = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmod(this, Mode::from_raw_mode(mode)).map_err(|errno| error(path, errno))
    }

    /// The open parent folder and the name of a path to be written; no link is followed.
    fn place<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), TreeError> {
        let (parent, name) = paths::split(paths::check(path)?);
        if name.is_empty() {
            return Err(TreeError::Kind { path: path.to_owned(), expected: "a path beneath the root" });
        }
        Ok((self.folder(parent, ResolveFlags::NO_SYMLINKS)?, name))
    }
}

/// The UTF-8 names in an open folder, sorted by their bytes.
pub fn names(path: &str, folder: &OwnedFd) -> Result<Vec<String>, TreeError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(|errno| error(path, errno))? {
        let entry = entry.map_err(|errno| error(path, errno))?;
        match entry.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What stands under `name` in the open folder at `path`; `None` when it has just vanished.
pub fn stat_at(folder: &OwnedFd, path: &str, name: &str) -> Option<Entry> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(Entry::new(join(path, name), &stat))
}

/// `folder/name`, or `name` in the root.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn regular_size(path: &str, fd: &OwnedFd) -> Result<u64, TreeError> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| error(path, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        _ => Err(TreeError::Kind { path: path.to_owned(), expected: "a regular file" }),
    }
}

fn write_new(parent: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644))?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|source| Errno::from_io_error(&source).unwrap_or(Errno::IO))
}

fn temporary_name() -> Result<String, TreeError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|source| TreeError::Io { path: String::new(), source: std::io::Error::other(source.to_string()) })?;
    Ok(format!(".havun-backup-{}", hex::encode(random)))
}

fn error(path: &str, errno: Errno) -> TreeError {
    let path = crate::text::line(path, 500);
    match errno {
        Errno::NOENT => TreeError::NotFound(path),
        Errno::XDEV | Errno::LOOP => TreeError::Escapes(path),
        Errno::NOTDIR => TreeError::Kind { path, expected: "a folder" },
        Errno::ISDIR => TreeError::Kind { path, expected: "a file" },
        Errno::EXIST => TreeError::Exists(path),
        _ => TreeError::Io { path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn sample() -> (tempfile::TempDir, Tree) {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("a/f"), "content").unwrap();
        symlink("a/f", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(outside.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let tree = Tree::open(&root).unwrap();
        (outside, tree)
    }

    #[test]
    fn links_beneath_the_root_are_followed_and_others_refused() {
        let (_folder, tree) = sample();
        assert_eq!(tree.read("inside", 100).unwrap(), b"content");
        for path in ["outside", "absolute", "up/secret", "magic/etc/passwd", "loop"] {
            assert!(matches!(tree.read(path, 100), Err(TreeError::Escapes(_))), "{path}");
        }
        for path in ["../secret", "a/../../secret", "/etc/passwd"] {
            assert!(matches!(tree.read(path, 100), Err(TreeError::Path(_))), "{path}");
        }
        assert!(matches!(tree.list_dir("up"), Err(TreeError::Escapes(_))));
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let (_folder, tree) = sample();
        assert!(matches!(tree.read("fifo", 100), Err(TreeError::Kind { .. })));
        assert_eq!(tree.stat("fifo").unwrap().unwrap().kind, "other");
    }

    #[test]
    fn reading_is_bounded_and_listing_sorted() {
        let (_folder, tree) = sample();
        assert!(matches!(tree.read("a/f", 3), Err(TreeError::Limit { .. })));
        let listed: Vec<_> = tree.list_dir("a").unwrap().into_iter().map(|e| (e.path, e.kind, e.size)).collect();
        assert_eq!(listed, [("a/b".to_owned(), "directory", 0), ("a/f".to_owned(), "file", 7)]);
        assert_eq!(tree.read_link("outside").unwrap(), "../secret");
        assert_eq!(tree.stat("none").unwrap(), None);
        assert_eq!(tree.stat("").unwrap().unwrap().kind, "directory");
    }

    #[test]
    fn writing_follows_no_link() {
        let (folder, tree) = sample();
        assert!(tree.write_file("up/secret", b"x").is_err());
        assert!(tree.make_dir("up/new").is_err());
        assert!(tree.set_mode("outside", 0o777).is_err());
        assert!(tree.make_symlink("up/x", "y").is_err());
        assert!(tree.make_symlink("x", "../secret").is_err());
        tree.write_file("outside", b"now a file").unwrap();
        assert_eq!(std::fs::read(folder.path().join("secret")).unwrap(), b"s");
        assert_eq!(std::fs::read(folder.path().join("root/outside")).unwrap(), b"now a file");
    }

    #[test]
    fn writing_makes_what_was_asked() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, tree) = sample();
        let root = folder.path().join("root");
        tree.make_dir("n/e/w").unwrap();
        tree.make_dir("n/e/w").unwrap();
        tree.write_file("n/e/w/f", b"1").unwrap();
        tree.set_mode("n/e/w/f", 0o600).unwrap();
        tree.make_symlink("n/link", "../a/f").unwrap();
        assert_eq!(std::fs::read(root.join("n/link")).unwrap(), b"content");
        assert_eq!(std::fs::metadata(root.join("n/e/w/f")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::metadata(root.join("n/e")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(matches!(tree.make_symlink("n/link", "x"), Err(TreeError::Exists(_))));
        assert!(tree.set_mode("n", 0o4755).is_err());
        assert!(tree.write_file("missing/f", b"").is_err());
    }
}
