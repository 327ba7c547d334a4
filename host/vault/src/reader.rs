//! Reading chunks: their verified bytes, whatever their frames need.
//!
//! A plain frame stands alone. A delta needs its bases first, which may be deltas themselves: they are read down to a plain
//! frame, never deeper than [`MAX_DEPTH`] and never more than [`MAX_WORK`] frames for one chunk, whatever the tables of
//! contents say. The SHA-256 of a chunk vouches for its bases as well; only when it is wrong are they looked at one by one, to
//! say which pack is to blame. Neighbouring chunks need neighbouring bases, so what was decoded last is kept, and packs of deltas, whose
//! frames are small, are read ahead.

use crate::{
    chunks::pack_damage,
    error::VaultError,
    frame::{FrameDecoder, MAX_PREFIX},
    index::{FrameRef, Index, Location},
    layout::{self, ObjectKind},
    open::Vault,
    pack::{PackError, PackKind, PackReader},
};
use havun_model::{ChunkId, PackId};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// A chunk that is more deltas away from a plain frame than this is not read. Writers stay below it.
pub(crate) const MAX_DEPTH: u32 = 16;
/// Frames decoded for one chunk at most. A true one needs a few for each step of its depth.
const MAX_WORK: u32 = 512;
/// Decoded frames kept, in bytes.
const RECENT_BYTES: usize = 8 << 20;
/// Packs kept open.
const OPEN_PACKS: usize = 24;
/// Bytes of a pack of deltas that are read at once.
const AHEAD_BYTES: u64 = 128 << 10;

/// Reads chunks of one epoch.
pub(crate) struct ChunkReader<'v> {
    vault: &'v Vault,
    epoch: String,
    index: Arc<Index>,
    context: String,
    decoder: FrameDecoder,
    /// The one used last comes last.
    packs: Vec<OpenPack<'v>>,
    /// Likewise.
    recent: Vec<((u32, u32), Arc<Vec<u8>>)>,
    recent_bytes: usize,
    depth: u32,
    work: u32,
    /// Compare the SHA-256 of every base, too.
    careful: bool,
}

struct OpenPack<'v> {
    id: PackId,
    reader: PackReader<'v>,
    /// What was read ahead, and where it begins.
    ahead: (u64, Vec<u8>),
}

impl<'v> ChunkReader<'v> {
    pub fn new(vault: &'v Vault, epoch: &str, index: Arc<Index>) -> Result<Self, VaultError> {
        let decoder = FrameDecoder::new().map_err(|e| VaultError::Internal { what: "zstd", why: e.to_string() })?;
        let context = vault.context(ObjectKind::Pack);
        let (packs, recent) = (Vec::new(), Vec::new());
        Ok(Self {
            vault,
            epoch: epoch.to_owned(),
            index,
            context,
            decoder,
            packs,
            recent,
            recent_bytes: 0,
            depth: 0,
            work: 0,
            careful: false,
        })
    }

