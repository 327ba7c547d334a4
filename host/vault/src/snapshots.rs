//! Snapshot objects: listing, reading and writing them.

use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    open::{Vault, at, publish},
    seal::SealKey,
    store::Listed,
};
use havun_model::{Snapshot, SnapshotId};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Largest snapshot object, in bytes of JSON.
const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// A committed snapshot.
#[derive(Debug, Clone)]
pub struct StoredSnapshot {
    /// SHA-256 of its stored bytes.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
    /// Bytes of the snapshot object itself.
    pub stored_bytes: u64,
}

/// The snapshots of a vault.
#[derive(Debug, Clone, Default)]
pub struct SnapshotList {
    /// Those that open, oldest first.
    pub snapshots: Vec<StoredSnapshot>,
    /// Those that do not.
    pub damaged: Vec<Damage>,
}

/// Something that is not as it should be, and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// Name in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that are hit.
    pub snapshots: Vec<SnapshotId>,
    /// The first paths that are hit, at most 100.
    pub files: Vec<String>,
    /// How many paths are hit in all.
    pub file_count: u64,
}

impl Damage {
    /// Damage that hits no snapshot, so far as is known.
    pub fn of(object: impl Into<String>, what: impl Into<String>) -> Self {
        Self { object: object.into(), what: what.into(), snapshots: Vec::new(), files: Vec::new(), file_count: 0 }
    }
}

impl Vault {
    /// The epochs that have a folder, sorted.
    pub fn epochs(&self) -> Result<Vec<String>, VaultError> {
        let folders = self.store.folders("epochs").map_err(|e| at(&*self.store, e))?;
        Ok(folders.into_iter().filter(|name| layout::is_epoch(name)).collect())
    }

    /// Name and size of each snapshot object, the oldest first. Reads none of them.
    ///
    /// # Errors
    /// The store's.
    pub fn snapshot_names(&self) -> Result<Vec<Listed>, VaultError> {
        let mut objects = Vec::new();
        for epoch in self.epochs()? {
            objects.extend(self.list_kind(&epoch, ObjectKind::Snapshot)?);
        }
        // The time in the name sorts as text, within epochs that sort by year.
        objects.sort_unstable();
        Ok(objects)
    }

    /// One snapshot object.
    ///
    /// # Errors
    /// [`VaultError::Damaged`]; the store's.
    pub fn read_snapshot(&self, object: &Listed) -> Result<StoredSnapshot, VaultError> {
        self.read_snapshot_object(object)
    }

    /// Every snapshot. Reads each snapshot object.
    ///
    /// # Errors
    /// Only where the store itself fails; a damaged snapshot is listed as such.
    pub fn snapshots(&self) -> Result<SnapshotList, VaultError> {
        let mut list = SnapshotList::default();
        for epoch in self.epochs()? {
            for object in self.list_kind(&epoch, ObjectKind::Snapshot)? {
                match self.read_snapshot_object(&object) {
                    Ok(stored) => list.snapshots.push(stored),
                    Err(VaultError::Damaged { object, what }) => {
                        let id = layout::claimed_hash(&object).and_then(|hash| hash.parse().ok());
                        list.damaged.push(Damage { snapshots: id.into_iter().collect(), ..Damage::of(object, what) });
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        list.snapshots.sort_by(|a, b| a.snapshot.started_at.cmp(&b.snapshot.started_at).then(a.id.cmp(&b.id)));
        Ok(list)
    }

    /// The newest snapshot of an epoch that opens, and what was wrong with newer ones.
    pub(crate) fn newest_snapshot(&self, epoch: &str) -> Result<Option<StoredSnapshot>, VaultError> {
        let mut objects = self.list_kind(epoch, ObjectKind::Snapshot)?;
        // The time in the name sorts as text.
        objects.sort_by(|a, b| b.name.as_str().cmp(a.name.as_str()));
        for object in objects {
            match self.read_snapshot_object(&object) {
                Ok(stored) => return Ok(Some(stored)),
                Err(VaultError::Damaged { object, what }) => tracing::warn!(%object, %what, "a damaged snapshot was passed over"),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    pub(crate) fn read_snapshot_object(&self, object: &Listed) -> Result<StoredSnapshot, VaultError> {
        let name = object.name.as_str().to_owned();
        let damaged = |what: String| VaultError::Damaged { object: name.clone(), what };
        let (epoch, _, hash) = layout::parse(&name).ok_or_else(|| damaged("its name is not that of a snapshot".to_owned()))?;
        let id: SnapshotId = hash.parse().map_err(|_| damaged("its name ends in no SHA-256".to_owned()))?;
        let plain = self.read_object(&object.name, ObjectKind::Snapshot)?;
        let json = zstd::bulk::decompress(&plain, MAX_SNAPSHOT_BYTES).map_err(|e| damaged(e.to_string()))?;
        let snapshot: Snapshot = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if snapshot.vault_id != self.info.vault_id || snapshot.epoch != epoch {
            return Err(damaged("it belongs to another vault or epoch".to_owned()));
        }
        Ok(StoredSnapshot { id, snapshot, stored_bytes: object.size })
    }

    /// Commits a snapshot: from the moment this returns it survives a power cut.
    pub(crate) fn commit_snapshot(&self, snapshot: &Snapshot, key: Option<&SealKey>) -> Result<StoredSnapshot, VaultError> {
        let internal = |why: String| VaultError::Internal { what: "writing the snapshot", why };
        let json = serde_json::to_vec(snapshot).map_err(|e| internal(e.to_string()))?;
        let plain = zstd::bulk::compress(&json, 3).map_err(|e| internal(e.to_string()))?;
        let stored = self.seal_object(key, ObjectKind::Snapshot, plain)?;
        let id = SnapshotId::from_bytes(Sha256::digest(&stored).into());
        let name = layout::snapshot(&snapshot.epoch, snapshot.started_at, &id);
        publish(&*self.store, &name, &stored)?;
        Ok(StoredSnapshot { id, snapshot: snapshot.clone(), stored_bytes: stored.len() as u64 })
    }
}

/// The epoch of a moment: its calendar year in UTC.
pub(crate) fn epoch_of(now: Timestamp) -> String {
    now.strftime("%Y").to_string()
}
