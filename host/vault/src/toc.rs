//! The tail of a pack: end of the tar archive, table of contents, seek table. The index is rebuilt from tails alone.
//!
//! ```text
//! 11 bytes    zstd frame of 1024 zero bytes (end of the tar archive)
//! u32 0x184D2A5D, u32 size, payload         the table of contents, a skippable frame
//! u32 0x184D2A5E, u32 size, …               the seek table of the zstd "seekable" format, a skippable frame
//! ```
//!
//! All numbers are little endian. A tail has one encoding only: [`read_tail`] encodes what it read and compares.

use crate::{
    frame::{END_OF_ARCHIVE, FrameEntry, MAX_BASES, MAX_FRAME_RAW},
    index::FrameRef,
};
use havun_model::ChunkId;

const TOC_MAGIC: &[u8; 8] = b"HBTOC1\0\0";
const TOC_SKIPPABLE: u32 = 0x184D_2A5D;
const SEEK_SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Number of frames (4), descriptor (1), magic (4).
const SEEK_FOOTER: usize = 9;
/// No tail is larger.
pub(crate) const MAX_TAIL: u64 = 128 << 20;

/// Why a table of contents, or the tail that holds it, is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// It ends too early.
    #[error("table of contents is cut off")]
    CutOff,
    /// It does not begin as a table of contents does.
    #[error("not a table of contents")]
    Magic,
    /// A kind of pack that this program does not know.
    #[error("unknown kind of pack {kind}")]
    Kind {
        /// The number found.
        kind: u8,
    },
    /// Frames do not follow one another, an entry does not lie within its frame, or a delta names no bases or too many.
    #[error("table of contents contradicts itself at frame {frame}")]
    Contradiction {
        /// The frame's number, from 0.
        frame: u32,
    },
    /// There are bytes behind its end, or its end is somewhere else than it says.
    #[error("table of contents does not end where it says")]
    End,
    /// The pack does not end with a seek table.
    #[error("the pack does not end with a seek table")]
    NoSeekTable,
    /// Seek table, table of contents and the pack's length do not agree.
    #[error("seek table and table of contents do not agree")]
    Tail,
}

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackKind {
    /// Content of files, dumps and bundles.
    Data,
    /// Leaves and lists of manifests.
    Manifest,
    /// Frames that need an earlier dump's chunks as their prefix.
    Delta,
}

impl PackKind {
    fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Manifest => 2,
            Self::Delta => 3,
        }
    }

    fn from_number(kind: u8) -> Result<Self, TocError> {
        match kind {
            1 => Ok(Self::Data),
            2 => Ok(Self::Manifest),
            3 => Ok(Self::Delta),
            kind => Err(TocError::Kind { kind }),
        }
    }
}

/// One frame and the chunks in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocFrame {
    /// Where it lies in the plaintext of the pack.
    pub place: FrameRef,
    /// In the order of the raw frame.
    pub entries: Vec<FrameEntry>,
    /// In packs of deltas: the chunks that make its prefix, in order.
    pub bases: Vec<ChunkId>,
}

/// A pack's table of contents. Frames follow one another from the first byte of the plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// What the pack holds.
    pub kind: PackKind,
    /// In order.
    pub frames: Vec<TocFrame>,
}

impl Toc {
    /// A pack of nothing.
    pub fn new(kind: PackKind) -> Self {
        Self { kind, frames: Vec::new() }
    }

