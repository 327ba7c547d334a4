//! Reading a manifest: all of it, or what lies beneath a path.

use super::{ChunkSource, ListLine, ManifestError, lines};
use crate::{
    entry::Entry,
    paths::{compare_paths, escape, is_within, unescape},
};
use havun_model::{ChunkId, ManifestRoot};
use std::cmp::Ordering;

/// No manifest is deeper: each level has at most half the parts of the one below.
const MAX_DEPTH: u32 = 40;

/// Yields the entries of a manifest in path order.
///
/// A part that cannot be read, or a damaged line, is one error; iteration goes on behind it, so that what is whole
/// can be restored.
pub struct ManifestReader<R> {
    source: R,
    stack: Vec<Part>,
    last: Option<Vec<u8>>,
    prefix: Vec<u8>,
    ended: bool,
}

/// A leaf or list that is being read.
struct Part {
    chunk: ChunkId,
    /// Lists between it and the leaves, itself counted.
    depth: u32,
    text: Vec<u8>,
    at: usize,
    line: usize,
}

impl<R: ChunkSource> ManifestReader<R> {
    /// A reader of everything.
    ///
    /// # Errors
    /// When the top part cannot be read.
    pub fn new(root: &ManifestRoot, source: R) -> Result<Self, R::Error> {
        Self::beneath(root, source, b"")
    }

    /// A reader of `prefix` itself and everything beneath it; parts that hold nothing of it are not read.
    ///
    /// # Errors
    /// When the top part cannot be read.
    pub fn beneath(root: &ManifestRoot, source: R, prefix: &[u8]) -> Result<Self, R::Error> {
        if root.depth > MAX_DEPTH {
            return Err(ManifestError::Depth { depth: root.depth }.into());
        }
        let top = Part { chunk: root.chunk, depth: root.depth, text: source.get(&root.chunk)?, at: 0, line: 0 };
        Ok(Self { source, stack: vec![top], last: None, prefix: prefix.to_vec(), ended: false })
    }

    /// The leaves instead of the entries, in order; lists are read, leaves are not.
    pub fn leaves(self) -> Leaves<R> {
        Leaves { reader: self }
    }

    /// The next leaf, listed and not read; `None` when all lists have been read.
    fn next_leaf(&mut self) -> Option<Result<ListLine, R::Error>> {
        loop {
            let part = self.stack.last_mut()?;
            if part.depth == 0 {
                return None;
            }
            match part.next_list_line(&self.prefix) {
                None => drop(self.stack.pop()),
                Some(Err(error)) => return Some(Err(error.into())),
                Some(Ok(line)) if part.depth == 1 => return Some(Ok(line)),
                Some(Ok(line)) => {
                    let depth = part.depth - 1;
                    if let Err(error) = self.descend(&line, depth) {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    fn descend(&mut self, line: &ListLine, depth: u32) -> Result<(), R::Error> {
        let text = self.source.get(&line.chunk)?;
        let part = Part { chunk: line.chunk, depth, text, at: 0, line: 0 };
        if !part.agrees(line) {
            return Err(ManifestError::Count { chunk: line.chunk }.into());
        }
        self.stack.push(part);
        Ok(())
    }

    fn step(&mut self) -> Option<Result<Entry, R::Error>> {
        loop {
            let part = self.stack.last_mut()?;
            if part.depth > 0 {
                match self.next_leaf()? {
                    Ok(line) => {
                        if let Err(error) = self.descend(&line, 0) {
                            return Some(Err(error));
                        }
                    }
                    Err(error) => return Some(Err(error)),
                }
                continue;
            }
            match part.next_entry() {
                None => drop(self.stack.pop()),
                Some(Err(error)) => return Some(Err(error.into())),
                Some(Ok(entry)) => {
                    if let Some(result) = self.admit(entry) {
                        return Some(result);
                    }
                    if self.ended {
                        return None;
                    }
                }
            }
        }
    }

    /// The entry when it is wanted; an error when it is out of order; `None` to pass over it.
    fn admit(&mut self, entry: Entry) -> Option<Result<Entry, R::Error>> {
        if let Some(last) = self.last.as_ref().filter(|last| compare_paths(last, &entry.path) != Ordering::Less) {
            let (path, before) = (entry.display_path(), escape(last).into_owned());
            return Some(Err(ManifestError::Order { path, before }.into()));
        }
        let wanted = is_within(&entry.path, &self.prefix);
        self.ended = !wanted && compare_paths(&entry.path, &self.prefix) == Ordering::Greater;
        self.last.get_or_insert_default().clone_from(&entry.path);
        wanted.then_some(Ok(entry))
    }
}

impl<R: ChunkSource> Iterator for ManifestReader<R> {
    type Item = Result<Entry, R::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended { None } else { self.step() }
    }
}

/// Yields the leaves of a manifest. A manifest of one leaf has no list: it yields nothing.
pub struct Leaves<R> {
    reader: ManifestReader<R>,
}

impl<R: ChunkSource> Iterator for Leaves<R> {
    type Item = Result<ListLine, R::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next_leaf()
    }
}

impl Part {
    fn next_line(&mut self) -> Option<&[u8]> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        self.at += end;
        self.line += 1;
        rest.get(..end)
    }

    fn next_entry(&mut self) -> Option<Result<Entry, ManifestError>> {
        let chunk = self.chunk;
        let parsed = Entry::from_line(self.next_line()?);
        let line = self.line;
        Some(parsed.map_err(|source| ManifestError::Entry { chunk, line, source }))
    }

    /// The next line that may list something beneath `prefix`.
    fn next_list_line(&mut self, prefix: &[u8]) -> Option<Result<ListLine, ManifestError>> {
        let chunk = self.chunk;
        loop {
            let parsed = ListLine::from_line(self.next_line()?);
            let line = match parsed {
                Ok(line) => line,
                Err(source) => return Some(Err(ManifestError::List { chunk, line: self.line, source })),
            };
            if prefix.is_empty() || !self.ends_before(prefix) {
                return Some(Ok(line));
            }
        }
    }

    /// Whether the part that follows begins at or before `path`: then the one just read holds nothing from there on.
    fn ends_before(&self, path: &[u8]) -> bool {
        let following = self.text.get(self.at..).and_then(|rest| lines(rest).next());
        let first = following.and_then(|line| ListLine::from_line(line).ok()).and_then(|line| unescape(&line.first).ok());
        first.is_some_and(|first| compare_paths(&first, path) != Ordering::Greater)
    }

    /// Whether it has as many entries as `line` says and begins with the path that `line` says.
    fn agrees(&self, line: &ListLine) -> bool {
        let mut entries = 0u64;
        for text in lines(&self.text) {
            entries = entries.saturating_add(match self.depth {
                0 => 1,
                _ => ListLine::from_line(text).map_or(0, |l| l.entries),
            });
        }
        entries == line.entries && self.text.len() as u64 == line.bytes
    }
}

/// All leaves; of a manifest of one leaf, that one.
pub(super) fn list_leaves<R: ChunkSource>(root: &ManifestRoot, source: &R) -> Result<Vec<ListLine>, R::Error> {
    if root.depth > 0 {
        return ManifestReader::new(root, source)?.leaves().collect();
    }
    let text = source.get(&root.chunk)?;
    let first = lines(&text).next().map(Entry::from_line).transpose();
    let first = first.map_err(|source| ManifestError::Entry { chunk: root.chunk, line: 1, source })?;
    Ok(vec![ListLine {
        chunk: root.chunk,
        entries: root.entries,
        bytes: text.len() as u64,
        first: first.map(|entry| entry.display_path()).unwrap_or_default(),
    }])
}
