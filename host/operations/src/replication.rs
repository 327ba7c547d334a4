//! Bringing replicas up to date: after each run, and later where that failed.
//!
//! Every replica is copied by a thread of its own, so that one that is slow or away delays no other. One that could not
//! be brought up to date gets a row in the replication queue, which survives a restart; every later run tries it again
//! when its pause is over, and `archive push` at once. What is known of a replica lies in the state folder
//! (`replicas/<store>/<project>`), so that nothing is listed in the ordinary case.
//!
//! Shape of `havun-backup archive push --json`: one [`PushReport`].

use crate::{
    audit::{AuditError, AuditLog, LogEnd, QueueRow},
    cleanup,
    config::{ProjectConfig, SPOOL, Tier},
    context::{Context, new_run_id},
    error::{OperationError, exit},
    list::{check_store, uses},
    losses,
    project::{self, OpenStore, vault_error},
    report::{Failure, SCHEMA_VERSION, combined_status},
    run::StoreState,
};
use havun_model::{ProjectName, SnapshotId, StoreName, retention::Verdict};
use havun_vault::{
    PruneOptions, ReplicateOptions, ReplicationReport, Selection, StoredSnapshot, Vault, VaultError, layout, replica_has, replica_lag,
    replicate,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::{collections::BTreeSet, thread};

/// Before the second try; doubles for each further one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// No pause is longer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);
/// How many objects a note names.
const NAMED: usize = 5;

/// What to push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// This store only.
    pub store: Option<String>,
    /// List each replica, and send again what vanished from it.
    pub full: bool,
}

/// What a push did.
#[derive(Debug, Clone, Serialize)]
pub struct PushReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// The operator stopped it.
    pub interrupted: bool,
    /// One for each project and replica.
    pub pushed: Vec<Pushed>,
}

/// One replica of one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The project.
    pub project: ProjectName,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    #[serde(flatten)]
    pub state: StoreState,
}

impl PushReport {
    /// 0; 3 when some replicas failed, or what all of them failed with.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        combined_status(&self.pushed.iter().map(Pushed::exit_status).collect::<Vec<_>>())
    }
}

impl Pushed {
    pub(crate) fn exit_status(&self) -> u8 {
        self.state.failure.as_ref().map_or(exit::OK, |failure| failure.exit_status)
    }
}

/// Brings the replicas of the named projects up to date now, whatever the queue says.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`], [`OperationError::Audit`]. What goes wrong with a
/// replica is in the report.
pub fn push(cx: &Context, options: &PushOptions) -> Result<PushReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    check_store(cx, options.store.as_deref())?;
    let run_id = new_run_id(cx.now())?;
    let mut report = PushReport { schema_version: SCHEMA_VERSION, run_id, interrupted: false, pushed: Vec::new() };
    for project in projects.into_iter().filter(|p| uses(p, options.store.as_deref())) {
        let mut targets = project::replicas(cx, project);
        targets.retain(|name| options.store.as_deref().is_none_or(|only| only == name.as_str()));
        report.pushed.extend(push_project(cx, project, &targets, options.full, &report.run_id)?);
    }
    report.interrupted = cx.cancel.is_cancelled();
    Ok(report)
}

/// Tries the replicas again whose pause is over, but for those of projects that have just been copied. Rows of projects
/// and stores that are configured no more are taken away.
///
/// # Errors
/// [`OperationError::Audit`]. What goes wrong with a replica is in the result.
pub(crate) fn retry_due(cx: &Context, but: &BTreeSet<ProjectName>, run_id: &str) -> Result<Vec<Pushed>, OperationError> {
    let audit = cx.audit()?;
    let rows = audit.queue().map_err(audit_error)?;
    let mut pushed = Vec::new();
    for (name, project) in cx.config.projects.iter().filter(|(name, _)| !but.contains(*name)) {
        let due = |store: &&StoreName| rows.iter().any(|row| is_of(row, name, store) && row.next_try <= cx.now());
        let targets: Vec<StoreName> = project::replicas(cx, project).iter().filter(due).cloned().collect();
        if !targets.is_empty() && !cx.cancel.is_cancelled() {
            pushed.extend(push_project(cx, project, &targets, false, run_id)?);
        }
    }
    for row in &rows {
        let project = cx.config.projects.values().find(|project| project.name.as_str() == row.project);
        if !project.is_some_and(|project| project::replicas(cx, project).iter().any(|store| store.as_str() == row.store)) {
            audit.leave_queue(&row.project, &row.store).map_err(audit_error)?;
        }
    }
    Ok(pushed)
}

