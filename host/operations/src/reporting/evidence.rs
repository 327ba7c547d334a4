//! What an auditor asks for of a year: every run, every gap, every test restore with its certificate, every restore, and everything
//! that was deleted, held, erased or changed, with who did it.

use super::{
    Period, RunLine,
    gather::{in_period, run_line},
};
use crate::{audit::LogRow, config::ProjectConfig, context::Context, error::OperationError};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

/// Of all projects of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// In the order of the report.
    pub projects: Vec<ProjectEvidence>,
    /// Who holds the keys: recipients, never secrets.
    pub key_custody: Vec<String>,
    /// The rule of three copies, two media, one elsewhere, one that cannot be changed, no error: how each project stands.
    pub notes: Vec<String>,
}

/// Of one project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectEvidence {
    /// The project.
    pub project: String,
    /// Every run of the year.
    pub runs: Vec<RunLine>,
    /// Every test restore.
    pub drills: Vec<DrillRecord>,
    /// Every restore and export.
    pub restores: Vec<Record>,
    /// Every clean-up, expiry, repair and accepted loss.
    pub deletions: Vec<Record>,
    /// Every hold placed or ended.
    pub holds: Vec<Record>,
    /// Every erasure registered or withdrawn.
    pub erasures: Vec<Record>,
    /// Every reading back (`verify`, `scrub`).
    pub checks: Vec<Record>,
    /// When program, strategy, host or stores became others, as the runs wrote it down.
    pub changes: Vec<Change>,
}

/// A test restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillRecord {
    /// When it began.
    pub at: Timestamp,
    /// `passed`, `incomplete`, `failed`; `cancelled` or `interrupted` where it did not end.
    pub result: String,
    /// The snapshot.
    pub snapshot: String,
    /// The certificate's id; empty where there is none.
    pub certificate: String,
    /// SHA-256 of the certificate's JSON as it lies on this host; empty where it does not.
    pub sha256: String,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasons: String,
    /// Who.
    pub user: String,
}

/// Something that a person or the program did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When it began.
    pub at: Timestamp,
    /// `restore`, `cleanup`, `archive-expire`, `hold`, …
    pub action: String,
    /// How it ended.
    pub status: String,
    /// Snapshot, target, store: what it was about.
    pub about: String,
    /// Files, snapshots or objects that it was about.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The reason that was given, or the error.
    pub reason: String,
    /// Login name of who started it.
    pub user: String,
    /// `operator`, `schedule`, …
    pub started_by: String,
    /// On which host.
    pub host: String,
}

/// Something that is from now on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The first run with it.
    pub at: Timestamp,
    /// `program`, `strategy`, `strategy component`, `host`, `stores`, `root`.
    pub what: String,
    /// Before.
    pub from: String,
    /// From then on.
    pub to: String,
}

/// Everything of the period; `rows` come newest first, as the audit database gives them.
pub(super) fn gather(cx: &Context, period: &Period, rows: &[(&ProjectConfig, Vec<LogRow>)]) -> Result<Evidence, OperationError> {
    let projects = rows.iter().map(|(project, rows)| one(cx, project, period, rows)).collect();
    let recipients = cx.recipients().map(|all| all.iter().map(ToString::to_string).collect()).unwrap_or_default();
    Ok(Evidence { projects, key_custody: custody(cx, recipients), notes: rows.iter().map(|(project, _)| copies(cx, project)).collect() })
}

fn one(cx: &Context, project: &ProjectConfig, period: &Period, rows: &[LogRow]) -> ProjectEvidence {
    let of_year: Vec<&LogRow> = rows.iter().rev().filter(|row| in_period(row, period)).collect();
    let those = |wanted: &dyn Fn(&LogRow) -> bool| of_year.iter().filter(|row| wanted(row)).filter_map(|row| record(row)).collect();
    let action = |row: &LogRow, words: &[&str]| row.kind == "backup" && words.iter().any(|word| row.action.starts_with(word));
    ProjectEvidence {
        project: project.name.to_string(),
        runs: of_year.iter().filter(|row| row.kind == "backup" && row.action == "run").filter_map(|row| run_line(row)).collect(),
        drills: of_year.iter().filter(|row| row.kind == "test" && row.action == "drill").filter_map(|row| drill(cx, row)).collect(),
        restores: those(&|row| row.kind == "restore"),
        deletions: those(&|row| action(row, &["cleanup", "archive-", "repair", "accept-loss"])),
        holds: those(&|row| action(row, &["hold"])),
        erasures: those(&|row| action(row, &["erasure"])),
        checks: those(&|row| row.kind == "test" && row.action != "drill"),
        changes: changes(rows, period),
    }
}

