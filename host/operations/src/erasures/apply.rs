//! What a restore or a drill does with the register: the strategy says where identifiers stand, the host erases there.

use super::{Register, files};
use crate::{
    config::ProjectConfig,
    context::Context,
    databases::{ErasedRows, RowRule, Subjects},
    error::one_line,
    strategies,
};
use havun_model::{
    Cancel, Digest, StoredItem, Strategy,
    erasures::{EraseRule, EraseTarget, Erasure},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What was done with the register.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ErasureOutcome {
    /// Erasures that were registered after the snapshot was taken, oldest first.
    pub due: Vec<Erasure>,
    /// What each rule of the strategy did.
    pub rules: Vec<ErasedByRule>,
    /// Ids of those of `due` of whom no rule found anything: there was nothing, or no rule looks there.
    pub not_found: Vec<String>,
    /// What still has to be done by hand.
    pub outstanding: Vec<String>,
    /// What could not be done. Any of them makes a restore `partial`.
    pub failures: Vec<String>,
}

/// What one rule did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErasedByRule {
    /// In words.
    pub rule: String,
    /// Rows, or files and folders.
    pub erased: u64,
    /// Whose.
    pub subjects: BTreeSet<Digest>,
}

impl ErasureOutcome {
    /// What was done and what was not, for people.
    pub fn lines(&self) -> Vec<String> {
        if self.due.is_empty() && self.failures.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![format!("erasures registered since the backup was taken: {}", self.due.len())];
        lines.extend(self.rules.iter().map(|rule| format!("erased {} ({} subjects): {}", rule.erased, rule.subjects.len(), rule.rule)));
        let notes = |id: &String| self.due.iter().find(|erasure| erasure.id == *id).map(|e| e.note.clone()).unwrap_or_default();
        lines.extend(self.not_found.iter().map(|id| format!("nothing was found of erasure {id} ({})", notes(id))));
        lines
    }
}

/// What became of a database.
pub(crate) enum Applied {
    /// Each rule has been carried out.
    Erased(Vec<ErasedRows>),
    /// Its dump lies there as a file, and nothing can be erased before it is loaded.
    File,
    /// It was not restored.
    Not,
}

/// Carries out rules in the restored database of an item.
pub(crate) type Erase<'a> = &'a dyn Fn(&str, &[RowRule], &Subjects) -> Result<Applied, String>;

/// One restore.
pub(crate) struct Job<'a> {
    pub cx: &'a Context,
    pub project: &'a ProjectConfig,
    pub strategy: Option<&'a dyn Strategy>,
    pub run_id: &'a str,
    /// What was restored.
    pub items: &'a [StoredItem],
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// The restored tree.
    pub target: &'a Path,
    /// When the snapshot was begun.
    pub taken_at: Timestamp,
}

/// Erases everybody who was registered after the snapshot was taken; in databases by `erase`.
pub(crate) fn carry_out(job: &Job<'_>, register: &Register, erase: Erase<'_>) -> ErasureOutcome {
    let unreadable = |what: &String| format!("a record of the register cannot be read, and whose data it is about is unknown: {what}");
    let failures = register.damaged.iter().map(unreadable).collect();
    let mut outcome = ErasureOutcome { due: register.due(job.taken_at), failures, ..ErasureOutcome::default() };
    if outcome.due.is_empty() {
        return outcome;
    }
    job.cx.observer.step("erasures");
    let subjects = Subjects::of(outcome.due.iter().map(|erasure| erasure.subject));
    match rules(job) {
        Err(why) => outcome.failures.push(why),
        Ok(Some(rules)) if !rules.is_empty() => by_rules(job, &rules, &subjects, erase, &mut outcome),
        Ok(_) => outcome.outstanding.push(
            "the strategy has no rules to erase by: erase these subjects by hand, or set `erasure` in the project's settings".to_owned(),
        ),
    }
    let found: BTreeSet<Digest> = outcome.rules.iter().flat_map(|rule| rule.subjects.iter().copied()).collect();
    outcome.not_found = outcome.due.iter().filter(|erasure| !found.contains(&erasure.subject)).map(|e| e.id.clone()).collect();
    outcome
}

/// What is to be erased from databases, by item, and whose: for whoever loads one and can erase before others see it.
///
/// # Errors
/// Why that cannot be known although somebody is to be erased.
pub(crate) fn ahead(job: &Job<'_>, register: &Register) -> Result<(BTreeMap<String, Vec<RowRule>>, Subjects), String> {
    let due = register.due(job.taken_at);
    let subjects = Subjects::of(due.iter().map(|erasure| erasure.subject));
    let mut by_item: BTreeMap<String, Vec<RowRule>> = BTreeMap::new();
    let all = if due.is_empty() { None } else { rules(job)? };
    for rule in all.unwrap_or_default() {
        if let Some(row_rule) = row_rule(&rule) {
            by_item.entry(rule.item.to_string()).or_default().push(row_rule);
        }
    }
    Ok((by_item, subjects))
}

fn rules(job: &Job<'_>) -> Result<Option<Vec<EraseRule>>, String> {
    let Some(strategy) = job.strategy else {
        return Err("nothing was erased: the strategy, which knows where identifiers stand, cannot be loaded".to_owned());
    };
    let context = strategies::strategy_context(job.cx, job.project, job.run_id);
    strategy.plan_erase(&context, job.items).map_err(|error| format!("nothing was erased: {}", one_line(&error)))
}

fn by_rules(job: &Job<'_>, rules: &[EraseRule], subjects: &Subjects, erase: Erase<'_>, outcome: &mut ErasureOutcome) {
    let mut by_database: BTreeMap<&str, Vec<&EraseRule>> = BTreeMap::new();
    for rule in rules {
        match &rule.target {
            EraseTarget::Rows { .. } => by_database.entry(rule.item.as_str()).or_default().push(rule),
            EraseTarget::Files { pattern } => match files::erase(job.target, pattern, &rule.normalise, subjects, job.cancel) {
                Ok(found) => outcome.rules.push(ErasedByRule { rule: rule.describe(), erased: found.removed, subjects: found.subjects }),
                Err(why) => outcome.failures.push(format!("{}: {why}", rule.item)),
            },
        }
    }
    for (item, rules) in by_database {
        let row_rules: Vec<RowRule> = rules.iter().filter_map(|rule| row_rule(rule)).collect();
        match erase(item, &row_rules, subjects) {
            Err(why) => outcome.failures.push(format!("{item}: nothing was erased: {why}")),
            Ok(Applied::Not) => {}
            Ok(Applied::File) => outcome.outstanding.push(format!(
                "{item}: the dump still holds them; after it is loaded, erase: {}",
                rules.iter().map(|rule| rule.describe()).collect::<Vec<_>>().join("; ")
            )),
            Ok(Applied::Erased(done)) => outcome.rules.extend(rules.iter().zip(done).map(|(rule, done)| ErasedByRule {
                rule: rule.describe(),
                erased: done.rows,
                subjects: done.subjects,
            })),
        }
    }
}

fn row_rule(rule: &EraseRule) -> Option<RowRule> {
    match &rule.target {
        EraseTarget::Rows { table, column, action } => {
            Some(RowRule { table: table.clone(), column: column.clone(), normalise: rule.normalise.clone(), action: action.clone() })
        }
        EraseTarget::Files { .. } => None,
    }
}
