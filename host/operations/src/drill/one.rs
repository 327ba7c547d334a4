//! One drill: restore, compare, load, ask, measure, certify.

use super::{
    Accepted, SnapshotDrill,
    accept::Acceptance,
    certificate::{Certificate, CertifiedFiles, CertifiedSnapshot, CertifiedStrategy, DrillResult, FORMAT, Objectives},
    choose::Chosen,
    databases::{Proven, Servers, Source},
    due::{ACTION, CHOSEN},
    files::{Compared, Comparison, NAMED},
    folder::{self, DrillFolder},
    keep::{self, Forms},
};
use crate::{
    audit::LogEnd,
    config::ProjectConfig,
    context::{Context, PROGRAM},
    error::{OperationError, one_line},
    restore::{self, FailedPath, PreparedRestore, RestoreOptions},
    selection::SnapshotChoice,
    signing::NoteSigner,
    strategies,
};
use havun_model::{Check, Outcome, Snapshot, StepReport};
use jiff::Timestamp;
use std::path::Path;

/// How many files that end early one check names.
const CUT_OFF_NAMED: usize = 10;
/// A loaded database takes so many times the bytes of its dump: rows, indexes, and the server's own files.
const LOADED_TIMES: u64 = 3;
/// Where a certificate is kept beside the stores.
const HERE: &str = "the state folder of this host";
/// What to do about a file that no backup has cut off.
const UPLOADED_SO: &str = "look at the live file: where it was uploaded like that, name it at `known_bad` in the project's `drill` section";
/// What an empty server takes, in bytes.
const EMPTY_SERVER: u64 = 256 << 20;

/// What a drill is told.
pub(super) struct Job<'a> {
    pub cx: &'a Context,
    pub project: &'a ProjectConfig,
    pub options: &'a super::DrillOptions,
    pub run_id: &'a str,
    pub signer: &'a NoteSigner,
}

/// What a drill finds out.
#[derive(Default)]
struct Findings {
    files: CertifiedFiles,
    databases: Vec<super::CertifiedDatabase>,
    steps: Vec<StepReport>,
    checks: Vec<Check>,
    /// None when it did not come to its end.
    restore_ms: Option<u64>,
    erasures: Vec<String>,
    judged_by: (String, String),
    reasons: Vec<String>,
    /// What could not be proven, and is not accepted to be so.
    unproven: Vec<String>,
    /// What was not proven, and may stay so.
    accepted: Vec<Accepted>,
    /// The engine of a database that is among it.
    lacking: Option<String>,
    notes: Vec<String>,
}

