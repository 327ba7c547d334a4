//! The file-state cache: what each file looked like when it was last read whole, and where its entry stands in the
//! manifest. It saves reading files; losing it costs time, never data.
//!
//! One file, rows in path order, in blocks that begin with the SHA-256 of their bytes, so that a flipped bit makes
//! files look changed and never unchanged. Device numbers are not kept: they change at a reboot, and ctime, inode,
//! size and mtime together do not repeat.

mod format;
mod reader;
mod writer;

pub use reader::StateReader;
pub use writer::StateWriter;

use crate::{entry::Time, manifest::Position, metadata::FileStat};
use havun_model::ChunkId;
use std::{io, path::PathBuf};

/// A file whose ctime is not at least this many seconds (of whole seconds) before it was read is not written as clean.
/// Clocks of file systems are a few milliseconds coarse; the rest is for a server whose clock is a little ahead.
pub const RACY_SECS: i64 = 2;

/// Why a cache could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the file-state cache {}", path.display())]
pub struct StateError {
    /// The cache.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What a cache belongs to; another key means no cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateKey {
    /// The vault's id.
    pub vault_id: String,
    /// Root of the manifest that the positions refer to. Not the snapshot's id: a run in which nothing changed
    /// makes a new snapshot with the same manifest, and need not write the cache anew.
    pub manifest: ChunkId,
    /// SHA-256 over everything else that decides which entry a file gets: the root and the plan's tree items.
    pub plan: [u8; 32],
}

/// One file of the cache, without its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateRow {
    /// Logical bytes of a regular file, else 0.
    pub size: u64,
    /// Last modification.
    pub mtime: Time,
    /// Last change of content or metadata.
    pub ctime: Time,
    /// Inode number.
    pub ino: u64,
    /// [`crate::paths::link_hash`] of the hard-link group's first path; 0 for none.
    pub link: u64,
    /// Where its entry stands in the manifest.
    pub position: Position,
}

impl StateRow {
    /// The row of a file that was read whole when it looked like `stat`.
    pub fn of(stat: &FileStat, link: u64, position: Position) -> Self {
        Self { size: stat.size, mtime: stat.mtime, ctime: stat.ctime, ino: stat.ino, link, position }
    }

    /// Whether the file is as it was: its entry can be taken over without reading it.
    pub fn matches(&self, stat: &FileStat, link: u64) -> bool {
        self.link == link && self.ino == stat.ino && self.ctime == stat.ctime && self.mtime == stat.mtime && self.size == stat.size
    }
}

#[cfg(test)]
mod tests;
