//! Writing the cache anew beside the old one.

use super::{
    RACY_SECS, StateError, StateKey, StateReader, StateRow,
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
///
/// While every row is one of the old cache, in its place, nothing is written: a run in which nothing changed keeps
/// the old file.
#[must_use = "a cache is put in place only by `finish`"]
pub struct StateWriter {
    path: PathBuf,
    /// `None` while the rows so far are the first `kept` rows of the old cache.
    file: Option<NamedTempFile>,
    kept: u64,
    key: StateKey,
    payload: Vec<u8>,
    framed: Vec<u8>,
    before: Before,
}

impl StateWriter {
    /// Begins a cache that will lie at `path`. The key's manifest is replaced by [`StateWriter::finish`]. `resume`
    /// says that a cache with this key lies there and is being read: kept rows are the same as its rows.
    ///
    /// # Errors
    /// When no file can be made in the folder.
    pub fn new(path: &Path, key: &StateKey, resume: bool) -> Result<Self, StateError> {
        let mut writer = Self {
            path: path.to_path_buf(),
            file: None,
            kept: 0,
            key: key.clone(),
            payload: Vec::new(),
            framed: Vec::new(),
            before: Before::default(),
        };
        if !resume {
            writer.begin().map_err(|source| writer.failed(source))?;
        }
        Ok(writer)
    }

    /// Takes a row of the old cache over; `position` is where its entry stands now.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&mut self, path: &[u8], row: &StateRow, position: Position) -> Result<(), StateError> {
        if self.file.is_none() && row.position == position {
            self.kept += 1;
            return Ok(());
        }
        self.catch_up()?;
        self.write(path, &StateRow { position, ..*row })
    }

    /// Adds the row of a file that was read whole and did not change meanwhile; `read_at` is a moment just before it
    /// was opened. A file whose ctime is not [`RACY_SECS`] older gets none: it may change again without its ctime
    /// changing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn push(&mut self, path: &[u8], row: &StateRow, read_at: Time) -> Result<(), StateError> {
        self.catch_up()?;
        if row.ctime.secs > read_at.secs.saturating_sub(RACY_SECS) { Ok(()) } else { self.write(path, row) }
    }

    /// Puts the cache in place, whole and durable. `found_all` is [`super::StateReader::found_all`] of the old one:
    /// when every row of it was kept where it was and the manifest is the same, the old file stays.
    ///
    /// # Errors
    /// When the disk fails; the old cache then still lies there.
    pub fn finish(mut self, manifest: ChunkId, found_all: bool) -> Result<(), StateError> {
        if self.file.is_none() && found_all && self.key.manifest == manifest {
            return Ok(());
        }
        self.catch_up()?;
        self.key.manifest = manifest;
        let path = self.path.clone();
        self.publish().map_err(|source| StateError { path, source })
    }

    fn failed(&self, source: io::Error) -> StateError {
        StateError { path: self.path.clone(), source }
    }

    fn begin(&mut self) -> io::Result<()> {
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.file = Some(tempfile::Builder::new().prefix(".state-").tempfile_in(folder)?);
        self.payload.reserve(BLOCK_BYTES + 4096);
        self.framed.extend_from_slice(MAGIC);
        block(&encode_key(&self.key), &mut self.framed);
        self.flush()
    }

    /// At the first difference: copies the rows that were the same so far. A removed file shows itself as the next
    /// row's other position, so the rows before are exactly the first ones of the old cache.
    fn catch_up(&mut self) -> Result<(), StateError> {
        if self.file.is_some() {
            return Ok(());
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the old cache is gone");
        let mut old = StateReader::open(&self.path, &self.key).ok_or_else(|| self.failed(gone()))?;
        self.begin().map_err(|source| self.failed(source))?;
        for _ in 0..self.kept {
            let Some((path, row)) = old.peek() else { return Err(self.failed(gone())) };
            let row = *row;
            self.write(path, &row)?;
            old.advance();
        }
        Ok(())
    }

    fn publish(mut self) -> io::Result<()> {
        self.end_block()?;
        block(&[], &mut self.framed);
        self.flush()?;
        block(&encode_key(&self.key), &mut self.framed);
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.as_file_mut().seek(SeekFrom::Start(MAGIC.len() as u64))?;
        file.as_file_mut().write_all(&self.framed)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|e| e.error)?;
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
        if let Some(file) = &mut self.file {
            file.as_file_mut().write_all(&self.framed)?;
        }
        self.framed.clear();
        Ok(())
    }
}
