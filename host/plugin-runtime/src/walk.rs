//! One walk over a tree on behalf of a guest: in path order, never through a link, stoppable.

use crate::{
    globs::Selection,
    tree::{Entry, Tree, TreeError, names, stat_at},
};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::fd::OwnedFd;

/// Deepest folder entered.
const MAX_DEPTH: usize = 128;
/// How many entries are looked at between two questions whether to stop.
const ENTRIES_PER_CHECK: u32 = 256;

/// A folder on the way.
struct Level {
    folder: OwnedFd,
    path: String,
    /// In reverse order.
    names: Vec<String>,
}

/// Up to `max` entries that `selection` wants. `stop` is asked now and then; `true` ends the walk with `None`.
pub fn find(tree: &Tree, selection: &Selection, max: usize, stop: &dyn Fn() -> bool) -> Result<Option<Vec<Entry>>, TreeError> {
    let mut found = Vec::new();
    let mut levels = vec![enter(tree.folder("", ResolveFlags::NO_SYMLINKS)?, String::new())?];
    let mut since_check = 0;
    while let Some(level) = levels.last_mut() {
        if found.len() >= max {
            break;
        }
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        since_check += 1;
        if since_check >= ENTRIES_PER_CHECK {
            since_check = 0;
            if stop() {
                return Ok(None);
            }
        }
        let Some(entry) = stat_at(&level.folder, &level.path, &name) else { continue };
        let below = if entry.kind == "directory" && selection.descends(&entry.path) { open(level, &name, &entry.path) } else { None };
        if selection.selects(&entry.path) {
            found.push(entry);
        }
        if let Some(next) = below.filter(|_| levels.len() < MAX_DEPTH) {
            levels.push(next);
        }
    }
    Ok(Some(found))
}

/// A folder that cannot be read is passed over: the backup itself reports it.
fn open(level: &Level, name: &str, path: &str) -> Option<Level> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(&level.folder, name, flags, Mode::empty()).ok()?;
    enter(folder, path.to_owned()).ok()
}

fn enter(folder: OwnedFd, path: String) -> Result<Level, TreeError> {
    let mut names = names(&path, &folder)?;
    names.reverse();
    Ok(Level { folder, path, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(found: Option<Vec<Entry>>) -> Vec<String> {
        found.unwrap().into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn it_walks_in_path_order_and_stops_where_told() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/x", "a-b", "c/d/y"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        std::os::unix::fs::symlink("/etc", folder.path().join("b")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let all = Selection::new(&["**".into()], &[]).unwrap();
        let never = || false;
        assert_eq!(paths(find(&tree, &all, 100, &never).unwrap()), ["a", "a/x", "a-b", "b", "c", "c/d", "c/d/y"]);
        assert_eq!(paths(find(&tree, &all, 2, &never).unwrap()), ["a", "a/x"]);
        let some = Selection::new(&["c/**".into()], &["**/y".into()]).unwrap();
        assert_eq!(paths(find(&tree, &some, 100, &never).unwrap()), ["c/d"]);
    }

    #[test]
    fn a_walk_that_is_told_to_stop_has_no_result() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..300 {
            std::fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        assert!(find(&tree, &Selection::new(&["**".into()], &[]).unwrap(), 1000, &|| true).unwrap().is_none());
    }
}
