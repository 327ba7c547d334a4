//! What a strategy proposes: plans are values, the host carries them out.

use crate::ItemName;
use serde::{Deserialize, Serialize};

/// What one backup of a project consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackupPlan {
    /// In the strategy's order; names are unique.
    pub items: Vec<PlanItem>,
    /// For the operator; printed and stored with the snapshot.
    pub warnings: Vec<String>,
}

/// One named part of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Unique in the plan.
    pub name: ItemName,
    /// What it is and where it comes from.
    #[serde(flatten)]
    pub kind: ItemKind,
    /// One line for the operator: why this is backed up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The kinds of item that the host can carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ItemKind {
    /// Files beneath the project's root.
    Tree(TreeItem),
    /// A database, dumped by the host.
    Database(DatabaseItem),
    /// The history of a Git repository as a bundle, and what a bundle loses.
    Git(GitItem),
    /// Bytes that the strategy writes when the host asks.
    Generated(GeneratedItem),
}

impl ItemKind {
    /// `tree`, `database`, `git` or `generated`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tree(_) => "tree",
            Self::Database(_) => "database",
            Self::Git(_) => "git",
            Self::Generated(_) => "generated",
        }
    }
}

/// Files beneath the project's root. All tree items of a plan are read in one walk; a file that several
/// items claim belongs to the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeItem {
    /// Folder or file relative to the root, `/`-separated; empty for the root itself.
    pub path: String,
    /// Globs relative to the root; empty means everything beneath `path`.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs relative to the root. `a/**` leaves out what is in `a` but keeps the folder; `a` leaves out both.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The files are JSON stores: each must parse, or is re-read and in the end marked torn.
    #[serde(default)]
    pub json: bool,
}

/// A database, dumped by the host with credentials that the strategy never holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseItem {
    /// Where it is.
    pub connection: Connection,
    /// Tables whose rows (not whose schema) are left out; `*` matches any run of characters.
    #[serde(default)]
    pub exclude_rows: Vec<String>,
}

/// How the host finds a database: an entry of the operator's `[projects.NAME.databases.…]` when one has this
/// name (it overrides parameter by parameter), else by `parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `main`, or as the operator named it.
    pub name: String,
    /// `mariadb`, `mysql`, `sqlite`, `postgresql`, …; empty when the URL says it.
    pub engine: String,
    /// `url`, `host`, `port`, `socket`, `user`, `password`, `database`, `path`, `charset`.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// One parameter of a [`Connection`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// As listed at [`Connection::parameters`].
    pub name: String,
    /// Where its value stands.
    #[serde(flatten)]
    pub source: ParameterSource,
}

/// Where a parameter's value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum ParameterSource {
    /// Here; never a secret.
    Literal {
        /// The value.
        value: String,
    },
    /// In a variable of a dotenv file beneath the root, read by the host at the moment of use.
    Variable {
        /// Relative to the root.
        file: String,
        /// The variable's name.
        variable: String,
        /// `phpdotenv` or `dotenv`.
        syntax: String,
    },
}

/// The history of a Git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitItem {
    /// The work tree's folder relative to the root; empty for the root itself.
    pub path: String,
}

/// Bytes that the strategy writes when the host asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedItem {
    /// The file's name in the snapshot; one path component.
    pub file_name: String,
    /// IANA media type.
    pub media_type: String,
}

/// Where each item of a snapshot goes, and what must be so first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestorePlan {
    /// In order.
    pub steps: Vec<RestoreStep>,
    /// What the operator must do before (stop a worker, put a site in maintenance).
    pub before: Vec<String>,
    /// What the operator must do afterwards (`composer install`, review `.env`).
    pub after: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// One item and its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreStep {
    /// An item of the snapshot.
    pub item: ItemName,
    /// Folder relative to the restore target for tree, git and generated items; ignored for a database.
    pub destination: String,
    /// The destination must be empty.
    pub must_be_empty: bool,
}

/// One step inside the restored tree, as reported by `after-restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was done.
    pub title: String,
    /// `done`, `skipped`, `failed` or `review` (a person must look).
    pub outcome: String,
    /// Details.
    pub detail: String,
}

/// One check of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// `pass`, `warn`, `fail` or `skipped`.
    pub outcome: String,
    /// Details.
    pub detail: String,
}
