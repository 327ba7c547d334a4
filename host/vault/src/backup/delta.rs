//! Chunks of a dump as deltas of the chunks that lay in their place in the dump before: the same path, the snapshot before,
//! the same epoch. `align` says which those are.

use super::{Parent, align::Align};
use crate::{
    bases::Depths,
    entries::Entries,
    entry::Entry,
    error::VaultError,
    frame::{DeltaEncoder, EncodedFrame, FrameBuilder, MAX_BASES},
    index::Index,
    known::Known,
    open::Vault,
    paths::compare_paths,
    reader::ChunkReader,
};
use havun_model::{ChunkId, Snapshot};
use std::{cmp::Ordering, sync::Arc};

/// No chunk is written that is more deltas away from a plain frame: a restore decodes so many small frames more. Measured in
/// docs/ARCHITECTURE.md.
pub(super) const WRITTEN_DEPTH: u32 = 8;
/// A delta is kept when it takes no more than this share, in percent, of what the chunk would take plainly.
const GAIN_PERCENT: u64 = 60;
/// Likewise for one of a chunk's first ancestors, when the last one is too deep. Others will be deltas of it in turn, so one
/// that does not gain much is better stored plainly once more.
const REBASE_PERCENT: u64 = 33;
/// What a delta costs beside its bytes: its place in a table of contents and in an index object, then each base's.
const FRAME_COST: u64 = 40;
const BASE_COST: u64 = 72;

/// The dumps of the snapshot before, and what is needed to use them.
pub(super) struct Deltas<'v> {
    vault: &'v Vault,
    epoch: String,
    level: i32,
    known: Arc<Known<'v>>,
    parent: Option<Snapshot>,
    /// Its entries from where the last dump was found.
    entries: Option<std::iter::Peekable<Entries<'v>>>,
    tools: Option<Tools<'v>>,
    depths: Depths,
}

struct Tools<'v> {
    reader: ChunkReader<'v>,
    encoder: DeltaEncoder,
    builder: FrameBuilder,
    prefix: Vec<u8>,
}

impl<'v> Deltas<'v> {
    pub fn new(vault: &'v Vault, epoch: &str, level: i32, known: Arc<Known<'v>>, parent: Option<&Parent>) -> Self {
        let parent = parent.map(|parent| parent.stored.snapshot.clone());
        Self { vault, epoch: epoch.to_owned(), level, known, parent, entries: None, tools: None, depths: Depths::default() }
    }

    /// The dump of the same path in the snapshot before. Paths are asked for in path order.
    ///
    /// # Errors
    /// The store's. Where the manifest before is damaged there is no earlier dump.
    pub fn earlier(&mut self, path: &[u8]) -> Result<Option<Align>, VaultError> {
        let Some(parent) = &self.parent else { return Ok(None) };
        let index = self.known.index()?;
        let entries = match &mut self.entries {
            Some(entries) => entries,
            none => none.insert(self.vault.entries_with(parent, Arc::clone(index))?.peekable()),
        };
        let found = find(entries, path);
        match found {
            Err(error) if error.is_integrity() => {
                tracing::warn!(%error, "the manifest of the last snapshot is damaged; dumps are stored without it");
                self.parent = None;
                Ok(None)
            }
            found => Ok(found?.map(|entry| Align::new(lengths(&entry, index)))),
        }
    }

