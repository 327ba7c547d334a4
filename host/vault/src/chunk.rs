//! Cutting bytes into chunks: FastCDC with normalised chunking of level 2, over a keyed gear table.
//!
//! The algorithm is part of the format: where it cuts decides what deduplicates, so it is our own, and golden vectors
//! in the tests hold it. `docs/FORMAT.md` says it in words; [`Chunker::cut`] is the whole of it.
//!
//! Source: Xia et al., "FastCDC", USENIX ATC 2016, and its 2020 successor for the normalisation.

use crate::seal::hkdf_expand;
use havun_model::ChunkId;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The id of a chunk: SHA-256 of its plaintext.
pub fn chunk_id(bytes: &[u8]) -> ChunkId {
    ChunkId::from_bytes(Sha256::digest(bytes).into())
}

/// Sizes in bytes. Every chunk of a stream but its last has `min` to `max` bytes, about `avg` on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkProfile {
    /// No cut before this.
    pub min: u32,
    /// Where the condition for a cut becomes an easier one; a power of two (else the next lower one sets the masks).
    pub avg: u32,
    /// A cut at the latest here.
    pub max: u32,
}

impl ChunkProfile {
    /// For files: 256 KiB, 1 MiB, 4 MiB.
    pub const FILES: Self = Self { min: 256 << 10, avg: 1 << 20, max: 4 << 20 };
    /// For database dumps, in which changes are spread out: 64 KiB, 256 KiB, 1 MiB.
    pub const DUMPS: Self = Self { min: 64 << 10, avg: 256 << 10, max: 1 << 20 };
}

/// One random number for each value of a byte; secret, because where a stream is cut tells of its content.
#[derive(Clone)]
pub struct Gear(Box<Zeroizing<[u64; 256]>>);

impl Gear {
    /// From the epoch's key, or from the vault id where encryption is off: HKDF-Expand-SHA-512 with the info
    /// `havun-backup/v1/gear`, 2048 bytes, read as 256 numbers of 64 bits, little endian.
    pub fn derive(key: &[u8; 32]) -> Self {
        let mut bytes = Zeroizing::new([0_u8; 2048]);
        hkdf_expand(key, &[b"havun-backup/v1/gear"], bytes.as_mut_slice());
        let mut table = Box::new(Zeroizing::new([0_u64; 256]));
        for (to, from) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *to = u64::from_le_bytes(*from);
        }
        Self(table)
    }
}

/// How far into a chunk [`Chunker::resume`] has looked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    bytes: usize,
    fingerprint: u64,
}

/// Finds where chunks end.
#[derive(Clone)]
pub struct Chunker {
    gear: Gear,
    min: usize,
    avg: usize,
    max: usize,
    /// A cut before `avg` needs a fingerprint below this: log2(avg) + 2 leading zero bits.
    hard: u64,
    /// A cut after `avg` needs a fingerprint below this: log2(avg) - 2 leading zero bits.
    easy: u64,
}

impl Chunker {
    /// A chunker for streams of one profile. Sizes out of order are taken as `min ≤ avg ≤ max`, and `avg` as 256 at
    /// least.
    pub fn new(gear: &Gear, profile: ChunkProfile) -> Self {
        let avg = profile.avg.max(256);
        let bits = avg.ilog2();
        Self {
            gear: gear.clone(),
            min: profile.min.min(avg) as usize,
            avg: avg as usize,
            max: profile.max.max(avg) as usize,
            hard: 1 << (64 - (bits + 2)),
            easy: 1 << (64 - (bits - 2)),
        }
    }

    /// The largest chunk, in bytes: with so many in the buffer, [`Chunker::cut`] always finds an end.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Length of the chunk that `buf` begins with. `None`: more bytes are needed, or there are none and `at_end`.
    ///
    /// The answer depends on the chunk's own bytes only. Each call looks from the beginning, so give it
    /// [`Chunker::max`] bytes or all that there are, or use [`Chunker::resume`].
    pub fn cut(&self, buf: &[u8], at_end: bool) -> Option<usize> {
        self.resume(&mut Seen::default(), buf, at_end)
    }

    /// As [`Chunker::cut`], but goes on where the call before left off: `buf` is the same chunk's beginning with more
    /// bytes behind it. When an end is found `seen` is fresh again.
    pub fn resume(&self, seen: &mut Seen, buf: &[u8], at_end: bool) -> Option<usize> {
        let window = buf.get(..self.max).unwrap_or(buf);
        let found = self.scan_to(seen, window.len().min(self.avg), window, self.hard);
        let found = found.or_else(|| self.scan_to(seen, window.len(), window, self.easy));
        let whole = !window.is_empty() && (at_end || window.len() == self.max);
        let found = found.or(whole.then_some(window.len()));
        if found.is_some() {
            *seen = Seen::default();
        }
        found
    }

    /// Looks at the bytes before `until` that were not seen yet.
    fn scan_to(&self, seen: &mut Seen, until: usize, window: &[u8], limit: u64) -> Option<usize> {
        let from = seen.bytes.max(self.min);
        let fresh = window.get(from..until)?;
        seen.bytes = until;
        self.scan(&mut seen.fingerprint, fresh, limit).map(|at| from + at)
    }

    /// Number of bytes up to and with the first after which the fingerprint is below `limit`.
    #[inline]
    fn scan(&self, fingerprint: &mut u64, bytes: &[u8], limit: u64) -> Option<usize> {
        let table: &[u64; 256] = &self.gear.0;
        let mut fp = *fingerprint;
        let (groups, rest) = bytes.as_chunks::<16>();
        for (number, group) in groups.iter().enumerate() {
            for (place, byte) in group.iter().enumerate() {
                fp = (fp << 1).wrapping_add(gear_of(table, *byte));
                if fp < limit {
                    return Some(number * 16 + place + 1);
                }
            }
        }
        for (place, byte) in rest.iter().enumerate() {
            fp = (fp << 1).wrapping_add(gear_of(table, *byte));
            if fp < limit {
                return Some(groups.len() * 16 + place + 1);
            }
        }
        *fingerprint = fp;
        None
    }
}

#[inline(always)]
fn gear_of(table: &[u64; 256], byte: u8) -> u64 {
    #[expect(clippy::indexing_slicing, reason = "a byte always lies within 256 entries")]
    table[byte as usize]
}

#[cfg(test)]
mod tests;
