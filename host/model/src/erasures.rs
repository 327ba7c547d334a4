//! Erasures (GDPR, article 17): whose data was erased from an application, so that a restore of an older backup erases it
//! again. No name and no address stands here: a subject is the SHA-256 of an identifier.

use crate::{Digest, ItemName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an object of the register says. Fields are only ever added; readers ignore unknown ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureObject {
    /// 1.
    pub format: u32,
    /// The vault it belongs to, 32 hex digits.
    pub vault_id: String,
    /// Its matter.
    #[serde(flatten)]
    pub record: ErasureRecord,
}

/// An erasure, or that it was registered by mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum ErasureRecord {
    /// Whoever restores an older backup erases this subject again.
    Erasure(Erasure),
    /// An earlier erasure is not carried out again.
    Withdrawal(Withdrawal),
}

/// Somebody's data was erased from the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// 16 hex digits, random.
    pub id: String,
    /// When it was registered: it is carried out again on what was backed up before that.
    pub created: Timestamp,
    /// Who registered it.
    pub by: String,
    /// SHA-256 of the subject's identifier in its [normal form](normal_form).
    pub subject: Digest,
    /// For people: a case number, never a name.
    pub note: String,
}

/// An erasure was registered by mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// [`Erasure::id`].
    pub erasure: String,
    /// When.
    pub at: Timestamp,
    /// Who withdrew it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One step from a value towards what is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Without white space at both ends.
    Trim,
    /// In small letters, by Unicode's rules.
    Lower,
}

impl Normalise {
    /// The step of this name.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "trim" => Some(Self::Trim),
            "lower" => Some(Self::Lower),
            _ => None,
        }
    }
}

/// What the register hashes unless a rule says otherwise: without white space at both ends, in small letters.
pub const NORMAL_FORM: [Normalise; 2] = [Normalise::Trim, Normalise::Lower];

/// An identifier with `steps` taken in order.
pub fn normal_form(text: &str, steps: &[Normalise]) -> String {
    steps.iter().fold(text.to_owned(), |text, step| match step {
        Normalise::Trim => text.trim().to_owned(),
        Normalise::Lower => text.to_lowercase(),
    })
}

/// One thing to erase of every subject, in one restored item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseRule {
    /// The item.
    pub item: ItemName,
    /// From a value to what is hashed.
    pub normalise: Vec<Normalise>,
    /// Where the identifier stands, and what is done there.
    #[serde(flatten)]
    pub target: EraseTarget,
}

/// Where an identifier stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "kebab-case")]
pub enum EraseTarget {
    /// In a column of a table.
    Rows {
        /// The table.
        table: String,
        /// The column that holds the identifier.
        column: String,
        /// What is done with the rows of a subject.
        #[serde(flatten)]
        action: RowAction,
    },
    /// In the name of a file or folder.
    Files {
        /// Relative to the root; `*` matches within one component. The last one holds `{subject}`, where the identifier stands,
        /// or `{hash}`, where its SHA-256 does. What is found goes, a folder with everything in it.
        pattern: String,
    },
}

/// What is done with rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum RowAction {
    /// They are deleted.
    Delete,
    /// These columns are given these values, `None` for NULL.
    Replace {
        /// By column.
        values: BTreeMap<String, Option<String>>,
    },
}

impl EraseRule {
    /// For people: "rows of `users` by `email` are deleted".
    pub fn describe(&self) -> String {
        match &self.target {
            EraseTarget::Rows { table, column, action: RowAction::Delete } => {
                format!("{}: rows of `{table}` by `{column}` are deleted", self.item)
            }
            EraseTarget::Rows { table, column, action: RowAction::Replace { values } } => {
                let columns: Vec<&str> = values.keys().map(String::as_str).collect();
                format!("{}: rows of `{table}` by `{column}` lose {}", self.item, columns.join(", "))
            }
            EraseTarget::Files { pattern } => format!("{}: {pattern} is removed", self.item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_normal_form() {
        for text in ["Jan@Example.org", " jan@example.org\n", "JAN@EXAMPLE.ORG"] {
            assert_eq!(normal_form(text, &NORMAL_FORM), "jan@example.org");
        }
        assert_eq!(normal_form(" É ", &NORMAL_FORM), "é");
        assert_eq!(normal_form(" É ", &[]), " É ");
        assert_eq!(Normalise::named("reverse"), None);
    }

    #[test]
    fn records_read_back_and_unknown_keys_are_ignored() {
        let erasure = Erasure {
            id: "00".repeat(8),
            created: "2026-05-05T03:00:00Z".parse().unwrap(),
            by: "jan".to_owned(),
            subject: Digest::from_bytes([7; 32]),
            note: "case 17".to_owned(),
        };
        let object = ErasureObject { format: 1, vault_id: "ab".to_owned(), record: ErasureRecord::Erasure(erasure) };
        let mut json = serde_json::to_value(&object).unwrap();
        assert_eq!(json["record"], "erasure");
        json["later"] = 1.into();
        assert_eq!(serde_json::from_value::<ErasureObject>(json).unwrap(), object);
    }

    #[test]
    fn a_rule_reads_back() {
        let values = BTreeMap::from([("name".to_owned(), None), ("email".to_owned(), Some("erased".to_owned()))]);
        let target = EraseTarget::Rows { table: "users".to_owned(), column: "email".to_owned(), action: RowAction::Replace { values } };
        let rule = EraseRule { item: ItemName::new("database").unwrap(), normalise: NORMAL_FORM.to_vec(), target };
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<EraseRule>(&json).unwrap(), rule, "{json}");
        assert!(rule.describe().contains("email, name"));
    }
}