/// Drills one snapshot between its two entries in the audit database.
///
/// # Errors
/// [`OperationError::Audit`], [`OperationError::Interrupted`], and those of preparing the restore: then there is nothing
/// to certify. What is wrong with the snapshot is in its certificate.
pub(super) fn drill_snapshot(
    job: &Job<'_>,
    chosen: &Chosen,
    folder: &mut DrillFolder,
    servers: &mut Servers<'_>,
) -> Result<SnapshotDrill, OperationError> {
    let (cx, project) = (job.cx, job.project);
    let started_at = cx.now();
    let audit = cx.audit()?;
    let mut start = cx.log_start(job.run_id, project.name.as_str(), ACTION, started_at);
    start.snapshot = Some(chosen.id.to_hex());
    start.stores = vec![chosen.store.to_string()];
    start.target = chosen.word.to_owned();
    let user = start.user.clone();
    let row = audit.begin_test(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let drilled = certified(job, chosen, started_at, &user, folder, servers);
    let end = match &drilled {
        Ok(drill) => log_end(drill, chosen.of),
        Err(error) => log_failure(cx, error),
    };
    audit.end(row, &end).map_err(|e| OperationError::Audit(Box::new(e)))?;
    drilled
}

fn certified(
    job: &Job<'_>,
    chosen: &Chosen,
    started_at: Timestamp,
    user: &str,
    folder: &mut DrillFolder,
    servers: &mut Servers<'_>,
) -> Result<SnapshotDrill, OperationError> {
    let (cx, project) = (job.cx, job.project);
    let place = folder.new_place()?;
    let tree = place.join("tree");
    let options = RestoreOptions {
        project: project.name.to_string(),
        choice: SnapshotChoice::Id(chosen.id.to_hex()),
        target: Some(tree.clone()),
        store: Some(chosen.store.to_string()),
        ..RestoreOptions::default()
    };
    let mut prepared = restore::prepare(cx, &options)?;
    prepared.leave_out_databases();
    let snapshot = prepared.snapshot().clone();
    let notes = chosen.notes.iter().chain(&prepared.view().notes).cloned().collect();
    let mut findings = Findings { notes, ..Findings::default() };
    match find_out(job, &prepared, &place, folder, servers, &mut findings) {
        Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
        Err(error) => findings.reasons.push(one_line(&error)),
        Ok(()) => {}
    }
    drop(prepared);
    findings.notes.extend(folder::remove_tree(&place).err().map(|e| format!("the next drill removes what is left: {}", one_line(&e))));
    let certificate = certify(job, chosen, &snapshot, started_at, user, findings);
    let forms = Forms::make(&certificate, job.signer);
    let (files, lost) = forms.write(cx, &certificate);
    let (stored_in, mut not_stored) = keep::store_everywhere(cx, project, &forms, &certificate)?;
    match lost {
        // Nobody could show it to anybody.
        Some(error) if stored_in.is_empty() => return Err(error),
        Some(error) => not_stored.insert(0, format!("{HERE}: {}", one_line(&error))),
        None => {}
    }
    Ok(SnapshotDrill { certificate, files, stored_in, not_stored })
}

/// Everything that can be found out, as far as it goes; what is wrong is in `findings`.
fn find_out(
    job: &Job<'_>,
    prepared: &PreparedRestore<'_>,
    place: &Path,
    folder: &mut DrillFolder,
    servers: &mut Servers<'_>,
    findings: &mut Findings,
) -> Result<(), OperationError> {
    let cx = job.cx;
    let snapshot = prepared.snapshot();
    check_space(snapshot, folder)?;
    partial_items(snapshot, findings);
    let records = snapshot.items.values().filter_map(|item| item.database.as_ref());
    servers.warm_up(records, folder)?;
    let tree = place.join("tree");
    let began = cx.now();
    let mut restored = prepared.rehearse_files(job.run_id)?;
    let mut restoring = cx.now().as_millisecond() - began.as_millisecond();
    let compared = Comparison { cx, prepared, known_bad: restore::globs(&job.project.drill.known_bad)? }.run()?;
    take_files(compared, std::mem::take(&mut restored.failed), findings);
    let began = cx.now();
    let mut proven = Proven::default();
    let loaded = servers.prove(&Source { prepared, tree: &tree, place }, folder, &mut proven);
    let mut rest = Ok(());
    if loaded.is_ok() {
        take_erasures(job, prepared, &restored, &proven, findings);
        prepared.rehearse_steps(&mut restored);
        restoring += cx.now().as_millisecond() - began.as_millisecond();
        findings.restore_ms = u64::try_from(restoring).ok();
        findings.steps = restored.steps;
        findings.notes.extend(restored.notes);
        // A restore needs them not, so that this is none of its time.
        rest = servers.read_the_rest(prepared, &mut proven);
        take_databases(job, &proven, findings);
        judge(job, prepared, &tree, &proven, findings);
    }
    findings.databases = std::mem::take(&mut proven.certified);
    findings.notes.extend(servers.forget(proven, folder));
    loaded.and(rest)
}

fn check_space(snapshot: &Snapshot, folder: &DrillFolder) -> Result<(), OperationError> {
    let dumps = snapshot.items.values().filter(|item| item.kind == "database");
    let of_servers = |item: &&havun_model::ItemRecord| item.database.as_ref().is_some_and(|d| d.engine != "sqlite");
    let (served, files): (Vec<_>, Vec<_>) = dumps.partition(of_servers);
    let sum = |items: &[&havun_model::ItemRecord]| items.iter().map(|item| item.bytes).sum::<u64>();
    let servers = if served.is_empty() { 0 } else { sum(&served).saturating_mul(LOADED_TIMES).saturating_add(EMPTY_SERVER) };
    folder.check_space(snapshot.manifest.bytes.saturating_add(sum(&files)), servers)
}

/// What the snapshot itself says is missing.
fn partial_items(snapshot: &Snapshot, findings: &mut Findings) {
    for (name, item) in snapshot.items.iter().filter(|(_, item)| item.outcome != Outcome::Ok && item.kind != "database") {
        let why = item.problems.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        findings.reasons.push(format!("the snapshot holds item `{name}` {}: {why}", item.outcome.word()));
    }
}

fn take_files(compared: Compared, lost: Vec<FailedPath>, findings: &mut Findings) {
    // What the restore has said already, with the reason, is not said again as a file that is not there.
    let mut failed = lost;
    for found in compared.failed {
        if !failed.iter().any(|known| known.path == found.path) {
            failed.push(found);
        }
    }
    if let Some(first) = failed.first() {
        let more = if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
        findings.reasons.push(format!("{}: {}{more}", first.path, first.why));
    }
    findings.files = compared.files;
    findings.files.done = true;
    findings.files.failed_count = failed.len() as u64;
    failed.truncate(NAMED);
    findings.files.failed = failed;
    let name = "uploads end where they should".to_owned();
    let named: Vec<String> = compared.cut_off.iter().take(CUT_OFF_NAMED).map(|f| format!("{} is {}", f.path, f.why)).collect();
    let check = match compared.cut_off.len() {
        0 => Check { name, outcome: "pass".to_owned(), detail: "PDF, PNG, JPEG, GIF, ZIP, RIFF, 7z and SQLite files".to_owned() },
        count => {
            let more = if count > CUT_OFF_NAMED { format!("; and {} more", count - CUT_OFF_NAMED) } else { String::new() };
            Check { name, outcome: "fail".to_owned(), detail: format!("cut off: {}{more} ({UPLOADED_SO})", named.join("; ")) }
        }
    };
    findings.checks.push(check);
}

/// Whoever was erased since the backup was taken is erased again, as a restore would.
fn take_erasures(
    job: &Job<'_>,
    prepared: &PreparedRestore<'_>,
    restored: &restore::RestoreOutcome,
    proven: &Proven,
    findings: &mut Findings,
) {
    let erase = |item: &str, rules: &[_], subjects: &_| proven.erase(item, rules, subjects, &job.cx.cancel);
    let erased = prepared.rehearse_erasures(restored, &proven.items(), &erase);
    findings.erasures = erased.lines();
    findings.erasures.extend(erased.outstanding.iter().map(|what| format!("by hand: {what}")));
    findings.reasons.extend(erased.failures.into_iter().map(|why| format!("erasures: {why}")));
}

fn take_databases(job: &Job<'_>, proven: &Proven, findings: &mut Findings) {
    let accept = Acceptance::of(&job.cx.config, job.project);
    for database in &proven.certified {
        let line = format!("database `{}`: {}", database.item, database.detail);
        match database.result.as_str() {
            "passed" => {}
            "skipped" => match accept.database(&database.engine, &line) {
                Some(accepted) => {
                    findings.lacking = Some(database.engine.clone());
                    findings.accepted.push(accepted);
                }
                None => findings.unproven.push(line),
            },
            _ => findings.reasons.push(line),
        }
    }
}

/// The strategy's word on the restored application.
fn judge(job: &Job<'_>, prepared: &PreparedRestore<'_>, tree: &Path, proven: &Proven, findings: &mut Findings) {
    job.cx.observer.step("asking the strategy");
    for step in findings.steps.iter().filter(|step| step.outcome == "failed") {
        findings.reasons.push(format!("step `{}`: {}", step.title, step.detail));
    }
    if std::fs::create_dir_all(tree).is_err() {
        findings.reasons.push(format!("cannot make {}", tree.display()));
        return;
    }
    let Some(strategy) = prepared.strategy() else {
        findings
            .unproven
            .push("the strategy of the project cannot be loaded, so that nobody can say whether the application is whole".to_owned());
        return;
    };
    findings.judged_by = (strategy.info().version.clone(), strategy.digest().to_hex());
    let (databases, errors) = proven.open();
    findings.reasons.extend(errors);
    let context = strategies::strategy_context(job.cx, job.project, job.run_id);
    match strategy.verify(&context, tree, databases) {
        Ok(checks) => {
            unproven_checks(job, &checks, findings);
            findings.checks.extend(checks);
        }
        Err(error) => findings.reasons.push(one_line(&error)),
    }
    let failed = findings.checks.iter().filter(|check| check.outcome == "fail");
    let failed: Vec<String> = failed.map(|check| format!("check `{}`: {}", check.name, check.detail)).collect();
    findings.reasons.extend(failed);
}

/// What a strategy could not look at is not proven, unless the configuration accepts it.
fn unproven_checks(job: &Job<'_>, checks: &[Check], findings: &mut Findings) {
    if checks.is_empty() {
        findings.unproven.push("the strategy has checked nothing, so that nobody has said whether the application is whole".to_owned());
    }
    let accept = Acceptance::of(&job.cx.config, job.project);
    for check in checks.iter().filter(|check| check.outcome == "skipped") {
        let line = format!("check `{}`: {}", check.name, check.detail);
        match accept.check(&check.name, findings.lacking.as_deref(), &line) {
            Some(accepted) => findings.accepted.push(accepted),
            None => findings.unproven.push(line),
        }
    }
}

fn certify(job: &Job<'_>, chosen: &Chosen, snapshot: &Snapshot, started_at: Timestamp, user: &str, mut findings: Findings) -> Certificate {
    let (cx, project) = (job.cx, job.project);
    let objectives = objectives(project, chosen, started_at, &mut findings);
    let (judged_by_version, judged_by_digest) = std::mem::take(&mut findings.judged_by);
    let result = match (findings.reasons.is_empty(), findings.unproven.is_empty()) {
        (true, true) => DrillResult::Passed,
        (true, false) => DrillResult::Incomplete,
        (false, _) => DrillResult::Failed,
    };
    let unproven = findings.unproven.into_iter().map(|what| format!("not proven: {what}"));
    Certificate {
        format: FORMAT.to_owned(),
        id: format!("{}/{}/{}", job.run_id, project.name, chosen.id.short()),
        result,
        reasons: findings.reasons.into_iter().chain(unproven).collect(),
        project: project.name.clone(),
        title: project.title.clone(),
        compliance: project.compliance.clone(),
        host: cx.config.host.name.clone(),
        program: PROGRAM.to_owned(),
        user: user.to_owned(),
        started_by: cx.started_by.clone(),
        started_at,
        ended_at: cx.now(),
        snapshot: CertifiedSnapshot {
            id: chosen.id,
            taken_at: snapshot.started_at,
            host: snapshot.host.clone(),
            program: snapshot.program.clone(),
            outcome: snapshot.outcome,
            chosen_as: chosen.word.to_owned(),
            store: chosen.store.to_string(),
            tier: crate::project::tier_word(cx, &chosen.store).to_owned(),
            items: snapshot.items.len() as u64,
            bytes: snapshot.manifest.bytes,
            retain_until: snapshot.retention.retain_until,
        },
        strategy: CertifiedStrategy {
            id: snapshot.strategy.id.clone(),
            version: snapshot.strategy.version.clone(),
            digest: snapshot.strategy.digest,
            judged_by_version,
            judged_by_digest,
        },
        files: findings.files,
        databases: findings.databases,
        steps: findings.steps,
        checks: findings.checks,
        objectives,
        erasures: findings.erasures,
        accepted: findings.accepted,
        notes: findings.notes,
        signer: job.signer.verifier().to_string(),
    }
}

/// Times against what was asked for; what is missed is a reason.
fn objectives(project: &ProjectConfig, chosen: &Chosen, started_at: Timestamp, findings: &mut Findings) -> Objectives {
    let within_rto = project.rto.zip(findings.restore_ms).map(|(rto, took)| i128::from(took) <= rto.duration().as_millis());
    if let (Some(false), Some(rto), Some(took)) = (within_rto, project.rto, findings.restore_ms) {
        let took = super::certificate::duration(took);
        findings.reasons.push(format!("the restore took {took}, longer than the recovery-time objective of {rto}"));
    }
    let age = chosen.newest.map(|newest| started_at.duration_since(newest));
    let within_rpo = project.rpo.map(|rpo| age.is_some_and(|age| age <= rpo.duration()));
    if let (Some(false), Some(rpo)) = (within_rpo, project.rpo) {
        let found = match chosen.newest {
            Some(newest) => format!("the newest good snapshot is of {}", newest.strftime("%Y-%m-%d %H:%M:%S UTC")),
            None => "there is no good snapshot".to_owned(),
        };
        findings.reasons.push(format!("{found}, older than the recovery-point objective of {rpo}"));
    }
    Objectives {
        rto: project.rto.map(|rto| rto.to_string()),
        restore_ms: findings.restore_ms,
        within_rto,
        rpo: project.rpo.map(|rpo| rpo.to_string()),
        newest_at: chosen.newest,
        newest_age_secs: age.map(|age| age.as_secs()),
        within_rpo,
    }
}

fn log_end(drill: &SnapshotDrill, chosen: usize) -> LogEnd {
    let c = &drill.certificate;
    let status = match c.result {
        DrillResult::Passed => "ok",
        DrillResult::Incomplete => "partial",
        DrillResult::Failed => "failed",
    };
    LogEnd {
        status: status.to_owned(),
        ended_at: c.ended_at,
        snapshot: Some(c.snapshot.id.to_hex()),
        files: c.files.found,
        bytes: c.files.bytes_found,
        bytes_added: 0,
        problems: c.reasons.len() as u64,
        message: c.reasons.join("\n"),
        details: serde_json::json!({
            "certificate": c, CHOSEN: chosen, "files": drill.files, "stored_in": drill.stored_in, "not_stored": drill.not_stored,
        }),
    }
}

fn log_failure(cx: &Context, error: &OperationError) -> LogEnd {
    let is_interrupted = matches!(error, OperationError::Interrupted);
    LogEnd {
        status: if is_interrupted { "cancelled" } else { "failed" }.to_owned(),
        ended_at: cx.now(),
        snapshot: None,
        files: 0,
        bytes: 0,
        bytes_added: 0,
        problems: u64::from(!is_interrupted),
        message: error.to_failure().one_line(),
        details: serde_json::json!({}),
    }
}
