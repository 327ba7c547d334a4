//! Writing a manifest, reusing the leaves of the one before.

use super::{ChunkSink, ChunkSource, ListLine, ManifestError, ends_after, lines, reader::list_leaves};
use crate::{
    entry::{Entry, EntryKind},
    paths::{compare_paths, escape, unescape},
    state::StateRow,
};
use havun_model::{ChunkId, ManifestRoot};
use serde::Deserialize;
use std::{borrow::Cow, cmp::Ordering, ops::Range};

/// Where an entry stands: which leaf, and which line of it, both from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Number of the leaf.
    pub leaf: u32,
    /// Number of the line in it.
    pub index: u32,
}

/// Writes one manifest. Entries come in strictly ascending path order.
///
/// The result does not depend on whether leaves were reused: it is what writing every entry anew would give.
#[must_use = "a manifest is stored only by `finish`"]
pub struct ManifestWriter<S, R> {
    sink: S,
    old: Option<OldManifest<R>>,
    /// 0 holds the open leaf, each higher one the open list of what is below.
    levels: Vec<Level>,
    pending: Option<Pending>,
    last: Vec<u8>,
    entries: u64,
    bytes: u64,
}

/// Unchanged rows from the start of an old leaf on: nothing of it has been read so far.
struct Pending {
    leaf: usize,
    rows: u64,
}

#[derive(Default)]
struct Level {
    text: Vec<u8>,
    first: String,
    lines: u64,
    entries: u64,
    /// Parts that ended before the open one.
    ended: u64,
}

