//! A vault: everything kept for one project, in one store.
//!
//! A **chunk** is a piece of a file, named by the SHA-256 of its plaintext. A **frame** is a run of chunks compressed
//! together; one that also needs chunks of an earlier dump is a **delta**. A **pack** is a file of frames with a table of contents at its end. The **index** says which pack has
//! which chunk. A **manifest** lists every file of a snapshot with its chunks, and is itself stored in chunks. A
//! **snapshot** is a small object that names a manifest; a backup exists from the moment its snapshot is durable.
//!
//! The vault knows no SQL, no plugin, no project type and no clock but the one that it is given. It never overwrites
//! an object, never changes one, and never trusts a byte that it reads.
//!
//! # Order of writes
//! Packs, then index, then snapshot, then the file-state cache. A crash leaves uploads under `tmp/`, packs that no
//! index lists (adopted by the next run) or an index without a snapshot: nothing that a reader would see. Deletion
//! runs the other way: snapshot, index, grace, packs.
//!
//! Read `chunk`, `frame`, `pack`, `index` for the bytes; `entry`, `manifest`, `state`, `walk` for trees; `open`,
//! `backup`, `restore`, `verify`, `prune`, `replicate` for what is done with them; `store` for where it lies.

// What data is made of.
pub mod chunk;
mod cut;
pub mod frame;
pub mod index;
pub mod keys;
pub mod pack;
pub mod seal;
mod toc;

// Where it lies.
pub mod layout;
pub mod store;

// Trees of files.
mod beneath;
pub mod entry;
pub mod manifest;
pub mod matcher;
pub mod metadata;
pub mod paths;
pub mod state;
#[cfg(test)]
mod testing;
pub mod walk;
pub mod writer;

// What is done with a vault.
mod backup;
mod bases;
mod chunks;
mod complete;
mod entries;
mod erasures;
mod error;
mod holds;
mod known;
mod lease;
mod moved;
mod open;
pub mod par2;
mod progress;
mod prune;
mod reader;
mod records;
mod repair;
mod replicate;
mod restore;
mod rewrap;
mod scrub;
mod sink;
mod snapshots;
mod timing;
mod verify;

pub use backup::{
    BackupOptions, BackupSession, BackupStats, Committed, SnapshotDraft, StreamError, StreamProfile, StreamSummary, TreeItemSummary,
    TreeSummary,
};
pub use entries::{Contents, Entries};
pub use entry::{Entry, EntryKind};
pub use erasures::{Erasures, StoredErasure};
pub use error::VaultError;
pub use holds::{Holds, StoredHold};
pub use lease::LeaseWait;
pub use moved::{Moved, MovedRecord};
pub use open::{Chunking, Encryption, FORMAT, NewVault, Profile, Vault, VaultInfo};
pub use progress::{NoProgress, Progress};
pub use prune::{CleanupPlan, CleanupReport, ExpiredEpoch, ExpiryPlan, GRACE_SECS, PlannedRemoval, PruneOptions};
pub use records::DamagedRecord;
pub use repair::{RepairOptions, RepairOutcome, RepairReport, RepairRow, repair, repair_store};
pub use replicate::{
    Lag, OnLost, ReplicaAudit, ReplicateError, ReplicateOptions, ReplicationReport, Selection, audit_replica, replica_has, replica_lag,
    replica_objects, replicate,
};
pub use restore::{RestoreReport, RestoreRequest};
pub use scrub::{ScrubOptions, ScrubReport, ScrubStatus, StandingDamage, scrub, scrub_status, slice_budget};
pub use snapshots::{Damage, SnapshotList, StoredSnapshot};
pub use timing::StageTimes;
pub use verify::{VerifyOptions, VerifyReport};
