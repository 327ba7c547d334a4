//! The manifest: one path-sorted list of entries for each snapshot, cut into leaves, with lists of leaves above.
//!
//! A leaf is JSON Lines text. It ends after an entry once it holds [`MIN_BYTES`] and the hash of that entry's path
//! says so, or once it holds [`MAX_BYTES`]: where a leaf ends depends on nothing behind it, so that an insertion
//! changes one leaf or two. Lists of [`ListLine`]s are cut alike, by the hash of each line's `first`, with two
//! lines at least, until one chunk is left.
//!
//! Read [`ManifestWriter`] (which reuses the leaves of the snapshot before without reading them), then
//! [`ManifestReader`].

mod reader;
mod writer;

pub use reader::ManifestReader;
pub use writer::{ManifestWriter, Position};

use crate::{
    entry::{EntryError, push_hex, push_text},
    paths::path_hash,
};
use havun_model::ChunkId;
use serde::Deserialize;
use std::io::Write as _;

/// No leaf or list ends before it holds this many bytes (but the last).
pub const MIN_BYTES: usize = 8 << 10;
/// A leaf or list ends as soon as it holds this many bytes.
pub const MAX_BYTES: usize = 128 << 10;
/// Between the two it ends where the lowest byte of the path's hash is below this: 3 in 256, about 24 KiB on.
const CUT_BELOW: u64 = 3;

/// Where chunks of the manifest go.
pub trait ChunkSink {
    /// What can go wrong.
    type Error: From<ManifestError>;

    /// Stores a chunk, or finds that it is there.
    ///
    /// # Errors
    /// As the store says.
    fn put(&mut self, plain: &[u8]) -> Result<ChunkId, Self::Error>;

    /// A leaf of the snapshot before is part of the new manifest too; called once for each, in order.
    ///
    /// # Errors
    /// When the chunk cannot be relied on.
    fn keep(&mut self, _id: &ChunkId) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Where chunks of the manifest come from.
pub trait ChunkSource {
    /// What can go wrong.
    type Error: From<ManifestError>;

    /// The plaintext of a chunk, verified.
    ///
    /// # Errors
    /// When it is missing or damaged.
    fn get(&self, id: &ChunkId) -> Result<Vec<u8>, Self::Error>;
}

impl<S: ChunkSink + ?Sized> ChunkSink for &mut S {
    type Error = S::Error;

    fn put(&mut self, plain: &[u8]) -> Result<ChunkId, S::Error> {
        (**self).put(plain)
    }

    fn keep(&mut self, id: &ChunkId) -> Result<(), S::Error> {
        (**self).keep(id)
    }
}

impl<S: ChunkSource + ?Sized> ChunkSource for &S {
    type Error = S::Error;

    fn get(&self, id: &ChunkId) -> Result<Vec<u8>, S::Error> {
        (**self).get(id)
    }
}

/// A manifest that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A line of a leaf is no entry.
    #[error("line {line} of manifest leaf {chunk} is damaged")]
    Entry {
        /// The leaf.
        chunk: ChunkId,
        /// From 1.
        line: usize,
        /// Why.
        source: EntryError,
    },
    /// A line of a list is no [`ListLine`].
    #[error("line {line} of manifest list {chunk} is damaged")]
    List {
        /// The list.
        chunk: ChunkId,
        /// From 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A leaf or list has other entries than the list above it says.
    #[error("manifest part {chunk} has not the entries that the list above it says")]
    Count {
        /// The leaf or list.
        chunk: ChunkId,
    },
    /// Lists are nested deeper than any manifest can be.
    #[error("the manifest claims {depth} levels of lists")]
    Depth {
        /// The claim.
        depth: u32,
    },
    /// Entries do not ascend in path order.
    #[error("`{path}` does not come after `{before}` in path order")]
    Order {
        /// The entry's path.
        path: String,
        /// The one before it.
        before: String,
    },
    /// A row of the file-state cache names a place where the old manifest has something else.
    #[error("the manifest before has no entry `{path}` where the file-state cache says")]
    Stale {
        /// The row's path.
        path: String,
    },
}

/// One line of a list: a leaf, or a list one level down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListLine {
    /// The chunk that holds it.
    pub chunk: ChunkId,
    /// Entries in it and beneath it.
    pub entries: u64,
    /// Bytes of the chunk.
    pub bytes: u64,
    /// Path of its first entry, in text form ([`crate::paths::escape`]).
    pub first: String,
}

impl ListLine {
    /// Appends it as a line of JSON with its line feed.
    pub fn to_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"chunk\":");
        push_hex(out, self.chunk.as_bytes());
        let _writing_to_memory_cannot_fail = write!(out, ",\"entries\":{},\"bytes\":{},\"first\":", self.entries, self.bytes);
        push_text(out, &self.first);
        out.extend_from_slice(b"}\n");
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no such line; no input panics.
    pub fn from_line(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// Whether a leaf or list of `bytes` ends after the line with this path (in text form).
fn ends_after(bytes: usize, path: &str) -> bool {
    bytes >= MAX_BYTES || (bytes >= MIN_BYTES && path_hash(path) % 256 < CUT_BELOW)
}

/// The lines of a leaf or list, without their line feeds.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

#[cfg(test)]
mod tests;
