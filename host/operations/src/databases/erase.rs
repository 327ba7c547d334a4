//! Erasing from a restored database: the host reads the identifiers itself, hashes them, and changes the rows of those
//! whose hash is in the register. A strategy names tables and columns and learns nothing.
//!
//! Rows are found by the identifier and not by a key: a table may have none. Everything of one database is one
//! transaction, and what a rule was to remove is looked for again afterwards.

use havun_model::{
    Digest,
    erasures::{Normalise, RowAction, normal_form},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Whose data is erased: SHA-256 of their identifiers.
#[derive(Debug, Clone, Default)]
pub struct Subjects(BTreeSet<Digest>);

impl Subjects {
    /// Those of these hashes.
    pub fn of(hashes: impl IntoIterator<Item = Digest>) -> Self {
        Self(hashes.into_iter().collect())
    }

    /// The hash of `value`, where it is one of theirs.
    pub fn find(&self, value: &str, steps: &[Normalise]) -> Option<Digest> {
        Some(hash(value, steps)).filter(|hash| self.0.contains(hash))
    }

    /// Whether `hash` is one of theirs.
    pub fn holds(&self, hash: &Digest) -> bool {
        self.0.contains(hash)
    }

    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// SHA-256 of a value after `steps`.
pub fn hash(value: &str, steps: &[Normalise]) -> Digest {
    Digest::from_bytes(Sha256::digest(normal_form(value, steps).as_bytes()).into())
}

/// What is erased by one column of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRule {
    /// The table.
    pub table: String,
    /// The column that holds the identifier.
    pub column: String,
    /// From its value to what is hashed.
    pub normalise: Vec<Normalise>,
    /// What is done.
    pub action: RowAction,
}

impl RowRule {
    /// Whether no row may be found by the identifier afterwards.
    pub(super) fn removes_identifier(&self) -> bool {
        match &self.action {
            RowAction::Delete => true,
            RowAction::Replace { values } => values.contains_key(&self.column),
        }
    }
}

/// Identifiers that were found. They are erased, and stand in no error and no log.
#[derive(Default)]
pub(super) struct Picked {
    pub values: Vec<String>,
    pub subjects: BTreeSet<Digest>,
}

impl Picked {
    /// Keeps `value` where it is of somebody in the register.
    pub(super) fn offer(&mut self, value: String, rule: &RowRule, subjects: &Subjects) {
        if let Some(subject) = subjects.find(&value, &rule.normalise) {
            self.subjects.insert(subject);
            self.values.push(value);
        }
    }
}

/// What one rule did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ErasedRows {
    /// Rows deleted or changed; those that the database removed with them are not counted.
    pub rows: u64,
    /// Whose rows were among them.
    pub subjects: BTreeSet<Digest>,
}

/// What to say where rows are still found: `left` has the place of a rule and how many.
pub(super) fn still_there(rules: &[RowRule], left: &[(usize, u64)]) -> Option<String> {
    let (rule, rows) = left.iter().find_map(|(at, rows)| (*rows > 0).then_some((rules.get(*at)?, rows)))?;
    Some(format!("table {} still holds {rows} rows of somebody who was to be erased", rule.table))
}
