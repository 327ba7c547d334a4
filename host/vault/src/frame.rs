//! Frames: chunks as `ustar` entries, grouped, each group one independent zstd frame.
//!
//! A *delta* frame is compressed against a prefix, the content of earlier chunks (its *bases*), as `zstd --patch-from` does.
//!
//! Read [`FrameBuilder`] (chunks to raw bytes), [`FrameEncoder`] (raw bytes to a zstd frame, checked by decoding it),
//! [`DeltaEncoder`] (likewise with a prefix), [`FrameDecoder`] (the way back, for bytes that nobody vouches for).

use havun_model::ChunkId;
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

/// Raw bytes at which a frame is full.
pub const FRAME_TARGET: usize = 1 << 20;
/// A chunk of this many bytes or more stands alone in its frame.
pub const ALONE: usize = 512 << 10;
/// No frame has more raw bytes; a stored length beyond it is damage, not a reason to allocate.
pub const MAX_FRAME_RAW: usize = 96 << 20;

/// No frame has a longer prefix; a table of contents that asks for more is damage.
pub const MAX_PREFIX: usize = 16 << 20;
/// No frame names more bases.
pub const MAX_BASES: usize = 16;

/// A frame of 1024 zero bytes, the end of a tar archive: one zstd block of type RLE.
pub const END_OF_ARCHIVE: [u8; 11] = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x03, 0x03, 0x20, 0x00, 0x00];

const BLOCK: usize = 512;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What begins so is a dictionary to zstd, not a prefix.
const DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
/// Largest block of a zstd frame.
const ZSTD_BLOCK: usize = 128 << 10;
/// A frame of at least so many raw bytes is sampled before it is compressed whole.
const SAMPLE_FROM: usize = 256 << 10;
const SAMPLE_PART: usize = 16 << 10;
/// One sampled part in so many.
const SAMPLE_STRIDE: usize = 16 * SAMPLE_PART;

/// Why a frame cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// zstd found an error.
    #[error("zstd: {0}")]
    Zstd(#[from] std::io::Error),
    /// What was encoded does not decode to the same bytes.
    #[error("a frame did not decode to what was encoded: bad memory")]
    Mismatch,
    /// The bytes are not one zstd frame of the expected length.
    #[error("not one zstd frame of {raw} bytes")]
    Shape {
        /// Raw bytes that were expected.
        raw: u32,
    },
    /// The prefix is longer than any, or begins as a zstd dictionary does.
    #[error("{bytes} bytes that cannot be a prefix")]
    Prefix {
        /// Its length.
        bytes: usize,
    },
    /// More raw bytes than any frame has.
    #[error("{bytes} bytes are more than a frame can hold")]
    TooLarge {
        /// How many.
        bytes: u64,
    },
}

/// One chunk in a raw frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Where its content begins in the raw frame, in bytes.
    pub offset: u32,
    /// Bytes of content.
    pub len: u32,
}

impl FrameEntry {
    /// The chunk's content within the raw frame; `None` where it does not lie within it.
    pub fn slice<'f>(&self, raw: &'f [u8]) -> Option<&'f [u8]> {
        let start = self.offset as usize;
        raw.get(start..start.checked_add(self.len as usize)?)
    }
}

/// Chunks as `ustar` entries, not yet compressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawFrame {
    /// Whole entries, each padded to 512 bytes.
    pub raw: Vec<u8>,
    /// What lies in `raw`, in order.
    pub entries: Vec<FrameEntry>,
}

/// A zstd frame, ready for a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// One zstd frame with its content size.
    pub bytes: Vec<u8>,
    /// Bytes that it decodes to.
    pub raw_len: u32,
    /// What lies in the raw frame.
    pub entries: Vec<FrameEntry>,
    /// Chunks whose content, one after the other, is the prefix that it needs. Empty but for a delta.
    pub bases: Vec<ChunkId>,
}

/// Gathers chunks in path order.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    frame: RawFrame,
}

