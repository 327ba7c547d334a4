//! Deleting snapshots and, later, the packs that nothing needs any more. Deletion runs against the write order:
//! snapshot, new index, grace, packs.
//!
//! A pack is *marked* when no snapshot needs it and deleted by a later clean-up, when the grace has passed and still
//! no snapshot needs it. Both happen under the lease, so no backup is under way; the grace protects readers, which
//! take none. A backup treats marked packs as absent.

use crate::{
    error::VaultError,
    index::encode as encode_index,
    layout::{self, ObjectKind},
    open::{Vault, at, publish},
    store::{Lease, ObjectName},
};
use havun_model::{IndexId, PackId, SnapshotId, retention::Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// How long a pack stays after it was marked, in seconds: a day.
pub const GRACE_SECS: i64 = 24 * 3600;

/// What a clean-up would do. Made by [`Vault::plan_cleanup`], shown by a dry run, carried out once.
#[derive(Debug, Clone, Serialize)]
pub struct CleanupPlan {
    /// Snapshots that go, with the reason.
    pub remove: Vec<PlannedRemoval>,
    /// Snapshots that stay.
    pub keep: u64,
    /// Packs that nothing needs once those are gone; deleted by a clean-up after the grace.
    pub mark: Vec<PackId>,
    /// Their stored bytes.
    pub mark_bytes: u64,
    /// Packs marked earlier whose grace has passed.
    pub delete: Vec<PackId>,
    /// Their stored bytes.
    pub delete_bytes: u64,
    #[serde(skip)]
    epochs: Vec<EpochPlan>,
    #[serde(skip)]
    now: Timestamp,
}

/// One snapshot that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRemoval {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Why it may go.
    pub reason: String,
}

/// What a clean-up did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CleanupReport {
    /// Snapshots deleted.
    pub snapshots: u64,
    /// Packs marked.
    pub marked: u64,
    /// Packs deleted.
    pub packs: u64,
    /// Stored bytes freed.
    pub bytes: u64,
}

#[derive(Debug, Clone)]
struct EpochPlan {
    epoch: String,
    snapshots: Vec<ObjectName>,
    mark: BTreeSet<PackId>,
    delete: BTreeSet<PackId>,
    spent_marks: Vec<ObjectName>,
}

/// A mark as stored, in the clear: ids of packs say nothing of what is in them.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    marked_at: Timestamp,
    packs: Vec<PackId>,
}

impl Vault {
    /// Plans a clean-up from retention's verdicts. Snapshots without a verdict stay; a damaged snapshot object stops
    /// every deletion of packs in its epoch, because what it needs is unknown.
    ///
    /// # Errors
    /// The store's.
    pub fn plan_cleanup(&self, verdicts: &[Verdict], now: Timestamp) -> Result<CleanupPlan, VaultError> {
        let list = self.snapshots()?;
        let goes: BTreeMap<SnapshotId, &str> = verdicts.iter().filter(|v| !v.keep).map(|v| (v.id, v.reason.as_str())).collect();
        let mut plan = CleanupPlan {
            remove: Vec::new(),
            keep: 0,
            mark: Vec::new(),
            mark_bytes: 0,
            delete: Vec::new(),
            delete_bytes: 0,
            epochs: Vec::new(),
            now,
        };
        for epoch in self.epochs()? {
            let blocked = list.damaged.iter().any(|d| layout::parse(&d.object).is_some_and(|(e, _, _)| e == epoch));
            let (mut needed, mut snapshots) = (BTreeSet::new(), Vec::new());
            for stored in list.snapshots.iter().filter(|s| s.snapshot.epoch == epoch) {
                match goes.get(&stored.id) {
                    Some(reason) => {
                        snapshots.push(layout::snapshot(&epoch, stored.snapshot.started_at, &stored.id));
                        let taken_at = stored.snapshot.started_at;
                        plan.remove.push(PlannedRemoval { id: stored.id, taken_at, reason: (*reason).to_owned() });
                    }
                    None => {
                        plan.keep += 1;
                        needed.extend(stored.snapshot.packs.iter().copied());
                    }
                }
            }
            let epoch_plan = if blocked {
                EpochPlan { epoch, snapshots, mark: BTreeSet::new(), delete: BTreeSet::new(), spent_marks: Vec::new() }
            } else {
                self.plan_epoch(epoch, snapshots, &needed, &mut plan)?
            };
            plan.epochs.push(epoch_plan);
        }
        Ok(plan)
    }

