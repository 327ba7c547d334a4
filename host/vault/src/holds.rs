//! Holds in a vault: read, placed, released. A hold that cannot be read keeps everything, because nobody knows what it
//! was to keep.

use crate::{
    error::VaultError,
    layout::ObjectKind,
    open::{FORMAT, Vault},
    records::{DamagedRecord, new_id},
    snapshots::StoredSnapshot,
};
use havun_model::{
    SnapshotId,
    holds::{Hold, HoldObject, HoldRecord, HoldScope, Release},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A hold as it lies in the vault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredHold {
    /// Name in the store.
    pub object: String,
    /// What it says.
    pub hold: Hold,
}

/// The holds of a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Holds {
    /// Those that stand, oldest first.
    pub active: Vec<StoredHold>,
    /// Those that were released, with how, oldest first.
    pub released: Vec<(StoredHold, Release)>,
    /// Those that cannot be read: each keeps everything.
    pub damaged: Vec<DamagedRecord>,
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
        let (records, damaged) = self.records::<HoldObject>(ObjectKind::Hold, |object| &object.vault_id)?;
        let mut holds = Holds { damaged, ..Holds::default() };
        let mut releases: BTreeMap<String, Release> = BTreeMap::new();
        for (object, read) in records {
            match read.record {
                HoldRecord::Hold(hold) => holds.active.push(StoredHold { object, hold }),
                HoldRecord::Release(release) => drop(releases.insert(release.hold.clone(), release)),
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

    /// Places a hold, under the lease so that no deletion that is under way can miss it. `hold.id` is given anew.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; [`VaultError::NoKey`] where an encrypted vault has no key yet; the store's.
    pub fn add_hold(&self, hold: Hold, holder: &str) -> Result<StoredHold, VaultError> {
        let hold = Hold { id: new_id()?, ..hold };
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
        let object = HoldObject { format: FORMAT, vault_id: self.info.vault_id.clone(), record };
        self.publish_record(ObjectKind::Hold, at_time, &object, holder)
    }
}
