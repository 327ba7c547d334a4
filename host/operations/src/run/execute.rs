//! One project, from its plan to its copies in every store.

use super::{
    ProjectRun, RunMetrics, RunOptions, RunStats, StoreState, anomalies,
    items::{self, milliseconds},
    lease::HeldLease,
    pause::Pause,
    plan::{Planned, plan},
};
use crate::{
    config::{self, ProjectConfig, SPOOL},
    context::{Context, PROGRAM},
    error::OperationError,
    project::{self, OpenStore, vault_error},
    replication,
};
use havun_model::{ItemRecord, Outcome, RetentionRecord, SnapshotStrategy, StoreName, anomalies::Observation};
use havun_vault::{BackupOptions, Committed, SnapshotDraft, Vault, VaultError, store::Promises};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// zstd level of what is stored.
const LEVEL: i32 = 3;

/// Backs one project up into its primary store and copies it to the others.
///
/// # Errors
/// Whatever kept a snapshot from being committed. What went wrong afterwards is in `run`.
pub(super) fn execute(
    cx: &Context,
    project: &ProjectConfig,
    options: &RunOptions,
    run_id: &str,
    lease: &HeldLease,
    run: &mut ProjectRun,
) -> Result<(), OperationError> {
    let planned = plan(cx, project, run_id)?;
    run.warnings.clone_from(&planned.plan.warnings);
    run.plan = Some(planned.plan.clone());
    let (primary, replicas) = (open_primary(cx, project)?, project::replicas(cx, project));
    let (vault, notes) = project::open_or_create(cx, project, &primary, &replicas)?;
    run.warnings.extend(notes);
    run.warnings.extend(standing_warnings(cx, project, &vault, &primary));
    let (committed, observation) = back_up(cx, project, options, run_id, lease, &planned, &vault, &primary, run)?;
    note_commit(run, &committed);
    anomalies::keep(cx, project, &primary.name, &vault, run, &observation, run_id);
    let promises = Some(primary.store.promises());
    run.stores.push(StoreState { promises, notes: primary.store.notes(), ..StoreState::stored(cx, &primary.name) });
    let began = cx.now();
    for state in replication::copy_all(cx, project, &vault, Some(committed.stored.id), &replicas, false, run_id) {
        run.problems.extend(state.not_copied());
        run.stores.push(state);
    }
    if let Some(metrics) = &mut run.metrics {
        metrics.steps_ms.insert("replicate".to_owned(), milliseconds(began, cx.now()));
    }
    run.settle(committed.stored.snapshot.outcome);
    cx.check_cancelled()
}

/// The store that the run writes to must open; the others are asked when there is something to copy.
fn open_primary(cx: &Context, project: &ProjectConfig) -> Result<OpenStore, OperationError> {
    let name = project::primary(cx, project);
    let name = name.ok_or_else(|| OperationError::NoUsableStore { project: project.name.clone(), reasons: Vec::new() })?;
    project::open_store(cx, &project.name, &name)
}

fn standing_warnings(cx: &Context, project: &ProjectConfig, vault: &Vault, primary: &OpenStore) -> Vec<String> {
    let mut warnings = Vec::new();
    if vault.is_encrypted() != project.encryption {
        let made = if vault.is_encrypted() { "with" } else { "without" };
        warnings
            .push(format!("the vault was made {made} encryption and stays so: `encryption` in [projects.{}] says otherwise", project.name));
    }
    if vault.is_encrypted() && cx.config.keys.escrow.is_empty() {
        warnings.push("there is no escrow key: without this host's key nobody can read these backups".to_owned());
    }
    let Promises { durable_file, durable_name, no_overwrite, .. } = primary.store.promises();
    if !(durable_file && durable_name && no_overwrite) {
        warnings.push(format!("store `{}` cannot promise that a finished object survives a power cut", primary.name));
    }
    warnings
}

#[expect(clippy::too_many_arguments, reason = "the pieces of one run, each from another step")]
fn back_up(
    cx: &Context,
    project: &ProjectConfig,
    options: &RunOptions,
    run_id: &str,
    lease: &HeldLease,
    planned: &Planned,
    vault: &Vault,
    primary: &OpenStore,
    run: &mut ProjectRun,
) -> Result<(Committed, Observation), OperationError> {
    let failed = |e: VaultError| vault_error(&project.name, &primary.name, e);
    let backup = BackupOptions {
        now: run.started_at,
        recipients: cx.recipients()?,
        state_dir: cx.config.host.state_dir.join("cache"),
        threads: cx.threads(),
        level: LEVEL,
        force_lease: options.force,
        holder: cx.holder("run"),
        lease_wait: Default::default(),
        cancel: cx.cancel.clone(),
        progress: cx.progress(),
    };
    let mut session = vault.begin_backup(backup).map_err(failed)?;
    session.pause_with(std::sync::Arc::clone(&cx.sleeper));
    session.remember_config(config::portable(&cx.config, &project.name));
    run.parent = session.parent().map(|parent| parent.id);
    let mut pause = Pause::begin(cx, project, run_id)?;
    let stored =
        items::Items { cx, project, planned, store: &primary.name, root: project.root.clone() }.store_all(&mut session, &mut pause);
    let (consistency, paused) = pause.end();
    run.warnings.extend(paused.warnings);
    run.problems.extend(paused.problems);
    run.consistency.clone_from(&consistency);
    session.remember_consistency(consistency);
    let mut stored = stored?;
    run.items = std::mem::take(&mut stored.records);
    run.problems.extend(problems(&run.items));
    run.warnings.extend(notes(&run.items));
    if run.items.values().all(|item| item.outcome == Outcome::Failed) {
        return Err(OperationError::NothingStored { project: project.name.clone(), reasons: problems(&run.items).collect() });
    }
    let observation = anomalies::judge(cx, project, &primary.name, vault, run, &stored, session.stats());
    session.remember_observation(observation.clone());
    lease.check()?;
    let began = cx.now();
    let committed = session.finish(draft(cx, project, planned, run_id, run)).map_err(failed)?;
    stored.steps_ms.insert("commit".to_owned(), milliseconds(began, cx.now()));
    run.metrics = Some(metrics(run, &committed, stored.steps_ms, cx.now()));
    Ok((committed, observation))
}