impl<S, R> ManifestWriter<S, R>
where
    S: ChunkSink,
    R: ChunkSource<Error = S::Error>,
{
    /// A writer into `sink`; `old` is the manifest that the file-state cache belongs to. Its lists are read at
    /// once, its leaves when they cannot be reused as they are.
    ///
    /// # Errors
    /// When the lists of `old` cannot be read.
    pub fn new(sink: S, old: Option<(&ManifestRoot, R)>) -> Result<Self, S::Error> {
        let old = old.map(|(root, source)| OldManifest::load(root, source)).transpose()?;
        Ok(Self { sink, old, levels: vec![Level::default()], pending: None, last: Vec::new(), entries: 0, bytes: 0 })
    }

    /// Adds an entry; returns where it stands, for the file-state cache.
    ///
    /// # Errors
    /// When it is out of order, or the store fails.
    pub fn entry(&mut self, entry: &Entry) -> Result<Position, S::Error> {
        self.check_order(&entry.path)?;
        self.settle()?;
        let position = self.position();
        if let Some(leaf) = self.levels.first_mut() {
            entry.to_line(&mut leaf.text);
        }
        self.added_line(0, &escape(&entry.path), 1)?;
        let bytes = if entry.kind == EntryKind::File { entry.size } else { 0 };
        self.count(&entry.path, bytes);
        Ok(position)
    }

    /// Adds the old manifest's entry for `path` as it is; `row` is its row in the file-state cache.
    ///
    /// # Errors
    /// When it is out of order, the old leaf cannot be read or has something else there, or the store fails.
    pub fn unchanged(&mut self, path: &[u8], row: &StateRow) -> Result<Position, S::Error> {
        self.check_order(path)?;
        let leaf = row.position.leaf as usize;
        let position = if self.extends_pending(leaf, row.position.index) {
            self.extend_pending(leaf, path)?
        } else {
            self.settle()?;
            let position = self.position();
            self.copy_line(leaf, row.position.index as usize, path)?;
            position
        };
        self.count(path, row.size);
        Ok(position)
    }

    /// Writes what is open and returns the root.
    ///
    /// # Errors
    /// When the store fails.
    pub fn finish(mut self) -> Result<ManifestRoot, S::Error> {
        match self.pending.take() {
            Some(pending) if self.old_leaf(pending.leaf)?.entries == pending.rows => self.reuse(pending.leaf)?,
            other => {
                self.pending = other;
                self.settle()?;
            }
        }
        let (chunk, depth) = self.close()?;
        Ok(ManifestRoot { chunk, depth, entries: self.entries, bytes: self.bytes })
    }

    fn check_order(&self, path: &[u8]) -> Result<(), ManifestError> {
        if self.entries > 0 && compare_paths(&self.last, path) != Ordering::Less {
            let (path, before) = (escape(path).into_owned(), escape(&self.last).into_owned());
            return Err(ManifestError::Order { path, before });
        }
        Ok(())
    }

    fn count(&mut self, path: &[u8], bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
        self.last.clear();
        self.last.extend_from_slice(path);
    }

    fn position(&self) -> Position {
        let lines = self.pending.as_ref().map(|p| p.rows);
        let (ended, open) = self.levels.first().map_or((0, 0), |leaf| (leaf.ended, leaf.lines));
        Position { leaf: ended as u32, index: lines.unwrap_or(open) as u32 }
    }

    /// Whether the row is the next of the old leaf under way, or the first of one where a new leaf begins.
    fn extends_pending(&self, leaf: usize, index: u32) -> bool {
        let fits = |old: &OldManifest<R>| old.leaves.get(leaf).is_some_and(|l| u64::from(index) < l.entries);
        let next = match &self.pending {
            Some(pending) => pending.leaf == leaf && pending.rows == u64::from(index),
            None => index == 0 && self.levels.first().is_some_and(|open| open.lines == 0),
        };
        next && self.old.as_ref().is_some_and(fits)
    }

    fn extend_pending(&mut self, leaf: usize, path: &[u8]) -> Result<Position, S::Error> {
        let position = self.position();
        let pending = self.pending.get_or_insert(Pending { leaf, rows: 0 });
        pending.rows += 1;
        let rows = pending.rows;
        let old = self.old_leaf(leaf)?;
        if rows == 1 && old.first != escape(path) {
            return Err(ManifestError::Stale { path: escape(path).into_owned() }.into());
        }
        // The last leaf of a manifest ends where the entries did; it may go on now, so it stays pending.
        if rows == old.entries && ends_after(old.bytes as usize, &escape(path)) {
            self.pending = None;
            self.reuse(leaf)?;
        }
        Ok(position)
    }

    fn old_leaf(&self, leaf: usize) -> Result<&ListLine, ManifestError> {
        let line = self.old.as_ref().and_then(|old| old.leaves.get(leaf));
        line.ok_or_else(|| ManifestError::Stale { path: escape(&self.last).into_owned() })
    }

    fn reuse(&mut self, leaf: usize) -> Result<(), S::Error> {
        let line = self.old_leaf(leaf)?.clone();
        self.sink.keep(&line.chunk)?;
        if let Some(level) = self.levels.first_mut() {
            level.ended += 1;
        }
        self.add_list_line(1, &line)
    }

    /// Turns a pending run of rows, which will not become a whole leaf, into lines of the open leaf.
    fn settle(&mut self) -> Result<(), S::Error> {
        let (Some(pending), Some(old)) = (self.pending.take(), self.old.as_mut()) else { return Ok(()) };
        let text = old.lines(pending.leaf, 0..pending.rows as usize)?;
        if let Some(open) = self.levels.first_mut() {
            open.text.extend_from_slice(text);
            // The lines are the start of a leaf that the same rule cut: only its last line can end it.
            open.lines = pending.rows.saturating_sub(1);
            open.entries = open.lines;
            open.first = old.leaves.get(pending.leaf).map(|l| l.first.clone()).unwrap_or_default();
        }
        let last = escape(&self.last).into_owned();
        self.added_line(0, &last, 1)
    }

    fn copy_line(&mut self, leaf: usize, index: usize, path: &[u8]) -> Result<(), S::Error> {
        let stale = || ManifestError::Stale { path: escape(path).into_owned() };
        let line = self.old.as_mut().ok_or_else(stale)?.lines(leaf, index..index.saturating_add(1))?;
        if path_of_line(line).as_deref() != Some(path) {
            return Err(stale().into());
        }
        if let Some(open) = self.levels.first_mut() {
            open.text.extend_from_slice(line);
        }
        self.added_line(0, &escape(path), 1)
    }

    /// Books the line that was appended to the open part of `level`, and ends the part where the rule says so.
    fn added_line(&mut self, level: usize, path: &str, entries: u64) -> Result<(), S::Error> {
        let Some(open) = self.levels.get_mut(level) else { return Ok(()) };
        if open.lines == 0 {
            path.clone_into(&mut open.first);
        }
        open.lines += 1;
        open.entries += entries;
        let enough_lines = level == 0 || open.lines > 1;
        if enough_lines && ends_after(open.text.len(), path) { self.end(level) } else { Ok(()) }
    }

    fn add_list_line(&mut self, level: usize, line: &ListLine) -> Result<(), S::Error> {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Level::default);
        }
        if let Some(open) = self.levels.get_mut(level) {
            line.to_line(&mut open.text);
        }
        self.added_line(level, &line.first, line.entries)
    }

    /// Stores the open part of `level` and lists it one level up.
    fn end(&mut self, level: usize) -> Result<(), S::Error> {
        let Some(open) = self.levels.get_mut(level) else { return Ok(()) };
        let chunk = self.sink.put(&open.text)?;
        let line = ListLine { chunk, entries: open.entries, bytes: open.text.len() as u64, first: std::mem::take(&mut open.first) };
        open.text.clear();
        (open.lines, open.entries) = (0, 0);
        open.ended += 1;
        self.add_list_line(level + 1, &line)
    }

    /// Ends every level until one chunk is left.
    fn close(&mut self) -> Result<(ChunkId, u32), S::Error> {
        let mut level = 0;
        while let Some(open) = self.levels.get(level) {
            let only = open.ended == 0;
            if level > 0 && only && open.lines == 1 {
                // One part below and nothing beside it: that part is the root.
                if let Some(line) = lines(&open.text).next() {
                    let line = ListLine::from_line(line).map_err(|source| ManifestError::List { chunk: NO_CHUNK, line: 1, source })?;
                    return Ok((line.chunk, level as u32 - 1));
                }
            }
            if only {
                return Ok((self.sink.put(&open.text)?, level as u32));
            }
            if open.lines > 0 {
                self.end(level)?;
            }
            level += 1;
        }
        Ok((self.sink.put(&[])?, 0))
    }
}

