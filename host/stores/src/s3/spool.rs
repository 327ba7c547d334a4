//! An upload whose bytes come piece by piece: kept in a local file until its whole is known, because S3 takes no object
//! whose length and checksum it is not told first.

use super::{Root, put};
use havun_vault::store::{Life, ObjectName, Published, Session, Source, StoreError, Upload};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A local file that becomes an object.
pub(super) struct SpooledUpload<'s> {
    root: &'s Root,
    /// Of the vault.
    base: &'s str,
    file: Spool,
    hasher: Sha256,
}

/// Removed when it is dropped.
struct Spool {
    file: File,
    path: PathBuf,
    len: u64,
}

impl<'s> SpooledUpload<'s> {
    pub fn begin(root: &'s Root, base: &'s str) -> Result<Self, StoreError> {
        root.marker()?;
        let path = root.spool_dir()?.join(root.session.upload_name());
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| StoreError::at(&path, e))?;
        Ok(Self { root, base, file: Spool { file, path, len: 0 }, hasher: Sha256::new() })
    }
}

impl Upload for SpooledUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.file.write_all(bytes).map_err(|e| StoreError::at(&self.file.path, e))?;
        self.hasher.update(bytes);
        self.file.len += bytes.len() as u64;
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_at(offset, buf)
    }

    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        let key = format!("{}/{name}", self.base);
        let this = *self;
        put::put(this.root, name, &key, &this.file, &this.hasher.finalize().into())
    }
}

impl Source for Spool {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(StoreError::Short { name: self.path.display().to_string(), end });
        }
        self.file.read_exact_at(buf, offset).map_err(|e| StoreError::at(&self.path, e))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes local files of dead sessions, and of unknown ones once they are old. Returns how many.
pub(super) fn remove_stale(folder: &Path, older_than: Duration) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let stale = entries.filter(|entry| {
        let Some(session) = entry.file_name().to_str().and_then(Session::of_upload) else { return false };
        let age = || entry.metadata().ok()?.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        match session.life() {
            Life::Alive => false,
            Life::Dead => true,
            Life::Unknown => age().is_some_and(|age| age >= older_than),
        }
    });
    stale.filter(|entry| fs::remove_file(entry.path()).is_ok()).count() as u64
}
