//! Deleting from archives what is past its term: by a person, with a reason and a typed confirmation; by a clean-up only
//! where the configuration says so.
//!
//! A snapshot may go when the later of what it was promised and what the configuration says today has passed, no hold of
//! any store keeps it, the term was said and not defaulted, and the clock is beyond doubt. The row in `backup_logs` is
//! begun before anything is deleted, and says afterwards what went.
//!
//! Shape of `havun-backup archive expire --json`: one [`ExpiryOutcome`].

use crate::{
    audit::{AuditError, LogEnd, LogId},
    config::{ProjectConfig, Tier},
    context::{Context, new_run_id},
    error::{OperationError, exit},
    holds::AllHolds,
    list::{check_store, uses},
    losses,
    project::{self, vault_error},
    report::{Failure, SCHEMA_VERSION, combined_status},
};
use havun_model::{
    ProjectName, SnapshotId, StoreName,
    retention::{Candidate, Circumstances, Clock, decide_archive},
};
use havun_vault::{ExpiredEpoch, ExpiryPlan, PlannedRemoval, Vault, VaultError, audit_replica};
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf};

/// Which archives.
#[derive(Debug, Clone, Default)]
pub struct ExpireOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
    /// A person has looked at the clock.
    pub clock_is_right: bool,
}

/// What is past its term, or what went. Shape of `havun-backup archive expire --json`.
#[derive(Debug, Clone, Serialize)]
pub struct ExpiryOutcome {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// Nothing has been deleted (yet).
    pub dry_run: bool,
    /// The operator stopped it.
    pub interrupted: bool,
    /// What a person has to type; none where nothing is past its term, or several projects have something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<String>,
    /// Each archive of each project.
    pub stores: Vec<StoreExpiry>,
}

/// One archive of one project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreExpiry {
    /// The project.
    pub project: ProjectName,
    /// The store.
    pub store: StoreName,
    /// Snapshots that lie in it.
    pub snapshots: u64,
    /// Those that go, oldest first.
    pub remove: Vec<PlannedRemoval>,
    /// How many are past their term and held.
    pub held: u64,
    /// Epochs that go completely.
    pub epochs: Vec<ExpiredEpoch>,
    /// Stored bytes that are freed now; what other epochs share is marked, and freed a day later.
    pub bytes: u64,
    /// What was left alone, and why.
    pub notes: Vec<String>,
    /// Why nothing goes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl ExpiryOutcome {
    /// 0; 3 when some stores failed, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        combined_status(&self.stores.iter().map(StoreExpiry::exit_status).collect::<Vec<_>>())
    }
}

impl StoreExpiry {
    pub(crate) fn exit_status(&self) -> u8 {
        self.failure.as_ref().map_or(exit::OK, |failure| failure.exit_status)
    }
}

/// An expiry that is ready to begin.
pub struct PreparedExpiry<'a> {
    cx: &'a Context,
    clock_is_right: bool,
    work: Vec<(usize, Vault, ExpiryPlan)>,
    outcome: ExpiryOutcome,
}

/// Finds what is past its term. Writes nothing.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`]. What is wrong with a store is in the outcome.
pub fn prepare<'a>(cx: &'a Context, options: &ExpireOptions) -> Result<PreparedExpiry<'a>, OperationError> {
    check_store(cx, options.store.as_deref())?;
    let mut prepared = PreparedExpiry::new(cx, new_run_id(cx.now())?, options.clock_is_right);
    for project in project::select(cx, &options.projects)?.into_iter().filter(|p| uses(p, options.store.as_deref())) {
        prepared.project(project, options.store.as_deref(), None)?;
    }
    prepared.outcome.confirmation = prepared.confirmation();
    Ok(prepared)
}

impl<'a> PreparedExpiry<'a> {
    pub(crate) fn new(cx: &'a Context, run_id: String, clock_is_right: bool) -> Self {
        let outcome = ExpiryOutcome {
            schema_version: SCHEMA_VERSION,
            run_id,
            dry_run: true,
            interrupted: false,
            confirmation: None,
            stores: Vec::new(),
        };
        Self { cx, clock_is_right, work: Vec::new(), outcome }
    }

    /// What it would do.
    pub fn outcome(&self) -> &ExpiryOutcome {
        &self.outcome
    }

    /// Does it, after a person typed the confirmation.
    ///
    /// # Errors
    /// [`OperationError::NotConfirmed`] when `confirmed` is not exactly that text; [`OperationError::Audit`]. What else
    /// goes wrong is in the outcome.
    pub fn execute(self, reason: &str, confirmed: &str) -> Result<ExpiryOutcome, OperationError> {
        match &self.outcome.confirmation {
            Some(text) if text == confirmed => {}
            expected => return Err(OperationError::NotConfirmed { expected: expected.clone() }),
        }
        self.carry_out("archive-expire", reason)
    }

