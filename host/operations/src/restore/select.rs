//! Which entries of a manifest a restore takes, and where each goes relative to the target. Pure.

use crate::error::OperationError;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use havun_vault::Entry;
use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Which entries are restored, and where to.
#[derive(Debug, Default)]
pub(super) struct Selector {
    /// Items whose files go to the target, with their folder relative to it.
    pub destinations: BTreeMap<String, PathBuf>,
    /// Whether every tree item is among them: then folders that belong to nobody come too.
    pub whole_tree: bool,
    /// Globs that a tree path must match, when there are any.
    pub paths: Option<GlobSet>,
    /// Folders (manifest paths) on the way to something that is selected, when not everything is.
    pub ancestors: HashSet<Vec<u8>>,
}

impl Selector {
    /// Where an entry goes, relative to the target; `None` when it is not restored this way.
    pub fn destination(&self, entry: &Entry) -> Option<PathBuf> {
        if entry.path == b"tree" {
            let wanted = self.is_unfiltered() || self.ancestors.contains(&entry.path);
            return (wanted && self.whole_tree && self.root_stays()).then(PathBuf::new);
        }
        if !self.takes(entry) && !self.ancestors.contains(&entry.path) {
            return None;
        }
        let item = item_of(entry);
        let rel = relative(&entry.path)?;
        let folder = self.destinations.get(item).cloned().unwrap_or_default();
        Some(folder.join(Path::new(OsStr::from_bytes(rel))))
    }

    /// Whether an entry is asked for itself, not only as a folder on the way.
    pub fn takes(&self, entry: &Entry) -> bool {
        let item = item_of(entry);
        let known = self.destinations.contains_key(item) || (item.is_empty() && self.whole_tree);
        known && self.matches(&entry.path)
    }

    /// Nothing is left out of the tree.
    pub fn is_unfiltered(&self) -> bool {
        self.whole_tree && self.paths.is_none()
    }

    /// Notes the folders above an entry that is taken.
    pub fn note_ancestors(&mut self, entry: &Entry) {
        let mut path = entry.path.as_slice();
        while let Some(slash) = path.iter().rposition(|b| *b == b'/') {
            path = path.get(..slash).unwrap_or_default();
            if path.is_empty() || !self.ancestors.insert(path.to_vec()) {
                return;
            }
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        match (&self.paths, path.strip_prefix(b"tree/")) {
            (None, _) => true,
            (Some(globs), Some(rel)) => globs.is_match(Path::new(OsStr::from_bytes(rel))),
            (Some(_), None) => false,
        }
    }

    /// The root's own mode and times are restored only where the tree goes to the target itself.
    fn root_stays(&self) -> bool {
        self.destinations.values().any(|folder| folder.as_os_str().is_empty())
    }
}

/// The globs as one set; each also takes everything beneath what it matches.
///
/// # Errors
/// [`OperationError::BadPattern`].
pub(crate) fn globs(patterns: &[String]) -> Result<Option<GlobSet>, OperationError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |source| OperationError::BadPattern { pattern: pattern.clone(), source };
        let clean = pattern.trim_start_matches("./").trim_end_matches('/');
        for text in [clean.to_owned(), format!("{clean}/**")] {
            set.add(GlobBuilder::new(&text).literal_separator(true).build().map_err(bad)?);
        }
    }
    let built = set.build().map_err(|source| OperationError::BadPattern { pattern: patterns.join(" "), source })?;
    Ok(Some(built))
}

/// The path of an entry in its item's folder: `tree/a/b` is `a/b`, `generated/x/f` is `f`, `databases/d.sql` is `d.sql`.
fn relative(path: &[u8]) -> Option<&[u8]> {
    let rest = |prefix: &[u8]| path.strip_prefix(prefix);
    rest(b"tree/").or_else(|| rest(b"databases/")).or_else(|| {
        let inner = rest(b"generated/")?;
        let slash = inner.iter().position(|b| *b == b'/')?;
        inner.get(slash + 1..)
    })
}

/// A folder that is only on the way belongs to nobody.
fn item_of(entry: &Entry) -> &str {
    &entry.item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, item: &str) -> Entry {
        Entry { path: path.as_bytes().to_vec(), item: item.to_owned(), ..Entry::default() }
    }

    fn selector(items: &[(&str, &str)], paths: &[&str], whole_tree: bool) -> Selector {
        Selector {
            destinations: items.iter().map(|(item, folder)| ((*item).to_owned(), PathBuf::from(folder))).collect(),
            whole_tree,
            paths: globs(&paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap(),
            ancestors: HashSet::new(),
        }
    }

    #[test]
    fn everything_goes_to_its_place() {
        let all = selector(&[("app", ""), ("database", "databases"), ("report", "generated/report")], &[], true);
        let place = |path, item| all.destination(&entry(path, item));
        assert_eq!(place("tree", ""), Some(PathBuf::new()));
        assert_eq!(place("tree/a/b", "app"), Some("a/b".into()));
        assert_eq!(place("databases/database.sql", "database"), Some("databases/database.sql".into()));
        assert_eq!(place("generated/report/r.txt", "report"), Some("generated/report/r.txt".into()));
        assert_eq!(place("git/history/repository.bundle", "history"), None);
    }

    #[test]
    fn a_path_takes_what_is_beneath_it_and_the_folders_above_it() {
        let mut some = selector(&[("app", "")], &["storage/app/*.pdf", "public"], true);
        let wanted = entry("tree/storage/app/x.pdf", "app");
        assert!(some.takes(&wanted));
        some.note_ancestors(&wanted);
        assert_eq!(some.destination(&entry("tree/storage/app", "app")), Some("storage/app".into()));
        assert_eq!(some.destination(&entry("tree/public/css/a.css", "app")), Some("public/css/a.css".into()));
        assert_eq!(some.destination(&entry("tree/storage/app/deep/x.pdf", "app")), None);
        assert_eq!(some.destination(&entry("tree/.env", "app")), None);
    }

    #[test]
    fn an_item_leaves_the_others_out() {
        let some = selector(&[("uploads", "")], &[], false);
        assert_eq!(some.destination(&entry("tree/.env", "config")), None);
        assert_eq!(some.destination(&entry("tree/up/a", "uploads")), Some("up/a".into()));
    }

    #[test]
    fn a_bad_glob_is_named() {
        assert!(matches!(globs(&["a[".to_owned()]), Err(OperationError::BadPattern { pattern, .. }) if pattern == "a["));
    }
}
