//! Writing the cache anew beside the old one.

use super::{
    RACY_SECS, StateError, StateKey, StateRow,
    format::{BLOCK_BYTES, Before, MAGIC, block, encode_key},
};
use crate::{entry::Time, manifest::Position};
use havun_model::ChunkId;
use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Writes a cache; rows come in ascending path order. Dropped without [`StateWriter::finish`], it leaves no trace.
#[must_use = "a cache is put in place only by `finish`"]
pub struct StateWriter {
    path: PathBuf,
    file: NamedTempFile,
    key: StateKey,
    racy_from: i64,
    payload: Vec<u8>,
    framed: Vec<u8>,
    before: Before,
    changed: bool,
}

impl StateWriter {
    /// Begins a cache that will lie at `path`; `run_start` is when the run began, before its first stat. The key's
    /// manifest is replaced by [`StateWriter::finish`].
    ///
    /// # Errors
    /// When no file can be made in the folder.
    pub fn new(path: &Path, key: &StateKey, run_start: Time) -> Result<Self, StateError> {
        let failed = |source| StateError { path: path.to_path_buf(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".state-").tempfile_in(folder).map_err(failed)?;
        let mut writer = Self {
            path: path.to_path_buf(),
            file,
            key: key.clone(),
            racy_from: run_start.secs.saturating_sub(RACY_SECS),
            payload: Vec::with_capacity(BLOCK_BYTES + 4096),
            framed: MAGIC.to_vec(),
            before: Before::default(),
            changed: false,
        };
        block(&encode_key(key), &mut writer.framed);
        writer.flush().map_err(failed)?;
        Ok(writer)
    }

    /// Takes a row of the old cache over; `position` is where its entry stands now.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&mut self, path: &[u8], row: &StateRow, position: Position) -> Result<(), StateError> {
        self.changed |= row.position != position;
        self.write(path, &StateRow { position, ..*row })
    }

    /// Adds the row of a file that was read whole in this run, and did not change meanwhile. A file that was changed
    /// too shortly before the run gets none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn push(&mut self, path: &[u8], row: &StateRow) -> Result<(), StateError> {
        self.changed = true;
        if row.ctime.secs >= self.racy_from { Ok(()) } else { self.write(path, row) }
    }

    /// Puts the cache in place, whole and durable. `found_all` is [`super::StateReader::found_all`] of the old one:
    /// when every row of it was kept where it was and the manifest is the same, the old file stays.
    ///
    /// # Errors
    /// When the disk fails; the old cache then still lies there.
    pub fn finish(mut self, manifest: ChunkId, found_all: bool) -> Result<(), StateError> {
        if found_all && !self.changed && self.key.manifest == manifest {
            return Ok(());
        }
        self.key.manifest = manifest;
        let path = self.path.clone();
        self.publish().map_err(|source| StateError { path, source })
    }

    fn publish(mut self) -> io::Result<()> {
        self.end_block()?;
        block(&[], &mut self.framed);
        self.flush()?;
        block(&encode_key(&self.key), &mut self.framed);
        self.file.as_file_mut().seek(SeekFrom::Start(MAGIC.len() as u64))?;
        self.flush()?;
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|e| e.error)?;
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    fn write(&mut self, path: &[u8], row: &StateRow) -> Result<(), StateError> {
        self.before.encode(path, row, &mut self.payload);
        if self.payload.len() < BLOCK_BYTES {
            return Ok(());
        }
        let done = self.end_block();
        done.map_err(|source| StateError { path: self.path.clone(), source })
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        block(&self.payload, &mut self.framed);
        self.payload.clear();
        self.before.reset();
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().write_all(&self.framed)?;
        self.framed.clear();
        Ok(())
    }
}