    /// As the configuration asks for it.
    pub(crate) fn execute_automatic(self) -> Result<ExpiryOutcome, OperationError> {
        self.carry_out("archive-auto-delete", "`archive_auto_delete` is true, and the term has passed")
    }

    fn carry_out(mut self, action: &str, reason: &str) -> Result<ExpiryOutcome, OperationError> {
        self.outcome.dry_run = false;
        for (place, vault, plan) in std::mem::take(&mut self.work) {
            if self.cx.cancel.is_cancelled() {
                self.outcome.interrupted = true;
                break;
            }
            let Some(line) = self.outcome.stores.get_mut(place) else { continue };
            delete(self.cx, &self.outcome.run_id, (action, reason, self.clock_is_right), &vault, plan, line)?;
        }
        Ok(self.outcome)
    }

    /// Every archive of a project, or the one that is named.
    pub(crate) fn project(&mut self, project: &ProjectConfig, only: Option<&str>, skipped: Option<&str>) -> Result<(), OperationError> {
        let archives = project.stores.iter().filter(|name| self.cx.config.stores.get(*name).is_some_and(|s| s.tier == Tier::Archive));
        for name in archives.filter(|name| only.is_none_or(|only| only == name.as_str())) {
            self.cx.check_cancelled()?;
            let mut line = StoreExpiry::new(project, name);
            line.skipped = skipped.map(str::to_owned).or_else(|| no_term(project));
            if line.skipped.is_none() {
                match plan(self.cx, project, name, self.clock_is_right, &mut line) {
                    Ok(Some((vault, plan))) => self.work.push((self.outcome.stores.len(), vault, plan)),
                    Ok(None) => {}
                    Err(error) => line.failure = Some(error.to_failure()),
                }
            }
            self.outcome.stores.push(line);
        }
        Ok(())
    }

    fn confirmation(&self) -> Option<String> {
        let due = || self.outcome.stores.iter().filter(|line| !line.remove.is_empty());
        let project = due().next()?.project.clone();
        if due().any(|line| line.project != project) {
            return None;
        }
        let ids: BTreeSet<SnapshotId> = due().flat_map(|line| &line.remove).map(|removal| removal.id).collect();
        Some(format!("delete {} of {project}", ids.len()))
    }
}

impl StoreExpiry {
    fn new(project: &ProjectConfig, store: &StoreName) -> Self {
        Self {
            project: project.name.clone(),
            store: store.clone(),
            snapshots: 0,
            remove: Vec::new(),
            held: 0,
            epochs: Vec::new(),
            bytes: 0,
            notes: Vec::new(),
            skipped: None,
            failure: None,
        }
    }
}

/// A default is nobody's decision.
fn no_term(project: &ProjectConfig) -> Option<String> {
    let name = &project.name;
    (!project.retention.explicit_archive)
        .then(|| format!("`archive` is not set in [projects.{name}.retention]: nothing is deleted before it is"))
}

