//! The history of a snapshot back into its work tree.

use super::{PreparedRestore, RestoredItem};
use crate::{error::OperationError, git, project::vault_error};
use havun_model::Outcome;
use havun_vault::{Entry, RestoreRequest};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Restores what is stored of `item` and makes the repository of `folder` (relative to the target) from it. Returns
/// its bytes.
///
/// # Errors
/// The vault's, and [`OperationError::Git`].
pub(super) fn restore(prepared: &PreparedRestore<'_>, item: &str, folder: &Path, line: &mut RestoredItem) -> Result<u64, OperationError> {
    let cx = prepared.cx;
    let scratch_dir = cx.scratch_dir()?;
    let no_folder = |source| OperationError::Io { doing: "cannot make a folder in", path: scratch_dir.clone(), source };
    let stored = tempfile::Builder::new().prefix("havun-git-").tempdir_in(&scratch_dir).map_err(no_folder)?;
    let bytes = fetch(prepared, item, stored.path())?;
    let work_tree = prepared.target.join(folder);
    std::fs::create_dir_all(&work_tree).map_err(|source| OperationError::Io { doing: "cannot make", path: work_tree.clone(), source })?;
    let failed = |source| OperationError::Git { item: item.to_owned(), source: Box::new(source) };
    let restored = git::restore(stored.path(), &work_tree, &cx.cancel).map_err(failed)?;
    line.notes.push(format!("{} refs", restored.refs));
    if !restored.problems.is_empty() {
        line.outcome = Outcome::Partial;
        line.notes.extend(restored.problems);
    }
    Ok(bytes)
}

/// The files of the item into a folder of its own, every one of them.
fn fetch(prepared: &PreparedRestore<'_>, item: &str, to: &Path) -> Result<u64, OperationError> {
    let prefix = format!("git/{item}/");
    let select = |entry: &Entry| entry.path.strip_prefix(prefix.as_bytes()).map(|rel| PathBuf::from(OsStr::from_bytes(rel)));
    let request = RestoreRequest {
        select: &select,
        target: to,
        overwrite: false,
        owner: false,
        threads: prepared.cx.threads(),
        cancel: prepared.cx.cancel.clone(),
        sync: false,
    };
    let report = prepared.vault.restore(&prepared.stored.snapshot, &request, &*prepared.cx.progress());
    let report = report.map_err(|e| vault_error(&prepared.project.name, &prepared.store.name, e))?;
    match report.failed.into_iter().next() {
        Some((path, why)) => Err(OperationError::Lost { path, why }),
        None => Ok(report.bytes),
    }
}