    /// All chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &FrameEntry> {
        self.frames.iter().flat_map(|frame| &frame.entries)
    }

    /// Plaintext bytes of all frames: where the tail begins.
    pub fn frames_end(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.place.offset + u64::from(frame.place.stored))
    }

    fn toc_offset(&self) -> u64 {
        self.frames_end() + END_OF_ARCHIVE.len() as u64
    }

    /// The payload of the skippable frame.
    pub fn encode(&self) -> Vec<u8> {
        let entries = self.chunks().count();
        let mut out = Vec::with_capacity(24 + 56 * self.frames.len() + 40 * entries);
        out.extend_from_slice(TOC_MAGIC);
        out.extend_from_slice(&[self.kind.number(), 0, 0, 0]);
        put_u32(&mut out, count(self.frames.len()));
        for frame in &self.frames {
            out.extend_from_slice(&frame.place.offset.to_le_bytes());
            put_u32(&mut out, frame.place.stored);
            put_u32(&mut out, frame.place.raw);
            put_u32(&mut out, count(frame.entries.len()));
            for entry in &frame.entries {
                out.extend_from_slice(entry.id.as_bytes());
                put_u32(&mut out, entry.offset);
                put_u32(&mut out, entry.len);
            }
            if self.kind == PackKind::Delta {
                put_u32(&mut out, count(frame.bases.len()));
                frame.bases.iter().for_each(|base| out.extend_from_slice(base.as_bytes()));
            }
        }
        out.extend_from_slice(&self.toc_offset().to_le_bytes());
        out
    }

    /// Reads a payload that nobody vouches for.
    ///
    /// # Errors
    /// See [`TocError`]. What is accepted encodes to the same bytes again.
    pub fn decode(payload: &[u8]) -> Result<Self, TocError> {
        let mut bytes = Bytes(payload);
        if bytes.array::<8>()? != *TOC_MAGIC {
            return Err(TocError::Magic);
        }
        let [kind, pad @ ..] = bytes.array::<4>()?;
        let mut toc = Self::new(PackKind::from_number(kind)?);
        if pad != [0; 3] {
            return Err(TocError::Magic);
        }
        for number in 0..bytes.u32()? {
            let frame = decode_frame(&mut bytes, toc.kind, number, toc.frames_end())?;
            toc.frames.push(frame);
        }
        match bytes.u64()? == toc.toc_offset() && bytes.0.is_empty() {
            true => Ok(toc),
            false => Err(TocError::End),
        }
    }

    /// The whole tail of the pack.
    pub(crate) fn encode_tail(&self) -> Vec<u8> {
        let payload = self.encode();
        let mut out = END_OF_ARCHIVE.to_vec();
        put_u32(&mut out, TOC_SKIPPABLE);
        put_u32(&mut out, count(payload.len()));
        out.extend_from_slice(&payload);
        let listed = self.frames.len() + 2;
        put_u32(&mut out, SEEK_SKIPPABLE);
        put_u32(&mut out, count(8 * listed + SEEK_FOOTER));
        let frames = self.frames.iter().map(|frame| (frame.place.stored, frame.place.raw));
        let tail = [(count(END_OF_ARCHIVE.len()), 1024), (count(8 + payload.len()), 0)];
        for (stored, raw) in frames.chain(tail) {
            put_u32(&mut out, stored);
            put_u32(&mut out, raw);
        }
        put_u32(&mut out, count(listed));
        out.push(0);
        put_u32(&mut out, SEEKABLE_MAGIC);
        out
    }
}

fn decode_frame(bytes: &mut Bytes<'_>, kind: PackKind, number: u32, begins: u64) -> Result<TocFrame, TocError> {
    let contradiction = TocError::Contradiction { frame: number };
    let place = FrameRef { offset: bytes.u64()?, stored: bytes.u32()?, raw: bytes.u32()? };
    // The sum stays far below 2^64: there are fewer than 2^32 frames of fewer than 2^32 bytes.
    if place.offset != begins || place.stored == 0 || place.raw as usize > MAX_FRAME_RAW {
        return Err(contradiction);
    }
    let mut entries = Vec::new();
    for _ in 0..bytes.u32()? {
        let entry = FrameEntry { id: ChunkId::from_bytes(bytes.array()?), offset: bytes.u32()?, len: bytes.u32()? };
        if u64::from(entry.offset) + u64::from(entry.len) > u64::from(place.raw) {
            return Err(contradiction);
        }
        entries.push(entry);
    }
    let mut bases = Vec::new();
    if kind == PackKind::Delta {
        let count = bytes.u32()? as usize;
        if !(1..=MAX_BASES).contains(&count) {
            return Err(contradiction);
        }
        for _ in 0..count {
            bases.push(ChunkId::from_bytes(bytes.array()?));
        }
    }
    Ok(TocFrame { place, entries, bases })
}

/// Number of bytes of the tail, by the last bytes of a pack's plaintext (17 are enough).
pub(crate) fn tail_len(end: &[u8]) -> Result<u64, TocError> {
    let (rest, footer) = end.split_last_chunk::<SEEK_FOOTER>().ok_or(TocError::NoSeekTable)?;
    let mut footer = Bytes(footer);
    let (listed, descriptor, magic) = (footer.u32()?, footer.array::<1>()?, footer.u32()?);
    let (_, toc_entry) = rest.split_last_chunk::<8>().ok_or(TocError::NoSeekTable)?;
    if magic != SEEKABLE_MAGIC || descriptor != [0] || listed < 2 {
        return Err(TocError::NoSeekTable);
    }
    let toc = u64::from(Bytes(toc_entry).u32()?);
    let tail = END_OF_ARCHIVE.len() as u64 + toc + 8 + 8 * u64::from(listed) + SEEK_FOOTER as u64;
    if tail > MAX_TAIL { Err(TocError::Tail) } else { Ok(tail) }
}

/// The table of contents in a whole `tail` (of [`tail_len`] bytes) of a pack with `plain_len` bytes of plaintext.
pub(crate) fn read_tail(tail: &[u8], plain_len: u64) -> Result<Toc, TocError> {
    let mut bytes = Bytes(tail);
    bytes.array::<{ END_OF_ARCHIVE.len() }>()?;
    if bytes.u32()? != TOC_SKIPPABLE {
        return Err(TocError::Tail);
    }
    let size = bytes.u32()? as usize;
    let toc = Toc::decode(bytes.0.get(..size).ok_or(TocError::CutOff)?)?;
    let whole = toc.frames_end() + tail.len() as u64 == plain_len;
    if whole && toc.encode_tail() == tail { Ok(toc) } else { Err(TocError::Tail) }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Numbers of frames, entries and bytes of a tail; the writer refuses packs long before any reaches 2^32.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What is still to be read.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TocError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(TocError::CutOff)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, TocError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, TocError> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
