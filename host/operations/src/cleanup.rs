//! Thinning the hot tier: which snapshots go, shown first, then deleted. An archive is touched only where the configuration
//! says `archive_auto_delete = true`, by the rules of `expire`.
//!
//! A snapshot goes from a hot store only when the retention lets it go, when every archive of the project (where it has
//! any) surely holds it, and when it is not the only copy of something that the law wants kept. Nothing goes after a
//! failed run: the newest good snapshots may be all that is left.
//!
//! Shape of `havun-backup cleanup --json`: one [`CleanupOutcome`].

use crate::{
    audit::LogEnd,
    config::{ProjectConfig, Tier},
    context::{Context, new_run_id},
    error::{OperationError, exit, one_line},
    expire::{PreparedExpiry, StoreExpiry},
    holds::AllHolds,
    project::{self, vault_error},
    replication,
    report::{Failure, SCHEMA_VERSION, combined_status},
    scrub::state_file,
};
use havun_model::{
    ProjectName, SnapshotId, StoreName,
    retention::{Candidate, Circumstances, Clock, Verdict, decide_hot},
};
use havun_vault::{CleanupPlan, StoredSnapshot, Vault, VaultError, scrub_status};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// So many good snapshots stay whatever their age.
pub const FLOOR: usize = 3;

/// Which projects.
#[derive(Debug, Clone, Default)]
pub struct CleanupOptions {
    /// These only; empty means all.
    pub projects: Vec<String>,
    /// A person has looked at the clock: gaps and leaps in the times of the snapshots say nothing.
    pub clock_is_right: bool,
}

/// A clean-up that is ready to begin.
pub struct PreparedCleanup<'a> {
    cx: &'a Context,
    clock_is_right: bool,
    expiry: PreparedExpiry<'a>,
    stores: Vec<(ProjectName, StoreName, Vault, CleanupPlan)>,
    outcome: CleanupOutcome,
}

/// What a clean-up would do, or did.
#[derive(Debug, Clone, Serialize)]
pub struct CleanupOutcome {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// Nothing has been deleted (yet).
    pub dry_run: bool,
    /// The operator stopped it.
    pub interrupted: bool,
    /// Each hot store of each project.
    pub stores: Vec<StoreCleanup>,
    /// Each archive of the projects whose `archive_auto_delete` is true.
    pub archives: Vec<StoreExpiry>,
}

/// One hot store of one project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreCleanup {
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// Every snapshot with its verdict, newest first.
    pub snapshots: Vec<SnapshotVerdict>,
    /// Packs that nothing will need; deleted by a clean-up a day later.
    pub packs_marked: u64,
    /// Their stored bytes.
    pub bytes_marked: u64,
    /// Packs marked earlier that go now.
    pub packs_deleted: u64,
    /// Stored bytes that are freed now.
    pub bytes_freed: u64,
    /// Why nothing is cleaned up here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// One snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotVerdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reason: String,
}

impl CleanupOutcome {
    /// 0; 3 when some stores failed, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        let hot = self.stores.iter().map(|s| s.failure.as_ref().map_or(exit::OK, |f| f.exit_status));
        combined_status(&hot.chain(self.archives.iter().map(StoreExpiry::exit_status)).collect::<Vec<_>>())
    }
}

/// Plans a clean-up. Writes nothing.
///
/// # Errors
/// [`OperationError::UnknownProject`]. What is wrong with a store is in the outcome.
pub fn prepare<'a>(cx: &'a Context, options: &CleanupOptions) -> Result<PreparedCleanup<'a>, OperationError> {
    let run_id = new_run_id(cx.now())?;
    let outcome = CleanupOutcome {
        schema_version: SCHEMA_VERSION,
        run_id: run_id.clone(),
        dry_run: true,
        interrupted: false,
        stores: Vec::new(),
        archives: Vec::new(),
    };
    let expiry = PreparedExpiry::new(cx, run_id, options.clock_is_right);
    let mut prepared = PreparedCleanup { cx, clock_is_right: options.clock_is_right, expiry, stores: Vec::new(), outcome };
    for project in project::select(cx, &options.projects)? {
        for name in &project.stores {
            if cx.config.stores.get(name).is_some_and(|store| store.tier == Tier::Hot) {
                cx.check_cancelled()?;
                prepared.store(project, name);
            }
        }
        // An archive is only ever shortened by itself where the configuration says so.
        if project.retention.archive_auto_delete {
            prepared.expiry.project(project, None, failed_run(cx, project).as_deref())?;
        }
    }
    prepared.outcome.archives.clone_from(&prepared.expiry.outcome().stores);
    Ok(prepared)
}

