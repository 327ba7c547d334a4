//! Carrying a plan out, in short steps under the lease.

use super::{
    CleanupPlan, CleanupReport, PruneOptions,
    plan::{EpochPlan, Going, Repack},
    repack::RepackGroup,
};
use crate::{
    error::VaultError,
    index::encode as encode_index,
    layout::{self, ObjectKind},
    moved::MovedRecord,
    open::{Vault, at, publish},
    pack::Toc,
    seal::SealKey,
    sink::WrittenPack,
    store::{Lease, ObjectName, StoreError},
};
use havun_model::{IndexId, PackId, SnapshotId};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// No step goes on for longer than this, but for the call that it is in.
const STEP: Duration = Duration::from_secs(1);
/// Between two steps. Longer than a backup waits between two looks at the lease.
const PAUSE: Duration = Duration::from_millis(200);

/// When a step has to end.
pub(super) struct Turn(Instant);

impl Turn {
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    pub fn is_over(&self) -> bool {
        self.0.elapsed() >= STEP
    }
}

/// A clean-up under way.
pub(super) struct Run<'v> {
    pub vault: &'v Vault,
    pub options: PruneOptions,
    pub holder: String,
    /// Only the first step takes the lease by force.
    pub force: bool,
    pub steps: u64,
    pub report: CleanupReport,
}

impl Vault {
    /// Carries a plan out. Where a backup is under way, the rest is left for the next time, and the report says so. With
    /// `force_lease` the lease is taken from whoever holds it when the clean-up begins.
    ///
    /// # Errors
    /// The store's. What was done stays done: the next clean-up goes on from there.
    pub fn execute_cleanup(&self, plan: CleanupPlan, holder: &str, force_lease: bool) -> Result<CleanupReport, VaultError> {
        self.check_removes()?;
        let CleanupPlan { epochs, now, options, notes, .. } = plan;
        let mut run = Run::new(self, options, holder, force_lease);
        run.report.notes = notes;
        run.remove_snapshots(epochs.iter().flat_map(|e| e.going.iter().map(|going| (e.epoch.as_str(), going))).collect())?;
        for mut epoch in epochs.into_iter().filter(|e| !e.blocked) {
            run.delete_packs(&epoch, now)?;
            if let Some(repack) = epoch.repack.take() {
                for group in &repack.groups {
                    run.repack(&mut epoch, &repack, group, now)?;
                }
            }
            run.mark(&epoch, now)?;
            run.rewrite_index(&epoch)?;
        }
        Ok(run.report)
    }

    fn remove(&self, lease: &dyn Lease, name: &ObjectName) -> Result<(), VaultError> {
        lease.check().map_err(|e| at(&*self.store, e))?;
        self.store.remove(name).map_err(|e| at(&*self.store, e))
    }

    /// Removes a pack and counts it.
    pub(super) fn remove_counted(&self, lease: &dyn Lease, name: &ObjectName, report: &mut CleanupReport) -> Result<(), VaultError> {
        let size = self.store.size(name).map_err(|e| at(&*self.store, e))?.unwrap_or(0);
        self.remove(lease, name)?;
        report.bytes += size;
        Ok(())
    }

    /// What is needed now, asked under the lease: what the plan's snapshots need, and whatever any other names. `None`
    /// where one of these cannot be read.
    fn needed_now(&self, epoch: &EpochPlan) -> Result<Option<BTreeSet<PackId>>, VaultError> {
        let Some(others) = self.named_by_others(epoch)? else { return Ok(None) };
        Ok(Some(epoch.needed.union(&others).copied().collect()))
    }