fn metrics(run: &ProjectRun, committed: &Committed, steps_ms: BTreeMap<String, u64>, now: Timestamp) -> RunMetrics {
    let stats = &committed.stats;
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    RunMetrics {
        steps_ms,
        busy_ms: committed.times,
        bytes_per_second: stats.bytes_read.saturating_mul(1000).checked_div(milliseconds(run.started_at, now)).unwrap_or(0),
        deduplicated: rounded(share(stats.bytes_read.saturating_sub(stats.bytes_new), stats.bytes_read)),
        compression: rounded(share(stats.bytes_new, if stats.bytes_new == 0 { 0 } else { stats.bytes_added })),
    }
}

fn draft(cx: &Context, project: &ProjectConfig, planned: &Planned, run_id: &str, run: &ProjectRun) -> SnapshotDraft {
    let whole = run.items.values().all(|item| item.outcome == Outcome::Ok);
    let info = planned.strategy.info();
    SnapshotDraft {
        title: project.title.clone(),
        run_id: run_id.to_owned(),
        host: cx.config.host.name.clone(),
        root: project.root.to_string_lossy().into_owned(),
        outcome: if whole { Outcome::Ok } else { Outcome::Partial },
        strategy: SnapshotStrategy { id: info.id.clone(), version: info.version.clone(), digest: planned.strategy.digest() },
        plan: planned.plan.clone(),
        items: run.items.clone(),
        retention: RetentionRecord {
            hot: project.retention.hot.to_string(),
            archive: project.retention.archive.to_string(),
            retain_until: project.retention.archive.keep_until(run.started_at, &cx.zone()),
        },
        audit_head: String::new(),
        warnings: run.warnings.clone(),
        program: PROGRAM.to_owned(),
        ended_at: cx.now(),
    }
}

fn problems(items: &BTreeMap<String, ItemRecord>) -> impl Iterator<Item = String> {
    items.iter().flat_map(|(name, item)| item.problems.iter().map(move |problem| format!("{name}: {problem}")))
}

/// What the operator should know of the items.
fn notes(items: &BTreeMap<String, ItemRecord>) -> impl Iterator<Item = String> {
    items.iter().flat_map(|(name, item)| {
        let database = item.database.iter().flat_map(|database| &database.warnings);
        item.notes.iter().chain(database).map(move |note| format!("{name}: {note}"))
    })
}

fn note_commit(run: &mut ProjectRun, committed: &Committed) {
    let (stored, stats) = (&committed.stored, &committed.stats);
    run.snapshot = Some(stored.id);
    run.stats = Some(RunStats {
        entries: stored.snapshot.manifest.entries,
        bytes: stored.snapshot.manifest.bytes,
        files_new: stats.files_new,
        files_unchanged: stats.files_unchanged,
        bytes_read: stats.bytes_read,
        bytes_added: stats.bytes_added,
        chunks_new: stats.chunks_new,
        bytes_new: stats.bytes_new,
        packs_new: stats.packs_new,
        packs_adopted: stats.packs_adopted,
    });
}

impl StoreState {
    /// What a run says of it where it does not hold the new snapshot.
    pub(super) fn not_copied(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| format!("not copied to `{}`: {}", self.store, failure.one_line()))
    }

    pub(crate) fn stored(cx: &Context, name: &StoreName) -> Self {
        Self {
            store: name.to_string(),
            tier: cx.config.stores.get(name).map_or(SPOOL, |s| s.tier.word()).to_owned(),
            state: "stored".to_owned(),
            objects_copied: 0,
            bytes_copied: 0,
            pending_objects: 0,
            pending_bytes: 0,
            unsettled: 0,
            listed: false,
            promises: None,
            notes: Vec::new(),
            failure: None,
        }
    }

    pub(crate) fn failed(cx: &Context, name: &StoreName, error: &OperationError) -> Self {
        Self { state: "failed".to_owned(), failure: Some(error.to_failure()), ..Self::stored(cx, name) }
    }

    pub(super) fn planned(cx: &Context, name: &StoreName) -> Self {
        Self { state: "planned".to_owned(), ..Self::stored(cx, name) }
    }
}