fn record(row: &LogRow) -> Option<Record> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let snapshot = row.snapshot.as_deref().map(|id| id.chars().take(16).collect::<String>());
    let about: Vec<String> =
        snapshot.into_iter().chain([row.target.clone(), row.stores.join(", ")]).filter(|text| !text.is_empty()).collect();
    Some(Record {
        at: row.started_at.parse().ok()?,
        action: row.action.clone(),
        status: row.status.clone(),
        about: about.join("; "),
        count: positive(row.files),
        bytes: positive(row.bytes),
        reason: row.message.replace('\n', "; "),
        user: row.user.clone(),
        started_by: row.started_by.clone(),
        host: row.host.clone(),
    })
}

fn drill(cx: &Context, row: &LogRow) -> Option<DrillRecord> {
    let text = |pointer: &str| row.details.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let result = match row.status.as_str() {
        "ok" => "passed",
        "partial" => "incomplete",
        other => other,
    };
    let files = row.details.get("files").and_then(serde_json::Value::as_array);
    let file = files.into_iter().flatten().filter_map(serde_json::Value::as_str).find(|path| path.ends_with(".json")).map(PathBuf::from);
    // Only what lies where this host keeps its certificates is read.
    let kept = file.as_ref().filter(|path| path.starts_with(cx.config.host.state_dir.join("certificates")));
    let sha256 = kept.and_then(|path| std::fs::read(path).ok()).map(|bytes| hex::encode(Sha256::digest(bytes))).unwrap_or_default();
    Some(DrillRecord {
        at: row.started_at.parse().ok()?,
        result: result.to_owned(),
        snapshot: row.snapshot.clone().unwrap_or_default(),
        certificate: text("/certificate/id"),
        sha256,
        file,
        duration_ms: row.duration_ms.and_then(|millis| u64::try_from(millis).ok()),
        reasons: row.message.replace('\n', "; "),
        user: row.user.clone(),
    })
}

/// What each run says of itself, against the run before it; the run before the period counts for the first in it.
fn changes(rows: &[LogRow], period: &Period) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut before: Option<&LogRow> = None;
    for row in rows.iter().rev().filter(|row| row.kind == "backup" && row.action == "run" && row.status != "running") {
        if let (Some(before), Ok(at)) = (before, row.started_at.parse())
            && period.holds(at)
        {
            let pairs = [
                ("program", before.program.clone(), row.program.clone()),
                ("strategy", before.strategy.clone(), row.strategy.clone()),
                ("strategy component", before.strategy_digest.clone(), row.strategy_digest.clone()),
                ("host", before.host.clone(), row.host.clone()),
                ("stores", before.stores.join(", "), row.stores.join(", ")),
                ("root", before.target.clone(), row.target.clone()),
            ];
            let changed = pairs.into_iter().filter(|(_, from, to)| from != to && !to.is_empty());
            changes.extend(changed.map(|(what, from, to)| Change { at, what: what.to_owned(), from, to }));
        }
        before = Some(row);
    }
    changes
}

fn custody(cx: &Context, recipients: Vec<String>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(identity) = &cx.config.keys.identity {
        lines.push(format!("service key of this host: {identity}"));
    }
    lines.extend(cx.config.keys.escrow.iter().map(|key| format!("escrow key, kept away from this host: {key}")));
    let all: Vec<&String> = recipients.iter().filter(|key| !cx.config.keys.escrow.contains(key)).collect();
    lines.extend(all.iter().map(|key| format!("public part of the service key: {key}")));
    if cx.config.keys.escrow.is_empty() {
        lines.push("there is no escrow key: without this host's key nobody reads encrypted backups".to_owned());
    }
    lines
}

/// 3-2-1-1-0, as far as the configuration says it.
fn copies(cx: &Context, project: &ProjectConfig) -> String {
    let stores: Vec<_> = project.stores.iter().filter_map(|name| cx.config.stores.get(name)).collect();
    let remote = stores.iter().filter(|store| store.kind.is_remote()).count();
    let locked = stores.iter().any(|store| match &store.kind {
        crate::config::StoreKind::S3(s3) => s3.object_lock.is_some(),
        crate::config::StoreKind::Sftp(sftp) => sftp.put_once,
        crate::config::StoreKind::Local { .. } => false,
    });
    let word = |yes: bool| if yes { "yes" } else { "NO" };
    format!(
        "{}: {} copies with the live data (3 asked for: {}), {} on another machine (1 asked for: {}), one that the login cannot change: {}",
        project.name,
        stores.len() + 1,
        word(stores.len() >= 2),
        remote,
        word(remote > 0),
        word(locked)
    )
}
