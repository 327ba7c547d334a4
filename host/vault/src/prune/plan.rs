//! What a clean-up would do: decided without the lease, and asked again under it.

use super::{CleanupPlan, PlannedRemoval, PruneOptions, repack::RepackGroup};
use crate::{
    chunks::EpochIndex,
    error::VaultError,
    holds::Holds,
    index::Index,
    layout,
    moved::Moved,
    open::Vault,
    snapshots::{SnapshotList, StoredSnapshot},
    store::ObjectName,
};
use havun_model::{ChunkId, PackId, SnapshotId, retention::Verdict};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// One snapshot object that goes.
#[derive(Debug, Clone)]
pub(super) struct Going {
    pub id: SnapshotId,
    pub taken_at: Timestamp,
    pub object: ObjectName,
}

/// What would be done in one epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct EpochPlan {
    pub epoch: String,
    pub going: Vec<Going>,
    /// Nothing but snapshots may go: something that could not be read may need any pack.
    pub blocked: bool,
    /// Snapshots that stay, as the plan saw them. Any other that is found later is asked itself.
    pub kept: BTreeSet<SnapshotId>,
    /// What these need.
    pub needed: BTreeSet<PackId>,
    pub moved: Moved,
    pub mark: BTreeSet<PackId>,
    pub delete: BTreeSet<PackId>,
    pub spent_marks: Vec<ObjectName>,
    pub repack: Option<Arc<Repack>>,
}

/// What is repacked in an epoch.
pub(super) struct Repack {
    pub index: Arc<Index>,
    pub live: HashSet<ChunkId>,
    pub groups: Vec<RepackGroup>,
}

impl std::fmt::Debug for Repack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.groups)
    }
}

impl Vault {
    /// Plans a clean-up from retention's verdicts. Snapshots without a verdict stay, and so does what a hold keeps, whatever
    /// its verdict; a damaged snapshot object, or a damaged record of moved packs, stops every deletion of packs in its
    /// epoch.
    ///
    /// # Errors
    /// The store's; [`VaultError::CannotRemove`] where the store removes nothing.
    pub fn plan_cleanup(&self, verdicts: &[Verdict], now: Timestamp, options: &PruneOptions) -> Result<CleanupPlan, VaultError> {
        self.check_removes()?;
        let (list, holds) = (self.snapshots()?, self.holds()?);
        let mut plan = CleanupPlan { now, options: options.clone(), ..CleanupPlan::default() };
        for epoch in self.epochs()? {
            let epoch_plan = self.plan_epoch(&epoch, &list, &holds, verdicts, &mut plan)?;
            plan.epochs.push(epoch_plan);
        }
        Ok(plan)
    }

    pub(super) fn check_removes(&self) -> Result<(), VaultError> {
        match self.store.promises().removes {
            true => Ok(()),
            false => Err(VaultError::CannotRemove { place: self.store.describe() }),
        }
    }

    pub(super) fn plan_epoch(
        &self,
        epoch: &str,
        list: &SnapshotList,
        holds: &Holds,
        verdicts: &[Verdict],
        plan: &mut CleanupPlan,
    ) -> Result<EpochPlan, VaultError> {
        let goes: BTreeMap<SnapshotId, &str> = verdicts.iter().filter(|v| !v.keep).map(|v| (v.id, v.reason.as_str())).collect();
        let mut made = EpochPlan { epoch: epoch.to_owned(), ..EpochPlan::default() };
        let mut kept = Vec::new();
        for stored in list.snapshots.iter().filter(|s| s.snapshot.epoch == epoch) {
            let held = holds.covers(stored).is_some();
            match goes.get(&stored.id).filter(|_| !held) {
                Some(reason) => {
                    let taken_at = stored.snapshot.started_at;
                    made.going.push(Going { id: stored.id, taken_at, object: layout::snapshot(epoch, taken_at, &stored.id) });
                    plan.remove.push(PlannedRemoval { id: stored.id, taken_at, reason: (*reason).to_owned() });
                }
                None => kept.push(stored),
            }
        }
        plan.keep += kept.len() as u64;
        made.kept = kept.iter().map(|s| s.id).collect();
        let damaged = list.damaged.iter().find(|d| layout::parse(&d.object).is_some_and(|(e, _, _)| e == epoch));
        if let Some(damage) = damaged {
            made.block(format!("{} is damaged: what it needs is unknown, so no pack of epoch {epoch} is deleted", damage.object), plan);
        }
        let moved = self.read_moved(epoch)?;
        if let Some((object, _)) = moved.damaged.first() {
            made.block(format!("{object} is damaged: where packs were moved to is unknown, so no pack of epoch {epoch} is deleted"), plan);
        }
        made.moved = moved.moved;
        if !made.blocked {
            self.plan_packs(&mut made, &kept, plan)?;
        }
        Ok(made)
    }

