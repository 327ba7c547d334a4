//! What a strategy sees of the project, as traits: the host's resources in a component, values in a test.

use crate::{Error, Result, Stat, wit::havun::backup as wit};

/// Sight of a directory tree. Paths are relative to its root and `/`-separated; empty is the root. The host
/// refuses `..`, absolute paths and links that lead out.
pub trait Tree {
    /// What stands at `path`; a symbolic link is not followed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that leads out, [`Error::Io`] when the system says no.
    fn stat(&self, path: &str) -> Result<Option<Stat>>;

    /// A whole regular file.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Limit`] when it is larger than `max_bytes` (at most 16 MiB).
    fn read(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>>;

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] when it is no link.
    fn read_link(&self, path: &str) -> Result<String>;

    /// One directory, sorted by name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Limit`] when it is too large.
    fn list_dir(&self, path: &str) -> Result<Vec<Stat>>;

    /// Everything that an include glob and no exclude glob matches, in path order, at most `max` of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad glob.
    fn find(&self, includes: &[&str], excludes: &[&str], max: u32) -> Result<Vec<Stat>>;
}

/// The restored tree, which `after_restore` may mend.
pub trait Target: Tree {
    /// Writes a small file (1 MiB at most) atomically, mode 0644, in an existing folder.
    ///
    /// # Errors
    /// As the system says.
    fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Creates a folder and its parents, mode 0755; one that exists is fine.
    ///
    /// # Errors
    /// As the system says.
    fn make_dir(&self, path: &str) -> Result<()>;

    /// Makes a symbolic link at `path` whose text is `link`, which must stay beneath the root.
    ///
    /// # Errors
    /// As the system says.
    fn make_symlink(&self, path: &str, link: &str) -> Result<()>;

    /// Permission bits of a file or folder.
    ///
    /// # Errors
    /// As the system says.
    fn set_mode(&self, path: &str, mode: u32) -> Result<()>;
}

/// A restored throw-away database.
pub trait Database {
    /// The item that it was restored from.
    fn item(&self) -> String;

    /// Names of its tables, sorted.
    ///
    /// # Errors
    /// As the database says.
    fn tables(&self) -> Result<Vec<String>>;

    /// Exact number of rows.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such table.
    fn count_rows(&self, table: &str) -> Result<u64>;

    /// Up to `limit` values of one column as text, `None` for NULL.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such table or column.
    fn sample(&self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>>;
}

/// Where `generate` writes. The item is finished when `generate` returns `Ok`.
pub trait Output {
    /// Any number of bytes; passed on in pieces of 1 MiB.
    ///
    /// # Errors
    /// [`Error::Limit`] beyond the host's quota.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Tree for wit::project::Tree {
    fn stat(&self, path: &str) -> Result<Option<Stat>> {
        Self::stat(self, path)
    }

    fn read(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>> {
        Self::read(self, path, max_bytes)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        Self::read_link(self, path)
    }

    fn list_dir(&self, path: &str) -> Result<Vec<Stat>> {
        Self::list_dir(self, path)
    }

    fn find(&self, includes: &[&str], excludes: &[&str], max: u32) -> Result<Vec<Stat>> {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        Self::find(self, &owned(includes), &owned(excludes), max)
    }
}

/// The host's writable tree with its readable side.
pub(crate) struct HostTarget {
    target: wit::project::Target,
    tree: wit::project::Tree,
}

impl HostTarget {
    pub(crate) fn new(target: wit::project::Target) -> Self {
        let tree = target.tree();
        Self { target, tree }
    }
}

impl Tree for HostTarget {
    fn stat(&self, path: &str) -> Result<Option<Stat>> {
        self.tree.stat(path)
    }

    fn read(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>> {
        self.tree.read(path, max_bytes)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        self.tree.read_link(path)
    }

    fn list_dir(&self, path: &str) -> Result<Vec<Stat>> {
        self.tree.list_dir(path)
    }

    fn find(&self, includes: &[&str], excludes: &[&str], max: u32) -> Result<Vec<Stat>> {
        Tree::find(&self.tree, includes, excludes, max)
    }
}

impl Target for HostTarget {
    fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.target.write_file(path, bytes)
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        self.target.make_dir(path)
    }

    fn make_symlink(&self, path: &str, link: &str) -> Result<()> {
        self.target.make_symlink(path, link)
    }

    fn set_mode(&self, path: &str, mode: u32) -> Result<()> {
        self.target.set_mode(path, mode)
    }
}

impl Database for wit::databases::Database {
    fn item(&self) -> String {
        Self::item(self)
    }

    fn tables(&self) -> Result<Vec<String>> {
        Self::tables(self)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows is a whole number below 2^53")]
    fn count_rows(&self, table: &str) -> Result<u64> {
        Self::count_rows(self, table).map(|rows| rows as u64)
    }

    fn sample(&self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>> {
        Self::sample(self, table, column, limit)
    }
}

impl Output for wit::output::Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        bytes.chunks(1 << 20).try_for_each(|piece| Self::write(self, piece))
    }
}

impl Error {
    /// A fault with a stable kebab-case code and one line for people.
    pub fn fault(code: &str, message: impl Into<String>) -> Self {
        Self::Other(crate::Fault { code: code.to_owned(), message: message.into() })
    }

    /// What went wrong, for people, one line.
    pub fn text(&self) -> String {
        match self {
            Self::Denied(what) => format!("not granted: {what}"),
            Self::NotFound(what) => format!("not found: {what}"),
            Self::Invalid(text) | Self::Limit(text) | Self::Io(text) => text.clone(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Other(fault) => fault.message.clone(),
        }
    }
}