    /// The chunk as a delta of `bases`, or of what these are deltas of where they are too deep. `None` where that does not
    /// gain clearly, or where a base cannot be read.
    ///
    /// # Errors
    /// The store's; bad memory.
    pub fn encode(&mut self, id: ChunkId, bytes: &[u8], bases: &[ChunkId]) -> Result<Option<EncodedFrame>, VaultError> {
        let index = Arc::clone(self.known.index()?);
        let Some(bases) = self.choose(&index, bases) else { return Ok(None) };
        let percent = if bases.are_roots { REBASE_PERCENT } else { GAIN_PERCENT };
        let plainly = bytes.len() as u64 * bases.stored / bases.raw.max(1);
        let cost = FRAME_COST + BASE_COST * bases.ids.len() as u64;
        let Some(most) = (plainly * percent / 100).checked_sub(cost) else { return Ok(None) };
        let tools = match &mut self.tools {
            Some(tools) => tools,
            none => none.insert(Tools::new(self.vault, &self.epoch, self.level, &index)?),
        };
        tools.encode(id, bytes, &bases.ids, usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn choose(&mut self, index: &Index, bases: &[ChunkId]) -> Option<Bases> {
        let mut depth = 0;
        let mut roots = Vec::new();
        for base in bases {
            depth = depth.max(self.depths.of(index, base)?);
            self.roots(index, base, &mut roots)?;
        }
        let (stored, raw) = roots.iter().filter_map(|root| cost(index, root)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let are_roots = depth >= WRITTEN_DEPTH;
        let ids = if are_roots { roots } else { bases.to_vec() };
        (1..=MAX_BASES).contains(&ids.len()).then_some(Bases { ids, are_roots, stored, raw })
    }

    /// The plain chunks that a chunk rests on, in order.
    fn roots(&self, index: &Index, id: &ChunkId, roots: &mut Vec<ChunkId>) -> Option<()> {
        let mut open = vec![*id];
        let mut steps = 0;
        while let Some(id) = open.pop() {
            let at = index.get(&id)?;
            let bases = index.pack(at.pack)?.bases(at.frame);
            if bases.is_empty() && !roots.contains(&id) {
                roots.push(id);
            }
            open.extend(bases.iter().rev());
            steps += 1;
            if steps > 64 || roots.len() > MAX_BASES {
                return None;
            }
        }
        Some(())
    }
}

/// What a chunk is a delta of.
struct Bases {
    ids: Vec<ChunkId>,
    are_roots: bool,
    /// What the plain chunks that it rests on take, and how many bytes those are.
    stored: u64,
    raw: u64,
}

/// Stored and raw bytes of the frame that a chunk lies in.
fn cost(index: &Index, id: &ChunkId) -> Option<(u64, u64)> {
    let at = index.get(id)?;
    let frame = index.pack(at.pack)?.frames.get(at.frame as usize)?;
    Some((u64::from(frame.stored), u64::from(frame.raw)))
}

/// The entry of a path; entries before it are passed over.
fn find(entries: &mut std::iter::Peekable<Entries<'_>>, path: &[u8]) -> Result<Option<Entry>, VaultError> {
    while let Some(next) = entries.next_if(|next| next.as_ref().map_or(true, |entry| compare_paths(&entry.path, path) != Ordering::Greater))
    {
        let entry = next?;
        if entry.path == path {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The chunks of a dump with their lengths, up to one that no pack has any more.
fn lengths(entry: &Entry, index: &Index) -> impl Iterator<Item = (ChunkId, u64)> {
    entry.chunks.iter().map_while(|id| Some((*id, u64::from(index.get(id)?.len))))
}

impl<'v> Tools<'v> {
    fn new(vault: &'v Vault, epoch: &str, level: i32, index: &Arc<Index>) -> Result<Self, VaultError> {
        let encoder = DeltaEncoder::new(level).map_err(|e| VaultError::Internal { what: "zstd", why: e.to_string() })?;
        let reader = ChunkReader::new(vault, epoch, Arc::clone(index))?;
        Ok(Self { reader, encoder, builder: FrameBuilder::new(), prefix: Vec::new() })
    }

    fn encode(&mut self, id: ChunkId, bytes: &[u8], bases: &[ChunkId], most: usize) -> Result<Option<EncodedFrame>, VaultError> {
        self.prefix.clear();
        for base in bases {
            match self.reader.append(base, &mut self.prefix) {
                Ok(()) => {}
                Err(error) if error.is_integrity() => {
                    tracing::warn!(%error, "an earlier dump is damaged; what is new since is stored without it");
                    return Ok(None);
                }
                Err(other) => return Err(other),
            }
        }
        self.builder.push(id, bytes);
        let frame = self.builder.take();
        let encoded = self.encoder.encode(&frame, bases, &self.prefix, most);
        self.builder.reuse(frame.raw);
        encoded.map_err(|e| VaultError::Internal { what: "encoding a delta", why: e.to_string() })
    }
}
