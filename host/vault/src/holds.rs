//! Holds in a vault: read, placed, released. A hold that cannot be read keeps everything, because nobody knows what it
//! was to keep.

use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    lease::LeaseWait,
    open::{FORMAT, Vault, at, publish, random},
    snapshots::StoredSnapshot,
    store::Listed,
};
use havun_model::{
    Cancel, SnapshotId,
    holds::{Hold, HoldObject, HoldRecord, HoldScope, Release},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Largest hold object, in bytes of JSON.
const MAX_HOLD_BYTES: usize = 64 << 20;

/// A hold as it lies in the vault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredHold {
    /// Name in the store.
    pub object: String,
    /// What it says.
    pub hold: Hold,
}

/// A hold object that cannot be read. It keeps every snapshot until it is repaired.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedHold {
    /// Name in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// The holds of a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Holds {
    /// Those that stand, oldest first.
    pub active: Vec<StoredHold>,
    /// Those that were released, with how, oldest first.
    pub released: Vec<(StoredHold, Release)>,
    /// Those that cannot be read: each keeps everything.
    pub damaged: Vec<DamagedHold>,
}

impl Holds {
    /// Why a snapshot must stay; `None` where no hold keeps it.
    pub fn covers(&self, stored: &StoredSnapshot) -> Option<String> {
        self.covers_taken(&stored.id, &stored.snapshot.epoch, stored.snapshot.started_at)
    }

    /// Likewise, by what is known of it.
    pub fn covers_taken(&self, id: &SnapshotId, epoch: &str, taken_at: Timestamp) -> Option<String> {
        self.unreadable().or_else(|| {
            let found = self.active.iter().find(|stored| stored.hold.scope.covers(id, epoch, taken_at))?;
            Some(format!("hold {} ({})", found.hold.id, found.hold.reason))
        })
    }

    /// Why nothing of an epoch may be thrown away as a whole.
    pub fn covers_epoch(&self, epoch: &str) -> Option<String> {
        self.unreadable().or_else(|| {
            let whole = |scope: &HoldScope| match scope {
                HoldScope::All => true,
                HoldScope::Epoch { epoch: held } => held == epoch,
                HoldScope::Snapshots { .. } | HoldScope::Period { .. } => false,
            };
            let found = self.active.iter().find(|stored| whole(&stored.hold.scope))?;
            Some(format!("hold {} ({})", found.hold.id, found.hold.reason))
        })
    }

    /// The held ones of `snapshots`, with why: what retention wants to know.
    pub fn held(&self, snapshots: &[StoredSnapshot]) -> BTreeMap<SnapshotId, String> {
        snapshots.iter().filter_map(|stored| Some((stored.id, self.covers(stored)?))).collect()
    }

    fn unreadable(&self) -> Option<String> {
        self.damaged.first().map(|damaged| format!("{} is damaged ({}), and what it keeps is unknown", damaged.object, damaged.what))
    }
}

impl Vault {
    /// Every hold. Reads each hold object.
    ///
    /// # Errors
    /// Only where the store itself fails; a damaged hold is listed as such.
    pub fn holds(&self) -> Result<Holds, VaultError> {
        let mut holds = Holds::default();
        let mut releases: BTreeMap<String, Release> = BTreeMap::new();
        for object in self.store.list(layout::HOLDS).map_err(|e| at(&*self.store, e))? {
            match self.read_hold(&object) {
                Ok(HoldRecord::Hold(hold)) => holds.active.push(StoredHold { object: object.name.as_str().to_owned(), hold }),
                Ok(HoldRecord::Release(release)) => drop(releases.insert(release.hold.clone(), release)),
                Err(VaultError::Damaged { object, what }) => holds.damaged.push(DamagedHold { object, what }),
                Err(other) => return Err(other),
            }
        }
        for stored in std::mem::take(&mut holds.active) {
            match releases.get(&stored.hold.id) {
                Some(release) => holds.released.push((stored, release.clone())),
                None => holds.active.push(stored),
            }
        }
        Ok(holds)
    }

    fn read_hold(&self, object: &Listed) -> Result<HoldRecord, VaultError> {
        let name = object.name.as_str().to_owned();
        let damaged = |what: String| VaultError::Damaged { object: name.clone(), what };
        let plain = self.read_object(&object.name, ObjectKind::Hold)?;
        let json = zstd::bulk::decompress(&plain, MAX_HOLD_BYTES).map_err(|e| damaged(e.to_string()))?;
        let read: HoldObject = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if read.vault_id != self.info.vault_id {
            return Err(damaged("it belongs to another vault".to_owned()));
        }
        Ok(read.record)
    }

    /// Places a hold, under the lease so that no deletion that is under way can miss it. `hold.id` is given anew.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; [`VaultError::NoKey`] where an encrypted vault has no key yet; the store's.
    pub fn add_hold(&self, hold: Hold, holder: &str) -> Result<StoredHold, VaultError> {
        let mut id = [0; 8];
        random(&mut id)?;
        let hold = Hold { id: hex::encode(id), ..hold };
        let object = self.publish_hold(hold.created, HoldRecord::Hold(hold.clone()), holder)?;
        Ok(StoredHold { object, hold })
    }

    /// Ends a hold. Its object stays, as the record of it.
    ///
    /// # Errors
    /// [`VaultError::NoHold`] where none of that id stands; [`VaultError::Locked`]; the store's.
    pub fn release_hold(&self, release: Release, holder: &str) -> Result<StoredHold, VaultError> {
        let stored = self.holds()?.active.into_iter().find(|stored| stored.hold.id == release.hold);
        let stored = stored.ok_or_else(|| VaultError::NoHold { id: release.hold.clone() })?;
        self.publish_hold(release.at, HoldRecord::Release(release), holder)?;
        Ok(stored)
    }

    fn publish_hold(&self, at_time: Timestamp, record: HoldRecord, holder: &str) -> Result<String, VaultError> {
        let internal = |why: String| VaultError::Internal { what: "writing a hold", why };
        let object = HoldObject { format: FORMAT, vault_id: self.info.vault_id.clone(), record };
        let json = serde_json::to_vec(&object).map_err(|e| internal(e.to_string()))?;
        let plain = zstd::bulk::compress(&json, 3).map_err(|e| internal(e.to_string()))?;
        let lease = crate::lease::take(&*self.store, holder, false, &LeaseWait::default(), &Cancel::default())?;
        let key = self.hold_key()?;
        let stored = self.seal_object(key.as_deref(), ObjectKind::Hold, plain)?;
        let name = layout::hold(at_time, &hex::encode(Sha256::digest(&stored)));
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &name, &stored)?;
        Ok(name.as_str().to_owned())
    }

    /// Any key of the ring; that of the newest epoch where it can be told.
    fn hold_key(&self) -> Result<Option<std::sync::Arc<crate::seal::SealKey>>, VaultError> {
        if !self.is_encrypted() {
            return Ok(None);
        }
        for epoch in self.epochs()?.iter().rev() {
            if let Some(key) = self.epoch_key(epoch)? {
                return Ok(Some(key));
            }
        }
        match self.ring.first() {
            Some(key) => Ok(Some(key)),
            None => Err(VaultError::NoKey { place: self.store.describe() }),
        }
    }
}