impl FrameBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a chunk as the entry `c/<64 hex>`.
    pub fn push(&mut self, id: ChunkId, bytes: &[u8]) {
        let raw = &mut self.frame.raw;
        let padded = bytes.len().next_multiple_of(BLOCK);
        raw.reserve(BLOCK + padded);
        raw.extend_from_slice(&ustar_header(&id, bytes.len()));
        let entry = FrameEntry { id, offset: clamp(raw.len()), len: clamp(bytes.len()) };
        raw.extend_from_slice(bytes);
        raw.resize(raw.len() + padded - bytes.len(), 0);
        self.frame.entries.push(entry);
    }

    /// Raw bytes so far.
    pub fn raw_len(&self) -> usize {
        self.frame.raw.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.frame.entries.is_empty()
    }

    /// Gathers into `buffer` from now on, whose content is dropped. Only for an empty builder.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.is_empty() {
            buffer.clear();
            self.frame.raw = buffer;
        }
    }

    /// What was gathered; the builder is empty again.
    pub fn take(&mut self) -> RawFrame {
        std::mem::take(&mut self.frame)
    }
}

/// Lengths beyond 4 GiB are refused by [`FrameEncoder::encode`], long before they could matter.
fn clamp(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A POSIX `ustar` header: mode 0600, no owner, no time, nothing that varies but the name and the size.
fn ustar_header(id: &ChunkId, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    put(0, b"c/");
    put(2, id.to_hex().as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    header.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(to, from)| *to = *from);
    header
}

/// Compresses frames and checks each by decoding it. Keeps its zstd contexts and buffers; one per thread.
pub struct FrameEncoder {
    compressor: Compressor<'static>,
    sampler: Compressor<'static>,
    decompressor: Decompressor<'static>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

impl FrameEncoder {
    /// With a zstd level (3 is the default of the format's writer; any level reads the same).
    ///
    /// # Errors
    /// zstd cannot allocate, or does not know the level.
    pub fn new(level: i32) -> Result<Self, FrameError> {
        Ok(Self {
            compressor: Compressor::new(level)?,
            sampler: Compressor::new(1)?,
            decompressor: Decompressor::new()?,
            packed: Vec::new(),
            unpacked: Vec::new(),
        })
    }

    /// Encodes one frame: compressed, or as raw blocks where compression gains less than 3 %.
    ///
    /// # Errors
    /// [`FrameError::Mismatch`] when it does not decode to the same bytes, which means bad memory.
    pub fn encode(&mut self, frame: &RawFrame) -> Result<EncodedFrame, FrameError> {
        let raw = frame.raw.as_slice();
        if raw.len() > MAX_FRAME_RAW {
            return Err(FrameError::TooLarge { bytes: raw.len() as u64 });
        }
        if self.looks_incompressible(raw)? {
            raw_blocks(raw, &mut self.packed);
        } else {
            compress(&mut self.compressor, raw, &mut self.packed)?;
            if !gains(self.packed.len(), raw.len()) {
                raw_blocks(raw, &mut self.packed);
            }
        }
        decompress(&mut self.decompressor, &self.packed, raw.len(), &mut self.unpacked)?;
        if self.unpacked != raw {
            return Err(FrameError::Mismatch);
        }
        Ok(EncodedFrame { bytes: self.packed.clone(), raw_len: clamp(raw.len()), entries: frame.entries.clone(), bases: Vec::new() })
    }

    /// Whether a sixteenth of the frame, in parts of 16 KiB, gains less than 3 %.
    fn looks_incompressible(&mut self, raw: &[u8]) -> Result<bool, FrameError> {
        if raw.len() < SAMPLE_FROM || !looks_random(raw) {
            return Ok(false);
        }
        let (mut before, mut after) = (0, 0);
        for part in sample(raw) {
            compress(&mut self.sampler, part, &mut self.packed)?;
            before += part.len();
            after += self.packed.len();
        }
        Ok(!gains(after, before))
    }
}

/// Compresses frames against a prefix and checks each by decoding it with the same prefix. Keeps its contexts and buffers.
pub struct DeltaEncoder {
    level: i32,
    compressor: zstd_safe::CCtx<'static>,
    decompressor: zstd_safe::DCtx<'static>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

impl DeltaEncoder {
    /// With a zstd level.
    ///
    /// # Errors
    /// zstd cannot allocate.
    pub fn new(level: i32) -> Result<Self, FrameError> {
        let none = || FrameError::Zstd(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        Ok(Self {
            level,
            compressor: zstd_safe::CCtx::try_create().ok_or_else(none)?,
            decompressor: zstd_safe::DCtx::try_create().ok_or_else(none)?,
            packed: Vec::new(),
            unpacked: Vec::new(),
        })
    }

    /// Encodes one frame against `prefix`, the content of `bases`. `None` where it takes more than `most` stored bytes, or
    /// where the prefix cannot be one.
    ///
    /// # Errors
    /// [`FrameError::Mismatch`] when it does not decode to the same bytes, which means bad memory.
    pub fn encode(&mut self, frame: &RawFrame, bases: &[ChunkId], prefix: &[u8], most: usize) -> Result<Option<EncodedFrame>, FrameError> {
        let raw = frame.raw.as_slice();
        if raw.len() > MAX_FRAME_RAW || !can_be_prefix(prefix) || !(1..=MAX_BASES).contains(&bases.len()) {
            return Ok(None);
        }
        self.packed.clear();
        self.packed.reserve(zstd_safe::compress_bound(raw.len()));
        self.compressor.compress_using_dict(&mut self.packed, raw, prefix, self.level).map_err(zstd_error)?;
        if self.packed.len() > most {
            return Ok(None);
        }
        decompress_with(&mut self.decompressor, &self.packed, prefix, raw.len(), &mut self.unpacked)?;
        if self.unpacked != raw {
            return Err(FrameError::Mismatch);
        }
        let encoded =
            EncodedFrame { bytes: self.packed.clone(), raw_len: clamp(raw.len()), entries: frame.entries.clone(), bases: bases.to_vec() };
        Ok(Some(encoded))
    }
}

fn can_be_prefix(prefix: &[u8]) -> bool {
    (8..=MAX_PREFIX).contains(&prefix.len()) && !prefix.starts_with(&DICTIONARY_MAGIC)
}

fn zstd_error(code: zstd_safe::ErrorCode) -> FrameError {
    FrameError::Zstd(std::io::Error::other(zstd_safe::get_error_name(code)))
}

fn decompress_with(
    context: &mut zstd_safe::DCtx<'_>,
    stored: &[u8],
    prefix: &[u8],
    raw_len: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    out.clear();
    out.reserve_exact(raw_len);
    context.decompress_using_dict(out, stored, prefix).map_err(zstd_error)?;
    Ok(())
}

/// At least 3 % smaller.
fn gains(after: usize, before: usize) -> bool {
    (after as u64) * 100 <= (before as u64) * 97
}

/// Parts of 16 KiB, spread evenly, a sixteenth of the whole.
fn sample(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.chunks(SAMPLE_STRIDE).filter_map(|stride| {
        let middle = stride.len().checked_sub(SAMPLE_PART)? / 2;
        stride.get(middle..middle + SAMPLE_PART)
    })
}

/// Whether the bytes of the sample are spread evenly enough (more than 7.5 bits a byte) to be worth sampling by
/// compression: a count of bytes is far cheaper, and settles it for text, code and most binaries.
fn looks_random(raw: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    let mut total = 0_u32;
    for byte in sample(raw).flatten() {
        #[expect(clippy::indexing_slicing, reason = "a byte always lies within 256 entries")]
        let count = &mut counts[*byte as usize];
        *count += 1;
        total += 1;
    }
    let all = f64::from(total);
    let bits: f64 = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n)).map(|n| n / all * (all / n).log2()).sum();
    bits > 7.5
}

fn compress(compressor: &mut Compressor<'_>, raw: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.clear();
    out.reserve(zstd_safe::compress_bound(raw.len()));
    compressor.compress_to_buffer(raw, out)?;
    Ok(())
}

fn decompress(decompressor: &mut Decompressor<'_>, stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.clear();
    out.reserve_exact(raw_len);
    decompressor.decompress_to_buffer(stored, out)?;
    Ok(())
}

/// A zstd frame of raw blocks (RFC 8878 §3.1.1): single segment, content size of four bytes, no checksum.
fn raw_blocks(raw: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(raw.len() + 3 * (raw.len() / ZSTD_BLOCK + 1) + 9);
    out.extend_from_slice(&MAGIC);
    out.push(0b1010_0000);
    out.extend_from_slice(&clamp(raw.len()).to_le_bytes());
    let mut blocks = raw.chunks(ZSTD_BLOCK).peekable();
    if raw.is_empty() {
        out.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let header = clamp(block.len()) << 3 | u32::from(blocks.peek().is_none());
        out.extend(header.to_le_bytes().into_iter().take(3));
        out.extend_from_slice(block);
    }
}

/// Decodes stored frames; keeps its zstd context, one per thread.
pub struct FrameDecoder {
    decompressor: Decompressor<'static>,
    /// For deltas, made with the first one.
    deltas: Option<zstd_safe::DCtx<'static>>,
}

impl FrameDecoder {
    /// A new one.
    ///
    /// # Errors
    /// zstd cannot allocate.
    pub fn new() -> Result<Self, FrameError> {
        Ok(Self { decompressor: Decompressor::new()?, deltas: None })
    }

    /// The raw bytes of a stored frame. Never more than `raw_len` bytes are allocated, and `raw_len` itself is bounded.
    ///
    /// # Errors
    /// `stored` is not exactly one zstd frame whose content size is `raw_len`, or is damaged.
    pub fn decode(&mut self, stored: &[u8], raw_len: u32) -> Result<Vec<u8>, FrameError> {
        let raw = check_shape(stored, raw_len)?;
        let mut out = Vec::new();
        decompress(&mut self.decompressor, stored, raw, &mut out)?;
        whole(out, raw_len)
    }

    /// The raw bytes of a delta frame, which was compressed against `prefix`.
    ///
    /// # Errors
    /// As [`FrameDecoder::decode`]; [`FrameError::Prefix`].
    pub fn decode_delta(&mut self, stored: &[u8], raw_len: u32, prefix: &[u8]) -> Result<Vec<u8>, FrameError> {
        let raw = check_shape(stored, raw_len)?;
        if !can_be_prefix(prefix) {
            return Err(FrameError::Prefix { bytes: prefix.len() });
        }
        let none = || FrameError::Zstd(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        let context = match &mut self.deltas {
            Some(context) => context,
            empty => empty.insert(zstd_safe::DCtx::try_create().ok_or_else(none)?),
        };
        let mut out = Vec::new();
        decompress_with(context, stored, prefix, raw, &mut out)?;
        whole(out, raw_len)
    }
}

/// Whether `stored` is one zstd frame that says that it has `raw_len` bytes.
fn check_shape(stored: &[u8], raw_len: u32) -> Result<usize, FrameError> {
    let raw = raw_len as usize;
    if raw > MAX_FRAME_RAW {
        return Err(FrameError::TooLarge { bytes: raw as u64 });
    }
    let one = stored.starts_with(&MAGIC) && zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len());
    let sized = matches!(zstd_safe::get_frame_content_size(stored), Ok(Some(size)) if size == u64::from(raw_len));
    if one && sized { Ok(raw) } else { Err(FrameError::Shape { raw: raw_len }) }
}

fn whole(out: Vec<u8>, raw_len: u32) -> Result<Vec<u8>, FrameError> {
    if out.len() == raw_len as usize { Ok(out) } else { Err(FrameError::Shape { raw: raw_len }) }
}

#[cfg(test)]
mod tests;