impl PreparedCleanup<'_> {
    /// What it would do.
    pub fn outcome(&self) -> &CleanupOutcome {
        &self.outcome
    }

    /// Does it. Each store leaves a row in `backup_logs`.
    ///
    /// # Errors
    /// [`OperationError::Audit`]. What else goes wrong is in the outcome.
    pub fn execute(mut self) -> Result<CleanupOutcome, OperationError> {
        self.outcome.dry_run = false;
        for (project, name, vault, plan) in std::mem::take(&mut self.stores) {
            if self.cx.cancel.is_cancelled() {
                self.outcome.interrupted = true;
                break;
            }
            let Some(line) = self.outcome.stores.iter_mut().find(|line| line.project == project && line.store == name) else { continue };
            clean(self.cx, &self.outcome.run_id, &vault, plan, self.clock_is_right, line)?;
        }
        let expired = self.expiry.execute_automatic()?;
        self.outcome.interrupted |= expired.interrupted;
        self.outcome.archives = expired.stores;
        Ok(self.outcome)
    }

    fn store(&mut self, project: &ProjectConfig, name: &StoreName) {
        let mut line = StoreCleanup {
            project: project.name.clone(),
            store: name.clone(),
            snapshots: Vec::new(),
            packs_marked: 0,
            bytes_marked: 0,
            packs_deleted: 0,
            bytes_freed: 0,
            skipped: no_term(project).or_else(|| failed_run(self.cx, project)),
            failure: None,
        };
        if line.skipped.is_none() {
            match self.plan(project, name, &mut line) {
                Ok(Some((vault, plan))) => self.stores.push((project.name.clone(), name.clone(), vault, plan)),
                Ok(None) => line.skipped = Some("there is no vault yet".to_owned()),
                Err(error) => line.failure = Some(error.to_failure()),
            }
        }
        self.outcome.stores.push(line);
    }

    fn plan(
        &self,
        project: &ProjectConfig,
        name: &StoreName,
        line: &mut StoreCleanup,
    ) -> Result<Option<(Vault, CleanupPlan)>, OperationError> {
        let cx = self.cx;
        let store = project::open_store(cx, &project.name, name)?;
        let vault = match project::open_vault(cx, &project.name, &store) {
            Err(error) if project::is_no_vault(&error) => return Ok(None),
            other => other?,
        };
        let failed = |e| vault_error(&project.name, name, e);
        let list = vault.snapshots().map_err(failed)?;
        let zone = cx.zone();
        let candidates: Vec<Candidate> = list.snapshots.iter().map(|s| Candidate::hot(s.id, &s.snapshot, &zone)).collect();
        let held = AllHolds::of(cx, project)?.held(&list.snapshots);
        let clock = if self.clock_is_right { Clock::Confirmed } else { Clock::Compared(&[]) };
        let circumstances = Circumstances { now: cx.now(), zone: &zone, held: &held, clock };
        let mut verdicts = decide_hot(&candidates, project.retention.hot, FLOOR, &circumstances);
        let going: BTreeSet<SnapshotId> = verdicts.iter().filter(|v| !v.keep).map(|v| v.id).collect();
        let archived =
            if going.is_empty() { Archived::Asked(Vec::new()) } else { Archived::of(cx, project, &vault, &list.snapshots, &going) };
        for verdict in verdicts.iter_mut().filter(|v| !v.keep) {
            let retain_until = list.snapshots.iter().find(|s| s.id == verdict.id).map(|s| s.snapshot.retention.retain_until);
            if let Some(reason) = archived.objection(verdict.id, retain_until, cx.now()) {
                *verdict = Verdict { id: verdict.id, keep: true, reason };
            }
        }
        let plan = vault.plan_cleanup(&verdicts, cx.now(), &cx.prune_options()).map_err(failed)?;
        line.snapshots = verdicts.iter().filter_map(|v| verdict_line(v, &list.snapshots)).collect();
        (line.packs_marked, line.bytes_marked) = (plan.mark.len() as u64, plan.mark_bytes);
        (line.packs_deleted, line.bytes_freed) = (plan.delete.len() as u64, plan.delete_bytes);
        Ok(Some((vault, plan)))
    }
}

