//! Small records at the top of a vault, beside the epochs: holds and erasures. Each is one JSON text, compressed and sealed,
//! under a name that carries its time and the SHA-256 of its bytes; none is ever changed or deleted.

use crate::{
    error::VaultError,
    layout::{self, ObjectKind},
    lease::LeaseWait,
    open::{Vault, at, publish, random},
    store::Listed,
};
use havun_model::Cancel;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// Largest record, in bytes of JSON.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedRecord {
    /// Name in the store.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// 16 hex digits, random.
pub(crate) fn new_id() -> Result<String, VaultError> {
    let mut id = [0; 8];
    random(&mut id)?;
    Ok(hex::encode(id))
}

impl Vault {
    /// Every record of a kind, with its name and oldest first, and those that cannot be read. `vault_id` says which vault a
    /// record names as its own.
    ///
    /// # Errors
    /// Only where the store itself fails.
    pub(crate) fn records<T: DeserializeOwned>(
        &self,
        kind: ObjectKind,
        vault_id: impl Fn(&T) -> &str,
    ) -> Result<(Vec<(String, T)>, Vec<DamagedRecord>), VaultError> {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for object in self.store.list(kind.folder()).map_err(|e| at(&*self.store, e))? {
            match self.read_record(&object, kind, &vault_id) {
                Ok(record) => records.push((object.name.as_str().to_owned(), record)),
                Err(VaultError::Damaged { object, what }) => damaged.push(DamagedRecord { object, what }),
                Err(other) => return Err(other),
            }
        }
        Ok((records, damaged))
    }

    fn read_record<T: DeserializeOwned>(&self, object: &Listed, kind: ObjectKind, vault_id: impl Fn(&T) -> &str) -> Result<T, VaultError> {
        let name = object.name.as_str().to_owned();
        let damaged = |what: String| VaultError::Damaged { object: name.clone(), what };
        let plain = self.read_object(&object.name, kind)?;
        let json = zstd::bulk::decompress(&plain, MAX_RECORD_BYTES).map_err(|e| damaged(e.to_string()))?;
        let read: T = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        if vault_id(&read) != self.info.vault_id {
            return Err(damaged("it belongs to another vault".to_owned()));
        }
        Ok(read)
    }

    /// Publishes a record, under the lease so that no deletion that is under way can miss it. Returns its name.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; [`VaultError::NoKey`] where an encrypted vault has no key yet; the store's.
    pub(crate) fn publish_record<T: Serialize>(
        &self,
        kind: ObjectKind,
        at_time: Timestamp,
        record: &T,
        holder: &str,
    ) -> Result<String, VaultError> {
        let internal = |why: String| VaultError::Internal { what: "writing a record", why };
        let json = serde_json::to_vec(record).map_err(|e| internal(e.to_string()))?;
        let plain = zstd::bulk::compress(&json, 3).map_err(|e| internal(e.to_string()))?;
        let lease = crate::lease::take(&*self.store, holder, false, &LeaseWait::default(), &Cancel::default())?;
        let key = self.record_key()?;
        let stored = self.seal_object(key.as_deref(), kind, plain)?;
        let name = layout::record(kind, at_time, &hex::encode(Sha256::digest(&stored)));
        lease.check().map_err(|e| at(&*self.store, e))?;
        publish(&*self.store, &name, &stored)?;
        Ok(name.as_str().to_owned())
    }

    /// Any key of the ring; that of the newest epoch where it can be told.
    fn record_key(&self) -> Result<Option<std::sync::Arc<crate::seal::SealKey>>, VaultError> {
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
