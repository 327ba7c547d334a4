//! Where the manifest of a session goes and where the one before it comes from.

use crate::{
    chunk::chunk_id,
    error::VaultError,
    index::Index,
    known::Known,
    manifest::{ChunkSink, ChunkSource},
    open::Vault,
    reader::ChunkReader,
    sink::{PackSink, WrittenPack},
};
use havun_model::{ChunkId, PackId};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// A leaf store that the manifest writer's sink and the session both hold.
pub(super) type SharedLeaves = Arc<Mutex<LeafStore>>;

/// Writes leaves and lists that the vault does not have, and notes which packs of the past are still needed.
pub(super) struct LeafStore {
    sink: PackSink,
    written: HashSet<ChunkId>,
    needed: NeededPacks,
}

/// Packs of earlier sessions that the new manifest refers to.
#[derive(Default)]
pub(super) struct NeededPacks {
    /// Numbers in the epoch's index.
    numbers: BTreeSet<u32>,
    /// Deltas whose bases are noted, by pack and frame.
    deltas: HashSet<(u32, u32)>,
    /// Leaves taken over unread: what they refer to is looked up at the end.
    kept: Vec<ChunkId>,
}

/// What a finished leaf store leaves.
pub(super) struct FinishedLeaves {
    pub packs: Vec<WrittenPack>,
    pub needed: NeededPacks,
}

impl LeafStore {
    pub fn shared(sink: PackSink) -> SharedLeaves {
        Arc::new(Mutex::new(Self { sink, written: HashSet::new(), needed: NeededPacks::default() }))
    }

    /// Writes what is left. The manifest writer, the other holder, is gone by now.
    pub fn finish(shared: SharedLeaves) -> Result<FinishedLeaves, VaultError> {
        let Ok(store) = Arc::try_unwrap(shared) else {
            return Err(VaultError::Internal { what: "ending the manifest", why: "it is still being written".to_owned() });
        };
        let store = store.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(FinishedLeaves { packs: store.sink.finish()?, needed: store.needed })
    }

    fn put(&mut self, plain: &[u8], index: &Index) -> Result<ChunkId, VaultError> {
        let id = chunk_id(plain);
        self.needed.scan(plain, index);
        match index.get(&id) {
            Some(location) => drop(self.needed.numbers.insert(location.pack)),
            None if self.written.insert(id) => self.sink.push(id, plain)?,
            None => {}
        }
        Ok(id)
    }
}

impl NeededPacks {
    /// Notes the packs of every file chunk that lines of a leaf name.
    fn scan(&mut self, text: &[u8], index: &Index) {
        for_each_file_chunk(text, |id| {
            self.note(&id, index);
        });
    }

    /// Notes the pack of a chunk, and of every chunk that it rests on. Whether the index knows it.
    fn note(&mut self, id: &ChunkId, index: &Index) -> bool {
        let mut open = vec![*id];
        while let Some(id) = open.pop() {
            let Some(location) = index.get(&id) else { continue };
            self.numbers.insert(location.pack);
            let bases = index.pack(location.pack).map(|pack| pack.bases(location.frame)).unwrap_or_default();
            if !bases.is_empty() && self.deltas.insert((location.pack, location.frame)) {
                open.extend(bases);
            }
        }
        index.get(id).is_some()
    }

    /// All of them, with those that deltas among the chunks and in the packs just `written` rest on; reads the leaves that
    /// were taken over.
    pub fn packs(mut self, vault: &Vault, epoch: &str, known: &Known<'_>, written: &[WrittenPack]) -> Result<Vec<PackId>, VaultError> {
        let index = Arc::clone(known.index()?);
        for frame in written.iter().flat_map(|pack| &pack.toc.frames) {
            for base in &frame.bases {
                self.note(base, &index);
            }
        }
        let mut reader = ChunkReader::new(vault, epoch, Arc::clone(&index))?;
        for leaf in std::mem::take(&mut self.kept) {
            self.note(&leaf, &index);
            let text = reader.chunk(&leaf)?;
            let mut lost = None;
            for_each_file_chunk(&text, |id| {
                if !self.note(&id, &index) {
                    lost = Some(id);
                }
            });
            // Never a snapshot that says less than it needs.
            if let Some(id) = lost {
                let object = format!("epochs/{epoch}/index");
                return Err(VaultError::Damaged { object, what: format!("no pack has chunk {id}, which an unchanged file needs") });
            }
        }
        Ok(self.numbers.iter().filter_map(|number| index.pack(*number)).map(|pack| pack.id).collect())
    }
}

