//! Backing up: which projects, in which order, and what became of each.
//!
//! One project failing never stops the others. Every project that begins has its row in `backup_logs` before
//! anything else is done for it, and that row says how it ended. A dry run makes the same plan, and writes nothing.
//!
//! Read this file (the projects), `lease` (no two hosts run one project), `execute` (one of them), `items` (databases, generated files,
//! history), `anomalies` (is it like those before), `forecast` (what a dry run expects), `pause` (database and files of one moment), `report`.

mod anomalies;
mod execute;
mod forecast;
mod history;
mod items;
mod lease;
mod pause;
mod plan;
mod report;

pub(crate) use anomalies::explained;
pub(crate) use items::overrides;
pub(crate) use pause::{left_behind, undo_left_behind};
pub(crate) use plan::connections;
pub use report::{ExpectedChange, ExpectedItem, ProjectRun, RunMetrics, RunOutcome, RunReport, RunStats, StoreState};

use crate::{
    audit::{CAN_PASS, LogEnd, LogStart},
    config::ProjectConfig,
    context::{Context, new_run_id},
    daemon,
    error::{OperationError, exit},
    health::ping::{self, Sign},
    project, replication,
    report::{Failure, SCHEMA_VERSION},
    schedule,
};
use havun_model::{Outcome, ProjectName, StoreName};
use havun_vault::SnapshotList;
use jiff::Timestamp;
use lease::Taken;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What to back up.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// Only those whose schedule asks for it now.
    pub due: bool,
    /// Make the plan, say what would change, and write nothing.
    pub dry_run: bool,
    /// Also paused projects; and take a lease from whoever holds it.
    pub force: bool,
}

/// Backs up. What goes wrong with one project is in the report.
///
/// # Errors
/// [`OperationError::UnknownProject`], before anything starts.
pub fn run(cx: &Context, options: &RunOptions) -> Result<RunReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    let started_at = cx.now();
    let run_id = new_run_id(started_at)?;
    let mut report = RunReport {
        schema_version: SCHEMA_VERSION,
        run_id,
        dry_run: options.dry_run,
        started_at,
        ended_at: started_at,
        interrupted: false,
        projects: Vec::new(),
        retried: Vec::new(),
    };
    let mut left_behind = if options.dry_run { Vec::new() } else { undo_left_behind(cx) };
    left_behind.iter().for_each(|(_, text)| tracing::warn!("{text}"));
    if !options.dry_run {
        crate::drill::sweep(cx);
        let _told = ping::give(cx, Sign::Start, "run");
    }
    for (place, project) in (1..).zip(&projects) {
        if cx.cancel.is_cancelled() {
            break;
        }
        cx.observer.project_begins(&project.name, place, projects.len());
        let mut ended = run_project(cx, project, options, &report.run_id);
        let own = left_behind.extract_if(.., |(of, _)| of.as_ref() == Some(&project.name));
        ended.warnings.extend(own.map(|(_, text)| text));
        cx.observer.project_ends(&ended);
        report.projects.push(ended);
    }
    if !options.dry_run && !cx.cancel.is_cancelled() {
        // After the backups: an archive that is slow tonight must not keep a new snapshot from being made.
        let copied = report.projects.iter().filter(|run| run.snapshot.is_some()).map(|run| run.project.clone()).collect();
        match replication::retry_due(cx, &copied, &report.run_id) {
            Ok(retried) => report.retried = retried,
            Err(error) if report.projects.iter().all(|run| run.outcome.is_idle()) => return Err(error),
            // Without the audit database every project has failed, and says so.
            Err(_) => {}
        }
    }
    report.interrupted = cx.cancel.is_cancelled();
    report.ended_at = cx.now();
    if !options.dry_run {
        sign_off(cx, &report);
    }
    Ok(report)
}

/// Tells a dead man's switch how it ended. Of what went wrong it is told no more than where.
fn sign_off(cx: &Context, report: &RunReport) {
    let outcome = |run: &ProjectRun| format!("{}: {}", run.project, run.outcome.word());
    let body = report.projects.iter().map(outcome).collect::<Vec<_>>().join("\n");
    let sign = if report.exit_status() == exit::OK { Sign::Success } else { Sign::Failure };
    let _told = ping::give(cx, sign, &body);
}

