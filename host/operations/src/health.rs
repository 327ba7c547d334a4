//! Is everything as it should be? The age of the newest good snapshot in each store, runs that did not begin, replicas that
//! lag behind, objects that vanished, space, drills, keys, the clock, the daemon. Writes alerts into the audit database,
//! what it knows of the snapshots into the state folder, and where the configuration asks for it a file for Prometheus.
//!
//! Shape of `havun-backup health --json`: one [`HealthReport`]. Read this file (projects and their stores), `host`, `known`
//! (snapshots without reading them), `kind` and `alerts` (what becomes an alert), `prometheus`, `ping`.

mod alerts;
mod host;
mod kind;
mod known;
pub(crate) mod ping;
mod prometheus;

pub use kind::FindingKind;
pub(crate) use known::forget;
pub use prometheus::{prometheus, write_textfile};

use crate::{
    audit::{AlertRow, LogRow, QueueRow},
    config::ProjectConfig,
    context::Context,
    databases::UNFINISHED,
    drill,
    error::{OperationError, exit, one_line},
    losses::{self, Losses},
    project, replication,
    report::SCHEMA_VERSION,
    run, storage,
};
use havun_model::{ProjectName, SnapshotId, StoreName};
use havun_vault::{
    Lag, ReplicaAudit, Vault, audit_replica, replica_lag, scrub_status,
    store::{Listed, Store},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// A scheduled run may be so late.
const GRACE: SignedDuration = SignedDuration::from_hours(1);
/// A run that goes on for longer than this is no reason any more why nothing new is there.
const LONG_RUN: SignedDuration = SignedDuration::from_hours(12);
/// A store that is full within this time needs attention.
const SPACE_DAYS: i64 = 14;
/// Less free space than this needs attention whatever the growth.
const LEAST_FREE: u64 = 256 << 20;
/// A project may be paused for so long before that is a problem.
const PAUSED_DAYS: i64 = 30;
/// So many runs of a project are looked at.
const RUNS: u32 = 40;
/// So many slots of a schedule are compared with them.
const SLOTS: usize = 30;
/// How many objects a finding names.
const NAMED: usize = 20;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct HealthOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct HealthReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When it was found.
    pub at: Timestamp,
    /// Whether there is no problem at all.
    pub healthy: bool,
    /// What concerns no project.
    pub host: HostHealth,
    /// The most important first.
    pub projects: Vec<ProjectHealth>,
}

/// This host.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HostHealth {
    /// What needs attention.
    pub problems: Vec<Finding>,
    /// What the operator should know.
    pub notes: Vec<Finding>,
    /// Open alerts by kind, after this look.
    pub open_alerts: BTreeMap<String, u64>,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    problems: Vec<Finding>,
    notes: Vec<Finding>,
}

