//! Reading a snapshot's manifest and single entries of it.

use crate::{
    entry::{Entry, EntryKind},
    error::VaultError,
    index::Index,
    manifest::ListLine,
    open::Vault,
    reader::ChunkReader,
};
use havun_model::{ChunkId, Snapshot};
use std::{collections::BTreeSet, io::Write, sync::Arc};

/// Zeros for the holes of sparse files.
const ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// The entries of a snapshot in path order. A damaged part of the manifest is one `Err`; what follows it still comes.
pub struct Entries<'v> {
    reader: ChunkReader<'v>,
    stack: Vec<List>,
}

/// Lines of one list or leaf that are still to come.
struct List {
    lines: Vec<u8>,
    at: usize,
    depth: u32,
}

impl Vault {
    /// The index of the snapshot's epoch, packs without an index object included.
    pub(crate) fn reading_index(&self, epoch: &str) -> Result<Arc<Index>, VaultError> {
        let loaded = self.load_index(epoch, false, &BTreeSet::new())?;
        for bad in &loaded.bad {
            tracing::warn!(object = %bad.object, what = %bad.what, "a damaged object was passed over");
        }
        Ok(Arc::new(loaded.index))
    }

    /// The entries of a snapshot in path order.
    ///
    /// # Errors
    /// The store's. Damage comes as items of the iterator.
    pub fn entries(&self, snapshot: &Snapshot) -> Result<Entries<'_>, VaultError> {
        let index = self.reading_index(&snapshot.epoch)?;
        self.entries_with(snapshot, index)
    }

    pub(crate) fn entries_with(&self, snapshot: &Snapshot, index: Arc<Index>) -> Result<Entries<'_>, VaultError> {
        let reader = ChunkReader::new(self, &snapshot.epoch, index)?;
        let root = format!("{{\"chunk\":\"{}\",\"entries\":0,\"bytes\":0,\"first\":\"\"}}\n", snapshot.manifest.chunk);
        // A list of one line stands for the root, so that every list is read the same way.
        let stack = vec![List { lines: root.into_bytes(), at: 0, depth: snapshot.manifest.depth + 1 }];
        Ok(Entries { reader, stack })
    }

    /// A reader of file contents for one snapshot; make one and use it for many entries.
    ///
    /// # Errors
    /// The store's.
    pub fn contents(&self, snapshot: &Snapshot) -> Result<Contents<'_>, VaultError> {
        let index = self.reading_index(&snapshot.epoch)?;
        Ok(Contents { reader: ChunkReader::new(self, &snapshot.epoch, index)? })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, VaultError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let list = self.stack.last_mut()?;
            let rest = list.lines.get(list.at..).unwrap_or_default();
            if rest.is_empty() {
                self.stack.pop();
                continue;
            }
            let len = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let line = rest.get(..len).unwrap_or_default();
            list.at += len + 1;
            if list.depth == 0 {
                return Some(Entry::from_line(line).map_err(|e| damaged_line(&e.to_string())));
            }
            let (depth, inner) = (list.depth - 1, ListLine::from_line(line));
            let read = match inner {
                Ok(inner) => self.reader.chunk(&inner.chunk),
                Err(error) => Err(damaged_line(&error.to_string())),
            };
            match read {
                Ok(lines) => self.stack.push(List { lines, at: 0, depth }),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn damaged_line(why: &str) -> VaultError {
    VaultError::Damaged { object: "a part of the manifest".to_owned(), what: why.to_owned() }
}

/// Reads the content of files, chunk by chunk.
pub struct Contents<'v> {
    reader: ChunkReader<'v>,
}

impl Contents<'_> {
    /// Writes the content of a regular file to `out`, each chunk verified before it is written; holes as zeros.
    /// Writes nothing for any other kind.
    ///
    /// # Errors
    /// A missing or damaged chunk; what was written before it is right. `out`'s own error as [`VaultError::Path`].
    pub fn write(&mut self, entry: &Entry, out: &mut dyn Write) -> Result<(), VaultError> {
        if entry.kind != EntryKind::File {
            return Ok(());
        }
        let broken = |source| VaultError::Path { path: "the output".into(), source };
        let mut layout = SparseLayout::of(entry);
        for id in &entry.chunks {
            let bytes = self.chunk(id)?;
            for (zeros, part) in layout.place(&bytes) {
                write_zeros(out, zeros).map_err(broken)?;
                out.write_all(part).map_err(broken)?;
            }
        }
        write_zeros(out, layout.tail()).map_err(broken)
    }

    /// The verified bytes of one chunk.
    ///
    /// # Errors
    /// A missing or damaged chunk.
    pub fn chunk(&mut self, id: &ChunkId) -> Result<Vec<u8>, VaultError> {
        self.reader.chunk(id)
    }
}

/// Where the concatenated data of a file goes.
struct SparseLayout {
    ranges: Vec<(u64, u64)>,
    range: usize,
    used: u64,
    at: u64,
    size: u64,
}

impl SparseLayout {
    fn of(entry: &Entry) -> Self {
        let ranges = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        Self { ranges, range: 0, used: 0, at: 0, size: entry.size }
    }

    /// Splits a chunk at the holes: how many zeros come before each part.
    fn place<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<(u64, &'b [u8])> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let Some((offset, len)) = self.ranges.get(self.range).copied() else { break };
            let room = usize::try_from(len.saturating_sub(self.used)).unwrap_or(usize::MAX).min(bytes.len());
            let (part, rest) = bytes.split_at(room);
            if !part.is_empty() {
                let start = offset + self.used;
                parts.push((start.saturating_sub(self.at), part));
                self.used += room as u64;
                self.at = start + room as u64;
            }
            if self.used >= len {
                self.range += 1;
                self.used = 0;
            }
            bytes = rest;
        }
        parts
    }

    fn tail(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }
}

fn write_zeros(out: &mut dyn Write, mut count: u64) -> std::io::Result<()> {
    while count > 0 {
        let len = usize::try_from(count.min(ZEROS.len() as u64)).unwrap_or(ZEROS.len());
        out.write_all(ZEROS.get(..len).unwrap_or(&ZEROS))?;
        count -= len as u64;
    }
    Ok(())
}
