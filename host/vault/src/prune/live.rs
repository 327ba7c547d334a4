//! Which chunks the snapshots of an epoch need: their manifests are walked, each list and leaf once.

use crate::{
    bases::broken, entry::Entry, error::VaultError, index::Index, manifest::ListLine, open::Vault, reader::ChunkReader,
    snapshots::StoredSnapshot,
};
use havun_model::{Cancel, ChunkId};
use std::{collections::HashSet, sync::Arc};

impl Vault {
    /// Every chunk that `snapshots` need: those of their manifests included, and those that deltas among them rest on.
    ///
    /// # Errors
    /// The store's; damage, because then what is needed is not known in full: so is a chunk that is in no pack of the index, or
    /// only in deltas whose bases are in none.
    pub(super) fn live_chunks(
        &self,
        epoch: &str,
        index: &Arc<Index>,
        snapshots: &[&StoredSnapshot],
        cancel: &Cancel,
    ) -> Result<HashSet<ChunkId>, VaultError> {
        let mut reader = ChunkReader::new(self, epoch, Arc::clone(index))?;
        let (mut live, mut seen) = (HashSet::new(), HashSet::new());
        let mut lists: Vec<(ChunkId, u32)> = snapshots.iter().map(|s| (s.snapshot.manifest.chunk, s.snapshot.manifest.depth)).collect();
        while let Some((chunk, depth)) = lists.pop() {
            if !seen.insert((chunk, depth)) {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(VaultError::Cancelled);
            }
            live.insert(chunk);
            for line in reader.chunk(&chunk)?.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let damaged = |what: String| VaultError::Damaged { object: format!("manifest chunk {chunk}"), what };
                if depth == 0 {
                    live.extend(Entry::from_line(line).map_err(|e| damaged(e.to_string()))?.chunks);
                } else {
                    lists.push((ListLine::from_line(line).map_err(|e| damaged(e.to_string()))?.chunk, depth - 1));
                }
            }
        }
        let baseless = broken(index, &HashSet::new());
        let lost = |id: &&ChunkId| index.get(id).is_none() || baseless.contains_key(*id);
        if let Some(chunk) = live.iter().find(lost) {
            return Err(VaultError::MissingChunk { chunk: *baseless.get(chunk).unwrap_or(chunk) });
        }
        index.deltas().complete(&mut live);
        Ok(live)
    }
}
