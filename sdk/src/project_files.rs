//! Readers of what many projects have: SQLite files, Composer's files, names and globs made of foreign text.

use crate::{Error, Reading, Result, Stat, Tree};
use serde_json::Value;
use std::collections::BTreeSet;

/// What every SQLite 3 file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Largest file that can be looked into; the host gives whole files only.
const LOOK_INTO: u32 = 16 << 20;
/// Larger ones whose name says enough are not read.
const READ_FREELY: u32 = 1 << 20;
/// Most results of one walk.
const MAX_FOUND: u32 = 10_000;

/// `path` as a glob that matches nothing else.
pub fn literal_glob(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}') {
            glob.extend(['[', c, ']']);
        } else {
            // A backslash escapes, even in a class.
            glob.push(if c == '\\' { '?' } else { c });
        }
    }
    glob
}

/// An item's name made of foreign text: `prefix`, a hyphen, and what of `text` is allowed.
pub fn item_name(prefix: &str, text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_') { c } else { '-' };
    let mut name: String = format!("{prefix}-{}", text.to_ascii_lowercase().chars().map(allowed).collect::<String>());
    name.truncate(64);
    name
}

/// Whether `stat` is a SQLite database: by its first bytes, or, when it is too large to look into, by its name or
/// the log that stands beside it.
pub fn is_sqlite(root: &dyn Tree, stat: &Stat) -> bool {
    if stat.kind != "file" || stat.size < 16.0 {
        return false;
    }
    let by_name = || has_sqlite_name(&stat.path) || root.is_file(&format!("{}-wal", stat.path));
    if stat.size > f64::from(LOOK_INTO) || (stat.size > f64::from(READ_FREELY) && has_sqlite_name(&stat.path)) {
        return by_name();
    }
    root.read(&stat.path, LOOK_INTO).map_or_else(|_| by_name(), |bytes| bytes.starts_with(MAGIC))
}

fn has_sqlite_name(path: &str) -> bool {
    [".sqlite", ".sqlite3", ".db3"].iter().any(|end| path.ends_with(end))
}

/// Paths of the SQLite databases beneath the root, but for what `excludes` match: files that are called like one, or
/// that have a log beside them. What lies in the folders `uploads` belongs to users and counts only when a log shows
/// that it is in use.
///
/// # Errors
/// As [`Tree::find`]; [`Error::Limit`] when there are too many to look at.
pub fn sqlite_files(root: &dyn Tree, excludes: &[&str], uploads: &[&str]) -> Result<Vec<String>> {
    let names = ["**/*.sqlite", "**/*.sqlite3", "**/*.db", "**/*.db3", "**/*-wal"];
    let excludes: Vec<&str> = excludes.iter().copied().chain(["**/Thumbs.db"]).collect();
    let found = root.find(&names, &excludes, MAX_FOUND)?;
    if found.len() >= MAX_FOUND as usize {
        return Err(Error::Limit(format!(
            "more than {MAX_FOUND} files are called like databases; say which to pass over by the setting `exclude`"
        )));
    }
    let uploaded = |path: &str| {
        let mut folders = uploads.iter().map(|folder| folder.trim_end_matches('/'));
        folders.any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    };
    let mut files = BTreeSet::new();
    for stat in &found {
        match stat.path.strip_suffix("-wal") {
            Some(path) if root.stat(path)?.is_some_and(|stat| is_sqlite(root, &stat)) => drop(files.insert(path.to_owned())),
            None if !uploaded(&stat.path) && is_sqlite(root, stat) => drop(files.insert(stat.path.clone())),
            _ => {}
        }
    }
    Ok(files.into_iter().collect())
}

/// Globs of a SQLite database's raw files: they are torn when copied while in use, so that the database item alone
/// brings them back.
pub fn sqlite_raw_files(path: &str) -> Vec<String> {
    let glob = literal_glob(path);
    ["", "-wal", "-shm", "-journal"].iter().map(|end| format!("{glob}{end}")).collect()
}

/// Whether `composer.json` (or one of its sections) requires `package`.
pub fn composer_requires(composer: &Value, package: &str) -> bool {
    composer.get("require").and_then(|require| require.get(package)).is_some()
}

/// The version of `package` in `composer.lock`, without a leading `v`.
pub fn composer_locked(root: &dyn Tree, package: &str) -> Option<String> {
    let lock = root.json("composer.lock")?;
    let packages = lock.get("packages")?.as_array()?;
    let found = packages.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(package))?;
    Some(found.get("version")?.as_str()?.trim_start_matches('v').to_owned())
}

/// Where a symbolic link within the root leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// `path` is no link.
    None,
    /// Beneath the root, at this path.
    Inside(String),
    /// Absolute or above the root; its text.
    Outside(String),
}

/// Where the link at `path` leads, one step.
pub fn link_target(root: &dyn Tree, path: &str) -> LinkTarget {
    let Ok(text) = root.read_link(path) else {
        return LinkTarget::None;
    };
    if text.starts_with('/') {
        return LinkTarget::Outside(text);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return LinkTarget::Outside(text);
                }
            }
            part => parts.push(part),
        }
    }
    LinkTarget::Inside(parts.join("/"))
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;
    use crate::FakeTree;

    const SQLITE: &str = "SQLite format 3\0and so on";

    #[test]
    fn databases_are_known_by_their_bytes_or_their_log_and_uploads_only_by_their_log() {
        let tree = FakeTree::new()
            .file("a.db", SQLITE)
            .file("b.db", "only called like a database")
            .file("c", SQLITE)
            .file("c-wal", "")
            .file("up/d.sqlite", SQLITE)
            .file("up/e.sqlite", SQLITE)
            .file("up/e.sqlite-wal", "")
            .file("skip/f.sqlite", SQLITE)
            .special("g.sqlite")
            .file("big.sqlite", vec![0; 2 << 20])
            .file("lost-wal", "")
            .file("other", "somebody else's kind of log")
            .file("other-wal", "");
        assert_eq!(sqlite_files(&tree, &["skip"], &["up/"]), Ok(["a.db", "big.sqlite", "c", "up/e.sqlite"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_literal_glob_matches_its_path_and_nothing_else() {
        let odd = "data/a[b]*?{c}!.db";
        let tree = FakeTree::new().file(odd, "x").file("data/abx", "x");
        let found =
            Tree::find(&tree, &[&literal_glob(odd)], &[], 10).map(|found| found.into_iter().map(|stat| stat.path).collect::<Vec<_>>());
        assert_eq!(found, Ok(vec![odd.to_owned()]));
    }

    #[test]
    fn links_are_followed_one_step_within_the_root() {
        let tree = FakeTree::new().symlink("a/b", "../c").symlink("d", "/srv").symlink("e", "../up").file("f", "");
        assert_eq!(link_target(&tree, "a/b"), LinkTarget::Inside("c".to_owned()));
        assert_eq!(link_target(&tree, "d"), LinkTarget::Outside("/srv".to_owned()));
        assert_eq!(link_target(&tree, "e"), LinkTarget::Outside("../up".to_owned()));
        assert_eq!(link_target(&tree, "f"), LinkTarget::None);
    }

    #[test]
    fn item_names_are_safe() {
        assert_eq!(item_name("sqlite", "Data/Ünï.db"), "sqlite-data--n-.db");
        assert_eq!(item_name("x", &"y".repeat(100)).len(), 64);
    }
}
