//! Reports: what was backed up in a day, week, month or year, what it takes, what was proven, what went wrong.
//!
//! [`gather`] makes a [`Report`] of the audit database and of what the stores of this machine say; it writes nothing. How it is
//! shown is a function of it alone: [`document`](fn@document) for text and HTML, [`csv`](fn@csv), and JSON as it is.
//!
//! Read `period` (which days), `slots` (the schedule against the runs), `gather`, `evidence` (what an auditor asks for), `show` and
//! `csv`, `messages` (what is sent of it).
//!
//! Shape of `havun-backup report --json`: one [`Report`].

mod csv;
mod evidence;
mod gather;
mod messages;
mod period;
mod show;
mod slots;

pub use csv::csv;
pub use evidence::{Change, DrillRecord, Evidence, ProjectEvidence, Record};
pub use gather::gather;
pub use messages::{digest, message, period, send};
pub use period::{Period, Span};
pub use show::document;
pub use slots::Slot;

use crate::drill::DrillSummary;
use jiff::Timestamp;
use serde::Serialize;

/// A report over a period.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// `[host] name`.
    pub host: String,
    /// Name and version of this program.
    pub program: String,
    /// What it covers.
    pub period: Period,
    /// When it was made; storage, archives and drills are told as they are then.
    pub made_at: Timestamp,
    /// All projects together.
    pub totals: Totals,
    /// The most important first.
    pub projects: Vec<ProjectReport>,
    /// Every store that they use.
    pub stores: Vec<StoreReport>,
    /// Alerts that were open at some time of the period, oldest first.
    pub incidents: Vec<Incident>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What an auditor asks for; in the report of a year only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// All projects together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Projects that are not paused.
    pub projects: u64,
    /// Those whose backup is as it should be at the end of the period.
    pub succeeded: u64,
    /// Those whose is not.
    pub failed: u64,
    /// Runs that ended in the period.
    pub runs: u64,
    /// Those of them that were whole.
    pub runs_ok: u64,
    /// In percent; none where nothing ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_percent: Option<f64>,
    /// Moments of schedules in the period.
    pub due: u64,
    /// Those of them at which a whole backup was made.
    pub done: u64,
    /// Bytes stored near the machine (tiers `hot`, `test` and the spool).
    pub local_bytes: u64,
    /// Bytes stored in archives.
    pub offsite_bytes: u64,
    /// Stores whose use is not known, so that the sums are too small.
    pub unknown: Vec<String>,
}

/// Whether the backup of a project is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// The newest run was whole, and none is missing.
    Good,
    /// It was not, or one is missing.
    Bad,
    /// Paused, or never due and never run.
    Idle,
}

/// One project.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectReport {
    /// Its name.
    pub project: String,
    /// For people.
    pub title: String,
    /// `critical`, `high`, `medium` or `low`.
    pub priority: String,
    /// Rules that it falls under.
    pub compliance: Vec<String>,
    /// As configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Left out of runs.
    pub paused: bool,
    /// How it stands at the end of the period.
    pub mark: Mark,
    /// Why it is not good, on one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The newest run up to the end of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<RunLine>,
    /// When the newest whole backup up to the end of the period began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_good: Option<Timestamp>,
    /// Bytes of that backup as a restore would write them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What it differs by from the last whole one before the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<i64>,
    /// Bytes that the runs of the period added to the first store.
    pub bytes_added: u64,
    /// Runs that ended in the period, by status.
    pub runs: Counts,
    /// Median of the durations of its whole runs, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
    /// The longest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_ms: Option<u64>,
    /// Moments of the schedule in the period.
    pub due: u64,
    /// Those at which a whole backup was made.
    pub done: u64,
    /// Those at which none was, with what is known of the reason.
    pub gaps: Vec<Slot>,
    /// What lies in each store now.
    pub storage: Vec<StorageLine>,
    /// Whether its restores are proven, now.
    pub drills: DrillSummary,
    /// Drills in the period.
    pub drilled: u64,
    /// Those that did not pass.
    pub drills_failed: u64,
    /// How long it is kept, and why.
    pub retention: RetentionStatement,
    /// Of the newest run.
    pub warnings: Vec<String>,
}

/// A run in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunLine {
    /// When it began.
    pub started_at: Timestamp,
    /// `ok`, `partial`, `failed`, `cancelled`, `interrupted` or `running`.
    pub status: String,
    /// Milliseconds, where it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Bytes that the store grew by.
    pub bytes_added: u64,
    /// The snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Why it is not `ok`, on one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The host that it ran on.
    pub host: String,
    /// Login name of who started it.
    pub user: String,
    /// `operator`, `schedule`, …
    pub started_by: String,
}

/// Runs by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Whole.
    pub ok: u64,
    /// With something missing.
    pub partial: u64,
    /// Without a snapshot, killed ones included.
    pub failed: u64,
    /// Stopped by the operator.
    pub cancelled: u64,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.ok + self.partial + self.failed + self.cancelled
    }
}

/// What lies in one store of a project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageLine {
    /// The store.
    pub store: String,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// `whole`, `behind` (something is still to be copied), `empty`, or `unknown`.
    pub state: &'static str,
    /// Since when it is behind, and why; the reason where it is unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Bytes stored.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// When the oldest was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// When the newest was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// What it costs in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// Money in a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// How much, rounded to cents.
    pub amount: f64,
    /// ISO 4217.
    pub currency: String,
}

/// One store, over all projects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreReport {
    /// Its name.
    pub store: String,
    /// `hot`, `archive`, `test` or `spool`.
    pub tier: String,
    /// Bytes of all projects.
    pub bytes: u64,
    /// What it grows by each day.
    pub growth_per_day: u64,
    /// Free bytes, where it was asked and can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// When it is full if it goes on like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_at: Option<Timestamp>,
    /// What it costs in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// How long a project is kept, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionStatement {
    /// In hot stores.
    pub hot: String,
    /// In archives.
    pub archive: String,
    /// Whether the archive's term was written, and is no default.
    pub explicit: bool,
    /// Whether an archive may delete by itself after the term.
    pub auto_delete: bool,
    /// Up to when a backup of today is kept in an archive.
    pub until: Timestamp,
    /// Law or rule, one line each; empty where none is configured.
    pub grounds: Vec<String>,
    /// What its configuration says against the rule; empty where it is long enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// An alert, from the moment that it was raised until it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// The project; empty where it is about none.
    pub project: String,
    /// The store; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// `run`, `replication`, `health`, `scrub`, `anomaly`, …
    pub kind: String,
    /// The incident procedure that belongs to it (`docs/incidents`).
    pub page: &'static str,
    /// The latest message.
    pub message: String,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it was right again; none while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// How long it was, or has been, open: seconds.
    pub open_secs: u64,
    /// How often it was raised.
    pub times: u64,
}

impl Report {
    /// The exit status of the command: 0; a report of failures is a report.
    pub fn exit_status(&self) -> u8 {
        crate::error::exit::OK
    }

    /// Whether nothing needs a person.
    pub fn is_good(&self) -> bool {
        self.totals.failed == 0 && self.incidents.iter().all(|incident| incident.resolved_at.is_some())
    }
}

#[cfg(test)]
mod tests;
