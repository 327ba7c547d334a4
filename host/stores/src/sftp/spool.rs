//! An upload whose length and hash nobody knows beforehand: it lies in a private file of this machine until it is published.

use super::SftpStore;
use havun_vault::store::{ObjectName, Published, Source, Store as _, StoreError, Upload};
use sha2::{Digest as _, Sha256};
use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, path::PathBuf};

pub(super) struct SpooledUpload<'s> {
    store: &'s SftpStore,
    /// Has no name: it vanishes with the process.
    file: File,
    folder: PathBuf,
    hasher: Sha256,
    len: u64,
    void: bool,
}

impl<'s> SpooledUpload<'s> {
    pub fn begin(store: &'s SftpStore, folder: &std::path::Path) -> Result<Self, StoreError> {
        let file = tempfile::tempfile_in(folder).map_err(|e| StoreError::at(folder, e))?;
        Ok(Self { store, file, folder: folder.to_owned(), hasher: Sha256::new(), len: 0, void: false })
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.void { Err(StoreError::Void) } else { Ok(()) }
    }
}

impl Upload for SpooledUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        self.file.write_all(bytes).map_err(|e| {
            self.void = true;
            StoreError::at(&self.folder, e)
        })?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.check()?;
        FileSource { file: &self.file, len: self.len }.read_at(offset, buf)
    }

    fn publish(self: Box<Self>, name: &ObjectName) -> Result<Published, StoreError> {
        self.check()?;
        let sha256 = self.hasher.clone().finalize().into();
        self.store.put(name, &FileSource { file: &self.file, len: self.len }, &sha256)
    }
}

struct FileSource<'f> {
    file: &'f File,
    len: u64,
}

impl Source for FileSource<'_> {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len {
            return Err(StoreError::Short { name: "the upload".to_owned(), end });
        }
        self.file.read_exact_at(buf, offset).map_err(|e| StoreError::at(std::path::Path::new("the upload"), e))
    }
}
