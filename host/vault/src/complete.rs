//! Which snapshots of a store are whole as far as a listing can tell: what "it exists elsewhere" means.

use crate::{
    chunks::EpochIndex,
    error::VaultError,
    layout::{self, ObjectKind},
    open::Vault,
    snapshots::StoredSnapshot,
};
use havun_model::{PackId, SnapshotId};
use std::collections::BTreeSet;

impl Vault {
    /// Snapshots of this store that open and whose every needed pack is listed with the size that the index says, or
    /// was moved to packs that are. Content is not read: that is what `verify` does.
    ///
    /// # Errors
    /// The store's. What is damaged is merely not complete.
    pub fn complete_snapshots(&self) -> Result<BTreeSet<SnapshotId>, VaultError> {
        self.complete(None)
    }

    /// Likewise, of these only; epochs that have none of them are not looked at.
    ///
    /// # Errors
    /// The store's.
    pub fn complete_among(&self, wanted: &BTreeSet<SnapshotId>) -> Result<BTreeSet<SnapshotId>, VaultError> {
        self.complete(Some(wanted))
    }

    fn complete(&self, wanted: Option<&BTreeSet<SnapshotId>>) -> Result<BTreeSet<SnapshotId>, VaultError> {
        let mut complete = BTreeSet::new();
        for epoch in self.epochs()? {
            let mut objects = self.list_kind(&epoch, ObjectKind::Snapshot)?;
            let id = |name: &str| layout::claimed_hash(name).and_then(|hash| hash.parse::<SnapshotId>().ok());
            objects.retain(|object| wanted.is_none_or(|wanted| id(object.name.as_str()).is_some_and(|id| wanted.contains(&id))));
            if objects.is_empty() {
                continue;
            }
            let loaded = self.load_index(&epoch, false, &BTreeSet::new())?;
            let moved = self.moved(&epoch)?;
            let whole = |pack: &PackId| loaded.is_whole(pack);
            for object in objects {
                match self.read_snapshot_object(&object) {
                    Ok(StoredSnapshot { id, snapshot, .. }) if snapshot.packs.iter().all(|pack| moved.satisfied(&id, pack, &whole)) => {
                        complete.insert(id);
                    }
                    Ok(_) | Err(VaultError::Damaged { .. }) => {}
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(complete)
    }
}

impl EpochIndex {
    /// Whether a pack is there with the size that the index (or, where none lists it, its own end) says, and nobody has found
    /// it damaged.
    pub fn is_whole(&self, pack: &PackId) -> bool {
        !self.noted.contains(pack)
            && self.present.contains_key(pack)
            && !self.missing.contains(pack)
            && self.index.find_pack(pack).is_some()
    }
}
