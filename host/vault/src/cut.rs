//! A stream of bytes into chunks, each byte read once and hashed once.

use crate::chunk::{Chunker, Seen};
use havun_model::{ChunkId, Digest};
use sha2::{Digest as _, Sha256};

/// Cuts a stream. Feed it with [`Cutter::space`] and [`Cutter::filled`], take chunks with [`Cutter::next`].
pub(crate) struct Cutter<'c> {
    chunker: &'c Chunker,
    /// How far the chunk under way was looked at: no byte is looked at twice.
    seen: Seen,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    whole: WholeHash,
}

/// Bytes asked of the source at a time.
const READ_BYTES: usize = 1 << 20;

/// SHA-256 over all chunks, at no cost where there is only one: the first chunk's hash is its beginning.
#[derive(Default)]
struct WholeHash {
    hasher: Sha256,
    chunks: u64,
}

impl<'c> Cutter<'c> {
    pub fn new(chunker: &'c Chunker) -> Self {
        Self { chunker, seen: Seen::default(), buffer: Vec::new(), start: 0, end: 0, whole: WholeHash::default() }
    }

    /// Forgets what it holds, keeps its buffer.
    pub fn reset(&mut self) {
        (self.start, self.end, self.whole, self.seen) = (0, 0, WholeHash::default(), Seen::default());
    }

    /// Room for more input.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.chunker.max() + READ_BYTES;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        if self.start > 0 && self.end + READ_BYTES > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let until = (self.end + READ_BYTES).min(self.buffer.len());
        self.buffer.get_mut(self.end..until).unwrap_or_default()
    }

    /// `count` bytes were written to the beginning of [`Cutter::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next chunk and its id; `None` when more input is needed, or at the end when nothing is left.
    pub fn next(&mut self, at_end: bool) -> Option<(ChunkId, &[u8])> {
        let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
        if pending.is_empty() {
            return None;
        }
        let len = self.chunker.resume(&mut self.seen, pending, at_end)?;
        let from = self.start;
        self.start += len;
        let chunk = self.buffer.get(from..from + len).unwrap_or_default();
        Some((self.whole.add(chunk), chunk))
    }

    /// SHA-256 of everything, where it was more than one chunk.
    pub fn whole_hash(&self) -> Option<Digest> {
        (self.whole.chunks > 1).then(|| Digest::from_bytes(self.whole.hasher.clone().finalize().into()))
    }
}

impl WholeHash {
    fn add(&mut self, chunk: &[u8]) -> ChunkId {
        self.chunks += 1;
        self.hasher.update(chunk);
        if self.chunks == 1 {
            return ChunkId::from_bytes(self.hasher.clone().finalize().into());
        }
        ChunkId::from_bytes(Sha256::digest(chunk).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkProfile, Gear};

    fn cut(chunker: &Chunker, bytes: &[u8], step: usize) -> (Vec<(ChunkId, usize)>, Option<Digest>) {
        let mut cutter = Cutter::new(chunker);
        let mut chunks = Vec::new();
        for part in bytes.chunks(step) {
            let mut rest = part;
            while !rest.is_empty() {
                let space = cutter.space();
                let n = space.len().min(rest.len());
                space[..n].copy_from_slice(&rest[..n]);
                cutter.filled(n);
                rest = &rest[n..];
                while let Some((id, chunk)) = cutter.next(false) {
                    chunks.push((id, chunk.len()));
                }
            }
        }
        while let Some((id, chunk)) = cutter.next(true) {
            chunks.push((id, chunk.len()));
        }
        let whole = cutter.whole_hash();
        (chunks, whole)
    }

    #[test]
    fn chunks_and_hash_do_not_depend_on_how_the_bytes_come() {
        let chunker = Chunker::new(&Gear::derive(&[7; 32]), ChunkProfile { min: 65536, avg: 262144, max: 1 << 20 });
        let mut state = 1u64;
        let bytes: Vec<u8> = (0..3_000_000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let (chunks, whole) = cut(&chunker, &bytes, 3_000_000);
        assert!(chunks.len() > 3);
        assert_eq!(chunks.iter().map(|c| c.1).sum::<usize>(), bytes.len());
        assert_eq!(whole, Some(Digest::from_bytes(Sha256::digest(&bytes).into())));
        for step in [1777, 65536, 1 << 20] {
            assert_eq!(cut(&chunker, &bytes, step), (chunks.clone(), whole));
        }
        let (one, whole) = cut(&chunker, &bytes[..1000], 1000);
        assert_eq!((one.len(), whole), (1, None));
        assert_eq!(one[0].0, ChunkId::from_bytes(Sha256::digest(&bytes[..1000]).into()));
    }
}