    /// Packs that snapshots name which the plan does not keep: new ones, and those that did not go after all.
    fn named_by_others(&self, epoch: &EpochPlan) -> Result<Option<BTreeSet<PackId>>, VaultError> {
        let present = self.list_packs(&epoch.epoch)?;
        let mut named = BTreeSet::new();
        for object in self.list_kind(&epoch.epoch, ObjectKind::Snapshot)? {
            let id = layout::claimed_hash(object.name.as_str()).and_then(|hash| hash.parse::<SnapshotId>().ok());
            if id.is_some_and(|id| epoch.kept.contains(&id)) {
                continue;
            }
            match self.read_snapshot_object(&object) {
                Ok(stored) => {
                    named.extend(epoch.moved.newest(&stored.id, &stored.snapshot.packs, &|id| present.contains_key(id)));
                    named.extend(stored.snapshot.packs);
                }
                Err(VaultError::Damaged { object, what }) => {
                    tracing::warn!(%object, %what, "a damaged snapshot stops the clean-up of its epoch");
                    return Ok(None);
                }
                Err(other) => return Err(other),
            }
        }
        Ok(Some(named))
    }

    /// Writes an index object for `packs`.
    pub(crate) fn publish_index(
        &self,
        lease: &dyn Lease,
        epoch: &str,
        key: Option<&SealKey>,
        packs: &[(PackId, u64, Toc)],
    ) -> Result<IndexId, VaultError> {
        let plain = encode_index(packs).map_err(|e| VaultError::Internal { what: "writing the index", why: e.to_string() })?;
        let stored = self.seal_object(key, ObjectKind::Index, plain)?;
        let id = IndexId::from_bytes(Sha256::digest(&stored).into());
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &layout::index(epoch, &id), &stored)?;
        Ok(id)
    }

    fn publish_moved(&self, lease: &dyn Lease, epoch: &str, record: &MovedRecord) -> Result<(), VaultError> {
        let internal = |e: serde_json::Error| VaultError::Internal { what: "writing where packs were moved to", why: e.to_string() };
        let json = serde_json::to_vec(record).map_err(internal)?;
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &layout::moved(epoch, &hex::encode(Sha256::digest(&json))), &json)?;
        Ok(())
    }
}

impl<'v> Run<'v> {
    pub fn new(vault: &'v Vault, options: PruneOptions, holder: &str, force: bool) -> Self {
        Self { vault, options, holder: crate::lease::cleanup_holder(holder), force, steps: 0, report: CleanupReport::default() }
    }

    /// One step under the lease. `None` when somebody else has it: from then on every step is.
    pub fn step<T>(
        &mut self,
        work: impl FnOnce(&Vault, &dyn Lease, &mut CleanupReport) -> Result<T, VaultError>,
    ) -> Result<Option<T>, VaultError> {
        if self.report.left.is_some() {
            return Ok(None);
        }
        if self.options.cancel.is_cancelled() {
            return Err(VaultError::Cancelled);
        }
        if self.steps > 0 {
            self.options.sleeper.sleep(PAUSE);
        }
        let lease = match self.vault.store.lease(&self.holder, self.force && self.steps == 0) {
            Err(StoreError::Locked { holder }) => {
                self.report.left = Some(format!("the vault is in use by {holder}; the rest is left for the next clean-up"));
                return Ok(None);
            }
            other => other.map_err(|e| at(&*self.vault.store, e))?,
        };
        self.steps += 1;
        work(self.vault, &*lease, &mut self.report).map(Some)
    }