fn verdict_line(verdict: &Verdict, snapshots: &[StoredSnapshot]) -> Option<SnapshotVerdict> {
    let taken_at = snapshots.iter().find(|s| s.id == verdict.id)?.snapshot.started_at;
    Some(SnapshotVerdict { id: verdict.id, taken_at, keep: verdict.keep, reason: verdict.reason.clone() })
}

/// A default is nobody's decision: what a person has not said deletes nothing.
fn no_term(project: &ProjectConfig) -> Option<String> {
    let name = &project.name;
    (!project.retention.explicit_hot).then(|| format!("`hot` is not set in [projects.{name}.retention]: nothing is deleted before it is"))
}

/// Why a project is passed over: its last run failed, or nobody can say whether it did.
fn failed_run(cx: &Context, project: &ProjectConfig) -> Option<String> {
    let rows = cx.audit().and_then(|audit| audit.logs(Some(project.name.as_str()), 1000).map_err(|e| OperationError::Audit(Box::new(e))));
    match rows {
        Err(error) => Some(format!("whether the last run was good is unknown: {}", one_line(&error))),
        Ok(rows) => {
            let last = rows.into_iter().find(|row| row.kind == "backup" && row.action == "run" && row.status != "running")?;
            let bad = !matches!(last.status.as_str(), "ok" | "partial");
            bad.then(|| format!("the last run ({}) is {}: nothing is deleted before a good one", last.started_at, last.status))
        }
    }
}

/// What the archives of a project hold of the snapshots that are to go.
enum Archived {
    /// It has none; `statutory` says whether the law wants its backups kept all the same.
    None { statutory: bool },
    /// Each archive with those that it holds complete or is not to have any more, or why it could not be asked.
    Asked(Vec<(StoreName, Result<BTreeSet<SnapshotId>, String>)>),
}

impl Archived {
    fn of(cx: &Context, project: &ProjectConfig, hot: &Vault, list: &[StoredSnapshot], going: &BTreeSet<SnapshotId>) -> Self {
        let is_archive = |name: &&StoreName| cx.config.stores.get(*name).is_some_and(|s| s.tier == Tier::Archive);
        let archives: Vec<&StoreName> = project.stores.iter().filter(is_archive).collect();
        if archives.is_empty() {
            return Self::None { statutory: !project.compliance.is_empty() };
        }
        let ask = |name: &&StoreName| {
            let mut settled = match complete(cx, project, name, going) {
                Err(error) if project::is_no_vault(&error) => BTreeSet::new(),
                other => other.map_err(|error| one_line(&error))?,
            };
            settled.extend(left_out(cx, project, name, hot, list, going).map_err(|error| one_line(&error))?);
            Ok(settled)
        };
        Self::Asked(archives.iter().map(|name| ((*name).clone(), ask(name))).collect())
    }

    /// Why a snapshot must stay although the hot term lets it go. Every archive has to have it: one that was away for longer
    /// than the hot term gets what it missed from the hot store, and from nowhere else.
    fn objection(&self, id: SnapshotId, retain_until: Option<Timestamp>, now: Timestamp) -> Option<String> {
        match self {
            Self::Asked(archives) => archives.iter().find_map(|(name, held)| match held {
                Ok(ids) if ids.contains(&id) => None,
                Ok(_) => Some(format!("archive `{name}` does not have it whole (`havun-backup health` says why)")),
                Err(why) => Some(format!("archive `{name}` cannot be asked whether it has it: {why}")),
            }),
            Self::None { statutory: true } if retain_until.is_none_or(|until| until >= now) => {
                Some("the only copy, and the law wants it kept (the project has no archive)".to_owned())
            }
            Self::None { .. } => None,
        }
    }
}

