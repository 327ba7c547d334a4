//! Private folders for a copy of a database. Each is gone with its owner; what a kill left is removed by the next one, for it
//! holds a whole database that nobody guards any more.
//!
//! An owner holds a lock on its folder, which the kernel lets go of with the process. The folder above is locked while one
//! is made or looked for, so that none is taken for left behind before its owner has locked it.

use super::DatabaseError;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, DirBuilder, File},
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::Path,
};
use tempfile::{NamedTempFile, TempDir};

/// A folder of mode 0700, removed with everything in it when it is dropped.
pub(super) struct PrivateFolder {
    folder: TempDir,
    /// Locked as long as it is open.
    _lock: File,
}

impl PrivateFolder {
    /// In `parent`, which is made when it is missing. What dead owners have left there, with the same prefix, is removed.
    pub(super) fn make(parent: &Path, prefix: &str) -> Result<Self, DatabaseError> {
        let fault = || DatabaseError::io("make a folder in", parent);
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(DatabaseError::io("make", parent))?;
        let above = locked(parent, FlockOperation::LockExclusive).map_err(fault())?;
        sweep_locked(parent, prefix);
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).map_err(fault())?;
        let lock = locked(folder.path(), FlockOperation::NonBlockingLockExclusive).map_err(fault())?;
        drop(above);
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what dead owners have left in `parent`; a missing one is fine.
pub(super) fn sweep(parent: &Path, prefix: &str) {
    if let Ok(_above) = locked(parent, FlockOperation::LockExclusive) {
        sweep_locked(parent, prefix);
    }
}

fn sweep_locked(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().as_bytes().starts_with(prefix.as_bytes()) && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if ours && locked(&entry.path(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A file of mode 0600 in `parent`, removed when it is dropped before it was given another name. Such files of dead owners go.
pub(super) fn file(parent: &Path, prefix: &str) -> Result<NamedTempFile, DatabaseError> {
    let fault = || DatabaseError::io("make a file in", parent);
    let above = locked(parent, FlockOperation::LockExclusive);
    for entry in above.iter().flat_map(|_| fs::read_dir(parent).into_iter().flatten().flatten()) {
        let ours = entry.file_name().as_bytes().starts_with(prefix.as_bytes()) && entry.file_type().is_ok_and(|kind| kind.is_file());
        if ours && locked(&entry.path(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
    let file = tempfile::Builder::new().prefix(prefix).tempfile_in(parent).map_err(fault())?;
    // Where nothing can be locked, nothing is taken for left behind either.
    if above.is_ok() {
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| fault()(error.into()))?;
    }
    Ok(file)
}

fn locked(folder: &Path, how: FlockOperation) -> std::io::Result<File> {
    let folder = File::open(folder)?;
    flock(&folder, how)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_owner_left_goes_and_what_a_living_one_has_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = PrivateFolder::make(parent.path(), "havun-x-").unwrap();
        let dead = parent.path().join("havun-x-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("copy.sqlite"), "a whole database").unwrap();
        fs::create_dir(parent.path().join("of-somebody-else")).unwrap();
        let next = PrivateFolder::make(parent.path(), "havun-x-").unwrap();
        assert!(living.path().is_dir() && next.path().is_dir() && !dead.exists());
        assert!(parent.path().join("of-somebody-else").is_dir());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
        sweep(&parent.path().join("missing"), "havun-x-");
    }

    #[test]
    fn a_file_of_a_dead_restore_goes_with_the_next_one() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join(".havun-database-dead"), "half a database").unwrap();
        let living = file(parent.path(), ".havun-database-").unwrap();
        let next = file(parent.path(), ".havun-database-").unwrap();
        assert!(living.path().exists() && next.path().exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
