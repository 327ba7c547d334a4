//! The erasure register in a restore: whoever was erased after the snapshot was taken is erased again.

use super::{PreparedRestore, RestoreOutcome, databases, plan::Work};
use crate::{
    databases::{RowRule, Subjects},
    erasures::{self, Applied, Erase, ErasureOutcome},
    error::one_line,
};
use havun_model::{Cancel, Outcome, StoredItem};

/// Erases in what has been restored.
pub(super) fn erase(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome) -> ErasureOutcome {
    // So that this machine knows them from now on, wherever they were found.
    if let Err(error) = erasures::remember(prepared.cx, prepared.project, &prepared.register) {
        tracing::warn!(%error, project = %prepared.project.name, "erasures could not be written to the audit database");
    }
    // Whoever has stopped the restore wants no more of it, but for this.
    let cancel = if prepared.cx.cancel.is_cancelled() { Cancel::default() } else { prepared.cx.cancel.clone() };
    let in_database = |item: &str, rules: &[RowRule], subjects: &Subjects| in_database(prepared, outcome, item, rules, subjects, &cancel);
    with(prepared, outcome, restored(prepared, outcome), &cancel, &in_database)
}

/// Erases in what a drill has restored: `databases` are those that it has loaded itself, and `erase` goes there.
pub(super) fn rehearse(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome, databases: &[&str], erase: Erase<'_>) -> ErasureOutcome {
    let records = prepared.stored.snapshot.items.iter().filter(|(name, _)| databases.contains(&name.as_str()));
    let loaded = records.map(|(name, record)| StoredItem {
        name: name.clone(),
        kind: record.kind.clone(),
        complete: true,
        bytes: record.bytes,
        files: record.files,
    });
    with(prepared, outcome, restored(prepared, outcome).into_iter().chain(loaded).collect(), &prepared.cx.cancel, erase)
}

fn with(
    prepared: &PreparedRestore<'_>,
    outcome: &RestoreOutcome,
    items: Vec<StoredItem>,
    cancel: &Cancel,
    erase: Erase<'_>,
) -> ErasureOutcome {
    let job = erasures::Job {
        cx: prepared.cx,
        project: prepared.project,
        strategy: prepared.strategy.as_deref(),
        run_id: &outcome.run_id,
        items: &items,
        cancel,
        target: &prepared.target,
        taken_at: prepared.stored.snapshot.started_at,
    };
    erasures::carry_out(&job, &prepared.register, erase)
}

/// What is there now, wholly or in part.
fn restored(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome) -> Vec<StoredItem> {
    let records = &prepared.stored.snapshot.items;
    let item = |restored: &super::RestoredItem| {
        let record = records.get(&restored.item).filter(|_| restored.outcome != Outcome::Failed)?;
        Some(StoredItem {
            name: restored.item.clone(),
            kind: record.kind.clone(),
            complete: restored.outcome == Outcome::Ok,
            bytes: record.bytes,
            files: record.files,
        })
    };
    outcome.items.iter().filter_map(item).collect()
}

fn in_database(
    prepared: &PreparedRestore<'_>,
    outcome: &RestoreOutcome,
    item: &str,
    rules: &[RowRule],
    subjects: &Subjects,
    cancel: &Cancel,
) -> Result<Applied, String> {
    let work = prepared.work.iter().find_map(|work| match work {
        Work::Database { item: of, to } if of == item => Some(to),
        _ => None,
    });
    let Some(to) = work else {
        let is_file = prepared.selector.destinations.contains_key(item);
        return Ok(if is_file { Applied::File } else { Applied::Not });
    };
    if outcome.failed.iter().any(|failed| failed.path == item) {
        return Ok(Applied::Not);
    }
    let (engine, name) = databases::restored(prepared, item, to)?;
    let erased = engine.erase(name.as_deref(), rules, subjects, cancel);
    erased.map(Applied::Erased).map_err(|error| one_line(&error))
}
