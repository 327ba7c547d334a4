//! Packs of one store that are damaged and that no other store has whole. A backup does not rely on them: it reads every
//! file again and stores anew what it still finds, and readers look for a chunk in every other pack first. The damaged
//! pack stays where it is, because most of it can still be read.

use crate::{
    error::VaultError,
    layout,
    open::{Vault, at, check_hash, publish},
    store::{Lease, ObjectName},
};
use havun_model::PackId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// A record as stored, in the clear: ids of packs say nothing of what is in them.
#[derive(Debug, Serialize, Deserialize)]
struct BadRecord {
    noted_at: Timestamp,
    /// What is wrong with each.
    packs: BTreeMap<PackId, String>,
}

impl Vault {
    /// Packs of an epoch that a repair found damaged in this store and could not mend.
    ///
    /// # Errors
    /// The store's.
    pub fn bad_packs(&self, epoch: &str) -> Result<BTreeSet<PackId>, VaultError> {
        Ok(self.read_bad(epoch)?.into_iter().flat_map(|(_, record)| record.packs.into_keys()).collect())
    }

    /// A damaged record says nothing: its packs are found again by the next repair.
    fn read_bad(&self, epoch: &str) -> Result<Vec<(ObjectName, BadRecord)>, VaultError> {
        let mut records = Vec::new();
        for object in self.store.list(&format!("epochs/{epoch}/bad")).map_err(|e| at(&*self.store, e))? {
            let bytes = self.store.read(&object.name, 1 << 28).map_err(|e| at(&*self.store, e))?;
            match (check_hash(&object.name, &bytes), serde_json::from_slice(&bytes)) {
                (Ok(()), Ok(record)) => records.push((object.name, record)),
                _ => tracing::warn!(object = object.name.as_str(), "a damaged record of bad packs was passed over"),
            }
        }
        Ok(records)
    }

    /// Adds `bad` to what is noted and takes `good` from it: the new record first, then the old ones go.
    pub(crate) fn note_bad_packs(
        &self,
        lease: &dyn Lease,
        epoch: &str,
        bad: &BTreeMap<PackId, String>,
        good: &BTreeSet<PackId>,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        let before = self.read_bad(epoch)?;
        let noted: BTreeMap<PackId, String> = before.iter().flat_map(|(_, record)| record.packs.clone()).collect();
        let mut packs = noted.clone();
        packs.extend(bad.iter().filter(|(id, _)| !noted.contains_key(*id)).map(|(id, what)| (*id, what.clone())));
        packs.retain(|id, _| !good.contains(id));
        if packs == noted {
            return Ok(());
        }
        let mut new = None;
        if !packs.is_empty() {
            let internal = |e: serde_json::Error| VaultError::Internal { what: "writing a record of bad packs", why: e.to_string() };
            let json = serde_json::to_vec(&BadRecord { noted_at: now, packs }).map_err(internal)?;
            let name = layout::bad(epoch, &hex::encode(Sha256::digest(&json)));
            lease.check().map_err(|e| at(&*self.store, e))?;
            publish(&*self.store, &name, &json)?;
            new = Some(name);
        }
        for (name, _) in before.into_iter().filter(|(name, _)| Some(name) != new.as_ref()) {
            lease.check().map_err(|e| at(&*self.store, e))?;
            self.store.remove(&name).map_err(|e| at(&*self.store, e))?;
        }
        Ok(())
    }
}
