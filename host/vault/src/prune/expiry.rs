//! What is past its term in an archive. Nothing here happens by itself: the caller has a person's word.
//!
//! An epoch of which every snapshot goes is deleted as a folder: snapshots, then everything else in it. Its key stays.
//! Of other epochs the snapshots go, and their packs by marks and grace, as in a hot store; nothing is repacked.

use super::{CleanupPlan, CleanupReport, PlannedRemoval, PruneOptions, execute::Run, plan::EpochPlan};
use crate::{
    error::VaultError,
    holds::Holds,
    layout::{self, ObjectKind},
    open::{Vault, at},
    snapshots::{SnapshotList, epoch_of},
    store::Lease,
};
use havun_model::{PackId, retention::Verdict};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// What is past its term. Made by [`Vault::plan_expiry`], shown, carried out once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExpiryPlan {
    /// Every snapshot that goes, with the reason.
    pub remove: Vec<PlannedRemoval>,
    /// Epochs that go completely.
    pub epochs: Vec<ExpiredEpoch>,
    /// What is done in the other epochs; its `remove` is a part of the one above.
    pub rest: CleanupPlan,
    /// Stored bytes that are freed at once.
    pub bytes: u64,
    #[serde(skip)]
    whole: Vec<EpochPlan>,
    #[serde(skip)]
    now: Timestamp,
}