/// Calls `found` for each id in a `"chunks"` array. Inside JSON strings a quote never stands without a backslash, so
/// the key cannot be mistaken for a part of a path.
fn for_each_file_chunk(text: &[u8], mut found: impl FnMut(ChunkId)) {
    const KEY: &[u8] = b",\"chunks\":[";
    let mut rest = text;
    while let Some(at) = find(rest, KEY) {
        rest = rest.get(at + KEY.len()..).unwrap_or_default();
        while let Some((id, after)) = take_id(rest) {
            found(id);
            rest = after.strip_prefix(b",").unwrap_or(after);
        }
    }
}

fn find(text: &[u8], key: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        // A comma before a quote is rare enough to look for first.
        let at = from + text.get(from..)?.iter().position(|b| *b == b',')?;
        if text.get(at..at + key.len())? == key {
            return Some(at);
        }
        from = at + 1;
    }
}

fn take_id(text: &[u8]) -> Option<(ChunkId, &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let (digits, after) = text.split_at_checked(64)?;
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((id, after.strip_prefix(b"\"")?))
}

/// The manifest writer's sink.
pub(super) struct LeafSink<'v> {
    store: SharedLeaves,
    known: Arc<Known<'v>>,
}

impl<'v> LeafSink<'v> {
    pub fn new(store: SharedLeaves, known: Arc<Known<'v>>) -> Self {
        Self { store, known }
    }
}

impl ChunkSink for LeafSink<'_> {
    type Error = VaultError;

    fn put(&mut self, plain: &[u8]) -> Result<ChunkId, VaultError> {
        let index = self.known.index()?;
        self.store.lock().unwrap_or_else(PoisonError::into_inner).put(plain, index)
    }

    fn keep(&mut self, id: &ChunkId) -> Result<(), VaultError> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).needed.kept.push(*id);
        Ok(())
    }
}

/// The manifest of the snapshot before.
pub(super) struct LeafSource<'v> {
    vault: &'v Vault,
    epoch: String,
    known: Arc<Known<'v>>,
    reader: Mutex<Option<ChunkReader<'v>>>,
}

impl<'v> LeafSource<'v> {
    pub fn new(vault: &'v Vault, epoch: &str, known: Arc<Known<'v>>) -> Self {
        Self { vault, epoch: epoch.to_owned(), known, reader: Mutex::new(None) }
    }
}

impl ChunkSource for LeafSource<'_> {
    type Error = VaultError;

    fn get(&self, id: &ChunkId) -> Result<Vec<u8>, VaultError> {
        let mut slot = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(ChunkReader::new(self.vault, &self.epoch, Arc::clone(self.known.index()?))?);
        }
        match slot.as_mut() {
            Some(reader) => reader.chunk(id),
            None => Err(VaultError::MissingChunk { chunk: *id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_lines_and_not_in_paths() {
        let (a, b) = ("ab".repeat(32), "cd".repeat(32));
        let trap = format!("x,\\\"chunks\\\":[\\\"{a}\\\"]");
        let text = format!(
            "{{\"path\":\"{trap}\",\"type\":\"file\",\"chunks\":[\"{a}\",\"{b}\"],\"sha256\":\"{a}\"}}\n{{\"path\":\"y\",\"chunks\":[\"{b}\"]}}\n"
        );
        let mut found = Vec::new();
        for_each_file_chunk(text.as_bytes(), |id| found.push(id.to_hex()));
        assert_eq!(found, [a.clone(), b.clone(), b]);
    }
}
