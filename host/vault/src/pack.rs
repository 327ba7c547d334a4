//! Packs: frames one after another, then the tail (`toc`), sealed as one object.
//!
//! [`PackWriter`] streams: it holds about a megabyte, never a pack. Every piece that it writes is read back from the
//! store, decrypted and compared with its plaintext before the pack can be published. The SHA-256 that names the pack
//! is taken over the bytes as they are written. [`PackReader`] reads what nobody vouches for.

use crate::{
    frame::EncodedFrame,
    index::FrameRef,
    keys::KeyRing,
    seal::{self, HEADER_BYTES, Opener, PLAIN_CHUNK, SALT_BYTES, SealError, SealKey, Sealer},
    store::{ObjectName, Store, StoreError, Upload},
    toc::{self, MAX_TAIL},
};
use havun_model::PackId;
use sha2::{Digest as _, Sha256};

pub use crate::toc::{PackKind, Toc, TocError, TocFrame};

/// Stored bytes at which a pack is full.
pub const PACK_TARGET: u64 = 64 << 20;
/// No pack has more plaintext.
const MAX_PACK: u64 = 2 << 30;
/// Plaintext is sealed, written and read back in pieces of this size; a multiple of 16 KiB.
const PIECE: usize = 32 * PLAIN_CHUNK;
/// The end of a pack that is read first; holds most tails.
const TAIL_GUESS: u64 = 64 << 10;

/// Why a pack cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its tail.
    #[error(transparent)]
    Toc(#[from] TocError),
    /// What was written does not read back the same.
    #[error("what was written did not read back the same")]
    ReadBack,
    /// None of the vault's keys opens it.
    #[error("none of the vault's keys opens it")]
    NoKey,
    /// A frame or range that does not lie within it.
    #[error("bytes {offset} to {end} do not lie within the pack")]
    Range {
        /// First byte.
        offset: u64,
        /// First byte after the range.
        end: u64,
    },
    /// A delta in another kind of pack, or a plain frame among deltas.
    #[error("the frame does not belong in a pack of this kind")]
    Kind,
    /// More than a pack can hold.
    #[error("more than a pack can hold")]
    Full,
    /// The operating system gives no random bytes.
    #[error("no random bytes from the system")]
    Random(#[from] getrandom::Error),
}

/// Writes one pack. Dropped before [`PackWriter::finish`], nothing is left of it.
#[must_use = "a pack is finished and published, or abandoned"]
pub struct PackWriter<'a> {
    upload: Box<dyn Upload + 'a>,
    toc: Toc,
    hasher: Sha256,
    seal: Option<Sealer>,
    /// Plaintext that fills no piece yet.
    pending: Vec<u8>,
    stored: u64,
    sealed: Vec<u8>,
    back: ReadBack,
}

/// Compares what the store has with what it should have; its buffers are used again.
struct ReadBack {
    opener: Option<Opener>,
    next_chunk: u64,
    stored: Vec<u8>,
    opened: Vec<u8>,
}

/// A pack that is whole and not yet published.
#[must_use = "a finished pack is published or abandoned"]
pub struct FinishedPack<'a> {
    /// Publish it under the pack's id.
    pub upload: Box<dyn Upload + 'a>,
    /// SHA-256 of the stored bytes.
    pub id: PackId,
    /// Stored bytes.
    pub stored_size: u64,
    /// What is in it.
    pub toc: Toc,
}

impl<'a> PackWriter<'a> {
    /// A new pack, encrypted with the key under the context where both are given.
    ///
    /// # Errors
    /// No random bytes for the salt.
    pub fn new(upload: Box<dyn Upload + 'a>, kind: PackKind, sealing: Option<(&SealKey, &str)>) -> Result<Self, PackError> {
        let mut salt = [0; SALT_BYTES];
        if sealing.is_some() {
            getrandom::fill(&mut salt)?;
        }
        Ok(Self::with_salt(upload, kind, sealing, salt))
    }