    /// The verified bytes of a chunk.
    pub fn chunk(&mut self, id: &ChunkId) -> Result<Vec<u8>, VaultError> {
        let mut bytes = Vec::new();
        self.append(id, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends the verified bytes of a chunk to `out`. Where they cannot be had from one pack, any other that has the chunk
    /// is asked.
    pub fn append(&mut self, id: &ChunkId, out: &mut Vec<u8>) -> Result<(), VaultError> {
        let location = self.index.get(id).ok_or(VaultError::MissingChunk { chunk: *id })?;
        match self.append_from(id, &location, out) {
            Err(error) if error.is_integrity() => self.append_elsewhere(id, &location, out, error),
            other => other,
        }
    }

    fn append_from(&mut self, id: &ChunkId, location: &Location, out: &mut Vec<u8>) -> Result<(), VaultError> {
        let frame = self.frame(location.pack, location.frame)?;
        if self.depth > 0 && !self.careful {
            let part = part(location, &frame).ok_or_else(|| self.not_itself(id, location))?;
            out.extend_from_slice(part);
            return Ok(());
        }
        match self.slice(id, location, &frame) {
            Ok(part) => out.extend_from_slice(part),
            Err(error) => return Err(self.to_blame(location).unwrap_or(error)),
        }
        Ok(())
    }

    /// A chunk is not what its id says: which of the chunks that it rests on is not, either? `None` where they all are.
    pub fn to_blame(&mut self, location: &Location) -> Option<VaultError> {
        if self.careful {
            return None;
        }
        let index = Arc::clone(&self.index);
        let record = index.pack(location.pack)?;
        let name = layout::pack(&self.epoch, &record.id);
        let bases = record.bases(location.frame);
        self.forget();
        self.careful = true;
        let read = bases.iter().try_for_each(|base| self.append(base, &mut Vec::new()));
        self.careful = false;
        read.err().map(|error| base_error(name.as_str(), error))
    }

    /// Drops what is kept.
    fn forget(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// The verified bases of a delta, one after the other; `pack` is where it lies.
    pub fn prefix_of(&mut self, pack: &str, bases: &[ChunkId]) -> Result<Vec<u8>, VaultError> {
        let mut prefix = Vec::new();
        for base in bases {
            self.append(base, &mut prefix).map_err(|error| base_error(pack, error))?;
        }
        Ok(prefix)
    }

    /// The stored bytes of a frame, as they are.
    pub fn stored_frame(&mut self, pack: u32, frame: u32) -> Result<Vec<u8>, VaultError> {
        let index = Arc::clone(&self.index);
        let gone = || VaultError::Internal { what: "the index", why: "a location names no frame".to_owned() };
        let record = index.pack(pack).ok_or_else(gone)?;
        self.stored(&record.id, record.kind, record.frames.get(frame as usize).ok_or_else(gone)?)
    }

    fn append_elsewhere(&mut self, id: &ChunkId, tried: &Location, out: &mut Vec<u8>, error: VaultError) -> Result<(), VaultError> {
        for other in self.index.all(id).into_iter().filter(|other| other != tried) {
            match self.append_from(id, &other, out) {
                Err(error) if error.is_integrity() => {}
                other => return other,
            }
        }
        Err(error)
    }

    /// The part of a decoded frame that is the chunk, its SHA-256 compared.
    pub fn slice<'f>(&self, id: &ChunkId, location: &Location, frame: &'f [u8]) -> Result<&'f [u8], VaultError> {
        match part(location, frame) {
            Some(part) if Sha256::digest(part).as_slice() == id.as_bytes() => Ok(part),
            _ => Err(self.not_itself(id, location)),
        }
    }

    fn not_itself(&self, id: &ChunkId, location: &Location) -> VaultError {
        VaultError::Damaged { object: self.pack_name(location.pack), what: format!("chunk {id} in it is not what its id says") }
    }

    /// A decoded frame.
    pub fn frame(&mut self, pack: u32, frame: u32) -> Result<Arc<Vec<u8>>, VaultError> {
        if let Some(at) = self.recent.iter().rposition(|(key, _)| *key == (pack, frame)) {
            let kept = self.recent.remove(at);
            let bytes = Arc::clone(&kept.1);
            self.recent.push(kept);
            return Ok(bytes);
        }
        let bytes = Arc::new(self.decode_frame(pack, frame)?);
        self.recent_bytes += bytes.len();
        self.recent.push(((pack, frame), Arc::clone(&bytes)));
        while self.recent_bytes > RECENT_BYTES && self.recent.len() > 1 {
            let (_, old) = self.recent.remove(0);
            self.recent_bytes -= old.len();
        }
        Ok(bytes)
    }

    fn decode_frame(&mut self, pack: u32, frame: u32) -> Result<Vec<u8>, VaultError> {
        let index = Arc::clone(&self.index);
        let gone = || VaultError::Internal { what: "the index", why: "a location names no frame".to_owned() };
        let record = index.pack(pack).ok_or_else(gone)?;
        let place = record.frames.get(frame as usize).ok_or_else(gone)?;
        let name = layout::pack(&self.epoch, &record.id);
        let damaged = |what: String| VaultError::Damaged { object: name.as_str().to_owned(), what: format!("frame {frame}: {what}") };
        let bases = record.bases(frame);
        if bases.is_empty() {
            let stored = self.stored(&record.id, record.kind, place)?;
            return self.decoder.decode(&stored, place.raw).map_err(|e| damaged(e.to_string()));
        }
        let prefix = self.prefix(name.as_str(), bases, &damaged)?;
        let stored = self.stored(&record.id, record.kind, place)?;
        let decoded = self.decoder.decode_delta(&stored, place.raw, &prefix);
        decoded.map_err(|e| self.to_blame(&Location { pack, frame, offset: 0, len: 0 }).unwrap_or_else(|| damaged(e.to_string())))
    }

    /// The bases of a delta, one after the other.
    fn prefix(&mut self, pack: &str, bases: &[ChunkId], damaged: &dyn Fn(String) -> VaultError) -> Result<Vec<u8>, VaultError> {
        if self.depth == 0 && !self.careful {
            self.work = 0;
        }
        self.work += 1;
        if self.depth >= MAX_DEPTH || self.work > MAX_WORK {
            return Err(damaged("it is a delta of a delta of a delta, further than any that is written".to_owned()));
        }
        let lens = bases.iter().map(|id| self.index.get(id).map(|at| at.len as usize).ok_or(VaultError::MissingChunk { chunk: *id }));
        let length = lens.sum::<Result<usize, VaultError>>().map_err(|error| base_error(pack, error))?;
        if length > MAX_PREFIX {
            return Err(damaged(format!("it asks for a prefix of {length} bytes")));
        }
        let mut prefix = Vec::with_capacity(length);
        self.depth += 1;
        let read = bases.iter().try_for_each(|base| self.append(base, &mut prefix));
        self.depth -= 1;
        read.map(|()| prefix).map_err(|error| base_error(pack, error))
    }

    /// The stored bytes of a frame.
    fn stored(&mut self, id: &PackId, kind: PackKind, place: &FrameRef) -> Result<Vec<u8>, VaultError> {
        let vault = self.vault;
        let name = layout::pack(&self.epoch, id);
        let pack = self.open(id)?;
        let read = match kind {
            PackKind::Delta => pack.read_ahead(place),
            PackKind::Data | PackKind::Manifest => pack.reader.read_frame(place),
        };
        read.map_err(|e| pack_damage(vault, &name, e))
    }

    fn open(&mut self, id: &PackId) -> Result<&mut OpenPack<'v>, VaultError> {
        let gone = || VaultError::Internal { what: "reading packs", why: "the pack just opened is gone".to_owned() };
        match self.packs.iter().rposition(|pack| pack.id == *id) {
            Some(at) if at + 1 == self.packs.len() => {}
            Some(at) => {
                let pack = self.packs.remove(at);
                self.packs.push(pack);
            }
            None => {
                let name = layout::pack(&self.epoch, id);
                let keys = self.vault.is_encrypted().then_some((&self.vault.ring, self.context.as_str()));
                let reader = PackReader::open(&*self.vault.store, &name, keys).map_err(|e| pack_damage(self.vault, &name, e))?;
                if self.packs.len() >= OPEN_PACKS {
                    self.packs.remove(0);
                }
                self.packs.push(OpenPack { id: *id, reader, ahead: (0, Vec::new()) });
            }
        }
        self.packs.last_mut().ok_or_else(gone)
    }

