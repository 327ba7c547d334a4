//! What a restore shows before it begins, and what it says when it has ended.
//!
//! Shape of `havun-backup restore --json`: one [`RestoreOutcome`]; with `--dry-run` one [`RestoreView`].

use crate::{erasures::ErasureOutcome, error::exit};
use havun_model::{Check, Outcome, ProjectName, SnapshotId, StepReport, erasures::Erasure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a restore will do: shown before anything is written, carried out as shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreView {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The project.
    pub project: ProjectName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// `ok` or `partial`.
    pub outcome: Outcome,
    /// The store that it is read from.
    pub store: String,
    /// Where the tree goes.
    pub target: String,
    /// The target is the project's own root.
    pub in_place: bool,
    /// What the target holds now: 0 when it is empty or missing.
    pub existing_entries: u64,
    /// Only paths that match one of these are restored; empty means all.
    pub paths: Vec<String>,
    /// In the order in which they are carried out.
    pub steps: Vec<StepView>,
    /// Erasures that were registered after the snapshot was taken, and are carried out again in what is restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub erasures: Vec<Erasure>,
    /// Databases that hold something and may not be replaced: as planned, the restore is refused before it begins.
    pub refused: Vec<String>,
    /// What must be done first.
    pub before: Vec<String>,
    /// What must be done afterwards.
    pub after: Vec<String>,
    /// What is missing from the snapshot, which stores were passed over, and the like.
    pub notes: Vec<String>,
}

/// One item of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// The item.
    pub item: String,
    /// `tree`, `database`, `git`, `generated`.
    pub kind: String,
    /// A folder, or a database without its password.
    pub destination: String,
    /// Bytes of the item.
    pub bytes: u64,
    /// Files of the item.
    pub files: u64,
    /// What stands there now and will be overwritten; empty when nothing is.
    pub overwrites: String,
    /// False when the snapshot holds only a part of it.
    pub complete: bool,
}

/// How a restore ended.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreOutcome {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique to the restore; the audit row carries it.
    pub run_id: String,
    /// What was to be done.
    pub plan: RestoreView,
    /// `ok`, `partial` (exit status 3) or `failed` (exit status 1).
    pub outcome: Outcome,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Entries restored.
    pub files: u64,
    /// Bytes restored; each was checked against its id.
    pub bytes: u64,
    /// What could not be restored, and why.
    pub failed: Vec<FailedPath>,
    /// Each item.
    pub items: Vec<RestoredItem>,
    /// Steps that the strategy took in the restored tree.
    pub steps: Vec<StepReport>,
    /// What was done with the erasure register.
    pub erasures: ErasureOutcome,
    /// Checks, where some were run.
    pub checks: Vec<Check>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// The operator stopped it.
    pub interrupted: bool,
}

impl RestoreOutcome {
    /// 0, 3 when something is missing, 1 when nothing was restored, 130 when it was stopped.
    pub fn exit_status(&self) -> u8 {
        match self.outcome {
            _ if self.interrupted => exit::INTERRUPTED,
            Outcome::Ok => exit::OK,
            Outcome::Partial => exit::PARTIAL,
            Outcome::Failed => exit::FAILED,
        }
    }
}

/// Something that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPath {
    /// Path in the snapshot (`tree/…`, `databases/…`), or the item.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredItem {
    /// The item.
    pub item: String,
    /// `tree`, `database`, `git`, `generated`.
    pub kind: String,
    /// `ok`, `partial` or `failed`.
    pub outcome: Outcome,
    /// Where it went.
    pub destination: String,
    /// Details: rows and tables, what was missing.
    pub notes: Vec<String>,
}
