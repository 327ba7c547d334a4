//! What operations see of a strategy: built-in or a stranger's, there is no difference.

use crate::{BackupPlan, Check, Digest, RestorePlan, StepReport, erasures::EraseRule};
use serde::{Deserialize, Serialize};
use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A flag that stops work in progress; cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks everything that holds a clone to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a strategy says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyInfo {
    /// `laravel`.
    pub id: String,
    /// Semantic version of the strategy.
    pub version: String,
    /// For people.
    pub title: String,
    /// Capabilities asked for beyond the default; the operator's grant decides.
    pub requests: Vec<String>,
    /// JSON Schema (draft 2020-12) of its settings, or empty when it has none.
    pub settings_schema: String,
}

/// What `detect` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// 0 to 100.
    pub confidence: u8,
    /// "Laravel 11 application with MariaDB".
    pub label: String,
    /// Proposed settings, each with its reason.
    pub settings: Vec<ProposedSetting>,
    /// Findings without a setting: what is backed up by default and why, what the operator should know.
    pub notes: Vec<String>,
}

/// One setting that `init` writes with its reason as a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedSetting {
    /// The key under `[projects.NAME.settings]`.
    pub key: String,
    /// Its value as JSON.
    pub value: serde_json::Value,
    /// Why.
    pub reason: String,
}

/// What a strategy is told of the run.
#[derive(Clone)]
pub struct StrategyContext {
    /// Unique to the run.
    pub run_id: String,
    /// The project's name.
    pub project: String,
    /// `[projects.NAME.settings]` as JSON.
    pub settings: serde_json::Value,
    /// Databases that the operator listed for the project, without credentials.
    pub connections: Vec<ConnectionInfo>,
    /// Capabilities that this run really has.
    pub granted: Vec<String>,
    /// Stops a call in progress.
    pub cancel: Cancel,
    /// Takes log lines and progress.
    pub log: Arc<dyn StrategyLog>,
}

/// A database that the operator listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The operator's name for it.
    pub name: String,
    /// `mariadb`, `mysql`, `sqlite`, …
    pub engine: String,
}

/// Takes what a strategy says while it works. Text is already free of control characters.
pub trait StrategyLog: Send + Sync {
    /// One log line; `level` is `trace`, `debug`, `info`, `warn` or `error`.
    fn log(&self, level: &str, message: &str);
    /// `done` of `total` (same unit), with a note.
    fn progress(&self, done: f64, total: Option<f64>, note: &str);
}

/// A [`StrategyLog`] that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentLog;

impl StrategyLog for SilentLog {
    fn log(&self, _level: &str, _message: &str) {}
    fn progress(&self, _done: f64, _total: Option<f64>, _note: &str) {}
}

/// What `plan-restore` is told of a snapshot's items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredItem {
    /// The item.
    pub name: String,
    /// `tree`, `database`, `git`, `generated`.
    pub kind: String,
    /// Whether it was stored whole.
    pub complete: bool,
    /// Bytes before deduplication and compression.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// A restored throw-away database that `verify` may ask, read-only.
pub trait ScratchDatabase: Send {
    /// Names of its tables, sorted.
    fn tables(&mut self) -> Result<Vec<String>, String>;
    /// Exact number of rows of one table.
    fn count_rows(&mut self, table: &str) -> Result<u64, String>;
    /// Up to `limit` values of one column, as text, `None` for NULL.
    fn sample(&mut self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>, String>;
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The strategy broke a rule or trapped.
    Strategy,
    /// The host could not do its part.
    Host,
    /// The operator's settings or grants.
    Operator,
}

/// Why a call into a strategy failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("strategy `{strategy}` failed in `{call}`: {message}")]
pub struct StrategyError {
    /// The strategy's id (or file, before it could be asked).
    pub strategy: String,
    /// `detect`, `plan-backup`, …
    pub call: &'static str,
    /// Whose fault.
    pub blame: Blame,
    /// `limit`, `trap`, `timeout`, `denied`, `invalid`, `cancelled`, `io`, `other`.
    pub code: String,
    /// For people, free of control characters.
    pub message: String,
}

/// A strategy, ready to be called. Each call runs in a fresh sandbox; a failed call leaves nothing behind.
pub trait Strategy: Send + Sync {
    /// SHA-256 of the component.
    fn digest(&self) -> Digest;
    /// What it says of itself.
    fn info(&self) -> &StrategyInfo;
    /// Whether `root` is one of its projects.
    fn detect(&self, root: &Path, cancel: &Cancel) -> Result<Option<Detection>, StrategyError>;
    /// What to back up.
    fn plan_backup(&self, cx: &StrategyContext, root: &Path) -> Result<BackupPlan, StrategyError>;
    /// Writes a generated item; returns its bytes. An error voids what was written.
    fn generate(&self, cx: &StrategyContext, root: &Path, item: &str, out: &mut (dyn Write + Send)) -> Result<u64, StrategyError>;
    /// Where the items of a snapshot go.
    fn plan_restore(&self, cx: &StrategyContext, items: &[StoredItem]) -> Result<RestorePlan, StrategyError>;
    /// Steps inside the restored tree, which is writable here and only here.
    fn after_restore(&self, cx: &StrategyContext, target: &Path) -> Result<Vec<StepReport>, StrategyError>;
    /// Is the restored application whole?
    fn verify(
        &self,
        cx: &StrategyContext,
        restored: &Path,
        databases: Vec<(String, Box<dyn ScratchDatabase>)>,
    ) -> Result<Vec<Check>, StrategyError>;
    /// What to erase of everybody in the erasure register; `None` where the strategy has no erase step.
    fn plan_erase(&self, _cx: &StrategyContext, _items: &[StoredItem]) -> Result<Option<Vec<EraseRule>>, StrategyError> {
        Ok(None)
    }
}
