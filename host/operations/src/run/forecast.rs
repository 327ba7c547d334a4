//! What a run would do: its plan, and its files compared with the newest snapshot by size and time. Writes nothing.

use super::{
    ExpectedChange, ProjectRun, RunOutcome, StoreState, pause,
    plan::{Planned, plan},
};
use crate::{
    config::ProjectConfig,
    context::Context,
    error::OperationError,
    project::{self, vault_error},
};
use havun_model::{Snapshot, StoreName};
use havun_vault::{
    Entry, EntryKind, Vault, VaultError,
    entry::Time,
    matcher::PathMatcher,
    paths::{compare_paths, escape},
    walk::{Step, Walk},
};
use std::{cmp::Ordering, sync::Arc};

/// How many unreadable paths are named.
const NAMED: usize = 50;

/// Plans and compares.
///
/// # Errors
/// Of planning. A store that cannot be opened is in `run`.
pub(super) fn forecast(cx: &Context, project: &ProjectConfig, run: &mut ProjectRun, run_id: &str) -> Result<(), OperationError> {
    let planned = plan(cx, project, run_id)?;
    run.warnings.clone_from(&planned.plan.warnings);
    run.preparations = pause::forecast(project);
    let mut primary = None;
    for name in project::store_order(cx, project, None)? {
        let state = match project::open_store(cx, &project.name, &name) {
            Ok(store) => {
                primary = primary.or(Some(store));
                StoreState::planned(cx, &name)
            }
            Err(error) => {
                run.problems.push(format!("store `{name}`: {}", crate::error::one_line(&error)));
                StoreState::failed(cx, &name, &error)
            }
        };
        run.stores.push(state);
    }
    let opened = match &primary {
        None => None,
        Some(store) => match project::open_vault(cx, &project.name, store) {
            Ok(vault) => Some((vault, store.name.clone())),
            Err(error) if project::is_no_vault(&error) => None,
            Err(error) => return Err(error),
        },
    };
    run.expected = Some(expected(cx, project, &planned, opened.as_ref())?);
    run.plan = Some(planned.plan);
    run.outcome = RunOutcome::Planned;
    Ok(())
}

fn expected(
    cx: &Context,
    project: &ProjectConfig,
    planned: &Planned,
    opened: Option<&(Vault, StoreName)>,
) -> Result<ExpectedChange, OperationError> {
    let newest = match opened {
        None => None,
        Some((vault, store)) => {
            let list = vault.snapshots().map_err(|e| vault_error(&project.name, store, e))?;
            list.snapshots.into_iter().next_back()
        }
    };
    let mut change = ExpectedChange { against: newest.as_ref().map(|s| s.id), ..ExpectedChange::default() };
    let mut old = Old::default();
    if let (Some((vault, store)), Some(newest)) = (opened, &newest) {
        old = Old::of(vault, &newest.snapshot).map_err(|e| vault_error(&project.name, store, e))?;
    }
    let trees = planned.trees();
    let bad = |why: String| OperationError::BadPlan { project: project.name.clone(), why };
    let matcher = PathMatcher::new(trees.iter().map(|(_, item)| item)).map_err(|e| bad(e.to_string()))?;
    let gone = |source| OperationError::RootGone { project: project.name.clone(), path: project.root.clone(), source };
    let mut walk = Walk::new(&project.root, Arc::new(matcher), b"tree", cx.threads()).map_err(gone)?;
    while let Some(step) = walk.next_step() {
        cx.check_cancelled()?;
        match step {
            Step::Found(found) if found.stat.kind == EntryKind::File => {
                let item = trees.get(found.item).map(|(name, _)| name.to_string()).unwrap_or_default();
                change.count(&item, found.stat.size, old.advance(found.path), found.stat.mtime);
            }
            Step::Found(_) => {}
            Step::Problem { rel, error, .. } => {
                if change.problems.len() < NAMED {
                    change.problems.push(format!("{}: {error}", escape(rel)));
                }
            }
        }
    }
    change.files_removed = old.passed + old.rest();
    Ok(change)
}

impl ExpectedChange {
    fn count(&mut self, item: &str, size: u64, before: Option<(u64, Time)>, mtime: Time) {
        self.files += 1;
        self.bytes += size;
        let tally = self.items.entry(item.to_owned()).or_default();
        tally.files += 1;
        tally.bytes += size;
        match before {
            Some(before) if before == (size, mtime) => return,
            Some(_) => self.files_changed += 1,
            None => self.files_new += 1,
        }
        self.bytes_to_read += size;
    }
}

/// The regular files of the newest snapshot's tree, walked along in path order.
#[derive(Default)]
struct Old {
    entries: Vec<(Vec<u8>, u64, Time)>,
    at: usize,
    /// Files that the walk did not meet.
    passed: u64,
}

impl Old {
    fn of(vault: &Vault, snapshot: &Snapshot) -> Result<Self, VaultError> {
        let mut entries = Vec::new();
        for entry in vault.entries(snapshot)? {
            match entry {
                Ok(Entry { path, kind: EntryKind::File, size, mtime, .. }) if path.starts_with(b"tree/") => {
                    entries.push((path, size, mtime))
                }
                Ok(_) => {}
                Err(error) if error.is_integrity() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { entries, at: 0, passed: 0 })
    }

    /// Size and time of `path` before; everything that sorts before it and was not asked for has been removed.
    fn advance(&mut self, path: &[u8]) -> Option<(u64, Time)> {
        while let Some((old, size, mtime)) = self.entries.get(self.at) {
            match compare_paths(old, path) {
                Ordering::Less => {
                    self.passed += 1;
                    self.at += 1;
                }
                Ordering::Equal => {
                    self.at += 1;
                    return Some((*size, *mtime));
                }
                Ordering::Greater => return None,
            }
        }
        None
    }

    fn rest(&self) -> u64 {
        self.entries.len().saturating_sub(self.at) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_removed_and_unchanged_are_told_apart() {
        let time = |secs| Time { secs, nanos: 0 };
        let entries = [("tree/a", 1), ("tree/b/c", 2), ("tree/b.txt", 3), ("tree/z", 4)];
        let mut old =
            Old { entries: entries.iter().map(|(p, n)| (p.as_bytes().to_vec(), *n, time(*n as i64))).collect(), at: 0, passed: 0 };
        let mut change = ExpectedChange::default();
        for (path, size) in [("tree/a", 1), ("tree/b/c", 9), ("tree/new", 5)] {
            let before = old.advance(path.as_bytes());
            change.count("app", size, before, time(size as i64));
        }
        change.files_removed = old.passed + old.rest();
        assert_eq!((change.files_new, change.files_changed, change.files_removed, change.bytes_to_read), (1, 1, 2, 14));
    }
}
