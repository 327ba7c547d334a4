//! Carrying out a planned restore: files, then histories, then databases, then the strategy's own steps.

use super::{FailedPath, PreparedRestore, RestoreOutcome, RestoredItem, databases, entries_in, erase, plan::Work, targets};
use crate::{
    audit::LogEnd,
    context::new_run_id,
    erasures::ErasureOutcome,
    error::{OperationError, one_line},
    project::vault_error,
    report::SCHEMA_VERSION,
    strategies,
};
use havun_model::{Outcome, StepReport};
use havun_vault::{Entry, RestoreRequest};
use std::collections::BTreeMap;

/// How many failed files one error names.
const NAMED: usize = 20;

pub(super) fn execute(prepared: PreparedRestore<'_>) -> Result<RestoreOutcome, OperationError> {
    let cx = prepared.cx;
    let started_at = cx.now();
    let run_id = new_run_id(started_at)?;
    let audit = cx.audit()?;
    let mut start = cx.log_start(&run_id, prepared.project.name.as_str(), "restore", started_at);
    start.snapshot = Some(prepared.stored.id.to_hex());
    start.stores = vec![prepared.store.name.to_string()];
    start.target = prepared.view.target.clone();
    let row = audit.begin_restore(&start).map_err(|e| OperationError::Audit(Box::new(e)))?;
    let mut outcome = nothing_yet(&prepared, run_id);
    let result = carry_out(&prepared, &mut outcome);
    outcome.ended_at = cx.now();
    outcome.interrupted = matches!(result, Err(OperationError::Interrupted));
    let result = match result {
        Ok(()) | Err(OperationError::Interrupted) => settle(&prepared, &mut outcome),
        Err(error) => Err(error),
    };
    audit.end(row, &log_end(&outcome, result.as_ref().err())).map_err(|e| OperationError::Audit(Box::new(e)))?;
    result.map(|()| outcome)
}

fn nothing_yet(prepared: &PreparedRestore<'_>, run_id: String) -> RestoreOutcome {
    let now = prepared.cx.now();
    RestoreOutcome {
        schema_version: SCHEMA_VERSION,
        run_id,
        plan: prepared.view.clone(),
        outcome: Outcome::Failed,
        started_at: now,
        ended_at: now,
        files: 0,
        bytes: 0,
        failed: Vec::new(),
        items: Vec::new(),
        steps: Vec::new(),
        erasures: ErasureOutcome::default(),
        checks: Vec::new(),
        notes: Vec::new(),
        interrupted: false,
    }
}

/// Files and histories, for a drill.
pub(super) fn rehearse_files(prepared: &PreparedRestore<'_>, run_id: &str) -> Result<RestoreOutcome, OperationError> {
    let mut outcome = nothing_yet(prepared, run_id.to_owned());
    files(prepared, &mut outcome)?;
    for work in &prepared.work {
        prepared.cx.check_cancelled()?;
        if let Work::Git { item, folder } = work {
            git(prepared, item, folder, &mut outcome)?;
        }
    }
    Ok(outcome)
}

fn carry_out(prepared: &PreparedRestore<'_>, outcome: &mut RestoreOutcome) -> Result<(), OperationError> {
    if !prepared.view.in_place && entries_in(&prepared.target)? > 0 {
        return Err(OperationError::TargetNotEmpty { path: prepared.target.clone() });
    }
    targets::check(prepared)?;
    let mut first = erase::ErasedFirst::default();
    let written = write(prepared, &mut first, outcome);
    // Whoever was erased must not come back with what is there now, however it ended.
    outcome.erasures = erase::erase(prepared, &first, outcome);
    if written.is_err() && !outcome.erasures.due.is_empty() {
        let due = outcome.erasures.due.len();
        outcome.erasures.failures.push(format!(
            "the restore did not come to its end, so that {due} erasures were applied only to what was whole by then: restore again"
        ));
    }
    written?;
    prepared.cx.check_cancelled()?;
    own_steps(prepared, outcome);
    Ok(())
}

fn write(prepared: &PreparedRestore<'_>, first: &mut erase::ErasedFirst, outcome: &mut RestoreOutcome) -> Result<(), OperationError> {
    files(prepared, outcome)?;
    *first = erase::ErasedFirst::plan(prepared, outcome);
    for work in &prepared.work {
        prepared.cx.check_cancelled()?;
        match work {
            Work::Git { item, folder } => git(prepared, item, folder, outcome)?,
            Work::Database { item, to } => {
                prepared.cx.observer.step(&format!("database `{item}`"));
                databases::restore(prepared, item, to, first, outcome);
            }
        }
    }
    prepared.cx.check_cancelled()
}

/// Everything that is files in the target.
fn files(prepared: &PreparedRestore<'_>, outcome: &mut RestoreOutcome) -> Result<(), OperationError> {
    let selector = &prepared.selector;
    if selector.destinations.is_empty() {
        return Ok(());
    }
    prepared.cx.observer.step("files");
    let made = std::fs::create_dir_all(&prepared.target);
    made.map_err(|source| OperationError::Io { doing: "cannot make", path: prepared.target.clone(), source })?;
    let select = |entry: &Entry| selector.destination(entry);
    let request = RestoreRequest {
        select: &select,
        target: &prepared.target,
        overwrite: prepared.view.in_place,
        owner: rustix::process::geteuid().is_root(),
        threads: prepared.cx.threads(),
        cancel: prepared.cx.cancel.clone(),
        sync: true,
    };
    let report = prepared.vault.restore(&prepared.stored.snapshot, &request, &*prepared.cx.progress());
    let report = report.map_err(|e| vault_error(&prepared.project.name, &prepared.store.name, e))?;
    outcome.files += report.entries;
    outcome.bytes += report.bytes;
    outcome.notes.extend(report.notes);
    outcome.failed.extend(report.failed.into_iter().map(|(path, why)| FailedPath { path, why }));
    file_items(prepared, outcome);
    Ok(())
}