    /// Snapshots go first. What has come under a hold since the plan was made stays.
    fn remove_snapshots(&mut self, mut going: Vec<(&str, &Going)>) -> Result<(), VaultError> {
        going.reverse();
        while !going.is_empty() {
            let done = self.step(|vault, lease, report| {
                let (holds, turn) = (vault.holds()?, Turn::begin());
                while let Some((epoch, next)) = going.pop() {
                    match holds.covers_taken(&next.id, epoch, next.taken_at) {
                        Some(why) => report.notes.push(format!("snapshot {} stays: {why}", next.id.short())),
                        None => {
                            vault.remove(lease, &next.object)?;
                            report.snapshots += 1;
                        }
                    }
                    if turn.is_over() {
                        break;
                    }
                }
                Ok(())
            })?;
            if done.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Marks what nothing needs.
    fn mark(&mut self, epoch: &EpochPlan, now: jiff::Timestamp) -> Result<(), VaultError> {
        if epoch.mark.is_empty() {
            return Ok(());
        }
        self.step(|vault, lease, report| {
            let Some(needed) = vault.needed_now(epoch)? else { return Ok(()) };
            let mark: BTreeSet<PackId> = epoch.mark.difference(&needed).copied().collect();
            vault.mark_packs(lease, &epoch.epoch, &mark, now, report)
        })?;
        Ok(())
    }

    /// Where an index object lists what is marked or gone: one new object without it, then the old ones go. The marks
    /// come first, so that a backup after a crash sees what they name as absent.
    fn rewrite_index(&mut self, epoch: &EpochPlan) -> Result<(), VaultError> {
        let vault = self.vault;
        if self.report.left.is_some() {
            return Ok(());
        }
        let marked = vault.marked_packs(&epoch.epoch)?;
        let loaded = vault.load_index(&epoch.epoch, true, &marked)?;
        let stale = |id: &PackId| marked.contains(id) || !loaded.present.contains_key(id);
        if !loaded.objects.values().flatten().any(stale) {
            return Ok(());
        }
        let stay: Vec<_> = loaded
            .index
            .packs()
            .iter()
            .filter(|pack| !marked.contains(&pack.id))
            .filter_map(|pack| Some((pack.id, pack.size, loaded.index.toc(&pack.id)?)))
            .collect();
        let key = vault.epoch_key(&epoch.epoch)?;
        let listed: BTreeSet<PackId> = stay.iter().map(|(id, _, _)| *id).collect();
        let mut old: Vec<IndexId> = loaded.objects.keys().copied().collect();
        let mut new = None;
        let mut first = true;
        while !old.is_empty() {
            let done = self.step(|vault, lease, _| {
                let turn = Turn::begin();
                if std::mem::take(&mut first) {
                    // A backup may have come in while the index was read: an object that lists a pack which is there and
                    // not in the new one stays beside it.
                    let present = vault.list_packs(&epoch.epoch)?;
                    let done_with = |id: &PackId| listed.contains(id) || marked.contains(id) || !present.contains_key(id);
                    old.retain(|object| loaded.objects.get(object).is_some_and(|packs| packs.iter().all(done_with)));
                }
                if new.is_none() && !stay.is_empty() && !old.is_empty() {
                    new = Some(vault.publish_index(lease, &epoch.epoch, key.as_deref(), &stay)?);
                }
                while let Some(id) = old.pop() {
                    if Some(id) != new {
                        vault.remove(lease, &layout::index(&epoch.epoch, &id))?;
                    }
                    if turn.is_over() {
                        break;
                    }
                }
                Ok(())
            })?;
            if done.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Deletes what was marked long enough ago and is still needed by nothing, then the marks that are spent. The marks are asked
    /// again under the lease: a repair takes packs from them that stand in for a lost one, of which the plan knows nothing.
    fn delete_packs(&mut self, epoch: &EpochPlan, now: jiff::Timestamp) -> Result<(), VaultError> {
        let mut packs: Vec<PackId> = epoch.delete.iter().rev().copied().collect();
        if packs.is_empty() && epoch.spent_marks.is_empty() {
            return Ok(());
        }
        loop {
            let done = self.step(|vault, lease, report| {
                let Some(needed) = vault.needed_now(epoch)? else { return Ok(true) };
                let due = vault.marks(&epoch.epoch, now)?.due;
                let turn = Turn::begin();
                while let Some(id) = packs.pop() {
                    if due.contains(&id) && !needed.contains(&id) {
                        let pack = layout::pack(&epoch.epoch, &id);
                        vault.remove_counted(lease, &pack, report)?;
                        if let Some(parity) = layout::parity_of(pack.as_str()) {
                            vault.remove_counted(lease, &parity, report)?;
                        }
                        report.packs += 1;
                    }
                    if turn.is_over() {
                        return Ok(false);
                    }
                }
                for name in &epoch.spent_marks {
                    vault.remove(lease, name)?;
                }
                Ok(true)
            })?;
            if done != Some(false) {
                return Ok(());
            }
        }
    }

    /// Copies a group without the lease, then commits it under it.
    fn repack(&mut self, epoch: &mut EpochPlan, repack: &Repack, group: &RepackGroup, now: jiff::Timestamp) -> Result<(), VaultError> {
        if self.report.left.is_some() {
            return Ok(());
        }
        let new = match self.vault.copy_group(epoch, repack, group, &self.options) {
            Ok(new) => new,
            Err(error) if is_no_reason_to_stop(&error) => {
                self.report.notes.push(format!("{} packs of epoch {} are not repacked: {error}", group.from.len(), epoch.epoch));
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        if new.is_empty() {
            return Ok(());
        }
        let committed = self.step(|vault, lease, report| vault.commit_repack(lease, epoch, group, &new, now, report))?;
        if committed == Some(true) {
            epoch.needed.extend(new.iter().map(|pack| pack.id));
        }
        Ok(())
    }
}

/// A full disk or a damaged pack: the rest of the clean-up can do its work all the same.
fn is_no_reason_to_stop(error: &VaultError) -> bool {
    error.is_integrity() || matches!(error, VaultError::Store { source: StoreError::NoSpace { .. }, .. })
}

impl Vault {
    /// Makes new packs stand in for old ones. Where a snapshot that the plan did not know needs an old one, or another
    /// clean-up was faster, the new packs are what nobody needs, and marked. Whether it was done.
    fn commit_repack(
        &self,
        lease: &dyn Lease,
        epoch: &EpochPlan,
        group: &RepackGroup,
        new: &[WrittenPack],
        now: jiff::Timestamp,
        report: &mut CleanupReport,
    ) -> Result<bool, VaultError> {
        let to: BTreeSet<PackId> = new.iter().map(|pack| pack.id).collect();
        let Some(others) = self.named_by_others(epoch)? else { return Ok(false) };
        let marked = self.marked_packs(&epoch.epoch)?;
        let taken = |id: &PackId| others.contains(id) || marked.contains(id);
        if group.from.iter().any(taken) || to.iter().any(|id| marked.contains(id)) {
            report.notes.push(format!("{} packs of epoch {} are not repacked: another snapshot needs them", group.from.len(), epoch.epoch));
            let free: BTreeSet<PackId> = to.into_iter().filter(|id| !taken(id) && !epoch.needed.contains(id)).collect();
            self.mark_packs(lease, &epoch.epoch, &free, now, report)?;
            return Ok(false);
        }
        // The index comes first: whoever is sent to a new pack finds it listed.
        let listed: Vec<_> = new.iter().map(|pack| (pack.id, pack.stored_bytes, pack.toc.clone())).collect();
        self.publish_index(lease, &epoch.epoch, self.epoch_key(&epoch.epoch)?.as_deref(), &listed)?;
        let from: BTreeSet<PackId> = group.from.iter().filter(|id| !to.contains(*id)).copied().collect();
        let record = MovedRecord {
            to: to.iter().copied().collect(),
            from: from.iter().copied().collect(),
            snapshots: epoch.kept.iter().copied().collect(),
        };
        self.publish_moved(lease, &epoch.epoch, &record)?;
        self.mark_packs(lease, &epoch.epoch, &from, now, report)?;
        report.repacked += from.len() as u64;
        report.new_packs += new.len() as u64;
        report.new_bytes += new.iter().map(|pack| pack.stored_bytes).sum::<u64>();
        Ok(true)
    }
}