fn plan(
    cx: &Context,
    project: &ProjectConfig,
    name: &StoreName,
    clock_is_right: bool,
    line: &mut StoreExpiry,
) -> Result<Option<(Vault, ExpiryPlan)>, OperationError> {
    cx.observer.step(&format!("looking for what is past its term: {} in `{name}`", project.name));
    let failed = |e| vault_error(&project.name, name, e);
    let store = project::open_store(cx, &project.name, name)?;
    let vault = match project::open_vault(cx, &project.name, &store) {
        Err(error) if project::is_no_vault(&error) => {
            line.skipped = Some("there is no vault yet".to_owned());
            return Ok(None);
        }
        other => other?,
    };
    let audit = audit_replica(&cx.catalogue(&project.name, name), &vault.info().vault_id, &*store.store).map_err(failed)?;
    if !audit.forgotten.is_empty() {
        line.skipped = Some(format!(
            "what is known of it is damaged ({}), and nobody can say what is missing: `havun-backup archive push --full --store {name}` lists it anew",
            audit.forgotten.join(", ")
        ));
        return Ok(None);
    }
    if let Some((object, _)) = audit.missing.first() {
        // The memory of what must be there goes with an expiry; what somebody took away has to be dealt with before.
        line.skipped = Some(format!("{} objects are gone from it, among them {object}: see `havun-backup health`", audit.missing.len()));
        return Ok(None);
    }
    let (lost, _) = losses::standing(cx, &project.name, name, &vault.info().vault_id, &*store.store)?;
    if let Some(object) = lost.keys().next() {
        line.skipped = Some(format!("{} objects were lost from it, among them {object}: see `havun-backup health`", lost.len()));
        return Ok(None);
    }
    let list = vault.snapshots().map_err(failed)?;
    line.snapshots = list.snapshots.len() as u64;
    let candidates: Vec<Candidate> = list.snapshots.iter().map(|s| Candidate::archived(s.id, &s.snapshot)).collect();
    let holds = AllHolds::of(cx, project)?;
    if let Some(away) = holds.away() {
        // A hold may have been placed there that this archive has not heard of, and nothing brings back what is deleted.
        line.skipped = Some(format!("nothing is deleted while a store that may know of a hold cannot be asked: {away}"));
        return Ok(None);
    }
    let held = holds.held(&list.snapshots);
    let zone = cx.zone();
    let clock = if clock_is_right { Clock::Confirmed } else { Clock::Compared(&[]) };
    let circumstances = Circumstances { now: cx.now(), zone: &zone, held: &held, clock };
    let verdicts = decide_archive(&candidates, Some(project.retention.archive), &circumstances);
    line.held = verdicts.iter().filter(|verdict| verdict.reason.starts_with("held: ")).count() as u64;
    let plan = match vault.plan_expiry(&verdicts, cx.now()) {
        Err(error @ VaultError::CannotRemove { .. }) => {
            let due = verdicts.iter().filter(|verdict| !verdict.keep).count();
            line.skipped = Some(format!("{error}: {due} snapshots are past their term, and whoever runs the store can delete them there"));
            return Ok(None);
        }
        other => other.map_err(failed)?,
    };
    line.remove.clone_from(&plan.remove);
    line.remove.sort_by_key(|removal| removal.taken_at);
    line.epochs.clone_from(&plan.epochs);
    line.bytes = plan.bytes;
    line.notes.clone_from(&plan.rest.notes);
    // Marks of an earlier expiry are carried out with the next one, or when their grace is over.
    let idle = plan.remove.is_empty() && plan.epochs.is_empty() && plan.rest.delete.is_empty();
    Ok((!idle).then_some((vault, plan)))
}

/// Forgets what the replica was known to hold.
fn forget(cx: &Context, line: &StoreExpiry) -> Result<(), OperationError> {
    let folder = cx.catalogue(&line.project, &line.store);
    let failed = |path: PathBuf| move |source| OperationError::Io { doing: "cannot remove", path, source };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed(folder.clone()))?,
    };
    for entry in entries {
        let path = entry.map_err(failed(folder.clone()))?.path();
        // What was lost and accepted stays known.
        if path.extension().is_some_and(|extension| extension == "objects") {
            std::fs::remove_file(&path).map_err(failed(path))?;
        }
    }
    Ok(())
}

fn delete(
    cx: &Context,
    run_id: &str,
    (action, reason, clock_is_right): (&str, &str, bool),
    vault: &Vault,
    plan: ExpiryPlan,
    line: &mut StoreExpiry,
) -> Result<(), OperationError> {
    cx.observer.step(&format!("deleting from {} in `{}`", line.project, line.store));
    let audit = cx.audit()?;
    let failed = |e: AuditError| OperationError::Audit(Box::new(e));
    let mut start = cx.log_start(run_id, line.project.as_str(), action, cx.now());
    start.stores = vec![line.store.to_string()];
    start.target = format!("{} snapshots: {reason}", line.remove.len());
    let row: LogId = audit.begin_backup(&start).map_err(failed)?;
    let mut removed = 0;
    // What is known of the replica is no longer so, however this ends: the next copy lists it.
    forget(cx, line)?;
    match vault.execute_expiry(plan, &cx.holder(action)) {
        Ok(done) => {
            removed = done.snapshots;
            line.bytes = done.bytes;
            line.notes.extend(done.left.into_iter().chain(done.notes));
        }
        Err(error) => line.failure = Some(vault_error(&line.project, &line.store, error).to_failure()),
    }
    // A copy that ran meanwhile may have remembered what has just gone.
    forget(cx, line)?;
    let end = LogEnd {
        status: if line.failure.is_some() { "failed" } else { "ok" }.to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: removed,
        bytes: line.bytes,
        bytes_added: 0,
        problems: u64::from(line.failure.is_some()),
        message: line.failure.as_ref().map_or_else(|| reason.to_owned(), Failure::one_line),
        details: serde_json::json!({
            "reason": reason, "planned": line.remove, "removed": removed, "epochs": line.epochs, "notes": line.notes,
            "clock_is_right": clock_is_right,
        }),
    };
    audit.end(row, &end).map_err(failed)
}
