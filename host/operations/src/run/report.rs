//! What a run says of itself.
//!
//! Shape of `havun-backup run --json`: one [`RunReport`].

use crate::replication::Pushed;
use crate::{error::exit, report::Failure};
use havun_model::{BackupPlan, ConsistencyRecord, ItemRecord, Outcome, ProjectName, SnapshotId, anomalies::Anomaly};
use havun_vault::{StageTimes, store::Promises};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A run over one or several projects.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Unique to the run; the audit rows carry it.
    pub run_id: String,
    /// Nothing was written.
    pub dry_run: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The operator stopped it.
    pub interrupted: bool,
    /// In the order in which they ran.
    pub projects: Vec<ProjectRun>,
    /// Replicas of other projects that lagged behind and were tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retried: Vec<Pushed>,
}

impl RunReport {
    /// 0 when every project is `ok` (or was not due, or is paused and was not named), 3 when some are not or one is
    /// partial, otherwise what all of them failed with; 130 when it was stopped.
    pub fn exit_status(&self) -> u8 {
        if self.interrupted {
            return exit::INTERRUPTED;
        }
        let counted = self.projects.iter().filter(|p| !p.outcome.is_idle());
        let mut statuses: Vec<u8> = counted.map(ProjectRun::exit_status).collect();
        // Nothing is lost where a replica lags behind, but not everything is well either.
        statuses.extend(self.retried.iter().map(|pushed| if pushed.exit_status() == exit::OK { exit::OK } else { exit::PARTIAL }));
        crate::report::combined_status(&statuses)
    }
}

/// How one project of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Everything was read whole, stored, and copied to every store.
    Ok,
    /// A snapshot was committed, but something is missing from it or from a store.
    Partial,
    /// Nothing was committed.
    Failed,
    /// Another run holds the vault; nothing was done.
    Locked,
    /// Only planned: a dry run.
    Planned,
    /// Its schedule does not ask for it now.
    NotDue,
    /// It is paused.
    Paused,
}

impl RunOutcome {
    /// `ok`, `partial`, `failed`, `locked`, `planned`, `not due`, `paused`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Locked => "locked",
            Self::Planned => "planned",
            Self::NotDue => "not due",
            Self::Paused => "paused",
        }
    }

    /// Nothing was tried.
    pub fn is_idle(self) -> bool {
        matches!(self, Self::NotDue | Self::Paused)
    }
}

/// One project of a run.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectRun {
    /// Its name.
    pub project: ProjectName,
    /// Its title.
    pub title: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The committed snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The snapshot before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// The strategy as configured.
    pub strategy: String,
    /// The plan that was, or would be, carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<BackupPlan>,
    /// What became of each item, by name.
    pub items: BTreeMap<String, ItemRecord>,
    /// What was read and stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<RunStats>,
    /// How fast it was, and where the time went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<RunMetrics>,
    /// What is unlike the runs before it; said in `warnings` too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<Anomaly>,
    /// What a dry run expects to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedChange>,
    /// How databases and files were kept of one moment, where more was done than reading them in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyRecord>,
    /// What a dry run would do for that, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preparations: Vec<String>,
    /// Each store of the project.
    pub stores: Vec<StoreState>,
    /// What is missing or torn, and why; any of them makes the project partial.
    pub problems: Vec<String>,
    /// What the operator should know; the outcome does not depend on them.
    pub warnings: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it is not `ok` by something that may pass with nobody's help, so that it is tried again.
    pub can_pass: bool,
}

impl ProjectRun {
    /// The exit status that this project alone would cause.
    pub fn exit_status(&self) -> u8 {
        match self.outcome {
            RunOutcome::Ok | RunOutcome::Planned | RunOutcome::NotDue | RunOutcome::Paused => exit::OK,
            RunOutcome::Partial => exit::PARTIAL,
            RunOutcome::Locked => exit::LOCKED,
            RunOutcome::Failed => self.failure.as_ref().map_or(exit::FAILED, |f| f.exit_status),
        }
    }

    /// The outcome as the snapshot and the audit database know it.
    pub fn stored_outcome(&self) -> Outcome {
        match self.outcome {
            RunOutcome::Ok => Outcome::Ok,
            RunOutcome::Partial => Outcome::Partial,
            _ => Outcome::Failed,
        }
    }
}

/// What a run read and stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RunStats {
    /// Entries of the snapshot.
    pub entries: u64,
    /// Logical bytes of the snapshot.
    pub bytes: u64,
    /// Files that were read.
    pub files_new: u64,
    /// Files known from the snapshot before by size and times.
    pub files_unchanged: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes added to the store.
    pub bytes_added: u64,
    /// Chunks that were not there yet.
    pub chunks_new: u64,
    /// Their bytes before compression.
    pub bytes_new: u64,
    /// Packs written.
    pub packs_new: u64,
    /// Whole packs of a killed run that were taken over.
    pub packs_adopted: u64,
}

/// How fast a run was, and where its time went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunMetrics {
    /// Milliseconds by step, one after the other: `databases`, `generated`, `history`, `files`, `commit`, `replicate`.
    pub steps_ms: BTreeMap<String, u64>,
    /// Milliseconds that the threads of each stage of the pipeline were busy; stages run at the same time.
    pub busy_ms: StageTimes,
    /// Bytes read per second from the run's start to its commit.
    pub bytes_per_second: u64,
    /// The share of the bytes read that the store had already.
    pub deduplicated: f64,
    /// How many times smaller the new bytes are stored; 0 where there were none.
    pub compression: f64,
}

/// What a dry run expects to change against the newest snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExpectedChange {
    /// The snapshot that it was compared with; none means that everything is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<SnapshotId>,
    /// Files of tree items.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are new.
    pub files_new: u64,
    /// Files whose size or time differs.
    pub files_changed: u64,
    /// Files that are gone.
    pub files_removed: u64,
    /// Bytes of new and changed files: what would be read.
    pub bytes_to_read: u64,
    /// Per tree item: files and bytes.
    pub items: BTreeMap<String, ExpectedItem>,
    /// What could not be looked at.
    pub problems: Vec<String>,
}

/// One item of a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExpectedItem {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One store of a project after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreState {
    /// Its name.
    pub store: String,
    /// `hot`, `archive` or `test`.
    pub tier: String,
    /// `stored` (the snapshot is there), `planned`, or `failed`.
    pub state: String,
    /// Objects copied in this run (replicas).
    pub objects_copied: u64,
    /// Bytes copied in this run (replicas).
    pub bytes_copied: u64,
    /// Objects that it still lacks (replicas).
    pub pending_objects: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Objects that count as settled only when the next run has seen them again (replicas).
    pub unsettled: u64,
    /// Whether the store was listed (replicas).
    pub listed: bool,
    /// What the store holds to when it says that an object is there; none when it was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promises: Option<Promises>,
    /// What it does not promise, and what else the operator should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}
