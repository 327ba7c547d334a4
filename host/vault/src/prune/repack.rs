//! Copying what is needed of wasteful packs to new ones. Nothing here needs the lease: a new pack that no record names is
//! one that nothing needs, and the next clean-up marks it.

use super::{
    PruneOptions,
    plan::{EpochPlan, Repack},
};
use crate::{
    error::VaultError,
    frame::EncodedFrame,
    index::{Index, Location},
    open::Vault,
    pack::{PackKind, TocFrame},
    reader::ChunkReader,
    sink::{PackSink, SinkParts, WrittenPack},
    store::{Lease, StoreError},
};
use havun_model::{ChunkId, PackId};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// So many needed bytes are copied before they are committed: what is lost at most when a backup comes in between.
const GROUP_BYTES: u64 = 256 << 20;

/// Packs that are repacked together.
#[derive(Debug, Clone)]
pub(super) struct RepackGroup {
    pub kind: PackKind,
    pub from: Vec<PackId>,
    /// Of the old packs.
    pub stored_bytes: u64,
    /// About how many of these nothing needs.
    pub waste_bytes: u64,
}

struct Share {
    id: PackId,
    kind: PackKind,
    stored: u64,
    waste: u64,
    percent: u64,
}

/// Which packs of `usable` are worth it, grouped. Both thresholds count: that of a pack, and that of all of them.
pub(super) fn choose(index: &Index, usable: &BTreeSet<PackId>, live: &HashSet<ChunkId>, options: &PruneOptions) -> Vec<RepackGroup> {
    let records = index.packs().iter().filter(|pack| usable.contains(&pack.id));
    let shares: Vec<Share> = records.filter_map(|pack| share(index, &pack.id, live)).collect();
    let (stored, waste) = shares.iter().fold((0, 0), |(stored, waste), s| (stored + s.stored, waste + s.waste));
    if waste < options.min_waste_bytes || waste * 100 < stored * u64::from(options.total_percent) {
        return Vec::new();
    }
    let mut groups: Vec<RepackGroup> = Vec::new();
    for kind in [PackKind::Data, PackKind::Manifest, PackKind::Delta] {
        let mut open: Option<RepackGroup> = None;
        let worth = |s: &&Share| s.kind == kind && s.waste > 0 && s.percent >= u64::from(options.waste_percent);
        for share in shares.iter().filter(worth) {
            let group = open.get_or_insert_with(|| RepackGroup { kind, from: Vec::new(), stored_bytes: 0, waste_bytes: 0 });
            group.from.push(share.id);
            group.stored_bytes += share.stored;
            group.waste_bytes += share.waste;
            if group.stored_bytes - group.waste_bytes >= GROUP_BYTES {
                groups.extend(open.take());
            }
        }
        groups.extend(open);
    }
    groups
}

/// How much of a pack is needed. Content is counted, and its share taken of the stored bytes.
fn share(index: &Index, id: &PackId, live: &HashSet<ChunkId>) -> Option<Share> {
    let (record, toc) = (index.find_pack(id)?, index.toc(id)?);
    let (mut all, mut needed) = (0, 0);
    for entry in toc.chunks() {
        all += u64::from(entry.len);
        needed += if live.contains(&entry.id) { u64::from(entry.len) } else { 0 };
    }
    let dead = all - needed;
    let waste = u64::try_from(u128::from(record.size) * u128::from(dead) / u128::from(all.max(1))).unwrap_or(u64::MAX);
    Some(Share { id: *id, kind: record.kind, stored: record.size, waste, percent: dead * 100 / all.max(1) })
}

/// Publishing packs needs no lease: they are new names for new bytes, no reader sees them before a record or a snapshot
/// names them, and a backup that adopts them loses nothing by it.
struct NoLease;

impl Lease for NoLease {
    fn fencing(&self) -> u64 {
        0
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Vault {
    /// Copies what is needed of a group to new packs, in the order in which it lies. Each chunk's SHA-256 is compared, and
    /// each new frame is decoded and compared before its pack is published.
    pub(super) fn copy_group(
        &self,
        epoch: &EpochPlan,
        repack: &Repack,
        group: &RepackGroup,
        options: &PruneOptions,
    ) -> Result<Vec<WrittenPack>, VaultError> {
        let parts = SinkParts {
            store: Arc::clone(&self.store),
            lease: Arc::new(NoLease),
            epoch: epoch.epoch.clone(),
            vault_id: self.info.vault_id.clone(),
            key: self.epoch_key(&epoch.epoch)?,
            level: options.level,
            encoders: options.threads.max(1),
            timings: Arc::default(),
        };
        let mut sink = PackSink::new(parts, group.kind);
        let mut reader = ChunkReader::new(self, &epoch.epoch, Arc::clone(&repack.index))?;
        let mut copied = HashSet::new();
        for (number, record) in (0..).zip(repack.index.packs()).filter(|(_, record)| group.from.contains(&record.id)) {
            let Some(toc) = repack.index.toc(&record.id) else { continue };
            for (frame, contents) in (0..).zip(&toc.frames) {
                if options.cancel.is_cancelled() {
                    return Err(VaultError::Cancelled);
                }
                if group.kind == PackKind::Delta {
                    copy_delta(&mut reader, (number, frame), contents, repack, &mut sink)?;
                    continue;
                }
                for entry in contents.entries.iter().filter(|e| repack.live.contains(&e.id)) {
                    if copied.insert(entry.id) {
                        let at = Location { pack: number, frame, offset: entry.offset, len: entry.len };
                        let raw = reader.frame(number, frame)?;
                        sink.push(entry.id, reader.slice(&entry.id, &at, &raw)?)?;
                    }
                }
            }
        }
        sink.finish()
    }
}

/// A delta moves as it is, once what it decodes to was compared: its bases are needed as long as it is. Of a chunk that is a
/// delta of one chunk here and of another there both move, for a snapshot names only the bases of the one that it was made with.
/// One whose base is in no pack any more is nobody's: every pack that a snapshot needs is whole, or there would be no repack.
fn copy_delta(
    reader: &mut ChunkReader<'_>,
    (pack, frame): (u32, u32),
    contents: &TocFrame,
    repack: &Repack,
    sink: &mut PackSink,
) -> Result<(), VaultError> {
    let needed = contents.entries.iter().any(|entry| repack.live.contains(&entry.id));
    if !needed || contents.bases.iter().any(|base| repack.index.get(base).is_none()) {
        return Ok(());
    }
    let raw = reader.frame(pack, frame)?;
    for entry in &contents.entries {
        reader.slice(&entry.id, &Location { pack, frame, offset: entry.offset, len: entry.len }, &raw)?;
    }
    let bytes = reader.stored_frame(pack, frame)?;
    let TocFrame { place, entries, bases } = contents.clone();
    sink.push_encoded(EncodedFrame { bytes, raw_len: place.raw, entries, bases })
}

#[cfg(test)]
mod tests;
