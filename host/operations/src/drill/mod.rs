//! Drills: test restores that prove a backup, and the certificates that they leave.
//!
//! A drill restores one snapshot as an operator would after a disaster, into a private folder and into scratch database
//! servers of its own; compares every file with the manifest as it lies on the disk; loads every database and compares
//! it with the snapshot's record; asks the strategy whether the application is whole; and measures. Whatever could not be
//! proven is not `passed`. A production database is never written to, and never connected to but to ask which server
//! it is, where the configuration names servers for drills. The production tree is never restored from or into.
//!
//! What a drill makes is removed when it ends; what a killed one leaves, when the next drill or run begins.
//!
//! Read this file, then `choose` (which snapshots), `one` (one drill from its first to its last step) with `files`,
//! `endings`, `databases` and `redis`, `certificate` and `keep` (what is left behind), `folder` and `leftovers` (what is not), `due`.

mod accept;
mod certificate;
mod check;
mod choose;
mod databases;
mod due;
mod endings;
mod files;
mod folder;
mod foreign;
mod keep;
mod leftovers;
mod one;
mod redis;

pub use certificate::{
    Accepted, Certificate, CertifiedDatabase, CertifiedFiles, CertifiedSnapshot, CertifiedStrategy, DrillResult, Objectives, html, markdown,
};
pub use check::{CertificateCheck, CheckError, check_certificate};
pub use due::DrillSummary;
pub(crate) use due::{state, summary};
pub(crate) use leftovers::{left_behind, sweep};

use crate::{
    audit::LogRow,
    config::ProjectConfig,
    context::{Context, new_run_id},
    error::{OperationError, exit, one_line},
    project,
    report::{Failure, SCHEMA_VERSION},
    signing::NoteSigner,
};
use havun_model::ProjectName;
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// What to drill.
#[derive(Debug, Clone, Default)]
pub struct DrillOptions {
    /// These projects only; empty means all.
    pub projects: Vec<String>,
    /// Only projects whose last passed drill is older than `every`.
    pub due: bool,
    /// Prefix of the id of one snapshot, in place of `choose`.
    pub snapshot: Option<String>,
    /// From this store.
    pub store: Option<String>,
    /// For tests: makes the random choice the same each time.
    pub seed: Option<u64>,
}

/// Every project that was looked at. Shape of `havun-backup test --json`.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique; the audit rows carry it.
    pub run_id: String,
    /// What dead drills had left and this one has removed.
    pub removed: Vec<String>,
    /// The operator stopped it.
    pub interrupted: bool,
    /// One for each project, the most important first.
    pub projects: Vec<ProjectDrill>,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectDrill {
    /// The project.
    pub project: ProjectName,
    /// The worst of its drills; `not-due` when there was none.
    pub outcome: DrillOutcome,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// One for each snapshot.
    pub drills: Vec<SnapshotDrill>,
    /// Why there was no drill at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// How a project's drills ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillOutcome {
    /// Everything was proven.
    Passed,
    /// Nothing failed, but not everything could be proven.
    Incomplete,
    /// Something is wrong.
    Failed,
    /// The last one is recent enough.
    NotDue,
}

impl DrillOutcome {
    /// `passed`, `incomplete`, `failed` or `not-due`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::NotDue => "not-due",
        }
    }
}

/// The drill of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotDrill {
    /// What it certifies.
    pub certificate: Certificate,
    /// The certificate's files on this host: JSON, signed note, Markdown, HTML.
    pub files: Vec<PathBuf>,
    /// Stores that hold it.
    pub stored_in: Vec<String>,
    /// Stores that do not, and why.
    pub not_stored: Vec<String>,
}

impl DrillReport {
    /// 0 when all passed or were not due; 6 when any did not; 130 when it was stopped.
    pub fn exit_status(&self) -> u8 {
        let good = |drill: &ProjectDrill| matches!(drill.outcome, DrillOutcome::Passed | DrillOutcome::NotDue);
        match (self.interrupted, self.projects.iter().all(good)) {
            (true, _) => exit::INTERRUPTED,
            (false, true) => exit::OK,
            (false, false) => exit::DRILL,
        }
    }
}

