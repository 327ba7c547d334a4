//! The way of an object to its name: temporary file, fsync, link, fsync of the folder.
//!
//! `link(2)` is used and not `rename(2)` because it cannot replace what is there; where a file system has no
//! links, `renameat2(RENAME_NOREPLACE)` does the same.

use super::{LocalStore, is_missing, sync_folder};
use crate::store::{ObjectName, Published, StoreError, Upload};
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A temporary file that becomes an object.
pub(super) struct LocalUpload<'s> {
    store: &'s LocalStore,
    file: File,
    path: PathBuf,
    len: u64,
    /// After a failed write or fsync nobody knows what the file holds: it is never tried again.
    void: bool,
}

impl<'s> LocalUpload<'s> {
    pub fn begin(store: &'s LocalStore) -> Result<Self, StoreError> {
        let tmp = store.tmp();
        store.make_durable_folder(&tmp)?;
        let path = tmp.join(store.session.upload_name());
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| StoreError::at(&path, e))?;
        Ok(Self { store, file, path, len: 0, void: false })
    }

    fn voided<T>(&mut self, result: io::Result<T>) -> Result<T, StoreError> {
        result.map_err(|e| {
            self.void = true;
            StoreError::at(&self.path, e)
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.void { Err(StoreError::Void) } else { Ok(()) }
    }

    /// Gives the file its name if nothing has it.
    fn link(&self, target: &Path) -> io::Result<()> {
        match fs::hard_link(&self.path, target) {
            Err(e) if has_no_links(&e) => {
                let renamed = rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE);
                renamed.map_err(io::Error::from)
            }
            other => other,
        }
    }

    /// What is there may be the work of a process that died before its fsync: compared, and made durable.
    fn settle_existing(&self, name: &ObjectName, target: &Path) -> Result<Published, StoreError> {
        let (existing, size) = self.store.open(name)?;
        let same = size == self.len && same_content(&self.file, &existing).map_err(|e| StoreError::at(target, e))?;
        if !same {
            return Err(StoreError::Conflict { name: name.clone() });
        }
        existing.sync_all().map_err(|e| StoreError::at(target, e))?;
        Ok(Published::AlreadyThere)
    }
}

impl Upload for LocalUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let written = self.file.write_all(bytes);
        self.voided(written)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.check()?;
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(StoreError::Short { name: self.path.display().to_string(), end });
        }
        self.file.read_exact_at(buf, offset).map_err(|e| StoreError::at(&self.path, e))
    }

    fn publish(mut self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        self.check()?;
        let target = self.store.path_of(name);
        let folder = target.parent().unwrap_or(&self.store.vault);
        let synced = self.file.sync_all();
        self.voided(synced)?;
        self.store.make_durable_folder(folder)?;
        let published = match self.link(&target) {
            Ok(()) => Published::New,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.settle_existing(name, &target)?,
            Err(e) => return Err(StoreError::at(&target, e)),
        };
        sync_folder(folder)?;
        Ok(published)
    }
}

impl Drop for LocalUpload<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && !is_missing(&error)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file could not be removed");
        }
    }
}

fn has_no_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK))
}

/// Compares two files of equal length from their beginnings.
fn same_content(ours: &File, theirs: &File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0;
    let mut theirs = theirs;
    loop {
        let n = theirs.read(&mut b)?;
        if n == 0 {
            return Ok(true);
        }
        let (Some(a), Some(b)) = (a.get_mut(..n), b.get(..n)) else { return Ok(false) };
        ours.read_exact_at(a, offset)?;
        if a != b {
            return Ok(false);
        }
        offset += n as u64;
    }
}