    fn plan_epoch(
        &self,
        epoch: String,
        snapshots: Vec<ObjectName>,
        needed: &BTreeSet<PackId>,
        plan: &mut CleanupPlan,
    ) -> Result<EpochPlan, VaultError> {
        let present = self.list_packs(&epoch)?;
        let (mut marked, mut due, mut spent_marks) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (name, mark) in self.read_marks(&epoch)? {
            let age = plan.now.as_second().saturating_sub(mark.marked_at.as_second());
            if age >= GRACE_SECS {
                due.extend(mark.packs.iter().copied());
                spent_marks.push(name);
            }
            marked.extend(mark.packs);
        }
        let unneeded = |id: &&PackId| !needed.contains(*id) && present.contains_key(*id);
        let delete: BTreeSet<PackId> = due.iter().filter(unneeded).copied().collect();
        let mark: BTreeSet<PackId> = present.keys().filter(|id| !needed.contains(*id) && !marked.contains(*id)).copied().collect();
        let bytes = |ids: &BTreeSet<PackId>| ids.iter().filter_map(|id| present.get(id)).sum::<u64>();
        plan.mark_bytes += bytes(&mark);
        plan.delete_bytes += bytes(&delete);
        plan.mark.extend(&mark);
        plan.delete.extend(&delete);
        Ok(EpochPlan { epoch, snapshots, mark, delete, spent_marks })
    }

    /// Carries a plan out under the lease.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; the store's. What was done stays done: the next clean-up goes on from there.
    pub fn execute_cleanup(&self, plan: CleanupPlan, holder: &str, force_lease: bool) -> Result<CleanupReport, VaultError> {
        let lease = self.store.lease(holder, force_lease).map_err(|e| at(&*self.store, e))?;
        let mut report = CleanupReport::default();
        for epoch in &plan.epochs {
            for name in &epoch.snapshots {
                self.remove(&*lease, name)?;
                report.snapshots += 1;
            }
        }
        for epoch in &plan.epochs {
            // A backup may have committed between the plan and the lease: ask again what is needed.
            let needed = self.needed_packs(&epoch.epoch)?;
            let mark: BTreeSet<PackId> = epoch.mark.difference(&needed).copied().collect();
            let delete: BTreeSet<PackId> = epoch.delete.difference(&needed).copied().collect();
            self.mark_packs(&*lease, &epoch.epoch, &mark, plan.now, &mut report)?;
            self.delete_packs(&*lease, epoch, &delete, &mut report)?;
        }
        Ok(report)
    }

    fn needed_packs(&self, epoch: &str) -> Result<BTreeSet<PackId>, VaultError> {
        let mut needed = BTreeSet::new();
        for object in self.list_kind(epoch, ObjectKind::Snapshot)? {
            needed.extend(self.read_snapshot_object(&object)?.snapshot.packs);
        }
        Ok(needed)
    }