/// The last run of a project, as its row in the audit database has it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LastRun {
    /// When it began.
    pub started_at: Timestamp,
    /// `ok`, `partial`, `failed`, …
    pub status: String,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Logical bytes of its snapshot.
    pub bytes: u64,
    /// Entries of its snapshot.
    pub files: u64,
    /// Bytes that it added to the store.
    pub bytes_added: u64,
    /// As [`crate::run::RunMetrics`] has them, where the run kept them.
    pub steps_ms: BTreeMap<String, u64>,
    /// Likewise.
    pub busy_ms: BTreeMap<String, u64>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deduplicated: Option<f64>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<f64>,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectHealth {
    /// Its name.
    pub project: ProjectName,
    /// Left out of runs.
    pub paused: bool,
    /// The last run that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// When the newest run that was whole began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// What its runs stored per day lately.
    pub growth_per_day: u64,
    /// When the newest drill that passed began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_passed_at: Option<Timestamp>,
    /// What needs attention.
    pub problems: Vec<Finding>,
    /// What the operator should know.
    pub notes: Vec<Finding>,
    /// Its stores, the primary first.
    pub stores: Vec<StoreHealth>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about; the kind of its alert.
    pub kind: FindingKind,
    /// In which store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// What.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Objects that it is about, bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

/// One store of a project.
#[derive(Debug, Clone, Serialize)]
pub struct StoreHealth {
    /// Its name.
    pub store: StoreName,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// Whether it could be asked.
    pub reachable: bool,
    /// When its newest good snapshot was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_good: Option<Timestamp>,
    /// Why and since when it is behind, and when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueRow>,
    /// What it lacks, so far as is known without asking it (replicas).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// What lies there against what is known to (replicas).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<ReplicaAudit>,
    /// Free bytes, where it can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

impl HealthReport {
    /// 0 or 4.
    pub fn exit_status(&self) -> u8 {
        if self.healthy { exit::OK } else { exit::UNHEALTHY }
    }
}

impl Finding {
    fn new(kind: FindingKind, what: String, hint: impl Into<String>) -> Self {
        Self { kind, store: None, what, hint: hint.into(), objects: Vec::new() }
    }
}

/// Looks at everything.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::Interrupted`]; [`OperationError::Audit`] where it fails in the
/// middle. What else is wrong is in the report, also that the audit database cannot be opened.
pub fn health(cx: &Context, options: &HealthOptions) -> Result<HealthReport, OperationError> {
    let mut report = look(cx, options)?;
    if let Some(path) = &cx.config.health.textfile {
        if let Err(error) = write_textfile(path, &report) {
            let what = format!("the file for Prometheus ({}) cannot be written: {error}", path.display());
            report.host.problems.push(Finding::new(FindingKind::Textfile, what, "make its folder, writable for this program's user"));
            report.healthy = false;
        }
    }
    if let Ok(audit) = cx.audit() {
        let open = audit.alerts(true, ALERTS).map_err(audit_error)?;
        alerts::settle(cx, "", &report.host.problems, &open);
    }
    if options.projects.is_empty() {
        let sign = if report.healthy { ping::Sign::Success } else { ping::Sign::Failure };
        let told = ping::give(cx, sign, &in_short(&report));
        report.host.notes.extend(told.map(|what| Finding::new(FindingKind::Note, what, "")));
    }
    Ok(report)
}

/// More open alerts than this are not read.
const ALERTS: u32 = 10_000;

fn audit_error(error: crate::audit::AuditError) -> OperationError {
    OperationError::Audit(Box::new(error))
}

fn look(cx: &Context, options: &HealthOptions) -> Result<HealthReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    let mut report =
        HealthReport { schema_version: SCHEMA_VERSION, at: cx.now(), healthy: true, host: HostHealth::default(), projects: Vec::new() };
    let audit = match cx.audit() {
        Ok(audit) => audit,
        // Without it no run begins: that is a failure like any other, and not one to be silent about.
        Err(error) => {
            report.healthy = false;
            report.host.problems.push(host::without_audit(&error));
            return Ok(report);
        }
    };
    let (queue, open) = (audit.queue().map_err(audit_error)?, audit.alerts(true, ALERTS).map_err(audit_error)?);
    let mut latest = None;
    for project in projects {
        let rows = audit.runs(project.name.as_str(), RUNS).map_err(audit_error)?;
        let growth = storage::growth_per_day(cx, &project.name)?.unwrap_or(0);
        let mut check = Check { cx, project, growth, latest: None, running_since: None, found: empty(project, growth) };
        check.runs(&rows);
        check.missed(&rows);
        check.suspicions(&open);
        check.left_behind();
        check.unfinished_restores();
        check.drills()?;
        check.stores(&queue)?;
        latest = latest.max(check.latest);
        alerts::settle(cx, project.name.as_str(), &check.found.problems, &open);
        if let Some(success) = check.found.last_success {
            alerts::close_older_than(cx, project.name.as_str(), success, &open);
        }
        report.healthy &= check.found.problems.is_empty();
        report.projects.push(check.found);
    }
    if options.projects.is_empty() {
        alerts::close_of_nothing(cx, &open);
    }
    let found = host::look(cx, latest, &open);
    report.healthy &= found.problems.is_empty();
    (report.host.problems, report.host.notes) = (found.problems, found.notes);
    for row in audit.alerts(true, ALERTS).map_err(audit_error)? {
        *report.host.open_alerts.entry(row.kind).or_default() += 1;
    }
    Ok(report)
}

/// For somebody elsewhere: which projects have problems of which kinds, and nothing of what they are.
fn in_short(report: &HealthReport) -> String {
    let kinds = |problems: &[Finding]| problems.iter().map(|finding| finding.kind.word()).collect::<Vec<_>>().join(", ");
    let ill = report.projects.iter().filter(|project| !project.problems.is_empty());
    let mut lines: Vec<String> = ill.map(|project| format!("{}: {}", project.project, kinds(&project.problems))).collect();
    if !report.host.problems.is_empty() {
        lines.push(format!("host: {}", kinds(&report.host.problems)));
    }
    if lines.is_empty() { "healthy".to_owned() } else { lines.join("\n") }
}

fn empty(project: &ProjectConfig, growth_per_day: u64) -> ProjectHealth {
    ProjectHealth {
        project: project.name.clone(),
        paused: project.paused,
        last_run: None,
        last_success: None,
        growth_per_day,
        drill_passed_at: None,
        problems: Vec::new(),
        notes: Vec::new(),
        stores: Vec::new(),
    }
}

struct Check<'a> {
    cx: &'a Context,
    project: &'a ProjectConfig,
    growth: u64,
    /// The latest moment that a run or a snapshot names.
    latest: Option<Timestamp>,
    /// When the run that goes on now began.
    running_since: Option<Timestamp>,
    found: ProjectHealth,
}