fn is_of(row: &QueueRow, project: &ProjectName, store: &StoreName) -> bool {
    row.project == project.as_str() && row.store == store.as_str()
}

/// Copies one project to `targets` between rows in the audit database.
fn push_project(
    cx: &Context,
    project: &ProjectConfig,
    targets: &[StoreName],
    full: bool,
    run_id: &str,
) -> Result<Vec<Pushed>, OperationError> {
    let started_at = cx.now();
    let audit = cx.audit()?;
    let mut rows = Vec::new();
    for name in targets {
        let mut start = cx.log_start(run_id, project.name.as_str(), "replicate", started_at);
        start.stores = vec![name.to_string()];
        rows.push(audit.begin_backup(&start).map_err(audit_error)?);
    }
    let opened = project::primary(cx, project)
        .ok_or_else(|| OperationError::NoUsableStore { project: project.name.clone(), reasons: Vec::new() })
        .and_then(|primary| project::open_store(cx, &project.name, &primary))
        .and_then(|primary| project::open_vault(cx, &project.name, &primary));
    let states = match &opened {
        Ok(vault) => copy_all(cx, project, vault, None, targets, full, run_id),
        Err(error) => {
            let failure = error.to_failure();
            for name in targets {
                // Tried again later, not at once.
                enqueue(cx, &audit, project, name, &failure, (0, 0)).map_err(audit_error)?;
                if failure.exit_status != exit::INTERRUPTED {
                    cx.alert(project.name.as_str(), name.as_str(), "replication", Some(&failure), run_id);
                }
            }
            targets.iter().map(|name| StoreState::failed(cx, name, error)).collect()
        }
    };
    let ended_at = cx.now();
    let pushed: Vec<Pushed> =
        states.into_iter().map(|state| Pushed { project: project.name.clone(), started_at, ended_at, state }).collect();
    for (row, pushed) in rows.into_iter().zip(&pushed) {
        audit.end(row, &log_end(pushed)).map_err(audit_error)?;
    }
    Ok(pushed)
}

fn log_end(pushed: &Pushed) -> LogEnd {
    let state = &pushed.state;
    let interrupted = pushed.exit_status() == exit::INTERRUPTED;
    let status = if interrupted { "cancelled" } else { state.failure.as_ref().map_or("ok", |_| "failed") };
    LogEnd {
        status: status.to_owned(),
        ended_at: pushed.ended_at,
        snapshot: None,
        files: state.objects_copied,
        bytes: state.bytes_copied,
        bytes_added: state.bytes_copied,
        problems: u64::from(state.failure.is_some()),
        message: state.failure.as_ref().map(Failure::one_line).unwrap_or_default(),
        details: serde_json::json!({ "stores": [state] }),
    }
}

