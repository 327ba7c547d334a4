//! What a run counts of itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tables of one database that are kept: those with the most rows.
pub const MAX_TABLES: usize = 100;
/// Kinds of files that are kept: those with the most files.
const MAX_KINDS: usize = 24;
/// What all other kinds are kept as.
const OTHERS: &str = "*";

/// What a run counted, as the next ones are compared with. Fields are only ever added; readers ignore unknown ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When the run began.
    pub at: Timestamp,
    /// From there until its last byte had been read, in milliseconds.
    pub duration_ms: u64,
    /// Logical bytes of everything in the snapshot.
    pub bytes: u64,
    /// Content that no earlier snapshot has, in bytes before compression.
    pub bytes_new: u64,
    /// Files of the trees.
    #[serde(default)]
    pub tree: TreeCounts,
    /// By item.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, DatabaseCounts>,
    /// The run was unlike those before it: what it steps by is not usual.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flagged: bool,
}

/// Files of the trees of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeCounts {
    /// What lies there could be compared with the snapshot before: without its memory of files a run cannot tell a changed
    /// file from a new one, and counts every one that has new content as new.
    pub compared: bool,
    /// Files that were moved or got another name, so far as can be told.
    #[serde(default)]
    pub renamed: u64,
    /// By kind: the end of the file's name after its last dot in small letters; empty where it has none that looks like it.
    pub kinds: BTreeMap<String, KindCounts>,
}

/// Files of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// Files that are there.
    pub files: u64,
    /// Files whose content changed.
    pub changed: u64,
    /// Files that were not there before.
    pub new: u64,
    /// Files that are gone.
    pub deleted: u64,
    /// Of the changed and the new ones, those that begin with what looks like random bytes.
    pub opaque: u64,
    /// Of the changed and the new ones, those that are long enough to tell.
    pub judged: u64,
    /// Bytes of content that no earlier snapshot has.
    pub bytes_new: u64,
    /// Those of them that look like random bytes.
    pub bytes_opaque: u64,
}

/// One database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseCounts {
    /// Bytes of its dump.
    pub bytes: u64,
    /// Rows by table, where counted: the [`MAX_TABLES`] largest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
}

impl DatabaseCounts {
    /// Of a dump and what it counted.
    pub fn new(bytes: u64, rows: &BTreeMap<String, u64>) -> Self {
        let mut largest: Vec<(&String, &u64)> = rows.iter().collect();
        largest.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        Self { bytes, rows: largest.into_iter().take(MAX_TABLES).map(|(table, rows)| (table.clone(), *rows)).collect() }
    }
}

impl KindCounts {
    /// Files that were there before.
    pub fn before(&self) -> u64 {
        self.weight().saturating_sub(self.new)
    }

    /// Adds another kind's.
    pub fn add(&mut self, other: &Self) {
        self.files = self.files.saturating_add(other.files);
        self.changed = self.changed.saturating_add(other.changed);
        self.new = self.new.saturating_add(other.new);
        self.deleted = self.deleted.saturating_add(other.deleted);
        self.opaque = self.opaque.saturating_add(other.opaque);
        self.judged = self.judged.saturating_add(other.judged);
        self.bytes_new = self.bytes_new.saturating_add(other.bytes_new);
        self.bytes_opaque = self.bytes_opaque.saturating_add(other.bytes_opaque);
    }

    /// So many files have to do with this kind, now or before.
    fn weight(&self) -> u64 {
        self.files.saturating_add(self.deleted)
    }
}

impl TreeCounts {
    /// All kinds together.
    pub fn total(&self) -> KindCounts {
        let mut total = KindCounts::default();
        self.kinds.values().for_each(|kind| total.add(kind));
        total
    }

    /// With the largest kinds, and all others as one: what is kept of many runs must stay small.
    #[must_use]
    pub fn bounded(self) -> Self {
        if self.kinds.len() <= MAX_KINDS {
            return self;
        }
        let mut kinds: Vec<(String, KindCounts)> = self.kinds.into_iter().collect();
        kinds.sort_by(|a, b| b.1.weight().cmp(&a.1.weight()).then(a.0.cmp(&b.0)));
        let mut kept = BTreeMap::new();
        for (place, (name, counts)) in kinds.into_iter().enumerate() {
            let name = if place < MAX_KINDS { name } else { OTHERS.to_owned() };
            kept.entry(name).or_insert_with(KindCounts::default).add(&counts);
        }
        Self { kinds: kept, ..self }
    }
}

/// For a sentence: `PDF files`, `files without an ending`.
pub(super) fn files_of(kind: &str) -> String {
    match kind {
        "" => "files without an ending".to_owned(),
        OTHERS => "other files".to_owned(),
        kind => format!("{} files", kind.to_uppercase()),
    }
}