/// What the primary store says.
struct Primary {
    vault: Vault,
    /// Its snapshots that are not whole.
    partial: HashSet<SnapshotId>,
}

impl Check<'_> {
    fn problem(&mut self, kind: FindingKind, store: Option<&StoreName>, what: String, hint: impl Into<String>, objects: Vec<String>) {
        self.found.problems.push(Finding { kind, store: store.cloned(), what, hint: hint.into(), objects });
    }

    fn note(&mut self, store: Option<&StoreName>, what: String) {
        self.found.notes.push(Finding { store: store.cloned(), ..Finding::new(FindingKind::Note, what, "") });
    }

    /// The last run, and whether there are runs at all.
    fn runs(&mut self, rows: &[LogRow]) {
        let ended = rows.iter().filter(|row| row.status != "running");
        let last = ended.clone().next();
        self.found.last_run = last.map(last_run);
        self.found.last_success = ended.clone().find(|row| row.status == "ok").and_then(|row| row.started_at.parse().ok());
        self.latest = rows.iter().filter_map(|row| row.started_at.parse().ok()).max();
        self.running_since = rows.iter().find(|row| row.status == "running").and_then(|row| row.started_at.parse().ok());
        if self.project.paused {
            self.paused();
        } else if self.project.schedule.is_none() {
            let name = &self.project.name;
            let what = "it has no schedule: nothing backs it up by itself, and how old its newest snapshot may be is not known".to_owned();
            let hint = format!("set `schedule` in [projects.{name}], as in \"daily 03:00\", or `paused = true` where that is meant");
            self.found.notes.push(Finding::new(FindingKind::Note, what, hint));
        }
        if let Some(row) = last.filter(|row| !matches!(row.status.as_str(), "ok" | "partial")) {
            let message = row.message.lines().next().unwrap_or_default();
            self.problem(
                FindingKind::Run,
                None,
                format!("the last run ({}) is {}: {message}", row.started_at, row.status),
                "`havun-backup logs` has the whole message",
                Vec::new(),
            );
        }
    }

    /// A pause that nobody ends is how backups stop unnoticed.
    fn paused(&mut self) {
        let last = self.latest.filter(|at| self.cx.now().duration_since(*at) > SignedDuration::from_hours(PAUSED_DAYS * 24));
        match last {
            None => self.note(None, "paused: no run makes a new snapshot".to_owned()),
            Some(last) => {
                let what = format!("paused, and its last run was on {last}: nothing has been backed up for more than {PAUSED_DAYS} days");
                let hint = format!("take `paused` out of [projects.{name}], or the project with it", name = self.project.name);
                self.problem(FindingKind::Paused, None, what, hint, Vec::new());
            }
        }
    }

    /// Slots of the schedule in which no run began, whatever became of those that did.
    fn missed(&mut self, rows: &[LogRow]) {
        let begun: Vec<Timestamp> = rows.iter().filter_map(|row| row.started_at.parse().ok()).collect();
        let (Some(schedule), Some(first)) = (self.project.schedule.as_ref().filter(|_| !self.project.paused), begun.iter().min()) else {
            return;
        };
        let zone = self.cx.zone();
        let mut until = self.cx.now();
        let mut slot = until.checked_sub(GRACE).ok().and_then(|latest| schedule.latest_before(latest, &zone));
        let (mut slots, mut missed) = (0, Vec::new());
        while let Some(due) = slot.filter(|due| due > first && slots < SLOTS) {
            slots += 1;
            if !begun.iter().any(|at| (due..until).contains(at)) {
                missed.push(due);
            }
            until = due;
            slot = due.checked_sub(SignedDuration::from_secs(1)).ok().and_then(|before| schedule.latest_before(before, &zone));
        }
        let Some(newest) = missed.first().copied() else { return };
        if begun.iter().all(|at| *at < newest) {
            let what = format!("no run began although one was due at {newest}");
            let hint = "`havun-backup status` shows whether the daemon lives; `havun-backup run` makes up for it now";
            self.problem(FindingKind::Missed, None, what, hint, Vec::new());
        } else {
            self.note(
                None,
                format!("{} of the last {slots} runs that were due did not begin; the newest of them was due at {newest}", missed.len()),
            );
        }
    }

    /// Suspicious snapshots that nobody has explained yet.
    fn suspicions(&mut self, open: &[AlertRow]) {
        let of_project = open.iter().filter(|row| row.project == self.project.name.as_str() && row.kind == "anomaly");
        for row in of_project {
            self.found.notes.push(Finding::new(FindingKind::Note, format!("{} (since {})", row.message, row.raised_at), row.hint.clone()));
        }
    }

    /// What a run that was killed has not undone: the application may still rest.
    fn left_behind(&mut self) {
        for (project, what) in run::left_behind(self.cx) {
            if project.as_ref().is_none_or(|name| *name == self.project.name) {
                self.problem(FindingKind::LeftBehind, None, what, "`havun-backup run` of any project undoes it", Vec::new());
            }
        }
    }

    /// Databases that a restore which was killed may have left without their views and triggers.
    fn unfinished_restores(&mut self) {
        let folder = self.cx.config.host.state_dir.join("replaced").join(self.project.name.as_str());
        let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten()).map(|file| file.path());
        let marks: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == UNFINISHED)).collect();
        for path in marks {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| path.display().to_string());
            let hint = format!("repeat the restore (--replace); it takes {} away", path.display());
            self.problem(FindingKind::Restore, None, text.trim().replacen('\n', ": ", 1), hint, Vec::new());
        }
    }

    /// Restores that are not proven are a promise only.
    fn drills(&mut self) -> Result<(), OperationError> {
        let state = drill::state(self.cx, self.project)?;
        self.found.drill_passed_at = state.passed_at;
        let hint = format!("`havun-backup test --project {}` drills now", self.project.name);
        if let Some(row) = state.last.as_ref().filter(|row| row.status != "ok") {
            let word = if row.status == "partial" { "incomplete" } else { "failed" };
            let reason = row.message.lines().next().unwrap_or_default();
            let snapshot: String = row.snapshot.as_deref().unwrap_or_default().chars().take(8).collect();
            let at = row
                .started_at
                .parse::<Timestamp>()
                .map_or_else(|_| row.started_at.clone(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
            let what = format!("the last drill ({at}, snapshot {snapshot}) {word}: {reason}");
            let hint = "`havun-backup logs` has all reasons, the certificate the whole of it";
            self.problem(FindingKind::Drill, None, what, hint, Vec::new());
        }
        match (state.overdue_since, state.passed_at) {
            (Some(since), Some(passed)) => {
                let what =
                    format!("overdue for a drill since {since}: the last that passed was on {passed}, every {} is asked for", state.every);
                self.problem(FindingKind::DrillOverdue, None, what, hint, Vec::new());
            }
            (Some(since), None) => {
                let what = format!("overdue for a drill since {since}: no restore was ever proven, every {} is asked for", state.every);
                self.problem(FindingKind::DrillOverdue, None, what, hint, Vec::new());
            }
            (None, None) => self.note(None, "no restore was proven yet: `havun-backup test` does".to_owned()),
            (None, Some(_)) => {}
        }
        Ok(())
    }

    fn stores(&mut self, queue: &[QueueRow]) -> Result<(), OperationError> {
        let (cx, project) = (self.cx, self.project);
        let mut primary = None;
        for (place, name) in project::store_order(cx, project, None)?.iter().enumerate() {
            cx.check_cancelled()?;
            let mut store = StoreHealth {
                store: name.clone(),
                tier: project::tier_word(cx, name).to_owned(),
                reachable: false,
                newest_good: None,
                queue: queue.iter().find(|row| row.project == project.name.as_str() && row.store == name.as_str()).cloned(),
                lag: None,
                audit: None,
                free_bytes: None,
            };
            match self.store(name, place == 0, &mut primary, &mut store) {
                Ok(()) => {}
                Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    self.problem(FindingKind::Store, Some(name), one_line(&error), hint, Vec::new());
                }
            }
            self.lag(name, &store);
            self.found.stores.push(store);
        }
        Ok(())
    }

    fn store(
        &mut self,
        name: &StoreName,
        is_primary: bool,
        primary: &mut Option<Primary>,
        found: &mut StoreHealth,
    ) -> Result<(), OperationError> {
        let (cx, project) = (self.cx, self.project);
        if let Some(primary) = primary.as_ref() {
            // Before the store is asked: what it lacks is known here even where it is away.
            let selection = replication::selection(cx, project, name);
            let lag = replica_lag(&primary.vault, &cx.catalogue(&project.name, name), selection.as_ref());
            found.lag = Some(lag.map_err(|e| project::vault_error(&project.name, name, e))?);
        }
        let store = project::open_store(cx, &project.name, name)?;
        let failed = |source| OperationError::Store { store: name.clone(), source };
        let vault = match project::open_vault(cx, &project.name, &store) {
            Err(error) if project::is_no_vault(&error) => {
                found.reachable = true;
                self.problem(
                    FindingKind::Age,
                    Some(name),
                    "holds no backup of this project".to_owned(),
                    "`havun-backup run` makes the first",
                    Vec::new(),
                );
                return Ok(());
            }
            other => other?,
        };
        found.reachable = true;
        found.free_bytes = store.store.free_bytes().map_err(failed)?;
        let objects = vault.snapshot_names().map_err(|e| project::vault_error(&project.name, name, e))?;
        let known = if is_primary { Some(known::look(cx, project, name, &vault, &objects)?) } else { None };
        let accepted = self.losses(name, &vault, &*store.store)?;
        self.scrubs(name, &vault, objects.first().and_then(|first| havun_vault::layout::taken_at(first.name.as_str())), &accepted);
        if let Some(known) = known {
            self.damaged(name, known.damaged);
            *primary = Some(Primary { vault, partial: known.partial });
        } else {
            let audit = audit_replica(&cx.catalogue(&project.name, name), &vault.info().vault_id, &*store.store);
            let audit = audit.map_err(|e| project::vault_error(&project.name, name, e))?;
            self.audit(name, &audit);
            found.audit = Some(bounded(audit));
        }
        let (good, newest) = newest_good(&objects, primary.as_ref().map(|primary| &primary.partial));
        self.latest = self.latest.max(newest);
        found.newest_good = good;
        self.age(name, good, newest);
        self.space(name, found.free_bytes);
        Ok(())
    }

    /// Snapshots of the primary that do not open.
    fn damaged(&mut self, name: &StoreName, damaged: Vec<(String, String)>) {
        for (object, what) in damaged {
            let hint = "`havun-backup verify` names what is hit";
            self.problem(FindingKind::Damage, Some(name), format!("{object}: {what}"), hint, vec![object]);
        }
    }

    /// The newest good snapshot against the schedule.
    fn age(&mut self, name: &StoreName, good: Option<Timestamp>, newest: Option<Timestamp>) {
        let (cx, project) = (self.cx, self.project);
        let hint = "`havun-backup logs` says what became of the last runs; `havun-backup run` makes a new one";
        let Some(good) = good else {
            return self.problem(FindingKind::Age, Some(name), "holds no good snapshot".to_owned(), hint, Vec::new());
        };
        if newest.is_some_and(|newest| newest > good) {
            self.note(Some(name), format!("newer snapshots than that of {good} are partial"));
        }
        let due = project.schedule.as_ref().filter(|_| !project.paused).and_then(|schedule| {
            let latest = cx.now().checked_sub(GRACE).ok()?;
            schedule.latest_before(latest, &cx.zone())
        });
        if let Some(due) = due.filter(|due| good < *due) {
            let is_at_it = |since: &Timestamp| *since >= due && cx.now().duration_since(*since) < LONG_RUN;
            if let Some(since) = self.running_since.filter(is_at_it) {
                return self.note(Some(name), format!("the run that was due at {due} goes on since {since}"));
            }
            let hours = cx.now().duration_since(good).as_hours();
            self.problem(
                FindingKind::Age,
                Some(name),
                format!("the newest good snapshot is {hours} hours old (of {good}); one was due at {due}"),
                hint,
                Vec::new(),
            );
        }
    }

    fn lag(&mut self, name: &StoreName, store: &StoreHealth) {
        let lag = store.lag.clone().unwrap_or_default();
        let hint = format!("`havun-backup archive push --store {name}` tries it now");
        match &store.queue {
            Some(row) => {
                let (objects, bytes) = (row.pending_objects.unwrap_or(lag.objects), row.pending_bytes.unwrap_or(lag.bytes));
                let what = format!(
                    "behind since {} by {objects} objects, {bytes} bytes; tried {} times, again after {}: {}",
                    row.since, row.attempts, row.next_try, row.last_error
                );
                self.problem(FindingKind::Replication, Some(name), what, hint, Vec::new());
            }
            None if lag.known && lag.snapshots > 0 => {
                let what = format!("lacks {} snapshots ({} objects, {} bytes)", lag.snapshots, lag.objects, lag.bytes);
                self.problem(FindingKind::Lag, Some(name), what, hint, Vec::new());
            }
            None => {}
        }
    }

    /// What somebody else did to the replica.
    fn audit(&mut self, name: &StoreName, audit: &ReplicaAudit) {
        if !audit.forgotten.is_empty() {
            let what = format!(
                "what is known of it is damaged in the state folder ({}): what may have vanished of that cannot be told",
                audit.forgotten.join(", ")
            );
            let hint = format!("`havun-backup archive push --full --store {name}` lists it anew");
            self.problem(FindingKind::Missing, Some(name), what, hint, Vec::new());
        }
        let hint = format!("find out who has access; `havun-backup archive push --full --store {name}` sends again what is still here");
        if !audit.missing.is_empty() {
            let objects = audit.missing.iter().take(NAMED).map(|(object, _)| object.clone()).collect();
            self.problem(
                FindingKind::Missing,
                Some(name),
                format!("{} objects were deleted behind the program's back", audit.missing.len()),
                &*hint,
                objects,
            );
        }
        if !audit.wrong_size.is_empty() {
            let sized = audit.wrong_size.iter().take(NAMED);
            let objects = sized.map(|(object, before, now)| format!("{object} ({now} bytes instead of {before})")).collect();
            let repair = format!("find out who has access; `havun-backup repair --store {name}` mends them");
            self.problem(
                FindingKind::Changed,
                Some(name),
                format!("{} objects were changed behind the program's back", audit.wrong_size.len()),
                repair,
                objects,
            );
        }
        if !audit.undone.is_empty() {
            self.note(
                Some(name),
                format!("{} objects of the last copy are not there (any more); the next copy sends them again", audit.undone.len()),
            );
        }
    }

    /// What is lost for good, until somebody has dealt with it. Gives the names of what a person has accepted.
    fn losses(&mut self, name: &StoreName, vault: &Vault, store: &dyn Store) -> Result<Losses, OperationError> {
        let (cx, project, id) = (self.cx, self.project, &vault.info().vault_id);
        let (open, accepted) = losses::standing(cx, &project.name, name, id, store)?;
        if let Some(since) = open.values().map(|loss| loss.found_at).min() {
            let objects = open.keys().take(NAMED).cloned().collect();
            let hint = format!(
                "`havun-backup repair --store {name}` looks for them in every other store; `havun-backup archive accept-loss --project {} \
                 --store {name}` when nothing brings them back",
                project.name
            );
            // A copy knows that nobody has it; of the first store it is known only that it is gone.
            let what = match project::primary(cx, project).as_ref() == Some(name) {
                true => format!("{} objects were deleted behind the program's back, as was found on {since}", open.len()),
                false => format!("{} objects are lost from it since {since}, and no copy has them", open.len()),
            };
            self.problem(FindingKind::Missing, Some(name), what, hint, objects);
        }
        if accepted > 0 {
            self.note(Some(name), format!("{accepted} objects are lost from it; a person has accepted that (`havun-backup logs`)"));
        }
        Ok(losses::load(cx, &project.name, name, id)?.into_iter().filter(|(_, loss)| loss.accepted.is_some()).collect())
    }

    /// What scrubs found that nobody has repaired, and whether they keep up with the store's term. `oldest` is when the
    /// oldest snapshot in the store was taken.
    fn scrubs(&mut self, name: &StoreName, vault: &Vault, oldest: Option<Timestamp>, accepted: &Losses) {
        let (cx, project) = (self.cx, self.project);
        let Some(config) = cx.config.stores.get(name) else { return };
        let state = crate::scrub::state_file(cx, project, name);
        let is_late = |since: Timestamp| config.scrub.keep_until(since, &cx.zone()) < cx.now();
        let Some(status) = scrub_status(&state, &vault.info().vault_id) else {
            return match oldest {
                Some(oldest) if is_late(oldest) => {
                    let what = format!(
                        "nothing of it was ever read back, and its oldest snapshot is of {oldest}; `scrub` in [stores.{name}] asks for all of it every {}",
                        config.scrub
                    );
                    let hint =
                        format!("`havun-backup scrub --all --store {name}` reads all of it; then call `havun-backup scrub` every day");
                    self.problem(FindingKind::ScrubOverdue, Some(name), what, hint, Vec::new());
                }
                _ => self.note(Some(name), "no scrub has read it yet".to_owned()),
            };
        };
        let damage: Vec<_> = status.damage.iter().filter(|damage| !accepted.contains_key(&damage.object)).collect();
        if !damage.is_empty() {
            let objects = damage.iter().take(NAMED).map(|d| format!("{}: {} (since {})", d.object, d.what, d.found_at)).collect();
            self.problem(
                FindingKind::Scrub,
                Some(name),
                format!("{} damaged objects", damage.len()),
                "`havun-backup repair` mends them from another store",
                objects,
            );
        }
        if let Some(oldest) = status.oldest.filter(|oldest| is_late(*oldest)) {
            let what = format!("some of it was not read since {oldest}; `scrub` in [stores.{name}] asks for every {}", config.scrub);
            self.problem(
                FindingKind::ScrubOverdue,
                Some(name),
                what,
                "run `havun-backup scrub` more often, or all of it at once",
                Vec::new(),
            );
        }
    }

    fn space(&mut self, name: &StoreName, free: Option<u64>) {
        let Some(free) = free else { return };
        let full = storage::full_at(free, self.growth, self.cx.now());
        let soon = self.cx.now().checked_add(SignedDuration::from_hours(SPACE_DAYS * 24)).ok();
        let hint = "free some space, get more, or shorten `retention.hot` and run `havun-backup cleanup`";
        if let Some(full) = full.filter(|full| soon.is_some_and(|soon| *full < soon)) {
            self.problem(
                FindingKind::Space,
                Some(name),
                format!("full at {full} if it goes on like this ({free} bytes free)"),
                hint,
                Vec::new(),
            );
        } else if free < LEAST_FREE {
            self.problem(FindingKind::Space, Some(name), format!("{free} bytes free only"), hint, Vec::new());
        }
    }
}