/// Copies `vault` to each of `targets` at the same time, and keeps the queue. A state for each target, in their order;
/// `newest` is the snapshot whose absence is told first.
pub(crate) fn copy_all(
    cx: &Context,
    project: &ProjectConfig,
    vault: &Vault,
    newest: Option<SnapshotId>,
    targets: &[StoreName],
    full: bool,
    run_id: &str,
) -> Vec<StoreState> {
    let mut states: Vec<StoreState> = thread::scope(|scope| {
        let threads: Vec<_> = targets.iter().map(|name| scope.spawn(move || copy(cx, project, vault, newest, name, full))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for state in &mut states {
        if state.failure.as_ref().is_none_or(|failure| failure.exit_status != exit::INTERRUPTED) {
            cx.alert(project.name.as_str(), &state.store, "replication", state.failure.as_ref(), run_id);
        }
        if let Err(error) = keep_queue(cx, project, vault, state) {
            state.notes.push(format!("the replication queue could not be kept: {}", crate::error::one_line(&error)));
        }
    }
    if project::is_spooled(cx, project) {
        let note = thin_spool(cx, project, vault, &states)
            .unwrap_or_else(|error| Some(format!("the spool was not thinned: {}", crate::error::one_line(&error))));
        states.iter_mut().take(1).for_each(|state| state.notes.extend(note.clone()));
    }
    states
}

fn copy(cx: &Context, project: &ProjectConfig, vault: &Vault, newest: Option<SnapshotId>, name: &StoreName, full: bool) -> StoreState {
    cx.observer.step(&format!("copying to `{name}`"));
    let mut state = StoreState::stored(cx, name);
    let store = match cx.check_cancelled().and_then(|()| project::open_store(cx, &project.name, name)) {
        Ok(store) => store,
        Err(error) => return StoreState { failure: Some(error.to_failure()), state: "failed".to_owned(), ..state },
    };
    let selection = selection(cx, project, name);
    let on_lost = Some(losses::noted(cx, &project.name, name, &vault.info().vault_id));
    let options = ReplicateOptions { full, selection, on_lost, ..cx.replicate_options(Some((&project.name, name))) };
    let copied = replicate(vault, &store.store, &options, &*cx.progress());
    state.promises = Some(store.store.promises());
    let (report, error) = match copied {
        Ok(report) => {
            let error = held_back(&report, newest).map(|source| vault_error(&project.name, name, source));
            (report, error)
        }
        Err(error) => (*error.report, Some(vault_error(&project.name, name, error.source))),
    };
    state.take(report);
    for note in store.store.notes() {
        if !state.notes.contains(&note) {
            state.notes.push(note);
        }
    }
    if let Some(error) = error {
        state.state = "failed".to_owned();
        state.failure = Some(error.to_failure());
    }
    state
}

/// What keeps a replica from being whole although every call to its store went well.
fn held_back(report: &ReplicationReport, newest: Option<SnapshotId>) -> Option<VaultError> {
    let first = report.held_back.iter().find(|(id, _)| Some(*id) == newest).or_else(|| report.held_back.first());
    let snapshot = first.map(|(id, why)| (format!("snapshot {}", id.short()), why.clone()));
    let unreadable = || report.unreadable.first().cloned();
    let wrong = || report.wrong.first().map(|name| (name.clone(), "it has another size or content in the store".to_owned()));
    let lost = || report.lost.first().map(|name| (name.clone(), "it is gone from the store, or was cut, and is nowhere else".to_owned()));
    let (object, what) = snapshot.or_else(lost).or_else(unreadable).or_else(wrong)?;
    Some(VaultError::Damaged { object, what })
}

impl StoreState {
    fn take(&mut self, report: ReplicationReport) {
        self.objects_copied = report.objects;
        self.bytes_copied = report.bytes;
        self.pending_objects = report.pending_objects;
        self.pending_bytes = report.pending_bytes;
        self.unsettled = report.unsettled;
        self.listed = report.listed;
        self.notes.extend(report.notes);
        for (objects, what) in [(&report.vanished, "vanished from it"), (&report.lost, "vanished from it and are nowhere else")] {
            if !objects.is_empty() {
                let named: Vec<&str> = objects.iter().take(NAMED).map(String::as_str).collect();
                let more = if objects.len() > NAMED { ", …" } else { "" };
                self.notes.push(format!("{} objects had {what}: {}{more}", objects.len(), named.join(", ")));
            }
        }
    }
}

/// Adds, updates or takes away the row of one replica.
fn keep_queue(cx: &Context, project: &ProjectConfig, vault: &Vault, state: &mut StoreState) -> Result<(), OperationError> {
    let audit = cx.audit()?;
    let Some(failure) = &state.failure else {
        return audit.leave_queue(project.name.as_str(), &state.store).map(|_| ()).map_err(audit_error);
    };
    let store = StoreName::new(state.store.clone())?;
    if let Ok(lag) = replica_lag(vault, &cx.catalogue(&project.name, &store), selection(cx, project, &store).as_ref()) {
        (state.pending_objects, state.pending_bytes) = (lag.objects, lag.bytes);
    }
    enqueue(cx, &audit, project, &store, failure, (state.pending_objects, state.pending_bytes)).map_err(audit_error)
}

fn enqueue(
    cx: &Context,
    audit: &AuditLog,
    project: &ProjectConfig,
    store: &StoreName,
    failure: &Failure,
    (objects, bytes): (u64, u64),
) -> Result<(), AuditError> {
    let now = cx.now();
    let before = audit.queue()?.into_iter().find(|row| is_of(row, &project.name, store));
    // Who stopped it did not find the store away: it is tried again at the next opportunity.
    let counted = u32::from(failure.exit_status != exit::INTERRUPTED);
    let attempts = before.as_ref().map_or(0, |row| row.attempts).saturating_add(counted);
    audit.put_queue(&QueueRow {
        project: project.name.to_string(),
        store: store.to_string(),
        since: before.map_or(now, |row| row.since.min(now)),
        attempts,
        last_try: now,
        next_try: if counted == 0 { now } else { now.checked_add(pause(attempts)).unwrap_or(now) },
        last_error: failure.one_line(),
        pending_objects: Some(objects),
        pending_bytes: Some(bytes),
    })
}

/// The pause after so many failures in a row.
fn pause(attempts: u32) -> SignedDuration {
    let factor = 1_i32.checked_shl(attempts.saturating_sub(1)).filter(|factor| *factor > 0).unwrap_or(i32::MAX);
    FIRST_PAUSE.checked_mul(factor).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
}

/// Fills an empty primary from a replica: with what its hot term asks for and the newest snapshots, where a term is written,
/// for the archive keeps the rest; with everything where none is, or where another archive may have been away and lack what only
/// a primary can send it. What is damaged there is told, and no reason to stop backing up: `verify` and
/// `repair` are for that.
pub(crate) fn fill(cx: &Context, project: &ProjectConfig, source: &Vault, primary: &OpenStore) -> Result<Option<String>, OperationError> {
    let retention = &project.retention;
    let tiers = project.stores.iter().filter_map(|name| cx.config.stores.get(name)).map(|config| config.tier);
    let others_may_lag = others_may_lag(tiers);
    let selection =
        (retention.explicit_hot && !others_may_lag).then(|| Selection::new(retention.hot, cx.zone(), cx.now(), cleanup::FLOOR, false));
    let options = ReplicateOptions { selection, ..cx.replicate_options(None) };
    let report = replicate(source, &primary.store, &options, &*cx.progress())
        .map_err(|error| vault_error(&project.name, &primary.name, error.source))?;
    Ok(held_back(&report, None).map(|error| format!("`{}` could not be filled completely: {error}", primary.name)))
}

/// Whether there is an archive beside the one that is whole.
fn others_may_lag(tiers: impl Iterator<Item = Tier>) -> bool {
    tiers.filter(|tier| *tier == Tier::Archive).count() > 1
}

/// Thins the spool to its newest snapshot when every replica has everything that it is to have, beyond doubt. Gives what
/// stays for ever.
fn thin_spool(cx: &Context, project: &ProjectConfig, vault: &Vault, states: &[StoreState]) -> Result<Option<String>, OperationError> {
    let name = StoreName::new(SPOOL)?;
    let failed = |e| vault_error(&project.name, &name, e);
    let whole = |store: &StoreName| states.iter().any(|s| s.store == store.as_str() && s.failure.is_none());
    if !project.stores.iter().all(whole) {
        return Ok(None);
    }
    for store in states.iter().filter(|state| state.unsettled > 0).filter_map(|state| StoreName::new(state.store.clone()).ok()) {
        // The later look that makes what was just sent count as settled.
        if copy(cx, project, vault, None, &store, false).failure.is_some() {
            return Ok(None);
        }
    }
    let snapshots = vault.snapshots().map_err(failed)?.snapshots;
    let Some((_, older)) = snapshots.split_last() else { return Ok(None) };
    let (mut everywhere, mut nowhere) = (Vec::new(), 0);
    for stored in older {
        let unwanted = |store: &StoreName| match selection(cx, project, store) {
            Some(selection) => selection.leaves_out(vault, stored).map_err(failed),
            None => Ok(false),
        };
        match fate(&project.stores, |store| has(cx, project, vault, store, stored), unwanted)? {
            Fate::Everywhere => everywhere.push(stored),
            Fate::Nowhere => nowhere += 1,
            Fate::Awaited => {}
        }
    }
    let verdict =
        |id: SnapshotId| Verdict { id, keep: false, reason: "every store of the project has what it is to have of it".to_owned() };
    let verdicts: Vec<Verdict> = everywhere.iter().map(|stored| verdict(stored.id)).collect();
    let plan = vault.plan_cleanup(&verdicts, cx.now(), &PruneOptions { repack: false, ..cx.prune_options() }).map_err(failed)?;
    vault.execute_cleanup(plan, &cx.holder("run"), false).map_err(failed)?;
    Ok((nowhere > 0).then(|| format!("{nowhere} snapshots stay in the spool: no store has them, for their archive term has passed")))
}

/// What becomes of a snapshot in the spool.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Some store has it, and so has every other that is to have it.
    Everywhere,
    /// No store has it, and none is to have it.
    Nowhere,
    /// A store is still to get it.
    Awaited,
}

fn fate<E>(stores: &[StoreName], has: impl Fn(&StoreName) -> bool, unwanted: impl Fn(&StoreName) -> Result<bool, E>) -> Result<Fate, E> {
    let mut lacking = 0;
    for store in stores.iter().filter(|store| !has(store)) {
        if !unwanted(store)? {
            return Ok(Fate::Awaited);
        }
        lacking += 1;
    }
    Ok(if lacking < stores.len() { Fate::Everywhere } else { Fate::Nowhere })
}

/// Whether a replica is known to hold a snapshot: one that another run committed meanwhile is not there yet.
fn has(cx: &Context, project: &ProjectConfig, vault: &Vault, store: &StoreName, stored: &StoredSnapshot) -> bool {
    let name = layout::snapshot(&stored.snapshot.epoch, stored.snapshot.started_at, &stored.id);
    replica_has(&cx.catalogue(&project.name, store), &vault.info().vault_id, &name)
}

/// Which snapshots a store is not to be sent: in an archive, those whose term has passed, so that what was expired there does
/// not come back from a store that keeps it for longer. Without a written term nothing is left out.
pub(crate) fn selection(cx: &Context, project: &ProjectConfig, store: &StoreName) -> Option<Selection> {
    let is_archive = cx.config.stores.get(store).is_some_and(|config| config.tier == Tier::Archive);
    let retention = &project.retention;
    (is_archive && retention.explicit_archive).then(|| Selection::new(retention.archive, cx.zone(), cx.now(), 1, true))
}

fn audit_error(error: AuditError) -> OperationError {
    OperationError::Audit(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_five_minutes_to_six_hours() {
        let minutes: Vec<i64> = [1, 2, 3, 7, 8, 60, u32::MAX].into_iter().map(|attempts| pause(attempts).as_mins()).collect();
        assert_eq!(minutes, [5, 10, 20, 320, 360, 360, 360]);
    }

    #[test]
    fn a_primary_is_filled_with_everything_where_another_archive_may_lack_it() {
        assert!(!others_may_lag([Tier::Hot, Tier::Archive].into_iter()));
        assert!(others_may_lag([Tier::Hot, Tier::Archive, Tier::Archive].into_iter()));
    }

    #[test]
    fn the_spool_lets_go_of_nothing_that_no_store_has() {
        let stores: Vec<StoreName> = ["near", "far"].into_iter().map(|name| StoreName::new(name.to_owned()).unwrap()).collect();
        let fate = |has: &[&str], unwanted: &[&str]| {
            let unwanted = |store: &StoreName| Ok::<_, ()>(unwanted.contains(&store.as_str()));
            super::fate(&stores, |store| has.contains(&store.as_str()), unwanted).unwrap()
        };
        assert_eq!(fate(&["near", "far"], &[]), Fate::Everywhere);
        assert_eq!(fate(&["near"], &["far"]), Fate::Everywhere);
        assert_eq!(fate(&["near"], &[]), Fate::Awaited);
        assert_eq!(fate(&[], &["far"]), Fate::Awaited);
        assert_eq!(fate(&[], &["near", "far"]), Fate::Nowhere);
    }
}
