//! Streams: dumps, bundles and generated files, which have no file of their own.

use super::{BackupSession, align::Align};
use crate::{
    chunk::Chunker,
    cut::Cutter,
    entry::{Entry, EntryKind, Time},
    error::VaultError,
};
use havun_model::{ChunkId, Digest};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamProfile {
    /// A database dump: small chunks, because changes are spread out.
    Dump,
    /// Anything else.
    File,
}

/// What was stored of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSummary {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of all of them.
    pub sha256: Digest,
}

/// Why a stream was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    /// Its producer failed; nothing is recorded under its path.
    #[error("the data could not be produced")]
    Produce(E),
    /// The vault failed; the session is void.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl BackupSession<'_> {
    /// Stores what `produce` writes under `path`. Streams come in path order, all before the tree. When `produce` fails,
    /// nothing is recorded and the session goes on.
    ///
    /// # Errors
    /// [`StreamError::Produce`], [`StreamError::Vault`].
    pub fn add_stream<E>(
        &mut self,
        path: &str,
        item: &str,
        mode: u32,
        mtime: Timestamp,
        profile: StreamProfile,
        produce: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), E>,
    ) -> Result<StreamSummary, StreamError<E>> {
        self.check_cancelled()?;
        let chunker = match profile {
            StreamProfile::Dump => self.dump_chunker(),
            StreamProfile::File => self.file_chunker(),
        };
        let earlier = match profile {
            StreamProfile::Dump => self.deltas.earlier(path.as_bytes())?,
            StreamProfile::File => None,
        };
        let mut writer = StreamWriter::new(self, &chunker, earlier);
        let produced = produce(&mut writer);
        // A vault error reaches the producer as an I/O error; its cause is what counts.
        if let Some(error) = writer.failure.take() {
            return Err(error.into());
        }
        produced.map_err(StreamError::Produce)?;
        let stream = writer.end()?;
        let summary = StreamSummary { bytes: stream.bytes, sha256: stream.sha256 };
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: EntryKind::File,
            item: item.to_owned(),
            size: stream.bytes,
            mode,
            mtime: Time { secs: mtime.as_second(), nanos: mtime.subsec_nanosecond().unsigned_abs() },
            sha256: (stream.chunks.len() > 1).then_some(stream.sha256),
            chunks: stream.chunks,
            ..Entry::default()
        };
        self.record_entry(&entry)?;
        Ok(summary)
    }

    pub(super) fn record_entry(&mut self, entry: &Entry) -> Result<(), VaultError> {
        self.manifest.entry(entry)?;
        self.stats.files_new += 1;
        Ok(())
    }
}

struct Stored {
    bytes: u64,
    sha256: Digest,
    chunks: Vec<ChunkId>,
}

/// Cuts and stores what is written to it.
struct StreamWriter<'s, 'v, 'c> {
    session: &'s mut BackupSession<'v>,
    cutter: Cutter<'c>,
    /// The same dump in the snapshot before.
    earlier: Option<Align>,
    chunks: Vec<ChunkId>,
    bytes: u64,
    failure: Option<VaultError>,
}

impl<'s, 'v, 'c> StreamWriter<'s, 'v, 'c> {
    fn new(session: &'s mut BackupSession<'v>, chunker: &'c Chunker, earlier: Option<Align>) -> Self {
        Self { session, cutter: Cutter::new(chunker), earlier, chunks: Vec::new(), bytes: 0, failure: None }
    }

    fn store_ready(&mut self, at_end: bool) -> Result<(), VaultError> {
        while let Some((id, chunk)) = self.cutter.next(at_end) {
            match &mut self.earlier {
                Some(earlier) => self.session.store_dump_chunk(id, chunk, earlier)?,
                None => self.session.store_chunk(id, chunk)?,
            }
            self.chunks.push(id);
        }
        Ok(())
    }

    fn end(mut self) -> Result<Stored, VaultError> {
        self.store_ready(true)?;
        let one = self.chunks.first().map_or_else(|| Sha256::digest(b"").into(), |id| *id.as_bytes());
        let sha256 = self.cutter.whole_hash().unwrap_or(Digest::from_bytes(one));
        Ok(Stored { bytes: self.bytes, sha256, chunks: self.chunks })
    }

    fn take(&mut self, part: &[u8]) -> Result<usize, VaultError> {
        self.session.check_cancelled()?;
        let space = self.cutter.space();
        let len = space.len().min(part.len());
        if let (Some(space), Some(part)) = (space.get_mut(..len), part.get(..len)) {
            space.copy_from_slice(part);
        }
        self.cutter.filled(len);
        self.bytes += len as u64;
        self.session.stats.bytes_read += len as u64;
        self.session.options.progress.advance("dump", 0, len as u64);
        self.store_ready(false)?;
        Ok(len)
    }
}

impl Write for StreamWriter<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the vault failed"));
        }
        match self.take(bytes) {
            Ok(len) => Ok(len),
            Err(error) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(io::Error::other(text))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
