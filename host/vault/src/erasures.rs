//! The erasure register in a vault: read, added to, withdrawn from. It lies beside the backups, so that whoever finds the
//! backups finds it too, also where the audit database is older or gone.

use crate::{
    error::VaultError,
    layout::ObjectKind,
    open::{FORMAT, Vault},
    records::{DamagedRecord, new_id},
};
use havun_model::erasures::{Erasure, ErasureObject, ErasureRecord, Withdrawal};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// An erasure as it lies in the vault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredErasure {
    /// Name in the store.
    pub object: String,
    /// What it says.
    pub erasure: Erasure,
}

/// The erasure register of a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Erasures {
    /// Those that stand, oldest first.
    pub standing: Vec<StoredErasure>,
    /// Those that were withdrawn, with how, oldest first.
    pub withdrawn: Vec<(StoredErasure, Withdrawal)>,
    /// Those that cannot be read.
    pub damaged: Vec<DamagedRecord>,
}

impl Vault {
    /// The whole register.
    ///
    /// # Errors
    /// Only where the store itself fails; a damaged record is listed as such.
    pub fn erasures(&self) -> Result<Erasures, VaultError> {
        let (records, damaged) = self.records::<ErasureObject>(ObjectKind::Erasure, |object| &object.vault_id)?;
        let mut erasures = Erasures { damaged, ..Erasures::default() };
        let (mut all, mut withdrawals): (BTreeMap<String, StoredErasure>, BTreeMap<String, Withdrawal>) = Default::default();
        for (object, read) in records {
            match read.record {
                // The same one may have been written twice, where a store was away.
                ErasureRecord::Erasure(erasure) => {
                    all.entry(erasure.id.clone()).or_insert(StoredErasure { object, erasure });
                }
                ErasureRecord::Withdrawal(withdrawal) => drop(withdrawals.insert(withdrawal.erasure.clone(), withdrawal)),
            }
        }
        let mut all: Vec<StoredErasure> = all.into_values().collect();
        all.sort_by(|a, b| (a.erasure.created, &a.erasure.id).cmp(&(b.erasure.created, &b.erasure.id)));
        for stored in all {
            match withdrawals.get(&stored.erasure.id) {
                Some(withdrawal) => erasures.withdrawn.push((stored, withdrawal.clone())),
                None => erasures.standing.push(stored),
            }
        }
        Ok(erasures)
    }

    /// Adds an erasure. Where `erasure.id` is empty it is given one.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; [`VaultError::NoKey`] where an encrypted vault has no key yet; the store's.
    pub fn add_erasure(&self, mut erasure: Erasure, holder: &str) -> Result<StoredErasure, VaultError> {
        if erasure.id.is_empty() {
            erasure.id = new_id()?;
        }
        let object = self.publish_erasure(erasure.created, ErasureRecord::Erasure(erasure.clone()), holder)?;
        Ok(StoredErasure { object, erasure })
    }

    /// Withdraws an erasure: it was registered by mistake. Its record stays.
    ///
    /// # Errors
    /// [`VaultError::NoErasure`] where none of that id stands; [`VaultError::Locked`]; the store's.
    pub fn withdraw_erasure(&self, withdrawal: Withdrawal, holder: &str) -> Result<StoredErasure, VaultError> {
        let stored = self.erasures()?.standing.into_iter().find(|stored| stored.erasure.id == withdrawal.erasure);
        let stored = stored.ok_or_else(|| VaultError::NoErasure { id: withdrawal.erasure.clone() })?;
        self.publish_erasure(withdrawal.at, ErasureRecord::Withdrawal(withdrawal), holder)?;
        Ok(stored)
    }

    fn publish_erasure(&self, at_time: Timestamp, record: ErasureRecord, holder: &str) -> Result<String, VaultError> {
        let object = ErasureObject { format: FORMAT, vault_id: self.info.vault_id.clone(), record };
        self.publish_record(ObjectKind::Erasure, at_time, &object, holder)
    }
}
