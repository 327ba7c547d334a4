//! The erasure register in a restore: whoever was erased after the snapshot was taken is erased again.
//!
//! In a database before it is swapped in, where its engine can ([`ErasedFirst`]), so that nobody reappears in production even
//! for a moment; in files, and wherever that was not possible, when everything is there ([`erase`]).

use super::{PreparedRestore, RestoreOutcome, databases, plan::Work};
use crate::{
    databases::{EraseFirst, ErasedRows, RowRule, Subjects},
    erasures::{self, Applied, Erase, ErasureOutcome},
    error::one_line,
};
use havun_model::{Cancel, ItemRecord, Outcome, StoredItem};
use std::collections::BTreeMap;

/// What is erased from the databases of a restore before they are put in place, and what came of it.
#[derive(Default)]
pub(super) struct ErasedFirst {
    rules: BTreeMap<String, Vec<RowRule>>,
    subjects: Subjects,
    /// Why it is not known what is erased although somebody is.
    unknown: Option<String>,
    done: BTreeMap<String, Result<Vec<ErasedRows>, String>>,
}

impl ErasedFirst {
    /// Asks the strategy where they stand, before any database is loaded.
    pub fn plan(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome) -> Self {
        let records = &prepared.stored.snapshot.items;
        let coming = prepared.work.iter().filter_map(|work| match work {
            Work::Database { item, .. } => Some(stored(item, records.get(item)?, true)),
            Work::Git { .. } => None,
        });
        let items: Vec<StoredItem> = restored(prepared, outcome).into_iter().chain(coming).collect();
        match erasures::ahead(&job(prepared, outcome, &items, &prepared.cx.cancel), &prepared.register) {
            Ok((rules, subjects)) => Self { rules, subjects, ..Self::default() },
            Err(why) => Self { unknown: Some(why), ..Self::default() },
        }
    }

    /// For one item; `must` where people use its target.
    ///
    /// # Errors
    /// Why nothing may be put where people use it. Where they do not, [`erase`] says so when all is there.
    pub fn of(&self, item: &str, must: bool) -> Result<Option<EraseFirst>, String> {
        if let Some(why) = self.unknown.as_ref().filter(|_| must) {
            return Err(format!(
                "nothing was put in place, as people were erased since this backup and what to erase is not known: {why}; restore it \
                 under another name with --database-as, and erase there by hand"
            ));
        }
        let first = |rules: &Vec<RowRule>| EraseFirst { rules: rules.clone(), subjects: self.subjects.clone(), must };
        Ok(self.rules.get(item).map(first))
    }

    /// Takes down what came of it.
    pub fn done(&mut self, item: &str, erased: Option<Result<Vec<ErasedRows>, String>>) {
        self.done.extend(erased.map(|erased| (item.to_owned(), erased)));
    }

    /// What came of exactly these rules.
    fn answer(&self, item: &str, rules: &[RowRule]) -> Option<&Result<Vec<ErasedRows>, String>> {
        self.done.get(item).filter(|_| self.rules.get(item).is_some_and(|known| known == rules))
    }
}

/// Erases in what has been restored, but for what was erased `first`.
pub(super) fn erase(prepared: &PreparedRestore<'_>, first: &ErasedFirst, outcome: &RestoreOutcome) -> ErasureOutcome {
    // So that this machine knows them from now on, wherever they were found.
    if let Err(error) = erasures::remember(prepared.cx, prepared.project, &prepared.register) {
        tracing::warn!(%error, project = %prepared.project.name, "erasures could not be written to the audit database");
    }
    // Whoever has stopped the restore wants no more of it, but for this.
    let cancel = if prepared.cx.cancel.is_cancelled() { Cancel::default() } else { prepared.cx.cancel.clone() };
    let in_database = |item: &str, rules: &[RowRule], subjects: &Subjects| match first.answer(item, rules) {
        Some(done) => done.clone().map(Applied::Erased),
        None => in_database(prepared, outcome, item, rules, subjects, &cancel),
    };
    with(prepared, outcome, restored(prepared, outcome), &cancel, &in_database)
}

/// Erases in what a drill has restored: `databases` are those that it has loaded itself, and `erase` goes there.
pub(super) fn rehearse(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome, databases: &[&str], erase: Erase<'_>) -> ErasureOutcome {
    let records = prepared.stored.snapshot.items.iter().filter(|(name, _)| databases.contains(&name.as_str()));
    let loaded = records.map(|(name, record)| stored(name, record, true));
    with(prepared, outcome, restored(prepared, outcome).into_iter().chain(loaded).collect(), &prepared.cx.cancel, erase)
}

fn with(
    prepared: &PreparedRestore<'_>,
    outcome: &RestoreOutcome,
    items: Vec<StoredItem>,
    cancel: &Cancel,
    erase: Erase<'_>,
) -> ErasureOutcome {
    erasures::carry_out(&job(prepared, outcome, &items, cancel), &prepared.register, erase)
}

fn job<'a>(
    prepared: &'a PreparedRestore<'_>,
    outcome: &'a RestoreOutcome,
    items: &'a [StoredItem],
    cancel: &'a Cancel,
) -> erasures::Job<'a> {
    erasures::Job {
        cx: prepared.cx,
        project: prepared.project,
        strategy: prepared.strategy.as_deref(),
        run_id: &outcome.run_id,
        items,
        cancel,
        target: &prepared.target,
        taken_at: prepared.stored.snapshot.started_at,
    }
}

fn stored(name: &str, record: &ItemRecord, complete: bool) -> StoredItem {
    StoredItem { name: name.to_owned(), kind: record.kind.clone(), complete, bytes: record.bytes, files: record.files }
}

/// What is there now, wholly or in part.
fn restored(prepared: &PreparedRestore<'_>, outcome: &RestoreOutcome) -> Vec<StoredItem> {
    let records = &prepared.stored.snapshot.items;
    let item = |restored: &super::RestoredItem| {
        let record = records.get(&restored.item).filter(|_| restored.outcome != Outcome::Failed)?;
        Some(stored(&restored.item, record, restored.outcome == Outcome::Ok))
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