/// Lists of objects can be as long as the store.
fn bounded(mut audit: ReplicaAudit) -> ReplicaAudit {
    audit.missing.truncate(NAMED);
    audit.wrong_size.truncate(NAMED);
    audit.undone.truncate(NAMED);
    audit
}

/// The newest snapshot that is whole, and the newest of all. `objects` come oldest first.
fn newest_good(objects: &[Listed], partial: Option<&HashSet<SnapshotId>>) -> (Option<Timestamp>, Option<Timestamp>) {
    let newest = objects.last().map(std::slice::from_ref).unwrap_or_default();
    let newest = storage::ids(newest).map(|(_, taken_at)| taken_at).next();
    let is_good = |(id, _): &(SnapshotId, Timestamp)| !partial.is_some_and(|partial| partial.contains(id));
    let good = objects.iter().rev().find_map(|object| storage::ids(std::slice::from_ref(object)).find(is_good));
    (good.map(|(_, taken_at)| taken_at), newest)
}

fn last_run(row: &LogRow) -> LastRun {
    let metrics = row.details.get("metrics");
    let get = |key: &str| metrics.and_then(|metrics| metrics.get(key));
    let stages = |key: &str| {
        let stages = get(key).and_then(serde_json::Value::as_object).into_iter().flatten();
        stages.filter_map(|(stage, ms)| Some((stage.trim_end_matches("_ms").to_owned(), ms.as_u64()?))).collect()
    };
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    LastRun {
        started_at: row.started_at.parse().unwrap_or_default(),
        status: row.status.clone(),
        duration_ms: row.duration_ms.map(count),
        bytes: count(row.bytes),
        files: count(row.files),
        bytes_added: count(row.bytes_added),
        steps_ms: stages("steps_ms"),
        busy_ms: stages("busy_ms"),
        bytes_per_second: get("bytes_per_second").and_then(serde_json::Value::as_u64),
        deduplicated: get("deduplicated").and_then(serde_json::Value::as_f64),
        compression: get("compression").and_then(serde_json::Value::as_f64),
    }
}