/// Backs up one project if its time has come, and tries no lagging replica of another. What killed runs have left behind
/// is not looked for: [`clear_left_behind`] does that, once for all.
///
/// # Errors
/// [`OperationError::UnknownProject`].
pub(crate) fn run_one(cx: &Context, name: &ProjectName) -> Result<ProjectRun, OperationError> {
    let project = project::find(cx, name.as_str())?;
    let run_id = new_run_id(cx.now())?;
    cx.observer.project_begins(&project.name, 1, 1);
    let ended = run_project(cx, project, &RunOptions { due: true, ..RunOptions::default() }, &run_id);
    cx.observer.project_ends(&ended);
    Ok(ended)
}

/// Undoes what killed runs and drills have left behind: applications that rest, snapshots of file systems, scratch servers.
pub(crate) fn clear_left_behind(cx: &Context) {
    undo_left_behind(cx).iter().for_each(|(_, text)| tracing::warn!("{text}"));
    crate::drill::sweep(cx);
}

fn run_project(cx: &Context, project: &ProjectConfig, options: &RunOptions, run_id: &str) -> ProjectRun {
    let mut run = ProjectRun::begin(project, cx.now());
    let result = match idle(cx, project, options) {
        Some(RunOutcome::Paused) if !options.projects.is_empty() => Err(OperationError::Paused { project: project.name.clone() }),
        Some(outcome) => {
            run.outcome = outcome;
            Ok(())
        }
        None if options.dry_run => forecast::forecast(cx, project, &mut run, run_id),
        None => logged(cx, project, options, run_id, &mut run),
    };
    if let Err(error) = result {
        run.fail(&error);
    }
    run.ended_at = cx.now();
    run
}

/// Whether nothing is to be done for a project now.
fn idle(cx: &Context, project: &ProjectConfig, options: &RunOptions) -> Option<RunOutcome> {
    if project.paused && !options.force {
        return Some(RunOutcome::Paused);
    }
    (options.due && !is_due(cx, project)).then_some(RunOutcome::NotDue)
}

/// By the planner of the daemon; without an audit database, by the newest snapshot: that run then fails, and says why.
fn is_due(cx: &Context, project: &ProjectConfig) -> bool {
    match daemon::due_at(cx, project) {
        Ok(at) => at.is_some_and(|at| at <= cx.now()),
        Err(_) => project.schedule.as_ref().is_some_and(|schedule| {
            let last = newest_stored(cx, project).ok().and_then(|list| list.snapshots.last().map(|s| s.snapshot.started_at));
            schedule::is_due(schedule, last, cx.now(), &cx.zone())
        }),
    }
}

/// What the primary store holds: the others hold nothing newer, and may be far away.
fn newest_stored(cx: &Context, project: &ProjectConfig) -> Result<SnapshotList, OperationError> {
    let order: Vec<StoreName> = project::primary(cx, project).into_iter().collect();
    let (store, vault, _) = project::first_open(cx, project, &order)?;
    vault.snapshots().map_err(|e| project::vault_error(&project.name, &store.name, e))
}

