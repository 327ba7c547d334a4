//! Whole objects on the local disk: bytes in hand before anything is removed.

use crate::{
    error::VaultError,
    open::at,
    scrub::tells_of,
    store::{ObjectName, Source, Store, StoreError},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A copy of an object's bytes in a nameless file, with their SHA-256.
pub(crate) struct Spooled {
    file: File,
    size: u64,
    sha256: [u8; 32],
    /// Bytes that could not be read and are zeros here.
    pub unreadable: u64,
}

impl Spooled {
    /// Bytes in memory.
    pub fn of(folder: &Path, bytes: &[u8]) -> Result<Self, VaultError> {
        let mut file = new_file(folder)?;
        file.write_all(bytes).map_err(|e| in_folder(folder, e))?;
        Ok(Self { file, size: bytes.len() as u64, sha256: Sha256::digest(bytes).into(), unreadable: 0 })
    }

    /// What lies in `store` under `name`; `None` where nothing does. With `force`, what cannot be read becomes zeros.
    pub fn fetch(folder: &Path, store: &dyn Store, name: &ObjectName, force: bool) -> Result<Option<Self>, VaultError> {
        let Some(size) = store.size(name).map_err(|e| at(store, e))? else { return Ok(None) };
        let mut spooled = Self { file: new_file(folder)?, size, sha256: [0; 32], unreadable: 0 };
        let mut hasher = Sha256::new();
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from(size - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let part = piece.get_mut(..len).unwrap_or_default();
            match store.read_range(name, offset, part) {
                Ok(()) => {}
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(error) if force && tells_of(store, name, &error) => {
                    part.fill(0);
                    spooled.unreadable += len as u64;
                }
                Err(error) => return Err(at(store, error)),
            }
            hasher.update(&*part);
            spooled.file.write_all(part).map_err(|e| in_folder(folder, e))?;
            offset += len as u64;
        }
        spooled.sha256 = hasher.finalize().into();
        Ok(Some(spooled))
    }

    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub fn hex(&self) -> String {
        hex::encode(self.sha256)
    }
}

impl Source for Spooled {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buf, offset).map_err(|e| StoreError::at(Path::new("the spool"), e))
    }
}

fn new_file(folder: &Path) -> Result<File, VaultError> {
    std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map_err(|e| in_folder(folder, e))
}

pub(crate) fn in_folder(folder: &Path, source: io::Error) -> VaultError {
    VaultError::Path { path: folder.to_owned(), source }
}
