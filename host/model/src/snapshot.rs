//! The snapshot object: one committed backup of one project, enough to restore from with nothing but the key.

use crate::{BackupPlan, ChunkId, Digest, PackId, ProjectName, SnapshotId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every item was read whole and read back.
    Ok,
    /// Something is missing or torn; the reasons are in the items.
    Partial,
    /// Nothing was committed.
    Failed,
}

impl Outcome {
    /// `ok`, `partial` or `failed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// The JSON of a snapshot object. Fields are only ever added; readers ignore unknown ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// 1.
    pub format: u32,
    /// The vault it belongs to, 32 hex digits.
    pub vault_id: String,
    /// The epoch whose packs it needs.
    pub epoch: String,
    /// The project.
    pub project: ProjectName,
    /// For people.
    pub title: String,
    /// Unique to the run that made it.
    pub run_id: String,
    /// Name of the host.
    pub host: String,
    /// The project's root on that host (lossy where it is not UTF-8).
    pub root: String,
    /// When the run began.
    pub started_at: Timestamp,
    /// When its last byte had been read.
    pub ended_at: Timestamp,
    /// `ok` or `partial`.
    pub outcome: Outcome,
    /// The strategy that planned it.
    pub strategy: SnapshotStrategy,
    /// The plan as executed.
    pub plan: BackupPlan,
    /// One for each item of the plan, by name.
    pub items: BTreeMap<String, ItemRecord>,
    /// Root of the manifest.
    pub manifest: ManifestRoot,
    /// Every pack that it needs, sorted.
    pub packs: Vec<PackId>,
    /// The snapshot before it, if any.
    pub parent: Option<SnapshotId>,
    /// `hot` and `archive` terms as configured, for a reader without the configuration.
    pub retention: RetentionRecord,
    /// Head of the audit log when it was made; empty where there is none.
    #[serde(default)]
    pub audit_head: String,
    /// What the operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Version of the program that wrote it.
    pub program: String,
    /// The project's table of the configuration, defaults filled in and secrets left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_config: Option<serde_json::Value>,
    /// How databases and files were kept of one moment, where more was done than reading them in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyRecord>,
    /// What the run counted, as later runs are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<crate::anomalies::Observation>,
}

/// How databases and files were kept of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyRecord {
    /// How long the operator's commands let the application rest, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_ms: Option<u64>,
    /// `btrfs`, `zfs` or `lvm` where files were read from a snapshot of the file system; empty where not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// When that snapshot was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_at: Option<Timestamp>,
}

/// Which strategy planned a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStrategy {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component.
    pub digest: Digest,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// `tree`, `database`, `git`, `generated`.
    pub kind: String,
    /// `ok`, `partial` or `failed`.
    pub outcome: Outcome,
    /// Bytes before deduplication and compression.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Manifest paths that belong to it, where they are few (dumps, bundles, generated files).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What is missing or torn, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What the operator should know, though nothing is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// For a database: what the dump says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseRecord>,
    /// For a database that is a file: its mode and owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<FileOwnerRecord>,
}

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOwnerRecord {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What a database dump says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// `mariadb`, `mysql`, `sqlite`, …
    pub engine: String,
    /// The database's name (or file, relative to the root where it is beneath it).
    pub database: String,
    /// Where it goes back to by default, without any secret.
    pub connection: Option<crate::Connection>,
    /// As the server says it.
    pub server_version: String,
    /// As the dumping program says it.
    pub client_version: String,
    /// The arguments that the dumping program was given, but for where to go: no name of a database, no login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Default character set.
    pub charset: String,
    /// Default collation.
    pub collation: String,
    /// Rows by table, where counted.
    pub rows: BTreeMap<String, u64>,
    /// Checksums by table (`CHECKSUM TABLE … EXTENDED`), where taken.
    #[serde(default)]
    pub checksums: BTreeMap<String, String>,
    /// Number of views, routines, triggers and events.
    pub objects: BTreeMap<String, u64>,
    /// Position (GTID set, binary log file), where there is one.
    #[serde(default)]
    pub position: String,
    /// What belongs to the database itself and is in no dump (locale, owner, grants, settings), as its engine writes it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Warnings (a table that no snapshot covers, and the like).
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Root of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRoot {
    /// Chunk that holds the top list.
    pub chunk: ChunkId,
    /// Lists above the leaves: 0 means that `chunk` is the only leaf.
    pub depth: u32,
    /// Entries.
    pub entries: u64,
    /// Logical bytes of all regular files.
    pub bytes: u64,
}

/// Terms that held when the snapshot was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRecord {
    /// As configured: `30d`.
    pub hot: String,
    /// As configured: `7y`.
    pub archive: String,
    /// No archive copy may go before.
    pub retain_until: Timestamp,
}