    /// Marks first, so that a backup after a crash sees them as absent; then an index without them.
    fn mark_packs(
        &self,
        lease: &dyn Lease,
        epoch: &str,
        packs: &BTreeSet<PackId>,
        now: Timestamp,
        report: &mut CleanupReport,
    ) -> Result<(), VaultError> {
        if packs.is_empty() {
            return Ok(());
        }
        let mark = Mark { marked_at: now, packs: packs.iter().copied().collect() };
        let json = serde_json::to_vec(&mark).map_err(|e| VaultError::Internal { what: "writing a mark", why: e.to_string() })?;
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &layout::mark(epoch, &hex::encode(Sha256::digest(&json))), &json)?;
        self.rewrite_index(lease, epoch, packs)?;
        report.marked += packs.len() as u64;
        Ok(())
    }

    /// One new index object without `gone`, then the old ones go.
    fn rewrite_index(&self, lease: &dyn Lease, epoch: &str, gone: &BTreeSet<PackId>) -> Result<(), VaultError> {
        let loaded = self.load_index(epoch, true, gone)?;
        let stay: Vec<_> = loaded
            .index
            .packs()
            .iter()
            .filter(|pack| !gone.contains(&pack.id))
            .filter_map(|pack| Some((pack.id, pack.size, loaded.index.toc(&pack.id)?)))
            .collect();
        let key = self.epoch_key(epoch)?;
        let new = if stay.is_empty() { None } else { Some(self.publish_index(lease, epoch, key.as_deref(), &stay)?) };
        for old in loaded.objects.keys().filter(|id| Some(**id) != new) {
            self.remove(lease, &layout::index(epoch, old))?;
        }
        Ok(())
    }

    /// Writes an index object for `packs`.
    pub(crate) fn publish_index(
        &self,
        lease: &dyn Lease,
        epoch: &str,
        key: Option<&crate::seal::SealKey>,
        packs: &[(PackId, u64, crate::pack::Toc)],
    ) -> Result<IndexId, VaultError> {
        let plain = encode_index(packs).map_err(|e| VaultError::Internal { what: "writing the index", why: e.to_string() })?;
        let stored = self.seal_object(key, ObjectKind::Index, plain)?;
        let id = IndexId::from_bytes(Sha256::digest(&stored).into());
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &layout::index(epoch, &id), &stored)?;
        Ok(id)
    }

    fn delete_packs(
        &self,
        lease: &dyn Lease,
        epoch: &EpochPlan,
        packs: &BTreeSet<PackId>,
        report: &mut CleanupReport,
    ) -> Result<(), VaultError> {
        for id in packs {
            let name = layout::pack(&epoch.epoch, id);
            let size = self.store.size(&name).map_err(|e| at(&*self.store, e))?.unwrap_or(0);
            self.remove(lease, &name)?;
            report.packs += 1;
            report.bytes += size;
        }
        for name in &epoch.spent_marks {
            self.remove(lease, name)?;
        }
        Ok(())
    }

    fn remove(&self, lease: &dyn Lease, name: &ObjectName) -> Result<(), VaultError> {
        lease.check().map_err(|e| at(&*self.store, e))?;
        self.store.remove(name).map_err(|e| at(&*self.store, e))
    }

    /// Packs that are marked in an epoch.
    pub(crate) fn marked_packs(&self, epoch: &str) -> Result<BTreeSet<PackId>, VaultError> {
        Ok(self.read_marks(epoch)?.into_iter().flat_map(|(_, mark)| mark.packs).collect())
    }

    /// A damaged mark marks nothing: its packs stay until they are marked again.
    fn read_marks(&self, epoch: &str) -> Result<Vec<(ObjectName, Mark)>, VaultError> {
        let mut marks = Vec::new();
        for object in self.store.list(&format!("epochs/{epoch}/marks")).map_err(|e| at(&*self.store, e))? {
            let bytes = self.store.read(&object.name, 1 << 28).map_err(|e| at(&*self.store, e))?;
            match (crate::open::check_hash(&object.name, &bytes), serde_json::from_slice(&bytes)) {
                (Ok(()), Ok(mark)) => marks.push((object.name, mark)),
                _ => tracing::warn!(object = object.name.as_str(), "a damaged mark was passed over"),
            }
        }
        Ok(marks)
    }
}