/// One line for each item whose files went to the target.
fn file_items(prepared: &PreparedRestore<'_>, outcome: &mut RestoreOutcome) {
    let records = &prepared.stored.snapshot.items;
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    for failed in &outcome.failed {
        let named = records.iter().find(|(_, record)| record.paths.contains(&failed.path)).map(|(name, _)| name.as_str());
        *lost.entry(named.unwrap_or("")).or_default() += 1;
    }
    let unnamed = lost.get("").copied().unwrap_or(0);
    for step in prepared.view.steps.iter().filter(|step| prepared.selector.destinations.contains_key(&step.item)) {
        let gone = lost.get(step.item.as_str()).copied().unwrap_or(0) + if step.kind == "tree" { unnamed } else { 0 };
        let mut item = RestoredItem {
            item: step.item.clone(),
            kind: step.kind.clone(),
            outcome: if gone == 0 && step.complete { Outcome::Ok } else { Outcome::Partial },
            destination: step.destination.clone(),
            notes: Vec::new(),
        };
        if !step.complete {
            item.notes.push("the snapshot holds only a part of it".to_owned());
        }
        if step.files == 0 && !step.complete {
            item.outcome = Outcome::Failed;
        }
        outcome.items.push(item);
    }
}

fn git(prepared: &PreparedRestore<'_>, item: &str, folder: &std::path::Path, outcome: &mut RestoreOutcome) -> Result<(), OperationError> {
    prepared.cx.observer.step(&format!("history `{item}`"));
    let mut restored = RestoredItem {
        item: item.to_owned(),
        kind: "git".to_owned(),
        outcome: Outcome::Ok,
        destination: prepared.target.join(folder).join(".git").display().to_string(),
        notes: Vec::new(),
    };
    match super::git::restore(prepared, item, folder, &mut restored) {
        Ok(bytes) => {
            outcome.files += 1;
            outcome.bytes += bytes;
        }
        Err(OperationError::Interrupted) => return Err(OperationError::Interrupted),
        Err(error) => {
            restored.outcome = Outcome::Failed;
            restored.notes.push(one_line(&error));
            outcome.failed.push(FailedPath { path: format!("git/{item}"), why: one_line(&error) });
        }
    }
    outcome.items.push(restored);
    Ok(())
}

/// The strategy's steps make sense only where its whole tree is there.
pub(super) fn own_steps(prepared: &PreparedRestore<'_>, outcome: &mut RestoreOutcome) {
    let Some(strategy) = prepared.strategy.as_ref().filter(|_| prepared.selector.is_unfiltered() && prepared.target.is_dir()) else {
        return;
    };
    let context = strategies::strategy_context(prepared.cx, prepared.project, &outcome.run_id);
    match strategy.after_restore(&context, &prepared.target) {
        Ok(steps) => outcome.steps = steps,
        Err(error) => outcome.steps.push(StepReport {
            title: "steps of the strategy".to_owned(),
            outcome: "failed".to_owned(),
            detail: one_line(&error),
        }),
    }
}

/// Weighs what was restored against what was asked for.
fn settle(prepared: &PreparedRestore<'_>, outcome: &mut RestoreOutcome) -> Result<(), OperationError> {
    if outcome.files == 0 && !outcome.interrupted {
        let mut reasons: Vec<String> = outcome.failed.iter().take(NAMED).map(|f| format!("{}: {}", f.path, f.why)).collect();
        if reasons.is_empty() {
            reasons.push("nothing of it was asked for: no item and no path matches".to_owned());
        }
        return Err(OperationError::NothingRestorable { snapshot: prepared.stored.id.short(), reasons });
    }
    let whole = outcome.failed.is_empty()
        && !outcome.interrupted
        && outcome.items.iter().all(|item| item.outcome == Outcome::Ok)
        && outcome.erasures.failures.is_empty()
        && outcome.steps.iter().all(|step| step.outcome != "failed");
    outcome.outcome = if whole { Outcome::Ok } else { Outcome::Partial };
    Ok(())
}

fn log_end(outcome: &RestoreOutcome, error: Option<&OperationError>) -> LogEnd {
    let status = match error {
        Some(_) => "failed",
        None if outcome.interrupted => "cancelled",
        None => outcome.outcome.word(),
    };
    let message = match error {
        Some(error) => {
            let hint = error.hint().unwrap_or_default();
            format!("{}\n{hint}", error.to_failure().one_line()).trim().to_owned()
        }
        None => {
            let failed = outcome.failed.iter().take(NAMED).map(|f| format!("{}: {}", f.path, f.why));
            let erasures = outcome.erasures.failures.iter().map(|why| format!("erasures: {why}"));
            failed.chain(erasures).collect::<Vec<_>>().join("\n")
        }
    };
    LogEnd {
        status: status.to_owned(),
        ended_at: outcome.ended_at,
        snapshot: Some(outcome.plan.snapshot.to_hex()),
        files: outcome.files,
        bytes: outcome.bytes,
        bytes_added: 0,
        problems: (outcome.failed.len() + outcome.erasures.failures.len()) as u64,
        message,
        details: serde_json::json!({ "items": outcome.items, "steps": outcome.steps, "paths": outcome.plan.paths, "erasures": outcome.erasures }),
    }
}
