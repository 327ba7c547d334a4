//! Bounded, forgiving reading of project files.

use crate::{Error, Result, Tree};
use serde_json::Value;

/// Largest project file that a strategy reads for its decisions. Larger ones are taken for "not there".
const MAX_BYTES: u32 = 4 << 20;

/// Short cuts over any [`Tree`].
pub trait Reading {
    /// Whether a regular file stands at `path`.
    fn is_file(&self, path: &str) -> bool;
    /// Whether a directory stands at `path`.
    fn is_dir(&self, path: &str) -> bool;
    /// Whether anything at all stands at `path`.
    fn exists(&self, path: &str) -> bool;
    /// A small text; `None` when it is missing, no regular file, not UTF-8 or over 4 MiB.
    fn text(&self, path: &str) -> Option<String>;
    /// A small text, or why not.
    ///
    /// # Errors
    /// As [`Tree::read`]; [`Error::Invalid`] when it is not UTF-8.
    fn read_text(&self, path: &str) -> Result<String>;
    /// A small JSON file; `None` when it is missing or does not parse.
    fn json(&self, path: &str) -> Option<Value>;
    /// The directory's names, empty when there is none.
    fn names(&self, path: &str) -> Vec<String>;
}

impl<T: Tree + ?Sized> Reading for T {
    fn is_file(&self, path: &str) -> bool {
        self.stat(path).ok().flatten().is_some_and(|stat| stat.kind == "file")
    }

    fn is_dir(&self, path: &str) -> bool {
        self.stat(path).ok().flatten().is_some_and(|stat| stat.kind == "directory")
    }

    fn exists(&self, path: &str) -> bool {
        self.stat(path).ok().flatten().is_some()
    }

    fn text(&self, path: &str) -> Option<String> {
        self.read_text(path).ok()
    }

    fn read_text(&self, path: &str) -> Result<String> {
        let bytes = self.read(path, MAX_BYTES)?;
        String::from_utf8(bytes).map_err(|_| Error::Invalid(format!("{path} is not UTF-8 text")))
    }

    fn json(&self, path: &str) -> Option<Value> {
        let text = self.text(path)?;
        serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text)).ok()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let stats = self.list_dir(path).unwrap_or_default();
        stats.into_iter().filter_map(|stat| stat.path.rsplit('/').next().map(str::to_owned)).collect()
    }
}