/// What an archive is never sent (again), as its term there has passed.
fn left_out(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    hot: &Vault,
    list: &[StoredSnapshot],
    going: &BTreeSet<SnapshotId>,
) -> Result<BTreeSet<SnapshotId>, VaultError> {
    let Some(selection) = replication::selection(cx, project, name) else { return Ok(BTreeSet::new()) };
    let mut out = BTreeSet::new();
    for stored in list.iter().filter(|stored| going.contains(&stored.id)) {
        if selection.leaves_out(hot, stored)? {
            out.insert(stored.id);
        }
    }
    Ok(out)
}

fn complete(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    going: &BTreeSet<SnapshotId>,
) -> Result<BTreeSet<SnapshotId>, OperationError> {
    let store = project::open_store(cx, &project.name, name)?;
    let vault = project::open_vault(cx, &project.name, &store)?;
    // Size and name say nothing of bytes that a scrub has found to be damaged: until they are mended, the copy here may be the last.
    let status = scrub_status(&state_file(cx, project, name), &vault.info().vault_id);
    if status.is_some_and(|status| !status.damage.is_empty()) {
        tracing::warn!(store = %name, project = %project.name, "the archive has damage that stands; nothing counts as archived there");
        return Ok(BTreeSet::new());
    }
    vault.complete_among(going).map_err(|e| vault_error(&project.name, name, e))
}

fn clean(
    cx: &Context,
    run_id: &str,
    vault: &Vault,
    plan: CleanupPlan,
    clock_is_right: bool,
    line: &mut StoreCleanup,
) -> Result<(), OperationError> {
    cx.observer.step(&format!("cleaning up {} in `{}`", line.project, line.store));
    let audit = cx.audit()?;
    let mut start = cx.log_start(run_id, line.project.as_str(), "cleanup", cx.now());
    start.stores = vec![line.store.to_string()];
    let row = audit.begin_backup(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    match vault.execute_cleanup(plan, &cx.holder("cleanup"), false) {
        Ok(done) => {
            (line.packs_marked, line.packs_deleted, line.bytes_freed) = (done.marked, done.packs, done.bytes);
            let gone: Vec<SnapshotId> = line.snapshots.iter().filter(|s| !s.keep).map(|s| s.id).collect();
            if let Some(project) = cx.config.projects.get(&line.project) {
                crate::health::forget(cx, project, &line.store, &vault.info().vault_id, &gone);
            }
        }
        Err(error) => line.failure = Some(vault_error(&line.project, &line.store, error).to_failure()),
    }
    let gone: Vec<&SnapshotVerdict> = line.snapshots.iter().filter(|s| !s.keep).collect();
    let end = LogEnd {
        status: if line.failure.is_some() { "failed" } else { "ok" }.to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: gone.len() as u64,
        bytes: line.bytes_freed,
        bytes_added: 0,
        problems: u64::from(line.failure.is_some()),
        message: line.failure.as_ref().map(Failure::one_line).unwrap_or_default(),
        details: serde_json::json!({
            "removed": gone, "packs_marked": line.packs_marked, "packs_deleted": line.packs_deleted, "clock_is_right": clock_is_right,
        }),
    };
    audit.end(row, &end).map_err(|e| OperationError::Audit(Box::new(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SnapshotId {
        SnapshotId::from_bytes([n; 32])
    }

    #[test]
    fn what_an_archive_lacks_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let name = |name: &str| StoreName::new(name.to_owned()).unwrap();
        let has = |ids: &[u8]| Ok(ids.iter().map(|n| id(*n)).collect());
        let archived = Archived::Asked(vec![(name("near"), has(&[1, 2])), (name("far"), has(&[1]))]);
        assert!(archived.objection(id(1), None, now).is_none());
        assert!(archived.objection(id(2), None, now).unwrap().starts_with("archive `far` does not have it whole"));
        let away = Archived::Asked(vec![(name("near"), has(&[1])), (name("far"), Err("it is away".to_owned()))]);
        assert!(away.objection(id(1), None, now).unwrap().contains("`far` cannot be asked whether it has it: it is away"));
    }

    #[test]
    fn the_only_copy_stays_for_its_statutory_term() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let only = Archived::None { statutory: true };
        assert!(only.objection(id(1), Some("2034-01-01T00:00:00Z".parse().unwrap()), now).is_some());
        assert!(only.objection(id(1), Some("2029-01-01T00:00:00Z".parse().unwrap()), now).is_none());
        assert!(Archived::None { statutory: false }.objection(id(1), None, now).is_none());
    }
}
