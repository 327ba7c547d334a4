//! Which pack has a chunk: the index in memory, and index objects.
//!
//! An index object lists packs with their tables of contents; it saves a reader the tails of all packs and is made
//! anew from them where it is lost. In memory a chunk costs 48 bytes and 11 to 21 more for its place in the table.

use crate::{
    frame::FrameEntry,
    pack::{PackKind, Toc, TocError, TocFrame},
};
use havun_model::{ChunkId, PackId};
use std::{
    collections::{HashMap, HashSet},
    io::Read,
};

const MAGIC: &[u8; 8] = b"HBIDX1\0\0";
/// Level of index objects: ids are random and do not compress, the rest does so at any level.
const LEVEL: i32 = 3;
/// No table of contents is larger; a stored length beyond it is damage.
const MAX_TOC_BYTES: u32 = 64 << 20;

/// Why an index object cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// zstd, or the object ends too early.
    #[error("index object is cut off or damaged")]
    Io(#[from] std::io::Error),
    /// It does not begin as an index object does.
    #[error("not an index object")]
    Magic,
    /// There are bytes behind its end.
    #[error("index object goes on behind its end")]
    Trailing,
    /// A length in it is beyond any that is written.
    #[error("index object names a length of {bytes} bytes")]
    Length {
        /// The length.
        bytes: u64,
    },
    /// A table of contents in it.
    #[error("table of contents of pack {pack}")]
    Toc {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        source: TocError,
    },
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// For [`Index::pack`].
    pub pack: u32,
    /// Position in [`PackRecord::frames`].
    pub frame: u32,
    /// Where its content begins in the raw frame, in bytes.
    pub offset: u32,
    /// Bytes of content.
    pub len: u32,
}

/// Where a frame lies in the plaintext of its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef {
    /// First byte.
    pub offset: u64,
    /// Bytes in the pack.
    pub stored: u32,
    /// Bytes that it decodes to.
    pub raw: u32,
}

/// A pack that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRecord {
    /// Its id.
    pub id: PackId,
    /// Stored bytes.
    pub size: u64,
    /// What it holds.
    pub kind: PackKind,
    /// In order.
    pub frames: Vec<FrameRef>,
    /// In a pack of deltas: the bases of all frames, one frame's after the other's.
    bases: Vec<ChunkId>,
    /// Where each frame's end in `bases`; empty in other packs.
    base_ends: Vec<u32>,
}

impl PackRecord {
    fn new(id: PackId, size: u64, toc: &Toc) -> Self {
        let mut record = Self {
            id,
            size,
            kind: toc.kind,
            frames: toc.frames.iter().map(|frame| frame.place).collect(),
            bases: Vec::new(),
            base_ends: Vec::new(),
        };
        for frame in toc.frames.iter().filter(|_| toc.kind == PackKind::Delta) {
            record.bases.extend(&frame.bases);
            record.base_ends.push(u32::try_from(record.bases.len()).unwrap_or(u32::MAX));
        }
        record
    }

    /// The chunks that make the prefix of a frame, in order; none but for a delta.
    pub fn bases(&self, frame: u32) -> &[ChunkId] {
        let end = |frame: usize| self.base_ends.get(frame).map(|end| *end as usize);
        let frame = frame as usize;
        let from = frame.checked_sub(1).and_then(end).unwrap_or(0);
        end(frame).and_then(|until| self.bases.get(from..until)).unwrap_or_default()
    }
}

struct Row {
    id: ChunkId,
    at: Location,
}

/// Chunks of one epoch and where they lie. Of a chunk that lies in several packs, the pack that came first counts, but one in
/// which it is no delta before one in which it is.
#[derive(Default)]
pub struct Index {
    packs: Vec<PackRecord>,
    by_id: HashMap<PackId, u32>,
    rows: Vec<Row>,
    /// Open addressing over `rows`: 0 is free, else the upper half of the hash, then the row's number plus one.
    slots: Vec<u64>,
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds what `toc` lists. A pack that is known already is not added again.
    pub fn insert_pack(&mut self, id: PackId, stored_size: u64, toc: &Toc) {
        let Ok(pack) = u32::try_from(self.packs.len()) else { return };
        if self.by_id.contains_key(&id) {
            return;
        }
        self.by_id.insert(id, pack);
        self.packs.push(PackRecord::new(id, stored_size, toc));
        self.reserve(toc.frames.iter().map(|frame| frame.entries.len()).sum());
        for (frame, contents) in (0..).zip(&toc.frames) {
            for FrameEntry { id, offset, len } in &contents.entries {
                self.insert(Row { id: *id, at: Location { pack, frame, offset: *offset, len: *len } });
            }
        }
    }