/// Drills projects one after the other.
///
/// # Errors
/// [`OperationError::UnknownProject`], [`OperationError::UnknownStore`], [`OperationError::Audit`],
/// [`OperationError::Key`] when the signing key cannot be used. What is wrong with a project is in the report.
pub fn drill(cx: &Context, options: &DrillOptions) -> Result<DrillReport, OperationError> {
    let projects = project::select(cx, &options.projects)?;
    crate::list::check_store(cx, options.store.as_deref())?;
    let signer = NoteSigner::of_host(cx)?;
    let mut report = DrillReport {
        schema_version: SCHEMA_VERSION,
        run_id: new_run_id(cx.now())?,
        removed: sweep(cx),
        interrupted: false,
        projects: Vec::new(),
    };
    let of = projects.len();
    for (place, project) in projects.into_iter().enumerate() {
        if cx.cancel.is_cancelled() {
            report.interrupted = true;
            break;
        }
        cx.observer.project_begins(&project.name, place + 1, of);
        let job = one::Job { cx, project, options, run_id: &report.run_id, signer: &signer };
        let drill = match one_project(&job) {
            Ok(drill) => drill,
            Err(OperationError::Interrupted) => {
                report.interrupted = true;
                break;
            }
            Err(error @ OperationError::Audit(_)) => return Err(error),
            Err(error) => without_drill(cx, project, &error),
        };
        // A snapshot that somebody named says nothing of those that a drill would choose.
        if options.snapshot.is_none() || drill.outcome != DrillOutcome::Passed {
            alert(cx, &drill, &report.run_id);
        }
        cx.observer.drill_ends(&drill);
        report.projects.push(drill);
    }
    Ok(report)
}

fn one_project(job: &one::Job<'_>) -> Result<ProjectDrill, OperationError> {
    let (cx, project) = (job.cx, job.project);
    let mut done = empty(cx, project);
    if job.options.due {
        let known = state(cx, project)?;
        if !known.is_due() {
            done.outcome = DrillOutcome::NotDue;
            done.notes.extend(known.last.filter(|row| row.status != "ok").map(|row| not_passed(project, &row)));
            return Ok(done);
        }
    }
    let chosen = choose::choose(job)?;
    done.notes = chosen.notes;
    let mut folder = folder::DrillFolder::create(cx)?;
    let mut servers = databases::Servers::new(cx);
    for snapshot in &chosen.snapshots {
        cx.check_cancelled()?;
        done.drills.push(one::drill_snapshot(job, snapshot, &mut folder, &mut servers)?);
    }
    drop(servers);
    done.notes.extend(folder.remove().err().map(|error| format!("the next drill removes what is left: {}", one_line(&error))));
    done.outcome = worst(&done.drills);
    done.ended_at = cx.now();
    Ok(done)
}

/// One passed recently enough, and a later one did not.
fn not_passed(project: &ProjectConfig, row: &LogRow) -> String {
    let word = if row.status == "partial" { "incomplete" } else { "failed" };
    format!(
        "the last drill is {word}, though one that passed is recent enough: `havun-backup test --project {}` drills again",
        project.name
    )
}

fn empty(cx: &Context, project: &ProjectConfig) -> ProjectDrill {
    ProjectDrill {
        project: project.name.clone(),
        outcome: DrillOutcome::Failed,
        started_at: cx.now(),
        ended_at: cx.now(),
        drills: Vec::new(),
        failure: None,
        notes: Vec::new(),
    }
}

fn without_drill(cx: &Context, project: &ProjectConfig, error: &OperationError) -> ProjectDrill {
    ProjectDrill { failure: Some(error.to_failure()), ..empty(cx, project) }
}

fn worst(drills: &[SnapshotDrill]) -> DrillOutcome {
    let has = |result: DrillResult| drills.iter().any(|drill| drill.certificate.result == result);
    match (drills.is_empty() || has(DrillResult::Failed), has(DrillResult::Incomplete)) {
        (true, _) => DrillOutcome::Failed,
        (false, true) => DrillOutcome::Incomplete,
        (false, false) => DrillOutcome::Passed,
    }
}

/// A drill that did not pass needs a person; the next one that does closes the alert.
fn alert(cx: &Context, drill: &ProjectDrill, run_id: &str) {
    let failure = match (drill.outcome, &drill.failure) {
        (DrillOutcome::NotDue, _) => return,
        (DrillOutcome::Passed, _) => None,
        (_, Some(failure)) => Some(failure.clone()),
        (outcome, None) => {
            let reasons = drill.drills.iter().flat_map(|d| {
                let snapshot = d.certificate.snapshot.id.short();
                d.certificate.reasons.iter().map(move |reason| format!("{snapshot}: {reason}"))
            });
            let message = format!("the drill is {}: {}", outcome.word(), reasons.collect::<Vec<_>>().join("; "));
            let hint = Some("`havun-backup test` drills again; the certificate has the whole of it".to_owned());
            Some(Failure { message, causes: Vec::new(), hint, exit_status: exit::DRILL })
        }
    };
    cx.alert(drill.project.as_str(), "", "drill", failure.as_ref(), run_id);
}