    /// As [`PackWriter::new`] with a salt that was never used before with the key.
    pub fn with_salt(upload: Box<dyn Upload + 'a>, kind: PackKind, sealing: Option<(&SealKey, &str)>, salt: [u8; SALT_BYTES]) -> Self {
        let seal = sealing.map(|(key, context)| Sealer::new(key, context, salt));
        let opener = seal.as_ref().map(Sealer::opener);
        Self {
            upload,
            toc: Toc::new(kind),
            hasher: Sha256::new(),
            seal,
            pending: Vec::new(),
            stored: 0,
            sealed: Vec::new(),
            back: ReadBack { opener, next_chunk: 0, stored: Vec::new(), opened: Vec::new() },
        }
    }

    /// Stored bytes so far, those that wait to be written included.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks whether a pack under way is empty")]
    pub fn len(&self) -> u64 {
        self.stored + self.pending.len() as u64
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`PackError::ReadBack`]: bad memory or a bad disk. After any error the pack is void.
    pub fn push(&mut self, frame: EncodedFrame) -> Result<(), PackError> {
        let offset = self.toc.frames_end();
        let stored = u32::try_from(frame.bytes.len()).ok().filter(|n| offset + u64::from(*n) <= MAX_PACK).ok_or(PackError::Full)?;
        let place = FrameRef { offset, stored, raw: frame.raw_len };
        if frame.bases.is_empty() == (self.toc.kind == PackKind::Delta) {
            return Err(PackError::Kind);
        }
        self.toc.frames.push(TocFrame { place, entries: frame.entries, bases: frame.bases });
        self.append(&frame.bytes)
    }

    /// Writes the tail. Nothing is published yet.
    ///
    /// # Errors
    /// As [`PackWriter::push`].
    pub fn finish(mut self) -> Result<FinishedPack<'a>, PackError> {
        let tail = self.toc.encode_tail();
        if tail.len() as u64 > MAX_TAIL {
            return Err(PackError::Full);
        }
        self.append(&tail)?;
        let last = std::mem::take(&mut self.pending);
        self.write_piece(&last, true)?;
        let id = PackId::from_bytes(self.hasher.finalize().into());
        Ok(FinishedPack { upload: self.upload, id, stored_size: self.stored, toc: self.toc })
    }

    fn append(&mut self, plain: &[u8]) -> Result<(), PackError> {
        self.pending.extend_from_slice(plain);
        if self.pending.len() < PIECE {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        let (pieces, _) = pending.as_chunks::<PIECE>();
        let done = pieces.len() * PIECE;
        for piece in pieces {
            self.write_piece(piece, false)?;
        }
        pending.drain(..done);
        self.pending = pending;
        Ok(())
    }

    /// Seals, hashes and writes one piece, then reads it back.
    fn write_piece(&mut self, plain: &[u8], last: bool) -> Result<(), PackError> {
        self.sealed.clear();
        self.seal_piece(plain, last);
        let written = if self.back.opener.is_some() { self.sealed.as_slice() } else { plain };
        self.hasher.update(written);
        self.upload.write(written)?;
        let header = if self.stored == 0 { HEADER_BYTES } else { 0 };
        self.back.compare(&mut *self.upload, self.stored, written, plain, header, last)?;
        self.stored += written.len() as u64;
        Ok(())
    }

    fn seal_piece(&mut self, plain: &[u8], last: bool) {
        let Some(mut sealer) = self.seal.take() else { return };
        if self.stored == 0 {
            self.sealed.extend_from_slice(&sealer.header());
        }
        if last {
            return sealer.finish(plain, &mut self.sealed);
        }
        let (chunks, _) = plain.as_chunks::<PLAIN_CHUNK>();
        chunks.iter().for_each(|chunk| sealer.seal_chunk(chunk, &mut self.sealed));
        self.seal = Some(sealer);
    }
}

impl ReadBack {
    fn compare(
        &mut self,
        upload: &mut dyn Upload,
        at: u64,
        written: &[u8],
        plain: &[u8],
        header: usize,
        last: bool,
    ) -> Result<(), PackError> {
        self.stored.clear();
        self.stored.resize(written.len(), 0);
        upload.read_back(at, &mut self.stored)?;
        let Some(opener) = &self.opener else {
            return same(&self.stored, plain);
        };
        let (head, body) = self.stored.split_at_checked(header).ok_or(PackError::ReadBack)?;
        same(head, written.get(..header).unwrap_or_default())?;
        self.opened.clear();
        opener.open_run(self.next_chunk, body, last, &mut self.opened).map_err(|_| PackError::ReadBack)?;
        self.next_chunk += (plain.len() / PLAIN_CHUNK) as u64;
        same(&self.opened, plain)
    }
}

