//! Wrapping a vault's keys for further people: a new key file beside the old ones, which stay as they are.

use crate::{
    error::VaultError,
    keys::{KeyId, Recipient, wrap},
    layout,
    open::{Vault, at, publish, sum_line},
};
use sha2::{Digest as _, Sha256};

impl Vault {
    /// Wraps every key that this vault was opened with for `recipients`, each in a file of its own
    /// (`keys/<key id>-<8 hex digits of who>.age`). What is wrapped for exactly these already is left alone. Returns how
    /// many files were written.
    ///
    /// # Errors
    /// [`VaultError::Locked`]; the store's.
    pub fn wrap_keys_for(&self, recipients: &[Recipient], holder: &str) -> Result<u64, VaultError> {
        let missing: Vec<_> = self.ring.all().into_iter().map(|key| (file_id(KeyId::of(&key), recipients), key)).collect();
        let failed = |e| at(&*self.store, e);
        let mut written = 0;
        let mut lease = None;
        for (id, key) in missing {
            if self.store.size(&layout::key(&id)).map_err(failed)?.is_some() {
                continue;
            }
            if lease.is_none() {
                lease = Some(self.store.lease(holder, false).map_err(failed)?);
            }
            if let Some(lease) = &lease {
                lease.check().map_err(failed)?;
            }
            let wrapped =
                wrap(&key, recipients).map_err(|e| VaultError::Internal { what: "wrapping a key for more people", why: e.to_string() })?;
            publish(&*self.store, &layout::key(&id), &wrapped)?;
            publish(&*self.store, &layout::key_sum(&id), sum_line(&wrapped, &format!("{id}.age")).as_bytes())?;
            written += 1;
        }
        Ok(written)
    }
}

/// The same recipients in any order make the same name.
fn file_id(key: KeyId, recipients: &[Recipient]) -> String {
    let mut who: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    who.sort();
    let digest = hex::encode(Sha256::digest(who.join("\n")));
    format!("{key}-{}", digest.chars().take(8).collect::<String>())
}
