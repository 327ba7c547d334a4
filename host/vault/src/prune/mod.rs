//! Deleting snapshots and, later, the packs that nothing needs any more; repacking those in which little is needed.
//! Deletion runs against the write order: snapshot, new index, grace, packs.
//!
//! A pack is *marked* when no snapshot needs it and deleted by a later clean-up, when the grace has passed and still no
//! snapshot needs it. A pack that is needed for a part of its chunks only is *repacked*: these are copied to new packs, a
//! `moved` record says so, and the old pack is marked. A backup treats marked packs as absent.
//!
//! A clean-up reads, decides and copies without the lease and takes it for short steps only, each of which asks again
//! what is needed now; a backup that holds it is left alone, and the rest waits for the next clean-up. Readers take no
//! lease: the grace protects them. What cannot be read (a snapshot, a record of moved packs) stops every deletion of packs
//! in its epoch.
//!
//! Read `plan` (what would be done), `live` (which chunks are needed), `repack`, `execute`, then `expiry` (archives).

mod execute;
mod expiry;
mod live;
mod marks;
mod plan;
mod repack;

pub use expiry::{ExpiredEpoch, ExpiryPlan};

use crate::store::{Sleeper, ThreadSleeper};
use havun_model::{Cancel, PackId, SnapshotId};
use jiff::Timestamp;
use serde::Serialize;
use std::{fmt, sync::Arc};

/// How long a pack stays after it was marked, in seconds: a day.
pub const GRACE_SECS: i64 = 24 * 3600;

/// How to clean up.
#[derive(Clone)]
pub struct PruneOptions {
    /// Whether packs are repacked at all.
    pub repack: bool,
    /// A pack is repacked when this share of its content, in percent, is needed no more.
    pub waste_percent: u8,
    /// None is repacked while less than this share of an epoch's stored bytes, in percent, is waste …
    pub total_percent: u8,
    /// … or less than so many bytes.
    pub min_waste_bytes: u64,
    /// Threads that encode.
    pub threads: usize,
    /// zstd level.
    pub level: i32,
    /// Pauses between two steps under the lease, so that a backup that waits for it gets it.
    pub sleeper: Arc<dyn Sleeper>,
    /// Stops the clean-up between two steps.
    pub cancel: Cancel,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            repack: true,
            waste_percent: 20,
            total_percent: 5,
            min_waste_bytes: 8 << 20,
            threads: 1,
            level: 3,
            sleeper: Arc::new(ThreadSleeper),
            cancel: Cancel::default(),
        }
    }
}

impl fmt::Debug for PruneOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repack, waste_percent, total_percent, .. } = self;
        write!(f, "PruneOptions {{ repack: {repack}, waste_percent: {waste_percent}, total_percent: {total_percent} }}")
    }
}

/// What a clean-up would do. Made by [`crate::Vault::plan_cleanup`], shown by a dry run, carried out once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CleanupPlan {
    /// Snapshots that go, with the reason.
    pub remove: Vec<PlannedRemoval>,
    /// Snapshots that stay.
    pub keep: u64,
    /// Packs that nothing needs once those are gone; deleted by a clean-up after the grace.
    pub mark: Vec<PackId>,
    /// Their stored bytes.
    pub mark_bytes: u64,
    /// Packs marked earlier whose grace has passed.
    pub delete: Vec<PackId>,
    /// Their stored bytes.
    pub delete_bytes: u64,
    /// Packs whose needed chunks are copied to new packs, before they are marked.
    pub repack: Vec<PackId>,
    /// Their stored bytes.
    pub repack_bytes: u64,
    /// About how many of these bytes are needed no more.
    pub repack_waste_bytes: u64,
    /// What is left alone, and why.
    pub notes: Vec<String>,
    #[serde(skip)]
    epochs: Vec<plan::EpochPlan>,
    #[serde(skip)]
    now: Timestamp,
    #[serde(skip)]
    options: PruneOptions,
}

/// One snapshot that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRemoval {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Why it may go.
    pub reason: String,
}

/// What a clean-up did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CleanupReport {
    /// Snapshots deleted.
    pub snapshots: u64,
    /// Packs marked, repacked ones included.
    pub marked: u64,
    /// Packs deleted.
    pub packs: u64,
    /// Stored bytes freed.
    pub bytes: u64,
    /// Packs whose needed chunks now lie in others.
    pub repacked: u64,
    /// New packs written for them.
    pub new_packs: u64,
    /// Stored bytes of these.
    pub new_bytes: u64,
    /// Epochs deleted as a whole.
    pub epochs: Vec<String>,
    /// Why the rest was left for the next time: a backup was under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// What was left alone otherwise, and why.
    pub notes: Vec<String>,
}