/// An epoch that goes completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpiredEpoch {
    /// `2026`.
    pub epoch: String,
    /// Snapshots in it.
    pub snapshots: u64,
    /// Objects in it, the snapshots included.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Vault {
    /// Plans what goes from an archive, from retention's verdicts. What a hold keeps stays whatever its verdict.
    ///
    /// # Errors
    /// [`VaultError::CannotRemove`] where the store lets nobody remove anything; the store's.
    pub fn plan_expiry(&self, verdicts: &[Verdict], now: Timestamp) -> Result<ExpiryPlan, VaultError> {
        self.check_removes()?;
        let (list, holds) = (self.snapshots()?, self.holds()?);
        let options = PruneOptions { repack: false, ..PruneOptions::default() };
        let mut plan = ExpiryPlan { now, ..ExpiryPlan::default() };
        plan.rest = CleanupPlan { now, options, ..CleanupPlan::default() };
        for epoch in self.epochs()? {
            let mut part = CleanupPlan { now, options: plan.rest.options.clone(), ..CleanupPlan::default() };
            let made = self.plan_epoch(&epoch, &list, &holds, verdicts, &mut part)?;
            plan.remove.extend(part.remove.iter().cloned());
            if self.goes_completely(&made, &list, &holds, now)? {
                plan.epochs.push(self.expired(&made)?);
                plan.whole.push(made);
            } else {
                plan.rest.take(part, made);
            }
        }
        plan.bytes = plan.epochs.iter().map(|e| e.bytes).sum::<u64>() + plan.rest.delete_bytes;
        Ok(plan)
    }

    /// Whether nothing of an epoch stays. One without any snapshot goes only when marks cover all of its packs: an expiry
    /// that was cut short. Otherwise its snapshots may merely be lost, or still on their way.
    fn goes_completely(&self, made: &EpochPlan, list: &SnapshotList, holds: &Holds, now: Timestamp) -> Result<bool, VaultError> {
        let damaged = list.damaged.iter().any(|d| layout::parse(&d.object).is_some_and(|(e, _, _)| e == made.epoch));
        if damaged || !made.kept.is_empty() || made.epoch == epoch_of(now) || holds.covers_epoch(&made.epoch).is_some() {
            return Ok(false);
        }
        if !made.going.is_empty() {
            return Ok(true);
        }
        let marked = self.marked_packs(&made.epoch)?;
        Ok(!marked.is_empty() && self.list_packs(&made.epoch)?.keys().all(|id| marked.contains(id)))
    }

    fn expired(&self, made: &EpochPlan) -> Result<ExpiredEpoch, VaultError> {
        let listed = self.store.list(&format!("epochs/{}", made.epoch)).map_err(|e| at(&*self.store, e))?;
        Ok(ExpiredEpoch {
            epoch: made.epoch.clone(),
            snapshots: made.going.len() as u64,
            objects: listed.len() as u64,
            bytes: listed.iter().map(|l| l.size).sum(),
        })
    }

    /// Carries an expiry out. Whole epochs go under one lease each, so that no copy to the archive comes in between.
    ///
    /// # Errors
    /// [`VaultError::CannotRemove`] before anything is touched; [`VaultError::Locked`]; the store's. What was done stays
    /// done, and the next expiry goes on from there.
    pub fn execute_expiry(&self, plan: ExpiryPlan, holder: &str) -> Result<CleanupReport, VaultError> {
        self.check_removes()?;
        let mut run = Run::new(self, PruneOptions { repack: false, ..PruneOptions::default() }, holder, false);
        for epoch in &plan.whole {
            let lease = self.store.lease(&run.holder, false).map_err(|e| at(&*self.store, e))?;
            self.delete_epoch(&*lease, epoch, plan.now, &mut run.report)?;
        }
        let mut report = run.report;
        if !plan.rest.epochs.is_empty() {
            let rest = self.execute_cleanup(plan.rest, holder, false)?;
            report.add(rest);
        }
        Ok(report)
    }

    fn delete_epoch(&self, lease: &dyn Lease, epoch: &EpochPlan, now: Timestamp, report: &mut CleanupReport) -> Result<(), VaultError> {
        if let Some(why) = self.objection(epoch)? {
            report.notes.push(format!("epoch {} stays: {why}", epoch.epoch));
            return Ok(());
        }
        // The mark tells an expiry that was cut short from snapshots that were lost.
        let packs: BTreeSet<PackId> = self.list_packs(&epoch.epoch)?.into_keys().collect();
        let marked = self.marked_packs(&epoch.epoch)?;
        let unmarked: BTreeSet<PackId> = packs.difference(&marked).copied().collect();
        self.mark_packs(lease, &epoch.epoch, &unmarked, now, &mut CleanupReport::default())?;
        for going in &epoch.going {
            self.remove_counted(lease, &going.object, report)?;
            report.snapshots += 1;
        }
        let listed = self.store.list(&format!("epochs/{}", epoch.epoch)).map_err(|e| at(&*self.store, e))?;
        let (marks, rest): (Vec<_>, Vec<_>) = listed.into_iter().partition(|l| l.name.as_str().contains("/marks/"));
        for object in rest.iter().chain(&marks) {
            report.packs += u64::from(layout::parse(object.name.as_str()).is_some_and(|(_, kind, _)| kind == ObjectKind::Pack));
            self.remove_counted(lease, &object.name, report)?;
        }
        report.epochs.push(epoch.epoch.clone());
        Ok(())
    }

    /// Why an epoch stays after all: something has come since the plan was made.
    fn objection(&self, epoch: &EpochPlan) -> Result<Option<String>, VaultError> {
        let holds = self.holds()?;
        if let Some(why) = holds.covers_epoch(&epoch.epoch) {
            return Ok(Some(why));
        }
        if let Some(why) = epoch.going.iter().find_map(|going| holds.covers_taken(&going.id, &epoch.epoch, going.taken_at)) {
            return Ok(Some(why));
        }
        let known: BTreeSet<&str> = epoch.going.iter().map(|going| going.object.as_str()).collect();
        let listed = self.list_kind(&epoch.epoch, ObjectKind::Snapshot)?;
        Ok(listed.iter().find(|l| !known.contains(l.name.as_str())).map(|l| format!("{} is new", l.name.as_str())))
    }
}

impl CleanupPlan {
    /// Takes over what is planned for one epoch, if there is anything to do.
    fn take(&mut self, part: CleanupPlan, made: EpochPlan) {
        self.keep += part.keep;
        // An epoch of which nothing goes and nothing ever went is not touched: its packs may wait for their snapshots.
        if made.going.is_empty() && made.delete.is_empty() && made.spent_marks.is_empty() {
            return;
        }
        self.remove.extend(part.remove);
        self.mark.extend(part.mark);
        self.mark_bytes += part.mark_bytes;
        self.delete.extend(part.delete);
        self.delete_bytes += part.delete_bytes;
        self.notes.extend(part.notes);
        self.epochs.push(made);
    }
}

impl CleanupReport {
    fn add(&mut self, other: Self) {
        self.snapshots += other.snapshots;
        self.marked += other.marked;
        self.packs += other.packs;
        self.bytes += other.bytes;
        self.left = other.left;
        self.notes.extend(other.notes);
    }
}