    fn plan_packs(&self, made: &mut EpochPlan, kept: &[&StoredSnapshot], plan: &mut CleanupPlan) -> Result<(), VaultError> {
        let loaded = self.load_index(&made.epoch, false, &BTreeSet::new())?;
        let whole = |id: &PackId| loaded.is_whole(id);
        made.needed = kept.iter().flat_map(|s| made.moved.newest(&s.id, &s.snapshot.packs, &whole)).collect();
        if let Some(lost) = made.needed.iter().find(|id| !loaded.is_whole(id)).filter(|_| !made.moved.is_empty()) {
            // Which packs stand in for it cannot be told, so any may.
            made.block(format!("pack {lost} is missing or damaged, so no pack of epoch {} is deleted", made.epoch), plan);
            return Ok(());
        }
        let marks = self.marks(&made.epoch, plan.now)?;
        let unneeded = |id: &&PackId| !made.needed.contains(*id) && loaded.present.contains_key(*id);
        made.delete = marks.due.iter().filter(unneeded).copied().collect();
        made.mark = loaded.present.keys().filter(unneeded).filter(|id| !marks.marked.contains(*id)).copied().collect();
        made.spent_marks = marks.spent;
        let bytes = |ids: &BTreeSet<PackId>| ids.iter().filter_map(|id| loaded.present.get(id)).sum::<u64>();
        plan.mark_bytes += bytes(&made.mark);
        plan.delete_bytes += bytes(&made.delete);
        plan.mark.extend(&made.mark);
        plan.delete.extend(&made.delete);
        if plan.options.repack {
            self.plan_repack(made, loaded, &marks.marked, kept, plan)?;
        }
        Ok(())
    }

    fn plan_repack(
        &self,
        made: &mut EpochPlan,
        loaded: EpochIndex,
        marked: &BTreeSet<PackId>,
        kept: &[&StoredSnapshot],
        plan: &mut CleanupPlan,
    ) -> Result<(), VaultError> {
        if let Some(lost) = made.needed.iter().find(|id| !loaded.is_whole(id)) {
            // The bases of deltas in it may lie in packs that look like waste without it.
            plan.notes.push(format!("epoch {} is not repacked: pack {lost} is missing or damaged, or cannot be read now", made.epoch));
            return Ok(());
        }
        let usable: BTreeSet<PackId> = made.needed.difference(marked).copied().collect();
        let index = Arc::new(loaded.index);
        let live = match self.live_chunks(&made.epoch, &index, kept, &plan.options.cancel) {
            Ok(live) => live,
            Err(error) if error.is_integrity() => {
                plan.notes.push(format!("epoch {} is not repacked: {error}", made.epoch));
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        let groups = super::repack::choose(&index, &usable, &live, &plan.options);
        if groups.is_empty() {
            return Ok(());
        }
        for group in &groups {
            plan.repack.extend(&group.from);
            plan.repack_bytes += group.stored_bytes;
            plan.repack_waste_bytes += group.waste_bytes;
        }
        made.repack = Some(Arc::new(Repack { index, live, groups }));
        Ok(())
    }
}

impl EpochPlan {
    fn block(&mut self, why: String, plan: &mut CleanupPlan) {
        self.blocked = true;
        plan.notes.push(why);
    }
}
