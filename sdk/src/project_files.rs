//! Readers of what many projects have: SQLite files, Composer's files, names and globs made of foreign text.

use crate::{Reading, Result, Stat, Tree};
use serde_json::Value;

/// What every SQLite 3 file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Largest file that can be looked into; the host gives whole files only.
const LOOK_INTO: u32 = 16 << 20;

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
///
/// # Errors
/// Never for a file that cannot be read: it is then judged by its name.
pub fn is_sqlite(root: &dyn Tree, stat: &Stat) -> bool {
    if stat.kind != "file" || stat.size < 16.0 {
        return false;
    }
    match root.read(&stat.path, LOOK_INTO) {
        Ok(bytes) => bytes.starts_with(MAGIC),
        Err(_) => has_sqlite_name(&stat.path) || root.is_file(&format!("{}-wal", stat.path)),
    }
}

fn has_sqlite_name(path: &str) -> bool {
    [".sqlite", ".sqlite3", ".db3"].iter().any(|end| path.ends_with(end))
}

/// Paths of all SQLite databases beneath the root that are called like one, but for what `excludes` match; at most
/// a hundred.
///
/// # Errors
/// As [`Tree::find`].
pub fn sqlite_files(root: &dyn Tree, excludes: &[&str]) -> Result<Vec<String>> {
    let found = root.find(&["**/*.sqlite", "**/*.sqlite3", "**/*.db", "**/*.db3"], excludes, 200)?;
    Ok(found.into_iter().filter(|stat| is_sqlite(root, stat)).map(|stat| stat.path).take(100).collect())
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