fn same(found: &[u8], expected: &[u8]) -> Result<(), PackError> {
    if found == expected { Ok(()) } else { Err(PackError::ReadBack) }
}

/// Reads one pack. Nothing that does not authenticate is handed out; what a frame decodes to is the caller's to check.
pub struct PackReader<'s> {
    store: &'s dyn Store,
    name: ObjectName,
    opener: Option<Opener>,
    stored_len: u64,
    plain_len: u64,
}

impl<'s> PackReader<'s> {
    /// Opens a pack, encrypted where keys and a context are given. Reads 56 bytes at most.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`PackError::NoKey`], also where the header is damaged.
    pub fn open(store: &'s dyn Store, name: &ObjectName, keys: Option<(&KeyRing, &str)>) -> Result<Self, PackError> {
        let stored_len = store.size(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
        let mut reader = Self { store, name: name.clone(), opener: None, stored_len, plain_len: stored_len };
        if let Some((ring, context)) = keys {
            reader.plain_len = seal::plain_len(stored_len).ok_or(SealError::Length { bytes: stored_len })?;
            let mut header = [0; HEADER_BYTES];
            store.read_range(name, 0, &mut header)?;
            reader.opener = Some(ring.opener(context, &header).ok_or(PackError::NoKey)?);
        }
        Ok(reader)
    }

    /// Stored bytes.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Bytes of plaintext.
    pub fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// The table of contents, from the pack's own tail.
    ///
    /// # Errors
    /// [`PackError::Toc`], [`PackError::Seal`]: the pack is damaged or cut off.
    pub fn toc(&self) -> Result<Toc, PackError> {
        let guess = self.end(self.plain_len.min(TAIL_GUESS))?;
        let len = toc::tail_len(&guess)?;
        if len > self.plain_len {
            return Err(TocError::Tail.into());
        }
        let tail = match guess.len().checked_sub(usize::try_from(len).unwrap_or(usize::MAX)) {
            Some(skip) => guess.get(skip..).unwrap_or_default().to_vec(),
            None => self.end(len)?,
        };
        Ok(toc::read_tail(&tail, self.plain_len)?)
    }

    /// The zstd frame at `place`, not yet decoded.
    ///
    /// # Errors
    /// [`PackError::Range`]: it does not lie within the pack. [`PackError::Seal`]: the pack is damaged.
    pub fn read_frame(&self, place: &FrameRef) -> Result<Vec<u8>, PackError> {
        self.read_plain(place.offset, u64::from(place.stored))
    }

    /// A range of the plaintext, for reading several neighbouring frames at once.
    ///
    /// # Errors
    /// As [`PackReader::read_frame`].
    pub fn read_plain(&self, offset: u64, len: u64) -> Result<Vec<u8>, PackError> {
        let end = offset.saturating_add(len);
        let outside = PackError::Range { offset, end };
        let size = usize::try_from(len).ok().filter(|_| end <= self.plain_len && len <= MAX_PACK);
        let Some(size) = size else { return Err(outside) };
        let Some(opener) = &self.opener else {
            return self.read_stored(offset, size);
        };
        let span = seal::chunk_span(offset..end, self.plain_len).ok_or(outside)?;
        let sealed = self.read_stored(span.stored.start, usize::try_from(span.stored.end - span.stored.start).unwrap_or(0))?;
        let mut plain = Vec::new();
        opener.open_run(span.first, &sealed, span.last, &mut plain)?;
        plain.drain(..span.skip.min(plain.len()));
        plain.truncate(size);
        Ok(plain)
    }

    fn end(&self, len: u64) -> Result<Vec<u8>, PackError> {
        self.read_plain(self.plain_len - len.min(self.plain_len), len)
    }

    fn read_stored(&self, offset: u64, len: usize) -> Result<Vec<u8>, PackError> {
        let mut bytes = vec![0; len];
        self.store.read_range(&self.name, offset, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