    fn pack_name(&self, pack: u32) -> String {
        self.index.pack(pack).map_or_else(String::new, |record| layout::pack(&self.epoch, &record.id).as_str().to_owned())
    }

    /// Name of the pack that the index gives for a chunk.
    pub fn pack_of(&self, id: &ChunkId) -> Option<String> {
        let location = self.index.get(id)?;
        Some(self.pack_name(location.pack))
    }
}

fn part<'f>(location: &Location, frame: &'f [u8]) -> Option<&'f [u8]> {
    let start = location.offset as usize;
    frame.get(start..start.saturating_add(location.len as usize))
}

/// A delta cannot be read because of one of its bases; the pack that it lies in is not to blame.
fn base_error(pack: &str, error: VaultError) -> VaultError {
    match error {
        error @ VaultError::Base { .. } => error,
        error if error.is_integrity() => VaultError::Base { pack: pack.to_owned(), base: Box::new(error) },
        other => other,
    }
}

impl OpenPack<'_> {
    fn read_ahead(&mut self, place: &FrameRef) -> Result<Vec<u8>, PackError> {
        if let Some(bytes) = self.kept(place) {
            return Ok(bytes.to_vec());
        }
        let len = u64::from(place.stored).max(AHEAD_BYTES).min(self.reader.plain_len().saturating_sub(place.offset));
        // What is damaged further on is no reason to lose this frame.
        let Ok(bytes) = self.reader.read_plain(place.offset, len) else { return self.reader.read_frame(place) };
        self.ahead = (place.offset, bytes);
        match self.kept(place) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.reader.read_frame(place),
        }
    }

    fn kept(&self, place: &FrameRef) -> Option<&[u8]> {
        let (begins, bytes) = &self.ahead;
        let from = usize::try_from(place.offset.checked_sub(*begins)?).ok()?;
        bytes.get(from..from.checked_add(place.stored as usize)?)
    }
}

#[cfg(test)]
pub(crate) mod tests;