    /// Where the chunk lies; `None` where no pack of the index has it.
    pub fn get(&self, id: &ChunkId) -> Option<Location> {
        let mut slot = self.first_slot(id)?;
        loop {
            let value = *self.slots.get(slot)?;
            if value == 0 {
                return None;
            }
            if value >> 32 == hash(id) >> 32
                && let Some(row) = self.row(value)
                && row.id == *id
            {
                return Some(row.at);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Every place where the chunk lies. Looks at all rows: for when the one of [`Index::get`] turned out to be damaged.
    pub fn all(&self, id: &ChunkId) -> Vec<Location> {
        self.rows.iter().filter(|row| row.id == *id).map(|row| row.at).collect()
    }

    /// Whether the chunk lies in packs of deltas and in no other: [`Index::get`] prefers the others.
    pub(crate) fn is_only_delta(&self, id: &ChunkId) -> bool {
        let pack = self.get(id).and_then(|at| self.pack(at.pack));
        pack.is_some_and(|pack| pack.kind == PackKind::Delta)
    }

    /// A pack by its number in a [`Location`].
    pub fn pack(&self, number: u32) -> Option<&PackRecord> {
        self.packs.get(number as usize)
    }

    /// A pack by its id.
    pub fn find_pack(&self, id: &PackId) -> Option<&PackRecord> {
        self.pack(*self.by_id.get(id)?)
    }

    /// All packs, in the order of their numbers.
    pub fn packs(&self) -> &[PackRecord] {
        &self.packs
    }

    /// The table of contents of a pack, as it was inserted.
    pub fn toc(&self, id: &PackId) -> Option<Toc> {
        let number = *self.by_id.get(id)?;
        let record = self.pack(number)?;
        // Rows are appended pack by pack and never reordered.
        let from = self.rows.partition_point(|row| row.at.pack < number);
        let until = self.rows.partition_point(|row| row.at.pack <= number);
        let frame =
            |(number, place): (u32, &FrameRef)| TocFrame { place: *place, entries: Vec::new(), bases: record.bases(number).to_vec() };
        let mut frames: Vec<TocFrame> = (0..).zip(&record.frames).map(frame).collect();
        for row in self.rows.get(from..until)? {
            let entry = FrameEntry { id: row.id, offset: row.at.offset, len: row.at.len };
            frames.get_mut(row.at.frame as usize)?.entries.push(entry);
        }
        Some(Toc { kind: record.kind, frames })
    }

    /// Number of entries; a chunk that lies in several packs counts once for each.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets a pack; see [`Index::remove_packs`].
    pub fn remove_pack(&mut self, id: &PackId) {
        self.remove_packs([id]);
    }

    /// Forgets packs, in one pass. Numbers of packs in earlier [`Location`]s no longer hold. A chunk that another pack
    /// has too is found there from now on.
    pub fn remove_packs<'i>(&mut self, ids: impl IntoIterator<Item = &'i PackId>) {
        let gone: HashSet<u32> = ids.into_iter().filter_map(|id| self.by_id.remove(id)).collect();
        if gone.is_empty() {
            return;
        }
        let mut left = 0..;
        let numbers: Vec<Option<u32>> =
            (0..).zip(&self.packs).map(|(number, _)| if gone.contains(&number) { None } else { left.next() }).collect();
        let renumbered = |number: u32| numbers.get(number as usize).copied().flatten();
        let packs = std::mem::take(&mut self.packs);
        self.packs = (0..).zip(packs).filter(|(number, _)| !gone.contains(number)).map(|(_, pack)| pack).collect();
        self.rows.retain_mut(|row| {
            let number = renumbered(row.at.pack);
            row.at.pack = number.unwrap_or_default();
            number.is_some()
        });
        self.by_id.values_mut().for_each(|number| *number = renumbered(*number).unwrap_or_default());
        self.rebuild(self.slots.len());
    }

    /// Forgets chunks whose frame, by pack and number, does not pass `keep`. [`Index::toc`] no longer tells the whole of
    /// their packs then.
    pub(crate) fn retain_chunks(&mut self, mut keep: impl FnMut(u32, u32) -> bool) {
        let before = self.rows.len();
        self.rows.retain(|row| keep(row.at.pack, row.at.frame));
        if self.rows.len() != before {
            self.rebuild(self.slots.len());
        }
    }

    fn row(&self, slot_value: u64) -> Option<&Row> {
        self.rows.get((slot_value as u32 as usize).checked_sub(1)?)
    }

    fn first_slot(&self, id: &ChunkId) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        usize::try_from(hash(id)).ok().map(|hash| hash & mask)
    }

    fn insert(&mut self, row: Row) {
        let id = row.id;
        // 2^32 chunks would be 200 GiB of index; what came first stays findable.
        let Ok(number) = u32::try_from(self.rows.len() + 1) else { return };
        self.rows.push(row);
        self.link(&id, number);
    }

    /// Gives row `number` a slot, unless its chunk has one already.
    fn link(&mut self, id: &ChunkId, number: u32) {
        let Some(mut slot) = self.first_slot(id) else { return };
        let value = hash(id) >> 32 << 32 | u64::from(number);
        loop {
            match self.slots.get(slot).copied() {
                Some(0) => break,
                Some(other) if other >> 32 == value >> 32 && self.row(other).is_some_and(|row| row.id == *id) => {
                    if self.is_delta(other) && !self.is_delta(value) {
                        break;
                    }
                    return;
                }
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
        if let Some(free) = self.slots.get_mut(slot) {
            *free = value;
        }
    }

    fn is_delta(&self, slot_value: u64) -> bool {
        let pack = self.row(slot_value).and_then(|row| self.pack(row.at.pack));
        pack.is_some_and(|pack| pack.kind == PackKind::Delta)
    }

    /// Room for `more` rows with at most three slots in four in use.
    fn reserve(&mut self, more: usize) {
        let wanted = ((self.rows.len() + more) * 4 / 3 + 1).next_power_of_two().max(64);
        if wanted > self.slots.len() {
            self.rebuild(wanted);
        }
    }

    fn rebuild(&mut self, slots: usize) {
        self.slots = vec![0; slots];
        for number in 1..=u32::try_from(self.rows.len()).unwrap_or(u32::MAX) {
            if let Some(id) = self.rows.get(number as usize - 1).map(|row| row.id) {
                self.link(&id, number);
            }
        }
    }
}

/// An id is a SHA-256, so any eight bytes of it are as good as a hash.
fn hash(id: &ChunkId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// An index object, not yet sealed: packs with their stored size in bytes and their tables of contents.
///
/// # Errors
/// zstd fails, or a table of contents is beyond 64 MiB.
pub fn encode(packs: &[(PackId, u64, Toc)]) -> Result<Vec<u8>, IndexError> {
    let mut plain = Vec::new();
    plain.extend_from_slice(MAGIC);
    plain.extend_from_slice(&u32::try_from(packs.len()).map_err(|_| IndexError::Length { bytes: packs.len() as u64 })?.to_le_bytes());
    for (id, stored_size, toc) in packs {
        let toc = toc.encode();
        let bytes = toc.len() as u64;
        let len = u32::try_from(toc.len()).ok().filter(|len| *len <= MAX_TOC_BYTES).ok_or(IndexError::Length { bytes })?;
        plain.extend_from_slice(id.as_bytes());
        plain.extend_from_slice(&stored_size.to_le_bytes());
        plain.extend_from_slice(&len.to_le_bytes());
        plain.extend_from_slice(&toc);
    }
    Ok(zstd::bulk::compress(&plain, LEVEL)?)
}

/// The packs that an opened index object lists, but those of a kind that this program does not know. Memory stays in proportion to what the object really holds.
///
/// # Errors
/// It is not a whole index object.
pub fn decode(object: &[u8]) -> Result<Vec<(PackId, u64, Toc)>, IndexError> {
    // Ids are random, so a true index object grows by far less than this when it is decompressed.
    let most = (1 << 20) + 256 * object.len() as u64;
    let mut plain = zstd::stream::read::Decoder::with_buffer(object)?.take(most);
    if read_array::<8>(&mut plain)? != *MAGIC {
        return Err(IndexError::Magic);
    }
    let count = u32::from_le_bytes(read_array(&mut plain)?);
    let mut packs = Vec::new();
    for _ in 0..count {
        packs.extend(decode_pack(&mut plain)?);
    }
    match plain.read(&mut [0])? {
        0 => Ok(packs),
        _ => Err(IndexError::Trailing),
    }
}

/// `None` for a pack of an unknown kind: whoever looks for it reads its own end, and says what it is.
fn decode_pack(plain: &mut impl Read) -> Result<Option<(PackId, u64, Toc)>, IndexError> {
    let id = PackId::from_bytes(read_array(plain)?);
    let stored_size = u64::from_le_bytes(read_array(plain)?);
    let len = u32::from_le_bytes(read_array(plain)?);
    if len > MAX_TOC_BYTES {
        return Err(IndexError::Length { bytes: u64::from(len) });
    }
    let mut toc = Vec::new();
    plain.by_ref().take(u64::from(len)).read_to_end(&mut toc)?;
    match Toc::decode(&toc) {
        Ok(toc) => Ok(Some((id, stored_size, toc))),
        Err(TocError::Kind { .. }) => Ok(None),
        Err(source) => Err(IndexError::Toc { pack: id, source }),
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], IndexError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