const NO_CHUNK: ChunkId = ChunkId::from_bytes([0; 32]);

/// The path of an entry's line, whatever else the line holds.
fn path_of_line(line: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct PathOnly<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
    }
    let line: PathOnly<'_> = serde_json::from_slice(line).ok()?;
    unescape(&line.path).ok()
}

/// The leaves of the manifest before, and the text of the one that was read last.
struct OldManifest<R> {
    source: R,
    leaves: Vec<ListLine>,
    read: Option<ReadLeaf>,
}

struct ReadLeaf {
    leaf: usize,
    text: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl<R: ChunkSource> OldManifest<R> {
    fn load(root: &ManifestRoot, source: R) -> Result<Self, R::Error> {
        let leaves = list_leaves(root, &source)?;
        Ok(Self { source, leaves, read: None })
    }

    /// The text of some lines of a leaf, with their line feeds.
    fn lines(&mut self, leaf: usize, wanted: Range<usize>) -> Result<&[u8], R::Error> {
        if self.read.as_ref().is_none_or(|read| read.leaf != leaf) {
            self.read = Some(self.read_leaf(leaf)?);
        }
        let stale = || ManifestError::Stale { path: format!("line {} of leaf {leaf}", wanted.end) };
        let read = self.read.as_ref().ok_or_else(stale)?;
        let start = match wanted.start {
            0 => 0,
            n => *read.ends.get(n - 1).ok_or_else(stale)?,
        };
        let end = match wanted.end {
            0 => 0,
            n => *read.ends.get(n - 1).ok_or_else(stale)?,
        };
        Ok(read.text.get(start..end).ok_or_else(stale)?)
    }

    fn read_leaf(&self, leaf: usize) -> Result<ReadLeaf, R::Error> {
        let line = self.leaves.get(leaf).ok_or_else(|| ManifestError::Stale { path: format!("leaf {leaf}") })?;
        let text = self.source.get(&line.chunk)?;
        let ends: Vec<usize> = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        if ends.len() as u64 != line.entries {
            return Err(ManifestError::Count { chunk: line.chunk }.into());
        }
        Ok(ReadLeaf { leaf, text, ends })
    }
}