/// Carries out a run between its two entries in the audit database.
fn logged(cx: &Context, project: &ProjectConfig, options: &RunOptions, run_id: &str, run: &mut ProjectRun) -> Result<(), OperationError> {
    let audit = cx.audit()?;
    let lease = match lease::take(cx, project, options, run_id)? {
        Taken::Ours(lease) => lease,
        Taken::Elsewhere(why) => {
            run.outcome = RunOutcome::NotDue;
            run.warnings.push(why);
            return Ok(());
        }
    };
    let mut start: LogStart = cx.log_start(run_id, project.name.as_str(), "run", run.started_at);
    start.stores = project.stores.iter().map(ToString::to_string).collect();
    start.target = project.root.display().to_string();
    start.strategy.clone_from(&project.strategy);
    let row = audit.begin_backup(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let result = catch_unwind(AssertUnwindSafe(|| execute::execute(cx, project, options, run_id, &lease, run)));
    let result = result.unwrap_or_else(|panic| Err(panicked(project, &*panic)));
    if let Err(error) = &result {
        run.fail(error);
    }
    run.ended_at = cx.now();
    let written = audit.end(row, &log_end(run)).map_err(|e| OperationError::Audit(Box::new(e)));
    // A backup that lacks an item is tried again, by whichever host.
    lease.release(run.snapshot.is_some() && !run.can_pass);
    alert(cx, run, run_id);
    result.and(written)
}

/// A mistake in this program ends the run of one project, and its row.
fn panicked(project: &ProjectConfig, panic: &(dyn std::any::Any + Send)) -> OperationError {
    OperationError::Panicked { doing: format!("the run of project `{}`", project.name), what: daemon::panic_text(panic) }
}

/// A run that is not `ok` needs a person; the next one that is closes the alert. One that the operator stopped says nothing.
fn alert(cx: &Context, run: &ProjectRun, run_id: &str) {
    // That a replica lags behind has an alert of its own.
    let copies: Vec<String> = run.stores.iter().filter_map(StoreState::not_copied).collect();
    let missing: Vec<&str> = run.problems.iter().filter(|problem| !copies.contains(problem)).map(String::as_str).collect();
    let partial = || Failure { message: missing.join("; "), causes: Vec::new(), hint: None, exit_status: exit::PARTIAL };
    let failure = match (run.outcome, &run.failure) {
        (RunOutcome::Ok, _) => {
            // What another host left in the middle is done now.
            cx.alert(run.project.as_str(), "", "lease", None, run_id);
            None
        }
        (_, Some(failure)) if failure.exit_status == exit::INTERRUPTED => return,
        (_, Some(failure)) => Some(failure.clone()),
        (RunOutcome::Partial, None) if missing.is_empty() => None,
        (RunOutcome::Partial, None) => Some(partial()),
        (_, None) => return,
    };
    cx.alert(run.project.as_str(), "", "run", failure.as_ref(), run_id);
}

fn log_end(run: &ProjectRun) -> LogEnd {
    let stats = run.stats.unwrap_or_default();
    let interrupted = run.failure.as_ref().is_some_and(|f| f.exit_status == crate::error::exit::INTERRUPTED);
    let status = if interrupted { "cancelled" } else { run.stored_outcome().word() };
    let message = match &run.failure {
        Some(failure) => failure.one_line(),
        None => run.problems.join("\n"),
    };
    LogEnd {
        status: status.to_owned(),
        ended_at: run.ended_at,
        snapshot: run.snapshot.map(|id| id.to_hex()),
        files: stats.entries,
        bytes: stats.bytes,
        bytes_added: stats.bytes_added,
        problems: run.problems.len() as u64,
        message,
        details: serde_json::json!({ "outcome": run.outcome, "stats": run.stats, "items": run.items, "stores": run.stores, "warnings": run.warnings, "consistency": run.consistency, CAN_PASS: run.can_pass, "metrics": run.metrics, "anomalies": run.anomalies }),
    }
}

impl ProjectRun {
    fn begin(project: &ProjectConfig, now: Timestamp) -> Self {
        Self {
            project: project.name.clone(),
            title: project.title.clone(),
            outcome: RunOutcome::Failed,
            started_at: now,
            ended_at: now,
            snapshot: None,
            parent: None,
            strategy: project.strategy.clone(),
            plan: None,
            items: std::collections::BTreeMap::new(),
            stats: None,
            metrics: None,
            anomalies: Vec::new(),
            expected: None,
            consistency: None,
            preparations: Vec::new(),
            stores: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            failure: None,
            can_pass: false,
        }
    }

    /// Ends it with an error. What was committed before stays committed, and partial at best.
    fn fail(&mut self, error: &OperationError) {
        let failure = error.to_failure();
        self.outcome = match (self.snapshot, failure.exit_status) {
            (Some(_), _) => RunOutcome::Partial,
            (None, crate::error::exit::LOCKED) => RunOutcome::Locked,
            (None, _) => RunOutcome::Failed,
        };
        if self.snapshot.is_some() {
            self.problems.push(failure.one_line());
        }
        self.can_pass = error.can_pass();
        self.failure = Some(failure);
    }

    /// The outcome of what was stored and copied.
    fn settle(&mut self, stored: Outcome) {
        // What was not copied waits in the queue of its own; an item that is missing needs another run.
        self.can_pass = self.items.values().any(|item| item.outcome == Outcome::Failed);
        let whole = stored == Outcome::Ok && self.problems.is_empty() && self.stores.iter().all(|s| s.state == "stored");
        self.outcome = if whole { RunOutcome::Ok } else { RunOutcome::Partial };
    }
}
